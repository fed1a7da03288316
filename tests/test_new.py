"""`new` takes a corpus in whole or not at all, whatever happens meanwhile, in nano clones in which
nothing has run."""

import errno
import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages import tasks
from stages.commands import begun, new, next_run, version_number
from stages.corpus import split
from stages.corpus.examples import Example
from stages.errors import UserError
from stages.files import write_lines
from stages.params import load_params
from stages.scoring.render import Renderer
from stages.tasks.typst import references
from tests import nano
from tests.conftest import ENVIRONMENT, run

ROW = "1\t水<が>（を）飲む。\tParticle\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = nano.make(tmp_path / "repository")
    (made / "more.tsv").write_text(ROW, encoding="utf-8")
    return made


def add_entry(folder: Path, group: str, name: str, entry: dict[str, object]) -> None:
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    params[group][name] = entry
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


HUB = {"hub_id": "a/b", "revision": "0" * 40, "split": "train"}
DEMO = {"rows": 9, "level": 1, "seed": 1}


@pytest.mark.parametrize(
    ("group", "name", "entry"),
    [
        ("corpora", "gec-003", {"task": "typst", "file": "data/typst/train_001.jsonl"}),
        (
            "runs",
            "gec-003",
            {
                "task": "typst",
                "corpus": "typst-001",
                "base": "models/lm-001",
                "parent": "models/lm-001",
            },
        ),
        ("synthetic", "gec-003", {"task": "lm", "file": "data/lm/train_009.jsonl", **DEMO}),
        ("sources", "gec-003", {"task": "lm", "file": "data/lm/train_009.jsonl", **HUB}),
        ("sources", "lm-009", {"task": "lm", "file": "data/gec/train_003.tsv", **HUB}),
    ],
)
def test_new_replaces_no_entry_and_no_file_of_another_task(folder, group, name, entry):
    add_entry(folder, group, name, entry)
    before = load_params(folder / "params.yaml")
    run(folder, "python", "-m", "stages", "new", "gec", "more.tsv")
    after = load_params(folder / "params.yaml")
    assert getattr(after, group)[name] == getattr(before, group)[name]
    assert after.corpora["gec-004"].file == "data/gec/train_004.tsv"
    assert after.runs["gec-004"].corpus == "gec-004"


KEPT = ("params.yaml", "data/gec/README.md")
NEW = ("python", "-m", "stages", "new", "gec", "more.tsv")


def take_in() -> None:
    """`new gec more.tsv` in this process."""
    new.new("gec", Path("more.tsv"))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in KEPT}


def left_of_corpora(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "data/gec").iterdir() if path.name != "README.md")


def edit(folder: Path) -> None:
    """What a user does in an editor while `new` is at work."""
    for name in KEPT:
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write("# edited meanwhile\n")


def test_what_dvc_says_where_it_refuses_is_one_sentence_and_nothing_is_entered(folder):
    before = contents(folder)
    (folder / ".dvc/tmp").mkdir(exist_ok=True)
    with (folder / ".dvc/tmp/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(folder, *NEW, succeeds=False)
    assert done.returncode == 2
    says = "data/gec/train_003.tsv: dvc did not take it, and nothing was entered; it says: Unable"
    assert done.stderr.startswith(says)
    assert "Unable to acquire lock" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (contents(folder), left_of_corpora(folder)) == (before, [])


def test_a_cache_that_cannot_be_written_to_is_one_sentence_and_nothing_is_entered(folder):
    before = contents(folder)
    (folder / ".dvc/cache").write_text("a file where DVC wants a folder", encoding="utf-8")
    done = run(folder, *NEW, succeeds=False)
    assert done.returncode == 2
    assert "dvc did not take it, and nothing was entered; it says: " in done.stderr
    assert "Not a directory" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (contents(folder), left_of_corpora(folder)) == (before, [])


def test_an_edit_made_while_new_runs_stays(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    kept = new.keep
    monkeypatch.setattr(new, "keep", lambda path: (edit(folder), kept(path)))
    take_in()
    params = load_params()
    assert (params.corpora["gec-003"].file, params.runs["gec-003"].parent) == (
        "data/gec/train_003.tsv",
        "models/gec-002",
    )
    for name in KEPT:
        assert "# edited meanwhile" in Path(name).read_text(encoding="utf-8")
    assert "| gec-003 | train_003.tsv | 1 | – |" in Path(KEPT[1]).read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["keep", "list_version", "enter"])
@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt])
def test_an_edit_stays_and_what_new_wrote_does_not_where_it_fails(
    folder, monkeypatch, stage, error
):
    monkeypatch.chdir(folder)
    real = getattr(new, stage)

    def fails(*arguments: object) -> None:
        if stage == "list_version":
            real(*arguments)
        edit(folder)
        raise error

    monkeypatch.setattr(new, stage, fails)
    before = contents(folder)
    with pytest.raises(error):
        take_in()
    edited = {name: content + b"# edited meanwhile\n" for name, content in before.items()}
    assert (contents(folder), left_of_corpora(folder)) == (edited, [])


def test_a_table_of_versions_that_new_began_is_taken_back_with_its_row(folder, monkeypatch):
    monkeypatch.chdir(folder)
    Path(KEPT[1]).unlink()

    def fails(*arguments: object) -> None:
        raise UserError

    monkeypatch.setattr(new, "enter", fails)
    with pytest.raises(UserError):
        take_in()
    assert not list(Path("data/gec").iterdir())


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ("gec-003: {task: gec, file: data/gec/mine.tsv}", "gec-003 was entered meanwhile; run `new` again"),
        ("gec-003: {task: gek, file: data/gec/mine.tsv}", "`corpora.gec-003.task`: no task `gek`; did you mean `gec`?"),
        ("gec-003: {", "not YAML: did not find expected ',' or '}'; correct it"),
    ],
)  # fmt: skip
def test_an_entry_of_the_same_name_made_meanwhile_is_the_users(folder, monkeypatch, edit, says):
    monkeypatch.chdir(folder)
    text = Path("params.yaml").read_text(encoding="utf-8")
    theirs = text.replace("\ncorpora:\n", f"\ncorpora:\n  {edit}\n")
    monkeypatch.setattr(new, "keep", lambda path: Path("params.yaml").write_text(theirs))
    with pytest.raises(UserError) as error:
        take_in()
    assert says in str(error.value)
    assert Path("params.yaml").read_text(encoding="utf-8") == theirs
    assert left_of_corpora(folder) == []


def test_a_corpus_that_the_disk_does_not_take_is_told_and_not_begun(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    says = (
        r"train_003.tsv: more.tsv was not copied there \(No space left on device\); make room, then"
    )
    with pytest.raises(UserError, match=says):
        take_in()
    assert left_of_corpora(folder) == []


KILLED = """
import os, shutil
from pathlib import Path
from stages import tasks
from stages.commands import new, version_number
from stages.corpus import split
def killed(*arguments):
    {writes}
    os._exit(9)
{function} = killed
new.new("gec", Path("more.tsv"))
"""


def test_a_begin_that_was_stopped_is_ended_first(inside):
    file = Path("data/gec/train_003.tsv")
    write_lines(file, [])
    Path("dvc.lock").write_text(f"stages:\n  a:\n    outs:\n    - path: {file}\n      md5: x\n")
    params = load_params(nano.ROOT / "params.yaml")
    with pytest.raises(UserError, match=r"data/gec/train_003.tsv: of the demo, which a `begin` that was stopped has left in dvc.lock; give the same `begin` again, which ends it"):  # fmt: skip
        version_number.next_version(params, "gec", ".tsv")


@pytest.mark.parametrize("function", ["new.keep", "new.list_version", "new.enter"])
def test_a_new_killed_before_the_entry_is_taken_back_by_the_next_one(folder, function):
    calm = Path(shutil.copytree(folder, folder.parent / "calm", symlinks=True))
    said = run(calm, *NEW).stdout
    script = KILLED.format(function=function, writes="pass")
    assert run(folder, sys.executable, "-c", script, succeeds=False).returncode == 9
    done = run(folder, *NEW)
    says = "data/gec/train_003.tsv: taken back; a `new` that was killed had not entered it\n"
    assert (done.stdout, done.stderr) == (said, says)
    assert (contents(folder), left_of_corpora(folder)) == (contents(calm), left_of_corpora(calm))
    assert not begun.NOTE.exists()


def test_a_new_killed_after_the_entry_has_ended_and_what_the_user_put_there_stays(folder):
    script = KILLED.format(function="new.enter", writes="real(*arguments)")
    script = script.replace("def killed", "real = new.enter\ndef killed")
    assert run(folder, sys.executable, "-c", script, succeeds=False).returncode == 9
    script = KILLED.format(function="new.keep", writes="arguments[0].write_text('mine')")
    done = run(folder, sys.executable, "-c", script, succeeds=False)
    assert (done.returncode, done.stderr) == (9, "")
    done = run(folder, *NEW)
    says = (
        "data/gec/train_004.tsv: no entry of params.yaml names it, as where a `new` was killed; it "
        "stays, and the next number is taken. Delete it, its .dvc file and its row in README.md, "
        "or enter it by hand"
    )
    assert says in done.stderr
    assert "taken back" not in done.stderr
    assert (folder / "data/gec/train_004.tsv").read_text(encoding="utf-8") == "mine"
    params = load_params(folder / "params.yaml")
    assert [params.corpora[name].file[-7:] for name in ("gec-003", "gec-005")] == [
        "003.tsv",
        "005.tsv",
    ]


def test_half_a_copy_that_a_killed_new_left_has_no_corpus_name_and_is_removed(folder):
    script = KILLED.format(
        function="shutil.copyfileobj", writes="arguments[1].write(b'1'); arguments[1].flush()"
    )
    assert run(folder, sys.executable, "-c", script, succeeds=False).returncode == 9
    assert left_of_corpora(folder) == ["train_003.tsv.partial"]
    done = run(folder, *NEW)
    says = "train_003.tsv.partial: removed; a `new` that was killed had not copied all of it"
    assert says in done.stderr
    assert left_of_corpora(folder) == ["train_003.tsv", "train_003.tsv.dvc"]
    assert (folder / "data/gec/train_003.tsv").read_text(encoding="utf-8") == ROW


def test_two_at_once_take_two_numbers(folder):
    both = [
        subprocess.Popen(NEW, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE) for _ in range(2)
    ]
    assert [process.communicate() and process.returncode for process in both] == [0, 0]
    params = load_params(folder / "params.yaml")
    for number in (3, 4):
        assert params.corpora[f"gec-00{number}"].file == f"data/gec/train_00{number}.tsv"
        assert f"| gec-00{number} |" in (folder / KEPT[1]).read_text(encoding="utf-8")
    assert params.runs["gec-004"].parent == "models/gec-003"


def test_a_new_that_does_not_end_is_told(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(new, "WAIT_SECONDS", 0)
    says = r"\.scratch/new\.lock: another `new` is running; run this one again when it has ended"
    with new.alone(), pytest.raises(UserError, match=says):
        take_in()


def test_what_new_says_to_give_to_git_is_all_that_a_queued_experiment_needs(folder):
    said = run(folder, *NEW).stdout
    (line,) = [line for line in said.splitlines() if line.startswith("Git:")]
    command = line.removeprefix("Git:").partition("(")[0].split()
    files = ["data/gec/train_003.tsv.dvc", "params.yaml", "dvc.yaml", "data/gec/README.md"]
    assert command == ["git", "add", *files]
    run(folder, *command)
    (folder / "more.tsv").unlink()
    status = run(folder, "git", "status", "--short", "--untracked-files=all").stdout
    assert sorted(line[:2] for line in status.splitlines()) == ["A ", "M ", "M ", "M "]
    run(folder, "dvc", "exp", "run", "--queue", "-S", "defaults.seed=1")
    queued = ("git", "ls-tree", "-r", "--name-only", "refs/exps/celery/stash")
    assert "data/gec/train_003.tsv.dvc" in run(folder, *queued).stdout.splitlines()


def test_new_tells_which_runs_lose_training_rows_to_what_it_holds_out(folder):
    """Another correction of a sentence lies in another part: the sentence leaves what is trained on."""
    corrections = (f"水を{number}回飲む。" for number in range(1000))
    held_out = next(text for text in corrections if split.part(text, 0.1, 0.1) == "test")
    asked = Example(1, "水が飲む。", "水を飲む。", "Particle")
    shown = {"id": "1", "category": "", "source": "", **tasks.corpus("gec").show(asked)}
    write_lines(folder / "data/mixed/gec-001/train.jsonl", [shown, shown])
    (folder / "more.tsv").write_text(f"<水が飲む。>\t({held_out})\n", encoding="utf-8")
    said = run(folder, "python", "-m", "stages", "new", "gec", "more.tsv").stdout
    assert (
        "Note:  it holds out questions that stand in the training rows of gec-001 (2); these rows "
        "leave them, so that these runs and their descendants train again"
    ) in said
    only = ("new", "gec", "more.tsv", "--valid-only")
    assert "it holds out questions" not in run(folder, "python", "-m", "stages", *only).stdout


@pytest.mark.parametrize(
    ("arguments", "corpus", "ran", "says"),
    [
        (
            [],
            {},
            {"base": "models/lm-001", "parent": "models/gec-002", "lora": {"r": 4}},
            "the run continues from models/gec-002.",
        ),
        (
            ["--start"],
            {},
            {"base": "models/lm-001", "parent": "models/lm-001", "lora": {"r": 4}},
            "the run starts from models/lm-001.",
        ),
        (
            ["--base", "models/bases/tiny", "--preset", "fast", "--preset", "lora-small"],
            {},
            {"base": "models/bases/tiny", "parent": "models/bases/tiny", "preset": ["fast", "lora-small"], "lora": {"r": 8}},
            "the run starts from models/bases/tiny.",
        ),
        (
            ["--parent", "gec-001", "--preset", "fast"],
            {},
            {"base": "models/lm-001", "parent": "models/gec-001", "preset": "fast", "lora": {"r": 4}},
            "the run continues from models/gec-001.",
        ),
        (["--corpus-only"], {}, None, "Next:  dvc repro prepare@gec-003, then name it in a run: `mix: {gec-003: 0.5}`"),
        (["--valid-only"], {"valid_only": True}, None, "then name it in a run: `validation: gec-003`"),
        (["--test-only"], {"test_only": True}, None, "Next:  dvc repro compare@gec"),
        (["--max-drop-fraction", "0.6", "--malformed", "drop"], {"max_drop_fraction": 0.6, "malformed": "drop"}, {}, "gec-003: 1 rows"),
    ],
)  # fmt: skip
def test_the_run_is_as_the_user_says_or_there_is_none(folder, arguments, corpus, ran, says):
    if "--malformed" in arguments:
        (folder / "more.tsv").write_text(f"{ROW}broken\n", encoding="utf-8")
    said = run(folder, *NEW, *arguments).stdout
    assert says in said
    after = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    plain = {"task": "gec", "file": "data/gec/train_003.tsv"}
    assert after["corpora"]["gec-003"] == plain | corpus
    if ran is None:
        assert "gec-003" not in after["runs"]
    elif ran:
        assert after["runs"]["gec-003"] == {"task": "gec", "corpus": "gec-003"} | ran


def test_what_a_file_was_read_as_is_told_and_what_nothing_has_a_use_for(folder):
    said = run(folder, *NEW).stdout
    assert "Read:  as lines of sentences (1)\n" in said
    assert "no row of it is for validation and test, without which no run can be" in said
    (folder / "more.json").write_text(
        '[{"input": "本読む。", "right": "本を読む。", "level": 3}]', encoding="utf-8"
    )
    command = ("python", "-m", "stages", "new", "gec", "more.json", "--columns", "right=output")
    said = run(folder, *command).stdout
    assert "gec-004: 1 rows of more.json are now data/gec/train_004.json;" in said
    assert "Read:  as sources with their targets (1)\n" in said
    assert (
        "Note:  keys of the records that nothing here has a use for: level (1); --unknown" in said
    )
    corpus = load_params(folder / "params.yaml").corpora["gec-004"]
    assert corpus.columns == {"right": "output"}
    done = run(folder, *command, "--unknown-keys", "stop", succeeds=False)
    assert done.returncode == 2
    assert "level (1); take them out, or set `unknown_keys: tell` for this corpus" in done.stderr


def test_a_part_with_far_more_than_its_share_is_told(folder):
    shares = load_params(folder / "params.yaml").split
    target = next(
        text
        for text in (f"本を{number}冊読む。" for number in range(1000))
        if split.part(text, shares.valid, shares.test) == "test"
    )
    (folder / "same.tsv").write_text(
        "".join(f"{number}本を読む。\t{target}\n" for number in range(30)), encoding="utf-8"
    )
    said = run(folder, "python", "-m", "stages", "new", "gec", "same.tsv").stdout
    assert (
        f"Note:  30 of its 30 rows (100%) are for test, whose share is {shares.test:.0%}: " in said
    )
    assert "rows on the same text stay in one part (data/gec/README.md), and many seem" in said
    assert "are for test, whose" not in run(folder, *NEW).stdout


def test_dropped_rows_are_told(folder):
    line = "音楽を聞きた。\t音楽を聞いた。\n"
    (folder / "twice.tsv").write_text(f"{line}本読む。\t本を読む。\n{line}", encoding="utf-8")
    said = run(folder, *NEW[:-1], "twice.tsv", "--max-drop-fraction", "0.5").stdout
    assert "Note:  dropped of its 3 rows: 1 duplicate\n" in said


def test_what_was_given_before_is_told(folder):
    assert "the same content" not in run(folder, *NEW).stdout
    said = run(folder, *NEW).stdout
    assert "Note:  the same content as gec-003; was more.tsv given by mistake?\n" in said
    said = run(folder, *NEW, "--corpus-only").stdout
    assert "Note:  the same content as gec-003, gec-004; was more.tsv given by mistake?\n" in said


def test_what_is_trained_first_is_said_and_what_was_not_asked_for_is_not_trained(folder):
    """In a clone in which nothing has run, `compare` would train the demo's whole chain."""
    said = run(folder, *NEW, "--base", "models/bases/tiny").stdout
    assert "Next:  dvc repro evaluate@gec-003\n" in said
    said = run(folder, *NEW).stdout
    assert "Next:  dvc repro evaluate@gec-004  (first trains gec-003, which it stands on)" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--corpus-only", "--test-only"], "new: --corpus-only, --test-only and --valid-only exclude each other"),
        (["--valid-only", "--start"], "exclude each other, and --start, --base, --parent and --preset, which are of a run"),
        (["--start", "--base", "models/lm-001"], "new: --start, --base and --parent say each where the run begins; give one"),
        (["--preset", "fats"], "params.yaml: no `fats` under `presets`; did you mean `fast`?"),
        (["--base", "models/none"], "`runs.gec-003.base`: no model `models/none`"),
        (["--malformed", "foo"], "'foo' is not one of 'stop', 'drop'"),
        (["--max-drop-fraction", "2"], "Invalid value for '--max-drop-fraction': Input should be less than or equal to 1"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_and_nothing_is_entered(folder, arguments, says):
    before = contents(folder)
    done = run(folder, *NEW, *arguments, succeeds=False)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())
    assert (contents(folder), left_of_corpora(folder)) == (before, [])


def test_a_file_that_is_not_there_and_too_many_dropped_rows_say_what_to_do(folder):
    done = run(folder, "python", "-m", "stages", "new", "gec", "none.tsv", succeeds=False)
    assert "none.tsv: no such file; give the path of your corpus" in done.stderr
    done = run(folder, "python", "-m", "stages", "new", "gec", "data", succeeds=False)
    assert (done.returncode, done.stderr) == (2, "data: a folder; give the path of your corpus\n")
    (folder / "more.tsv").write_text(ROW + "broken\n" * 2, encoding="utf-8")
    done = run(folder, *NEW, succeeds=False)
    assert (
        "or leave them out: `malformed: drop` for the corpus in params.yaml, --malformed drop"
        in done.stderr
    )
    done = run(folder, *NEW, "--malformed", "drop", succeeds=False)
    assert (
        "raise max_drop_fraction: for the corpus in params.yaml, with --max-drop-fraction"
        in done.stderr
    )


def test_a_task_without_a_base_says_where_to_set_one(folder, monkeypatch):
    monkeypatch.chdir(folder)
    params = load_params().model_copy(update={"runs": {}, "base": ""})
    with pytest.raises(
        UserError, match=r"params\.yaml: no `base` for the first run of gec; set it"
    ):
        next_run.descent(params, "gec", next_run.Wants())


def test_references_that_typst_does_not_compile_are_told_with_their_new_names(folder):
    typst = ["a plus.circle b", "diff f", "angle.l x angle.r", "plus.circle.big_i plus.circle", "x", "frac(a", "sect.big integral.sect a"]  # fmt: skip
    rows = [{"latex": f"x_{n}", "typst": text} for n, text in enumerate(typst)]
    write_lines(folder / "more.jsonl", rows)
    done = run(folder, "python", "-m", "stages", "new", "typst", "more.jsonl")
    assert (
        "Note:  6 of 7 references do not compile with Typst 0.15.0, so that no answer to them is "
        "right: "
    ) in done.stdout
    for name in (
        "`plus.circle` is `plus.o` now (2)",
        "`diff` is `partial` now (1)",
        "`angle.l` is `chevron.l` now (1)",
        "`angle.r` is `chevron.r` now (1)",
        "`sect` is `inter` now (1)",
        "`integral.sect` is `integral.inter` now (1)",
        "for other reasons 1, such as more.jsonl line 6; mend them first\n",
    ):
        assert name in done.stdout
    (folder / "more.jsonl").write_text('{"latex": "y", "typst": "y"}', encoding="utf-8")
    done = run(folder, "python", "-m", "stages", "new", "typst", "more.jsonl")
    assert "do not compile" not in done.stdout


@pytest.mark.parametrize(("old", "new"), [
    *((f"{name}.circle", f"{name}.o") for name in ["plus", "minus", "times", "dot", "div", "ast", "eq", "lt", "gt", "bar.v", "dash", "backslash", "slash", "parallel", "perp"]),
    *((f"{name}.{side}.double", f"{name}.{side}.stroked") for name in ("bracket", "paren", "brace", "shell") for side in "lr"),
    *((f"angle.{kind}", f"chevron.{kind}") for kind in ("l", "r", "l.double", "r.curly", "l.dot")),
    ("sect", "inter"), ("sect.big", "inter.big"), ("sect.sq", "inter.sq"), ("diff", "partial"), ("planck.reduce", "planck"), ("gimmel", "gimel"),
])  # fmt: skip
def test_every_new_name_is_one_that_typst_knows_and_the_old_one_is_not(symbols, old, new):
    assert references._renamed(f"a {old} x_{old}") == f"a {new} x_{new}"
    assert [picture is None for picture in symbols.render([old, new], "math")] == [True, False]


@pytest.fixture(scope="module")
def symbols():
    with Renderer() as renderer:
        yield renderer
