"""`python -m stages VERB`, in nano clones of the finished graph."""

import fcntl
import re
import shutil
from pathlib import Path

import pytest
import yaml

from stages.commands import check
from stages.entries import Corpus
from stages.errors import UserError
from stages.params import load_params
from tests import nano
from tests.conftest import run

ROOT = Path(__file__).parents[1]


def test_apply_answers_text_and_files_in_order(whole_graph, tmp_path):
    stages = ("python", "-m", "stages", "apply")
    said = run(
        whole_graph, *stages, "gec-002", "--text", "私は本が読みます。", "--text", "猫"
    ).stdout
    assert len(said.splitlines()) == 2
    (tmp_path / "in.txt").write_text("a\nb\n\nc\n", encoding="utf-8")
    run(
        whole_graph, *stages, "typst-003", str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.typ")
    )
    one_by_one = [run(whole_graph, *stages, "typst-003", "--text", text).stdout for text in "abc"]
    assert (tmp_path / "out.typ").read_text(encoding="utf-8") == "".join(one_by_one)
    assert run(
        whole_graph, *stages, "lm-001", "--text", "In the", "--max-new-tokens", "2"
    ).stdout.endswith("\n")


def test_apply_scores_the_steps_of_ones_own_solutions(whole_graph):
    solution = '{"problem": "Compute 4 + 5 - 3.", "steps": ["4 + 5 = 9.", "9 - 3 = 7."]}'
    said = run(
        whole_graph,
        "python",
        "-m",
        "stages",
        "apply",
        "reward-002",
        "--text",
        solution,
        "--text",
        "1 + 1?\n2.",
    ).stdout
    assert [len(line.split()) for line in said.splitlines()] == [2, 1]
    assert all(0 <= float(score) <= 1 for score in said.split())


def test_check_tells_what_a_run_has_and_all_that_it_lacks(clone):
    said = run(clone, "python", "-m", "stages", "check", "typst-003").stdout
    assert "fault" not in said
    assert re.search(r"corpus typst-003 +│ ok +│ 80 rows, read as", said)
    assert "a turn ends with <|end|>" in said
    assert "continues from models/typst-002" in said
    assert re.search(r"precision +│ ok +│ float32: exact: portable", said)

    params = yaml.safe_load((clone / "params.yaml").read_text(encoding="utf-8"))
    params["runs"]["typst-003"]["lora"] = {"r": 1}
    params["corpora"]["typst-003"]["file"] = "data/typst/train_3b.jsonl"
    (clone / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    done = run(clone, "python", "-m", "stages", "check", "typst-003", succeeds=False)
    assert done.returncode == 2
    said = " ".join(done.stdout.replace("│", " ").split())
    assert (
        "data/typst/train_3b.jsonl: a version's file is named train_NNN or style_NNN with three "
        "digits, or eval; rename it" in said
    )
    assert "its adapter has lora.r 4, this run asks for 1" in said
    assert "typst-003: 2 of 6 checks found a fault; see above" in done.stderr


@pytest.mark.parametrize("verb", ["check", "plan"])
def test_a_bracket_in_a_path_is_no_markup(clone, verb):
    shutil.copytree(clone / "models/lm-001", clone / "models/bases/[v1]")
    params = yaml.safe_load((clone / "params.yaml").read_text(encoding="utf-8"))
    params["runs"]["polish-001"] |= dict.fromkeys(("base", "parent"), "models/bases/[v1]")
    params["runs"]["polish-002"]["base"] = "models/bases/[v1]"
    (clone / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    said = run(clone, "python", "-m", "stages", verb, "polish-001", succeeds=False)
    assert "models/bases/[v1]" in said.stdout, said.stderr


def test_check_drops_as_many_rows_as_the_corpus_allows(inside):
    """As `prepare` does, with the corpus's own max_drop_fraction."""
    file = inside / "data/gec/train_001.tsv"
    file.parent.mkdir(parents=True)
    good = [f"{n}\t水<が>（を）{n}杯飲む。\tParticle\n" for n in range(3)]
    file.write_text("".join([*good, "no tab\n", "none here\n"]), encoding="utf-8")
    file.with_name("README.md").write_text("| gec-001 |\n", encoding="utf-8")
    corpus = Corpus(task="gec", file="data/gec/train_001.tsv", malformed="drop")
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    with pytest.raises(UserError, match=r"more than max_drop_fraction 20%"):
        check.corpus_of("gec-001", corpus, params, {})
    allowed = corpus.model_copy(update={"max_drop_fraction": 0.9})
    said = check.corpus_of("gec-001", allowed, params, {})
    assert said.startswith("3 rows, read as lines of sentences (3); dropped: 2 ")


def test_checkpoints_that_no_run_goes_on_from_are_removed(clone):
    old, held = (clone / ".scratch" / name for name in ("0" * 32, "1" * 32))
    wanted = clone / ".scratch" / scratch_of(clone, "typst-003")
    for folder in (old, held, wanted):
        folder.mkdir(parents=True)
        (folder / "lock").touch()
        (folder / "optimizer.pt").write_bytes(bytes(2**20))
    with (held / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = run(clone, "python", "-m", "stages", "check", "--clean").stdout
        assert f"{old.relative_to(clone)}, 1.0 MiB\n1 folders of checkpoints" in said
        assert (
            "an interrupted experiment, or a run whose inputs are not checked out, may go on from "
            "one of them; `check --clean --yes` removes them" in said
        )
        assert old.exists()
        said = run(clone, "python", "-m", "stages", "check", "--clean", "--yes").stdout
    assert f"removed {old.relative_to(clone)}, 1.0 MiB\n1 folders" in said
    assert (old.exists(), held.exists(), wanted.exists()) == (False, True, True)


def scratch_of(clone, name):
    asked = f"""
from stages.backends.shared import checkpoints
from stages.params import load_params
print(checkpoints.folder_name({name!r}, load_params().runs[{name!r}]))"""
    return run(clone, "python", "-c", asked).stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("check",), "check: which run?"),
        (("apply", "reward-001", "--text", "p"), "no steps; give"),
        (
            ("apply", "lm-001", "--prompt", "a", "--temperature", "-1"),
            "--temperature: input should be greater than or equal to 0",
        ),
        (("check", "gec-009"), "no `gec-009` under `runs`; did you mean `gec-00"),
        (("apply", "gec-009", "--text", "a"), "no `gec-009` under `runs`; did you mean `gec-00"),
        (("apply", "gec-001"), "nothing to answer: give FILEs, `-` for standard input, or --text"),
        (("apply", "gec-001", "absent.txt"), "absent.txt: no such file"),
        (("new", "gek", "x.tsv"), "no `gek` under `tasks`; did you mean `gec`?"),
        (("new", "gec", "absent.tsv"), "absent.tsv: no such file"),
        (("new", "gec", "params.yaml"), "params.yaml: files of records end with .jsonl,"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(whole_graph, arguments, says):
    before = (whole_graph / "params.yaml").read_bytes()
    done = run(whole_graph, "python", "-m", "stages", *arguments, succeeds=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert (whole_graph / "params.yaml").read_bytes() == before


def test_a_run_that_is_not_trained_says_how_to_train_it(clone):
    for path in sorted((clone / "models/gec-001").rglob("*"), reverse=True):
        path.unlink()
    (clone / "models/gec-001").rmdir()
    done = run(clone, "python", "-m", "stages", "apply", "gec-001", "--text", "a", succeeds=False)
    assert done.returncode == 2
    assert "models/gec-001: not trained yet; run `dvc repro train@gec-001`" in done.stderr


def test_new_refuses_a_bad_file_and_leaves_everything_as_it_was(clone):
    (clone / "bad.tsv").write_text("1\t私は<本読む。\tVerb\n2\t私は本を読む。\n", encoding="utf-8")
    before = {name: (clone / name).read_bytes() for name in ("params.yaml", "data/gec/README.md")}
    done = run(clone, "python", "-m", "stages", "new", "gec", "bad.tsv", succeeds=False)
    assert done.returncode == 2
    assert "bad.tsv line 1: " in done.stderr
    assert "bad.tsv line 2: " in done.stderr
    assert before == {name: (clone / name).read_bytes() for name in before}
    assert not (clone / "data/gec/train_003.tsv").exists()


def test_new_that_fails_late_leaves_params_as_they_were(tmp_path):
    folder = nano.make(tmp_path / "repository")
    (folder / "more.tsv").write_text("1\t水<が>（を）飲む。\tParticle\n", encoding="utf-8")
    before = (folder / "params.yaml").read_bytes()
    done = run(
        folder,
        "python",
        "-m",
        "stages",
        "new",
        "gec",
        "more.tsv",
        "--base",
        "models/none",
        succeeds=False,
    )
    assert done.returncode == 2
    assert "`runs.gec-003.base`: no model `models/none`" in done.stderr
    assert (folder / "params.yaml").read_bytes() == before
    assert not list((folder / "data/gec").glob("train_003*"))


def test_new_continues_the_chain_or_starts_another(clone):

    lines = "".join(f"{n}\t水<が>（を）{n}杯飲む。\tParticle\n" for n in range(40))
    (clone / "more.tsv").write_text(lines, encoding="utf-8")
    run(clone, "python", "-m", "stages", "new", "gec", "more.tsv")
    run(clone, "python", "-m", "stages", "new", "gec", "more.tsv", "--start")
    runs = load_params(clone / "params.yaml").runs
    assert (runs["gec-003"].parent, runs["gec-004"].parent) == ("models/gec-002", "models/lm-001")
    assert runs["gec-003"].base == runs["gec-004"].base == "models/lm-001"


def test_new_takes_a_number_that_neither_a_corpus_nor_a_run_has(clone):
    """The demo's lm-003 is a run on corpus lm-002; there is no corpus of that number."""

    before = load_params(clone / "params.yaml")
    assert "lm-003" in before.runs
    assert "lm-003" not in before.corpora
    (clone / "texts.txt").write_text(
        "The old teacher reads a letter.\n" * 3 + "A cat sleeps.\n", encoding="utf-8"
    )
    run(clone, "python", "-m", "stages", "new", "lm", "texts.txt")
    after = load_params(clone / "params.yaml")
    assert after.runs["lm-003"] == before.runs["lm-003"]
    assert (after.runs["lm-004"].corpus, after.runs["lm-004"].parent) == ("lm-004", "models/lm-003")
    assert after.corpora["lm-004"].file == "data/lm/train_004.txt"


@pytest.mark.parametrize(
    "verb",
    [
        "new",
        "propose",
        "check",
        "plan",
        "apply",
        "export",
        "report",
        "inspect",
        "diff",
        "pull",
        "push",
        "renumber",
        "merge-file",
    ],
)
def test_help_has_examples(verb):
    said = run(Path(__file__).parents[1], "python", "-m", "stages", verb, "--help").stdout
    assert f"python -m stages {verb}" in said.split("Usage")[1]


# Recipes


@pytest.mark.timeout(900)
def test_every_recipe_of_the_howto_runs(clone):
    """docs/howto.md from top to bottom: its YAML entered into params.yaml, its commands run."""
    done = []
    blocks = re.findall(
        r"```(yaml|bash)\n(.*?)```", (ROOT / "docs/howto.md").read_text(encoding="utf-8"), re.DOTALL
    )
    for kind, block in blocks:
        if kind == "yaml":
            params = yaml.safe_load((clone / "params.yaml").read_text(encoding="utf-8"))
            for group, entries in yaml.safe_load(block).items():
                params[group] |= entries
            (clone / "params.yaml").write_text(
                yaml.safe_dump(params, sort_keys=False, allow_unicode=True), encoding="utf-8"
            )
            continue
        for command in block.splitlines():
            run(clone, "bash", "-c", command)
            if command == "dvc queue start":
                ended = "until dvc queue status | grep -E 'Success|Failed'; do sleep 1; done"
                assert "Failed" not in run(clone, "bash", "-c", f"{ended}; dvc queue stop").stdout
            done.append(command)
    assert len(done) >= 12
    assert (clone / "metrics/evaluate/polish/polish-003.json").is_file()
    assert (clone / "metrics/evaluate/gec/gec-004.json").is_file()
