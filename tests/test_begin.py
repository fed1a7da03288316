"""`begin` makes a clone of the repository a project of one's own, wholly or not at all; and what
follows it, from a file to an exported adapter, for each task."""

import csv
import gzip
import json
import random
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pandas
import pytest
import yaml
from huggingface_hub.errors import HfHubHTTPError

from stages import tasks
from stages.commands import begin, starting_model
from stages.commands.edited_params import without
from stages.errors import UserError
from stages.params import load_params
from tests import nano
from tests.conftest import run
from tests.tiny import checkpoint

PARTS = ("train", "valid", "test")
GROUPS = ("synthetic", "bases", "corpora", "runs")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return Path(checkpoint(tmp_path_factory.mktemp("elsewhere") / "My Model", "llama"))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A clone in which nothing has run; what it begins with answers shortly."""
    folder = nano.make(tmp_path_factory.mktemp("clone") / "repository")
    shutil.copy2(nano.ROOT / "dvc.lock", folder)
    shutil.copytree(nano.ROOT / "metrics", folder / "metrics", dirs_exist_ok=True)
    params = (folder / "params.yaml").read_text(encoding="utf-8")
    params = params.replace("{max_new_tokens: 256}", "{max_new_tokens: 4}")
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    committed(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "repository", symlinks=True))


def committed(folder: Path) -> None:
    run(folder, "git", "add", "--all")
    run(folder, *nano.GIT, "commit", "--quiet", "--message", "made")


def begins(folder: Path, *arguments: object, succeeds: bool = True) -> subprocess.CompletedProcess:
    command = ("python", "-m", "stages", "begin", *map(str, arguments))
    return run(folder, *command, succeeds=succeeds)


def state(folder: Path) -> dict[str, str]:
    """What git has, or would have, of a folder."""
    listed = run(folder, "git", "ls-files", "--cached", "--others", "--exclude-standard").stdout
    paths = [folder / name for name in listed.splitlines()]
    return {str(path.relative_to(folder)): path.read_text() for path in paths if path.is_file()}


def test_the_demo_goes_and_all_else_stays(folder, base):
    before = state(folder)
    done = begins(folder, base, "--yes")
    assert (
        "The demo is out. The first run of each task starts from models/bases/my-model."
        in done.stdout
    )
    assert "runs:      lm-001, lm-002, lm-003, gec-001," in done.stdout
    after = state(folder)
    assert before.keys() - after.keys() == {
        "dvc.lock" if name == "dvc.lock" and name not in after else name
        for name in before
        if name.startswith("metrics/")
    }
    assert {name for name in after if after[name] != before.get(name)} == {
        "dvc.lock",
        "dvc.yaml",
        "params.yaml",
        *(f"data/{task}/README.md" for task in ("gec", "lm", "polish", "reward", "typst")),
    }
    was, now = (yaml.safe_load(text["params.yaml"]) for text in (before, after))
    assert [now[group] for group in GROUPS] == [{}, {}, {}, {}]
    assert (now["compare"], now["base"]) == ([], "models/bases/my-model")
    assert (now["presets"], now["split"]) == (was["presets"], was["split"])
    assert now["tasks"].keys() == was["tasks"].keys()
    assert now["defaults"] == was["defaults"] | {
        key: value for key, value in was["presets"]["pretrained"].items() if key != "generation"
    } | {"generation": was["defaults"]["generation"] | {"max_new_tokens": 4}}
    assert not any(
        was["presets"]["pretrained"].keys() & task.keys() for task in now["tasks"].values()
    )
    assert not any("added_tokens" in task for task in now["tasks"].values())
    comments = [line for line in before["params.yaml"].splitlines() if line.startswith("#")]
    assert [line for line in after["params.yaml"].splitlines() if line.startswith("#")] == comments
    assert yaml.safe_load(after["dvc.lock"])["stages"].keys() == {"configure"}
    head = before["dvc.yaml"].partition("artifacts:\n")[0]
    assert after["dvc.yaml"] == head + "artifacts: {}\n"
    assert after["data/typst/README.md"].endswith(
        "| version | file | rows | what is new |\n|---|---|---|---|\n"
    )
    copied = folder / "models/bases/my-model"
    assert {path.name for path in copied.iterdir()} == {path.name for path in base.iterdir()}
    again = begins(folder, base, "--yes", succeeds=False)
    assert again.returncode == 2
    assert (
        "there is nothing of the demo in it; to start from another model, change `base`"
        in again.stderr
    )


def test_a_base_without_a_chat_template_is_told_with_what_to_set(folder, base, tmp_path):
    said = "has no chat template, by which questions and answers are learned; add `chat_template: "
    assert said not in begins(folder, base, "--yes").stdout
    run(folder, "git", "checkout", "--", ".")
    shutil.rmtree(folder / "models/bases/my-model")
    bare = tmp_path / "bare"
    shutil.copytree(base, bare)
    (bare / "chat_template.jinja").unlink()
    assert f"Note:  models/bases/bare {said}" in begins(folder, bare, "--yes").stdout


def test_a_task_that_is_kept_keeps_what_it_stands_on(folder, base):
    begins(folder, base, "--yes", "--keep-task", "gec")
    params = load_params(folder / "params.yaml")
    assert list(params.runs) == ["lm-001", "gec-001", "gec-002"]
    assert (
        list(params.corpora)
        == list(params.synthetic)
        == ["lm-001", "gec-001", "gec-002", "style-001"]
    )
    assert list(params.bases) == ["tiny"]
    assert params.compare == ["lm", "gec"]
    assert yaml.safe_load((folder / "dvc.yaml").read_text())["artifacts"] == {
        "lm": {"path": "models/lm-001", "type": "model"},
        "gec": {"path": "models/gec-002", "type": "model"},
    }
    locked = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    assert {name for name in locked if name.startswith("train@")} == {
        "train@lm-001", "train@gec-001", "train@gec-002",
    }  # fmt: skip
    assert "| gec-001 |" in (folder / "data/gec/README.md").read_text()
    assert "| lm-002 |" not in (folder / "data/lm/README.md").read_text()
    assert (folder / "metrics/evaluate/gec/gec-002.json").exists()
    assert not (folder / "metrics/evaluate/typst").exists()


@pytest.mark.parametrize("stopped", ["start", "params", "half of the files", "lock"])
def test_one_that_was_killed_leaves_the_demo_or_ones_own_project_and_can_be_ended(
    folder, base, monkeypatch, tmp_path, capsys, stopped
):
    other = Path(shutil.copytree(folder, tmp_path / "other", symlinks=True))
    begins(other, base, "--yes")
    monkeypatch.chdir(folder)
    before = state(folder)

    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    names = {
        "params": ("edited_params", 1),
        "half of the files": ("unlink", 9),
        "lock": ("atomic_write", 1),
    }
    with monkeypatch.context() as patch:
        if stopped == "start":
            patch.setattr(starting_model.Start, "take", kill)
        else:
            name, times = names[stopped]
            owner = Path if name == "unlink" else begin
            calls, own = [], getattr(owner, name)

            def counted(*given: object, **named: object) -> object:
                calls.append(1)
                return kill() if len(calls) == times else own(*given, **named)

            patch.setattr(owner, name, counted)
        with pytest.raises(Killed):
            begin.begin(str(base), yes=True)
    load_params()
    begun = not load_params().runs
    assert begun is (stopped in ("half of the files", "lock"))
    if not begun:
        assert state(folder) == before
    shutil.rmtree("models/bases/my-model", ignore_errors=not begun) if not begun else None
    capsys.readouterr()
    begin.begin(str(base), yes=True)
    assert "Next:  python -m stages new TASK FILE" in capsys.readouterr().out
    assert state(folder) == state(other)


@pytest.mark.parametrize(
    ("spoil", "arguments", "says"),
    [
        ("dirty", ["BASE", "--yes"], "begin: README.md: changed and not committed; commit or stash it first, because git is the way back"),
        ("", ["BASE"], "begin: nobody is there to be asked; give --yes to take this out"),
        ("", ["nowhere", "--yes"], "nowhere: no such folder or file; a base is a checkpoint folder of transformers, a models/bases/NAME.json, or OWNER/NAME@COMMIT on the hub"),
        ("", ["data", "--yes"], "data: no config.json in it; a base is a checkpoint folder"),
        ("pickle", ["pickled", "--yes"], "pickled: no .safetensors in it, and other forms can run code; convert it"),
        ("adapter", ["adapter", "--yes"], "adapter: an adapter cannot be a base; name the base it was grown on, models/lm-001"),
        ("taken", ["BASE", "--yes"], "models/bases/my-model: there is one of this name; name it as the base, or remove it"),
        ("", ["a/b@main", "--yes"], "a/b: its commit could not be asked for (OfflineModeIsEnabled); connect to the hub, or give it: a/b@COMMIT"),
        ("named", ["a/b@" + "1" * 40, "--yes"], "models/bases/b.json: it names another model or commit; name the file as the base, or remove it"),
        ("", ["BASE", "--yes", "--keep-task", "gecc"], "no `gecc` under `tasks`; did you mean `gec`?"),
        ("own", ["BASE", "--yes"], "`runs.gec-003.base`: no model `models/lm-001`"),
        ("flow", ["BASE", "--yes", "--keep-task", "gec"], "params.yaml: the entries of `corpora` do not stand on lines of their own, two spaces in; delete lm-002, polish-001,"),
    ],
)  # fmt: skip
def test_what_it_refuses_it_says_and_leaves_all_as_it_was(folder, base, spoil, arguments, says):
    if spoil == "pickle":
        (folder / "pickled").mkdir()
        shutil.copy2(base / "config.json", folder / "pickled")
    if spoil == "adapter":
        (folder / "adapter").mkdir()
        config = {"base_model_name_or_path": "models/lm-001"}
        (folder / "adapter/adapter_config.json").write_text(json.dumps(config))
    if spoil == "taken":
        (folder / "models/bases/my-model").mkdir(parents=True)
    if spoil == "named":
        (folder / "models/bases").mkdir(parents=True)
        (folder / "models/bases/b.json").write_text(
            json.dumps({"hub_id": "a/b", "revision": "2" * 40})
        )
    params = folder / "params.yaml"
    if spoil == "own":  # a run on one's own corpus that continues from the demo
        (folder / "own.tsv").write_text("1\t水<が>（を）飲む。\tParticle\n", encoding="utf-8")
        run(folder, "python", "-m", "stages", "new", "gec", "own.tsv", "--start")
        committed(folder)
    if spoil == "flow":
        text = params.read_text(encoding="utf-8")
        corpora = yaml.safe_load(text)["corpora"]
        flow = yaml.safe_dump(corpora, default_flow_style=True, width=10**6).strip()
        text = without(text, "corpora", list(corpora)).replace("corpora: {}", f"corpora: {flow}")
        params.write_text(text, encoding="utf-8")
        committed(folder)
    if spoil == "dirty":
        (folder / "README.md").write_text("edited", encoding="utf-8")
    before = state(folder)
    done = begins(folder, *(base if each == "BASE" else each for each in arguments), succeeds=False)
    assert (done.returncode, done.stderr.count("Traceback")) == (2, 0), done.stderr
    assert says in done.stderr
    assert state(folder) == before


def test_of_a_hub_model_the_commit_is_asked_for_and_noted(folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = "ab" * 20
    asked = []

    class Api:
        def model_info(self, hub_id: str, revision: str | None) -> SimpleNamespace:
            asked.append((hub_id, revision))
            if hub_id == "no/model":
                raise HfHubHTTPError("404", response=SimpleNamespace(headers={}, request=None))
            if hub_id == "no/network":
                raise RuntimeError  # as its HTTP library's errors, which are no OSError
            return SimpleNamespace(sha=found)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    for hub_id in ("no/model", "no/network"):
        with pytest.raises(UserError, match=f"{hub_id}: its commit could not be asked for"):
            begin.begin(hub_id, yes=True)
    asked.remove(("no/network", None))
    begin.begin("owner/Some.Model", yes=True)
    assert asked == [("no/model", None), ("owner/Some.Model", None)]
    assert load_params().base == "models/bases/some.model.json"
    assert json.loads(Path("models/bases/some.model.json").read_text()) == {
        "hub_id": "owner/Some.Model", "revision": found,
    }  # fmt: skip


TEXT = """# Above a.
a:
  one: {x: 1}
  # Of two.
  two:
    x: 1 # here
    # inside
    y: 2
  # Of three.
  three: {x: 3}

# Above b.
b: 1
"""


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["one"], TEXT.replace("  one: {x: 1}\n", "")),
        (["two"], TEXT.replace("  # Of two.\n  two:\n    x: 1 # here\n    # inside\n    y: 2\n", "")),
        (["three"], TEXT.replace("  # Of three.\n  three: {x: 3}\n", "")),
        (["one", "two", "three"], "# Above a.\na: {}\n\n# Above b.\nb: 1\n"),
        ([], TEXT),
    ],
)  # fmt: skip
def test_entries_leave_with_their_comments_and_no_others(names, left):
    assert without(TEXT, "a", names) == left


FIRST = {
    "lm": ["--text", "The"],
    "gec": ["--text", "水が飲む。"],
    "typst": ["--text", "\\alpha"],
    "polish": ["--text", "Cześć"],
    "reward": ["--text", '{"problem": "1 + 1", "steps": ["2"]}'],
}


def test_every_form_of_a_file_is_taken_in_and_prepared_alike(folder, tmp_path):
    rows = [{"instruction": "Odmień.", "input": f"kot {n}", "output": f"kota {n}"} for n in range(40)]  # fmt: skip
    frame = pandas.DataFrame(rows)
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "a.parquet")
    names = []
    for file in sorted(tmp_path.glob("a.*")):
        done = run(folder, "python", "-m", "stages", "new", "polish", str(file), "--corpus-only")
        assert ": 40 rows of " in done.stdout
        assert "Read:  as instruction records (40)\n" in done.stdout
        names.append(done.stdout.partition(":")[0])
    run(folder, "dvc", "repro", *(f"prepare@{name}" for name in names))
    prepared = folder / "data/prepared/polish"
    made = {
        tuple((prepared / part / f"{name}.jsonl").read_text(encoding="utf-8") for part in PARTS)
        for name in names
    }
    assert len(names) == 6
    assert len(made) == 1
    assert all(made.pop())


def test_from_a_clone_to_exported_adapters_of_ones_own_for_every_task(folder, base, tmp_path):
    begins(folder, base, "--yes")
    committed(folder)
    for task in tasks.names():
        suffix = "tsv" if task == "gec" else "jsonl"
        lines = tasks.synthetic(task).lines(random.Random(5), 60, 1)
        (tmp_path / f"own.{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")
        done = run(folder, "python", "-m", "stages", "new", task, str(tmp_path / f"own.{suffix}"))
        assert f"{task}-001: 60 rows" in done.stdout
        assert "the run starts from models/bases/my-model." in done.stdout
        assert f"Next:  dvc repro evaluate@{task}-001 compare@{task}\n" in done.stdout
    done = run(folder, "python", "-m", "stages", "repro", "--jobs", "2")
    stages = ("prepare", "mix", "train", "predict", "evaluate")
    assert {line.split("'")[1] for line in done.stdout.splitlines() if "Running stage" in line} == {
        *(f"{stage}@{task}-001" for stage in stages for task in tasks.names()),
        *(f"compare@{task}" for task in tasks.names()),
        "configure",
    }
    assert run(folder, "dvc", "status").stdout == "Data and pipelines are up to date.\n"
    committed(folder)
    run(folder, "dvc", "exp", "run", "-S", "runs.gec-001.lora.r=2", "evaluate@gec-001")
    shown = run(folder, "dvc", "exp", "show", "--csv", "--no-pager").stdout
    assert {row["runs.gec-001.lora.r"] for row in csv.DictReader(shown.splitlines())} == {"4", "2"}
    for task, text in FIRST.items():
        assert run(folder, "python", "-m", "stages", "apply", f"{task}-001", *text).stdout
        out = tmp_path / f"out-{task}"
        run(folder, "python", "-m", "stages", "export", f"{task}-001", "-o", str(out))
        assert (out / "model.safetensors").is_file()
    tested = run(folder, "python", "-m", "pytest", succeeds=False)
    assert tested.returncode == 2
    assert "params.yaml has no demo, which these tests start from: `begin` took it out." in (
        tested.stdout + tested.stderr
    )
