"""docs/together.md with real git, real DVC and real servers on this machine: remotes, one run and what it needs, experiments, tags, and
branches that are merged. The commands are those of the page."""

import asyncio
import hashlib
import json
import re
import shutil
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import asyncssh
import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

from stages.commands import merge_file
from stages.commands.merge_file import entries, merged
from stages.errors import UserError
from tests import nano
from tests.conftest import ENVIRONMENT, run

PAGE = (nano.ROOT / "docs/together.md").read_text(encoding="utf-8")


def recipe(heading: str) -> list[list[str]]:
    """The commands of each block below a heading of the page."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [block.splitlines() for block in re.findall(r"```bash\n(.*?)```", section, re.DOTALL)]


def follow(
    folder: Path, commands: list[str], replaced: dict[str, str] | None = None, cold: bool = False
) -> str:
    """What the commands of a block print."""
    said = ""
    for command in commands:
        for there, here in (replaced or {}).items():
            command = command.replace(there, here)
        done = run(folder, "bash", "-c", command, cold=cold)
        said += done.stdout + done.stderr
    return said


def outputs(folder: Path) -> dict[str, str]:
    """{path: MD5} of what lies there and is not git's."""
    listed = run(folder, "git", "ls-files", "--others", "--", "data", "models", "metrics").stdout
    return {
        name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in listed.splitlines()
    }


def kinds(folder: Path) -> set[str]:
    """The folders in which there are such files, and the adapters."""
    return {"/".join(name.split("/")[:2]) for name in outputs(folder)}


def trained(output: str) -> set[str]:
    return set(re.findall(r"Running stage '(train@[\w-]+)'", output))


def own_formulas(path: Path, number: int) -> Path:
    lines = [
        json.dumps(
            {
                "instruction": "Convert LaTeX to Typst.",
                "input": f"\\alpha_{{{n}}} + {number}",
                "output": f"alpha_({n}) + {number}",
            }
        )
        for n in range(60)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def committed(folder: Path, message: str) -> None:
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", message)


@pytest.fixture(scope="module")
def team(whole_graph, tmp_path_factory) -> SimpleNamespace:
    """An author's finished repository, the bare one that all push to, and a remote that lacks everything."""
    place = tmp_path_factory.mktemp("team")
    author = Path(shutil.copytree(whole_graph, place / "author", symlinks=True))
    (place / "remote").mkdir()
    git = f"{place}/origin.git"
    run(place, *nano.GIT, "init", "--quiet", "--bare", git)
    run(place, "git", "--git-dir", git, "symbolic-ref", "HEAD", "refs/heads/main")
    for key, value in (("user.name", "author"), ("user.email", "author@localhost")):
        run(author, "git", "config", key, value)
    run(author, "git", "remote", "add", "origin", git)
    follow(author, recipe("A remote")[0], {"/mnt/team/adapters": str(place / "remote")})
    run(author, "git", "push", "--quiet", "--set-upstream", "origin", "HEAD:main")
    return SimpleNamespace(author=author, git=git, remote=place / "remote", place=place)


@pytest.fixture
def author(team, tmp_path) -> Path:
    """A copy of the author's repository to change."""
    return Path(shutil.copytree(team.author, tmp_path / "author", symlinks=True))


def cloned(team: SimpleNamespace, folder: Path) -> Path:
    run(folder.parent, "git", "clone", "--quiet", team.git, str(folder))
    for key, value in (("user.name", "colleague"), ("user.email", "colleague@localhost")):
        run(folder, "git", "config", key, value)
    return folder


# One run


def test_a_clone_gets_one_run_with_what_it_needs_and_goes_on_from_it_without_training_its_parents(
    team, tmp_path
):
    give, take, extend = recipe("One run")
    follow(team.author, give)
    one = sum(path.is_file() for path in team.remote.rglob("*"))
    colleague = cloned(team, tmp_path / "colleague")
    assert "Next:  python -m stages apply typst-003" in follow(colleague, take)
    assert kinds(colleague) == {
        "data/typst", "data/prepared", "data/predictions", "data/scored", "metrics/curves", "metrics/details", "metrics/prepare",
        "models/lm-001", "models/typst-001", "models/typst-002", "models/typst-003",
    }  # fmt: skip
    pulled, made = outputs(colleague), outputs(team.author)
    assert pulled.items() <= made.items()
    assert not [name for name in pulled if re.search("gec|polish|reward|lm-00[23]", name)]
    assert {name for name in pulled if "/lm" in name} == {
        name for name in pulled if "lm-001" in name
    }

    own_formulas(colleague / "mine.jsonl", 4)
    new, repro, push, commit = extend
    assert "evaluate@typst-004" in follow(colleague, [new])
    said = follow(colleague, [repro])
    assert trained(said) == {"train@typst-004"}
    after = outputs(colleague)
    assert {
        name: md5
        for name, md5 in after.items()
        if name.startswith("models/") and "typst-004" not in name
    } == {name: md5 for name, md5 in pulled.items() if name.startswith("models/")}
    assert (
        json.loads((colleague / "models/typst-004/lineage.json").read_text())["parent"]["path"]
        == "models/typst-003"
    )
    (colleague / "mine.jsonl").unlink()
    said = follow(colleague, [push])
    assert "Note:  commit " in said
    assert "dvc.lock" in said
    assert sum(path.is_file() for path in team.remote.rglob("*")) > one
    follow(colleague, [commit.replace("git push", "git push --quiet origin HEAD:typst-004")])

    third = cloned(team, tmp_path / "third")
    run(third, "git", "checkout", "--quiet", "typst-004")
    run(third, "python", "-m", "stages", "pull", "typst-004")
    of_004 = {name: md5 for name, md5 in after.items() if name.startswith("models/")}
    assert {
        name: md5 for name, md5 in outputs(third).items() if name.startswith("models/")
    } == of_004

    run(colleague, "python", "-m", "stages", "renumber", "typst-004")
    places = ("params.yaml", "dvc.yaml", "data", "metrics")
    grep = ("git", "grep", "--untracked", "typst-004", "--", *places)
    assert run(colleague, *grep, succeeds=False).stdout == ""
    lock = yaml.safe_load((colleague / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert not [stage for stage in lock if stage.endswith("@typst-004")]
    assert not (colleague / "metrics/evaluate/typst/typst-004.json").exists()
    assert not (colleague / "models/typst-004").exists()

    # The table: what DVC's own words bring.
    fourth = cloned(team, tmp_path / "fourth")
    run(fourth, "dvc", "pull", "train@typst-003")
    assert kinds(fourth) == {"models/typst-003", "metrics/curves"}


def test_rows_that_were_not_fetched_stop_what_depends_on_them(team, tmp_path):
    """Else a run would be trained on what another version tests."""
    run(team.author, "python", "-m", "stages", "push", "typst-003")
    colleague = cloned(team, tmp_path / "colleague")
    own_formulas(colleague / "mine.jsonl", 4)
    run(colleague, "python", "-m", "stages", "new", "typst", "mine.jsonl")
    done = run(
        colleague, "dvc", "repro", "--pull", "--allow-missing", "mix@typst-004", succeeds=False
    )
    assert done.returncode
    assert "data/prepared/typst/test/typst-001.jsonl: no such file" in done.stdout + done.stderr
    assert not (colleague / "data/mixed/typst-004").exists()


def refused(folder: Path, *command: str) -> str:
    done = run(folder, "python", "-m", "stages", *command, succeeds=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    return done.stderr.splitlines()[-1]


def test_what_cannot_be_fetched_or_given_is_told_with_the_run_that_needs_it(team, author, tmp_path):
    remote = Path(shutil.copytree(team.remote, tmp_path / "remote"))
    run(author, "dvc", "remote", "modify", "--local", "team", "url", str(remote))
    run(author, "python", "-m", "stages", "push", "typst-002")
    lock = yaml.safe_load((author / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    md5 = next(
        out["md5"] for out in lock["train@typst-001"]["outs"] if out["path"] == "models/typst-001"
    )
    (remote / "files/md5" / md5[:2] / md5[2:]).unlink()
    colleague = cloned(team, tmp_path / "colleague")
    run(colleague, "dvc", "remote", "modify", "--local", "team", "url", str(remote))
    lacks = f"remote `team` ({remote}): lacks files: typst-002 needs models/typst-001; `python -m stages push typst-002` in a clone that has them puts them there"
    assert refused(colleague, "pull", "typst-002") == lacks
    says = f"neither DVC's cache here nor remote `team` ({remote}) has all files: typst-002 needs models/typst-001; `dvc repro evaluate@typst-002` makes what is missing"
    assert refused(colleague, "push", "typst-002") == says

    run(colleague, "dvc", "remote", "modify", "--local", "team", "url", "/nowhere/adapters")
    says = "remote `team` (/nowhere/adapters): not reached: no such folder; mount or make it; `dvc remote list` shows its address"
    assert says in refused(colleague, "pull", "typst-002")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"ssh://127.0.0.1:{unused.getsockname()[1]}/adapters"
        run(colleague, "dvc", "remote", "modify", "--local", "team", "url", address)
        assert (
            f"remote `team` ({address}): not reached: [Errno 111] Connect call failed"
            in refused(colleague, "pull", "typst-002")
        )

    assert "params.yaml: no `typst-009` under `runs`; did you mean" in refused(
        colleague, "pull", "typst-009"
    )
    own_formulas(colleague / "mine.jsonl", 4)
    run(colleague, "python", "-m", "stages", "new", "typst", "mine.jsonl")
    says = "typst-004: dvc.lock has no models/typst-004; run `dvc repro evaluate@typst-004`, or take the dvc.lock of the clone"
    run(colleague, "dvc", "remote", "modify", "--local", "team", "url", str(remote))
    assert refused(colleague, "pull", "typst-002") == lacks  # and no word of 004's rows
    assert says in refused(colleague, "pull", "typst-004")
    text = (colleague / "params.yaml").read_text(encoding="utf-8")
    (colleague / "params.yaml").write_text(
        text.replace(
            "base: models/lm-001, parent: models/typst-003",
            "base: models/bases/mine, parent: models/bases/mine",
        ),
        encoding="utf-8",
    )
    (colleague / "models/bases/mine").mkdir(parents=True)
    says = "models/bases/mine: neither git nor DVC has it, so that no other clone gets it; run `dvc add models/bases/mine`, then `git add models/bases/mine.dvc` and commit"
    assert refused(colleague, "push", "typst-004") == says
    (colleague / "models/bases/mine/config.json").write_text("{}", encoding="utf-8")
    run(colleague, "dvc", "add", "models/bases/mine")
    assert refused(colleague, "push", "typst-004").startswith("typst-004: dvc.lock has no models/")
    run(colleague, "dvc", "remote", "remove", "team")
    assert "no remote specified" in refused(colleague, "pull", "typst-002")
    assert "docs/together.md says how remotes are added" in refused(colleague, "pull", "typst-002")


# Remotes with a server


def goes_there_and_back(
    team: SimpleNamespace, tmp_path: Path, author: Path, block: list[str], replaced: dict[str, str]
) -> None:
    """A run pushed to a remote that is set up as a block of the page says, and pulled in another clone."""
    follow(
        author,
        [line.replace("remote add", "remote add --force") for line in block],
        replaced,
        cold=True,
    )
    run(author, "python", "-m", "stages", "push", "typst-001", cold=True)
    colleague = cloned(team, tmp_path / "colleague")
    for name in (
        "config",
        "config.local",
    ):  # what the author would commit, and what each has to set
        if (author / ".dvc" / name).exists():
            shutil.copy2(author / ".dvc" / name, colleague / ".dvc")
    run(colleague, "python", "-m", "stages", "pull", "typst-001", cold=True)
    assert {"models/lm-001", "models/typst-001"} <= kinds(colleague)
    assert outputs(colleague).items() <= outputs(author).items()


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """An SSH server on this machine that knows one key."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    key, host = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    key.write_private_key(home / ".ssh/id_ed25519")
    (home / ".ssh/id_ed25519").chmod(0o600)
    key.write_public_key(home / ".ssh/authorized_keys")
    monkeypatch.setitem(ENVIRONMENT, "HOME", str(home))
    loop, ready = asyncio.new_event_loop(), threading.Event()
    found = []

    async def listen() -> None:
        found.append(
            await asyncssh.listen(
                "127.0.0.1",
                0,
                server_host_keys=[host],
                authorized_client_keys=str(home / ".ssh/authorized_keys"),
                sftp_factory=True,
            )
        )
        ready.set()

    def serve() -> None:
        loop.run_until_complete(listen())
        loop.run_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(30)
    port = found[0].get_port()
    public = host.export_public_key().decode().strip()
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{port} {public}\n", encoding="utf-8")
    yield SimpleNamespace(port=port)
    loop.call_soon_threadsafe(found[0].close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_remote_by_ssh(team, author, tmp_path, ssh):
    address = f"ssh://someone@127.0.0.1:{ssh.port}{tmp_path}/adapters"
    goes_there_and_back(
        team, tmp_path, author, recipe("A remote")[1], {"ssh://me@server:22/srv/adapters": address}
    )
    assert (tmp_path / "adapters/files/md5").is_dir()


def test_a_remote_in_s3(team, author, tmp_path):
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id="KEY",
            aws_secret_access_key="SECRET",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="adapters")
        goes_there_and_back(
            team, tmp_path, author, recipe("A remote")[2], {"https://s3.example.org": address}
        )
        assert (
            client.list_objects_v2(Bucket="adapters", Prefix="tsugiki/files/md5/")["KeyCount"] > 10
        )
    finally:
        server.stop()


# Experiments


def test_an_experiment_of_one_clone_is_shown_in_another(team, author, tmp_path):
    give, take = recipe("Experiments")
    run(author, "python", "-m", "stages", "push", "typst-003")
    said = follow(author, give)
    assert trained(said) == {"train@typst-003"}
    colleague = cloned(team, tmp_path / "colleague")
    said = follow(colleague, take)
    assert "wider" in said
    page = (colleague / "build/report/index.html").read_text(encoding="utf-8")
    told = json.loads(re.search(r'"said":(\[.*?\])', page)[1])
    assert '"label":"typst-003@wider"' in page
    assert not [line for line in told if line.startswith(("typst-003:", "typst-003@"))], told


# Versions for others


def test_a_tag_brings_an_adapter_into_any_folder(team, author, tmp_path):
    tag, take = recipe("Versions for others")
    run(author, "python", "-m", "stages", "push", "typst-003")
    follow(author, tag)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    follow(elsewhere, take, {"URL": team.git})
    for out, model in (("typst-adapter", "typst-003"), ("typst-base", "lm-001")):
        names = sorted(path.name for path in (elsewhere / out).iterdir())
        assert names == sorted(path.name for path in (author / "models" / model).iterdir())
        assert all(
            (elsewhere / out / name).read_bytes() == (author / "models" / model / name).read_bytes()
            for name in names
        )
    none = run(
        elsewhere, "dvc", "artifacts", "get", team.git, "typst", "--rev", "v9.9.9", succeeds=False
    )
    assert "Unable to find artifact 'typst @ v9.9.9'" in none.stderr
    none = run(
        elsewhere,
        "dvc",
        "get",
        team.git,
        "models/typst-003",
        "--rev",
        "typst@v9.9.9",
        succeeds=False,
    )
    assert "unknown Git revision 'typst@v9.9.9'" in none.stderr


def test_an_artifact_is_its_tasks_newest_run(tmp_path):
    folder = nano.make(tmp_path / "repository")
    before = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    newest = {spec["task"]: f"models/{name}" for name, spec in params["runs"].items()}
    assert {name: item["path"] for name, item in before["artifacts"].items()} == newest
    text = (folder / "dvc.yaml").read_text(encoding="utf-8")
    own_formulas(tmp_path / "mine.jsonl", 4)
    said = run(folder, "python", "-m", "stages", "new", "typst", f"{tmp_path}/mine.jsonl").stdout
    assert " dvc.yaml " in said
    assert (folder / "dvc.yaml").read_text(encoding="utf-8") == text.replace(
        "models/typst-003", "models/typst-004"
    )
    run(folder, "python", "-m", "stages", "new", "typst", f"{tmp_path}/mine.jsonl", "--test-only")
    assert (folder / "dvc.yaml").read_text(encoding="utf-8") == text.replace(
        "models/typst-003", "models/typst-004"
    )


# Branches


def test_two_branches_with_a_version_of_one_number_are_merged(author, tmp_path):
    set_up, resolve = recipe("Two branches that added a version")
    follow(author, set_up)
    for branch, number in (("main", 4), ("mine", 5)):
        run(
            author,
            "git",
            "checkout",
            "--quiet",
            *(["-b", "mine", "main~1"] if branch == "mine" else [branch]),
        )
        own_formulas(tmp_path / "formulas.jsonl", number)
        run(
            author,
            "python",
            "-m",
            "stages",
            "new",
            "typst",
            f"{tmp_path}/formulas.jsonl",
            "--note",
            f"of {branch}",
        )
        if branch == "main":
            run(author, "dvc", "repro", "evaluate@typst-004")
        committed(author, f"typst-004 of {branch}")
        (author / "data/typst/train_004.jsonl").unlink()
    run(author, "dvc", "checkout", "data/typst/train_004.jsonl.dvc")
    stopped = run(author, "git", "merge", "--no-edit", "main", succeeds=False)
    assert stopped.returncode
    says = "data/typst/train_004.jsonl.dvc: both branches have their own data/typst/train_004.jsonl.dvc; where two versions have got one number, `git merge --abort`, then `python -m stages renumber typst-004` on one of the branches, commit there, and merge again; else keep one"
    assert says in stopped.stderr

    abort, renumber, commit, merge, *rest = resolve
    follow(author, [abort])
    assert (
        "typst-004 is typst-005 now, and data/typst/train_004.jsonl is data/typst/train_005.jsonl."
        in follow(author, [renumber])
    )
    follow(author, [commit])
    assert trained(follow(author, ["dvc repro evaluate@typst-005"])) == {"train@typst-005"}
    committed(author, "trained")
    said = follow(author, [merge])
    assert (
        "dvc.lock: both branches have run these, which `dvc repro` runs again: configure, mix@typst-001, "
        in said
    )
    assert run(author, "git", "status", "--porcelain", "--untracked-files=no").stdout == ""
    params = yaml.safe_load((author / "params.yaml").read_text(encoding="utf-8"))
    assert [name for name in params["runs"] if "typst" in name] == [
        f"typst-00{number}" for number in range(1, 6)
    ]
    assert "# What is trained, on what, from what." in (author / "params.yaml").read_text(
        encoding="utf-8"
    )
    lock = yaml.safe_load((author / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert {f"train@typst-00{number}" for number in range(1, 6)} | {
        "prepare@typst-004",
        "prepare@typst-005",
    } <= lock.keys()
    readme = (author / "data/typst/README.md").read_text(encoding="utf-8")
    assert "| typst-004 | train_004.jsonl | 60 | of main |" in readme
    assert "| typst-005 | train_005.jsonl | 60 | of mine |" in readme
    assert "models/typst-005" in (author / "dvc.yaml").read_text(encoding="utf-8")

    said = follow(author, [*rest, "dvc repro evaluate@typst-004"])
    assert trained(said) == set()
    assert {"predict@typst-004", "predict@typst-005"} <= set(
        re.findall(r"Running stage '([\w@-]+)'", said)
    )
    status = json.loads(
        run(
            author,
            "dvc",
            "status",
            "--json",
            "--with-deps",
            "evaluate@typst-004",
            "evaluate@typst-005",
        ).stdout
    )
    assert status == {}
    scores = json.loads(
        (author / "metrics/evaluate/typst/typst-005.json").read_text(encoding="utf-8")
    )
    assert (
        scores["n"]
        == json.loads(
            (author / "metrics/evaluate/typst/typst-004.json").read_text(encoding="utf-8")
        )["n"]
    )


BASE = """# Above all.
base: a # of a

compare: [lm]

# Above runs.
runs:
  # Of one.
  one: {x: 1}
  two:
    x: 1
    # inside
    y: 2

# Above the last.
last: 1
"""


@pytest.mark.parametrize(
    ("ours", "theirs", "both"),
    [
        (("last: 1", "last: 2"), ("base: a", "base: b"), []),
        (("    y: 2\n", "    y: 2\n  # Of ours.\n  three: {x: 3}\n"), ("    y: 2\n", "    y: 2\n  # Of theirs.\n  four: {x: 4}\n"), []),
        (("  # Of one.\n  one: {x: 1}\n", ""), ("    y: 2\n", "    y: 3 # new\n"), []),
        (("last: 1\n", "last: 1\n# at the end\n"), ("compare: [lm]", "compare: [lm, gec]"), []),
        (("compare: [lm]", "compare: [lm, polish]"), ("compare: [lm]", "compare: [lm, gec]"), []),
        (("{x: 1}", "{x: 2}"), ("{x: 1}", "{x: 3}"), ["runs.one"]),
        (("  # Of one.\n  one: {x: 1}\n", ""), ("{x: 1}", "{x: 3}"), ["runs.one"]),
        (("    y: 2\n", "    y: 2\n  three: 3\n"), ("    y: 2\n", "    y: 2\n  three: 4\n"), ["runs.three"]),
        (("{x: 1}", "{x: 2}"), ("{x: 1}", "{x: 2}"), []),
    ],
)  # fmt: skip
def test_files_are_merged_by_entries_whose_comments_stay(ours, theirs, both):
    own, other = (BASE.replace(*change) for change in (ours, theirs))
    assert entries(own.rstrip("\n")) == entries(own.rstrip("\n") + "\n")  # as some editors leave it
    assert "".join(entries(own).values()) == own
    found, conflicts = merged(entries(BASE), entries(own), entries(other))
    assert conflicts == both
    text = "".join(found.values())
    if both:
        return
    if "compare" in ours[0]:
        assert text == BASE.replace("[lm]", "[lm, polish, gec]")
    elif "three" in ours[1]:
        assert text == BASE.replace(ours[0], ours[1] + theirs[1].removeprefix(theirs[0]))
    elif ours == theirs:
        assert text == own
    else:
        assert text == own.replace(*theirs) == other.replace(*ours)


def test_versions_that_two_branches_added_stand_in_the_order_of_their_numbers():
    text = "runs:\n  typst-003: {}\n"
    own, other = text + "  typst-005: {}\n  gec-003: {}\n", text + "  typst-004: {}\n"
    found, conflicts = merged(entries(text), entries(own), entries(other))
    assert not conflicts
    assert "".join(found.values()) == (text + "  typst-004: {}\n  typst-005: {}\n  gec-003: {}\n")


def test_of_an_artifact_the_newer_version_is_kept():
    text = "artifacts:\n  typst: {path: models/typst-003, type: model}\n"
    versions = [entries(text.replace("003", number)) for number in ("003", "004", "005")]
    assert merged(versions[0], versions[1], versions[2]) == (versions[2], [])
    assert merged(versions[0], versions[2], versions[1]) == (versions[2], [])


def test_an_entry_that_both_changed_is_told_and_left_with_gits_marks(inside):
    files = [inside / name for name in ("base", "ours", "theirs")]
    run_of = "  typst-004: {{task: typst, learning_rate: {}}}\n"
    for file, rates in zip(files, ("", "2", "3"), strict=True):
        text = "runs:\n" + "".join(map(run_of.format, rates))
        file.write_text(text, encoding="utf-8")
    with pytest.raises(
        UserError,
        match=r"^params.yaml: both branches have their own runs.typst-004; where two versions have got one number, .* else keep one$",
    ):
        merge_file.merge_file(*files, "params.yaml")
    assert "<<<<<<<" in files[1].read_text(encoding="utf-8")
    for file, rate in zip(files, ("1", "2", "3"), strict=True):
        file.write_text(f"defaults:\n  seed: {rate}\n", encoding="utf-8")
    with pytest.raises(
        UserError,
        match=r"^params.yaml: both branches have their own defaults.seed; keep one, or what is right of both$",
    ):
        merge_file.merge_file(*files, "params.yaml")


def test_a_stage_that_both_ran_differently_leaves_the_lock(inside, capsys):
    files = [inside / name for name in ("base", "ours", "theirs")]
    stage = "  {}:\n    cmd: {}\n    outs:\n    - path: x\n"
    for file, names in zip(
        files,
        ({"a": 1, "b@x": 1}, {"a": 2, "b@x": 1, "c": 1}, {"a": 3, "b@x": 2, "d": 1}),
        strict=True,
    ):
        file.write_text(
            "schema: '2.0'\nstages:\n" + "".join(stage.format(*item) for item in names.items()),
            encoding="utf-8",
        )
    merge_file.merge_file(*files, "dvc.lock")
    assert (
        "dvc.lock: both branches have run these, which `dvc repro` runs again: a\n"
        in capsys.readouterr().err
    )
    found = yaml.safe_load(files[1].read_text(encoding="utf-8"))
    assert {name: item["cmd"] for name, item in found["stages"].items()} == {
        "b@x": 2,
        "c": 1,
        "d": 1,
    }


def test_only_a_version_that_new_took_in_is_renumbered(team, author):
    says = "typst-003: data/typst/train_003.jsonl is no file that `new` took in under this number; give it another one by hand"
    assert refused(author, "renumber", "typst-003") == says
    assert "params.yaml: no `typst-009` under `corpora`" in refused(author, "renumber", "typst-009")


def test_all_that_stands_on_a_renumbered_version_is_named(author, tmp_path):
    for number in (4, 5):
        own_formulas(tmp_path / "formulas.jsonl", number)
        run(author, "python", "-m", "stages", "new", "typst", f"{tmp_path}/formulas.jsonl")
    params = author / "params.yaml"
    variant = (
        "  typst-004-checked: {task: typst, model_of: typst-004, generation: {candidates: 4}}\n"
    )
    text = params.read_text(encoding="utf-8").replace("\nvariants:\n", f"\nvariants:\n{variant}")
    params.write_text(text, encoding="utf-8")
    committed(author, "two versions")
    said = run(author, "python", "-m", "stages", "renumber", "typst-004").stdout
    ends = "evaluate@typst-006 evaluate@typst-005 evaluate-variant@typst-006-checked\n"
    assert said.endswith(f"; dvc repro {ends}")
    assert variant.replace("typst-004", "typst-006") in params.read_text(encoding="utf-8")


def test_a_side_that_is_no_yaml_is_not_merged_in_silence(inside):
    files = [inside / name for name in ("base", "ours", "theirs")]
    for file, text in zip(files, ("a: 1\nb: 1\n", "a: 2\nb: 1\n", "a: 1\nb: [1\n"), strict=True):
        file.write_text(text, encoding="utf-8")
    with pytest.raises(
        UserError,
        match=r"^params.yaml: merged by entry it is no YAML \(while parsing a flow sequence\), so that git has merged it by line; look at both branches' files$",
    ):
        merge_file.merge_file(*files, "params.yaml")
