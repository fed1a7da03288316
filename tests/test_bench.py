"""What `make bench` concludes from its turns, and that the figures in the repository are of the
workloads that there are."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from bench import __main__ as bench
from bench import beside, large, qlora_step, repro
from bench import turns as bench_turns
from bench.real import formulas, steps
from bench.turns import Turn, Work, Workload, in_turn, process, section, take
from stages import tasks
from stages.records import read_rows
from tests.conftest import run
from tests.tiny import checkpoint

ROOT = Path(__file__).parents[1]


def workload(**more) -> Workload:
    return Workload(
        "a title", "rows", lambda _: None, {"ours": None, "theirs": None}, {"theirs": 2.0}, **more
    )  # type: ignore[dict-item]


def turns(*rates: float, ours_mb: float = 100, **ours_same: float) -> list[Turn]:
    """Rates of ours and theirs in turn; theirs takes 200 MB and its answers are all alike."""
    sides = ["ours", "theirs"] * (len(rates) // 2)
    of_side = {"ours": (ours_mb, ours_same), "theirs": (200, dict.fromkeys(ours_same, 1.0))}
    return [Turn(side, rate, *of_side[side]) for side, rate in zip(sides, rates, strict=True)]


def test_the_ratio_is_taken_turn_by_turn_and_its_median_counts():
    # A machine that is ten times as fast in its last turn moves both medians and no ratio.
    text = section("some", workload(), turns(30, 10, 3, 1, 300, 100))
    assert "3.00 × as fast" in text
    assert "Reached: 2 × theirs (3.00)." in text


def test_what_is_not_reached_is_said():
    text = section("some", workload(memory_goal=0.4), turns(19, 10))
    assert "Not reached: 2 × theirs (1.90)." in text
    assert "Not reached: at most 40% of the memory of theirs (50%)." in text


@pytest.mark.parametrize(("loss", "alike"), [(1.04, True), (1.06, False)])
def test_other_work_is_not_compared_in_silence(loss, alike):
    text = section("some", workload(tolerance={"loss": 0.05}), turns(20, 10, loss=loss))
    assert ("Not the same work: theirs" not in text) is alike
    assert f"loss: ours {loss}, theirs 1" in text


def test_a_turn_is_what_was_done_over_the_timed_seconds(inside):
    def side(_: Path) -> Work:
        return Work(done=10, seconds=4, peak_mb=7, same={"rows": 3}, shares={"peak": 0.5})

    assert json.loads(take(side, inside)) == {
        "rate": 2.5,
        "peak_mb": 7,
        "same": {"rows": 3},
        "shares": {"peak": 0.5},
    }


def test_what_each_side_makes_of_the_machine_is_told():
    shared = [
        Turn(side, 1.0, 1.0, {}, {"share of the peak": share})
        for side, share in (("ours", 0.5), ("theirs", 0.25))
    ]
    assert "- share of the peak: ours 50.0%, theirs 25.0%\n" in section("some", workload(), shared)


def test_the_share_counts_each_weight_of_the_layers_twice_and_no_other(inside):
    base, width = checkpoint(inside / "base", "llama"), 32
    attention, gated = width * (width + 2 * width // 2 + width), 3 * width * 2 * width
    assert qlora_step.flop_a_token(base) == 2 * 2 * 2 * (
        attention + gated
    )  # 2 layers, 2 passes, 2 FLOP
    assert qlora_step.peak("float32") > 1e8


def test_what_fails_stops_the_comparison(inside):
    with pytest.raises(SystemExit, match=r"no-such, make: exit code [12]"):
        in_turn("no-such", workload(), inside, 1)
    with pytest.raises(SystemExit, match=r"no-such, ours: exit code [12]"):
        process("no-such", inside, "--side", "ours")


def test_a_workload_is_made_in_a_process_of_its_own(inside, monkeypatch):
    # One that loads a model would lend its peak memory to every side that is started after it.
    asked = []

    def note(name: str, folder: Path, *what: str) -> str:
        asked.append(what)
        return '{"rate": 1, "peak_mb": 1, "same": {}}'

    monkeypatch.setattr(bench_turns, "process", note)
    in_turn("some", Workload("a title", "rows", pytest.fail, {"ours": pytest.fail}, {}), inside, 2)  # type: ignore[arg-type]
    assert asked == [("--make",), ("--side", "ours"), ("--side", "ours")]


def test_a_section_takes_its_place_and_leaves_the_others(inside, monkeypatch):
    monkeypatch.setattr(bench, "RESULTS", inside / "results.md")
    for name, text in (
        ("graph", "## graph: b\n"),
        ("finetune", "## finetune: a\n"),
        ("graph", "## graph: c\n"),
    ):
        bench.write(name, text)
    assert (inside / "results.md").read_text(encoding="utf-8").split("\n", 4)[
        4
    ] == "## finetune: a\n\n## graph: c\n"


def test_every_workload_that_a_processor_can_do_has_its_figures():
    written = (ROOT / "bench" / "results.md").read_text(encoding="utf-8")
    missing = [
        name
        for name, each in bench.WORKLOADS.items()
        if not each.needs_cuda and f"\n## {name}: {each.title}\n" not in written
    ]
    assert not missing
    assert "Not the same work" not in written


def test_the_ratios_in_the_readme_are_those_of_the_results():
    told = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .split("## Beside what you would pick instead")[1]
        .split("\n## ")[0]
    )
    ratios = re.findall(r"(\d+\.\d+) ×", told)
    assert len(ratios) > 5
    written = (ROOT / "bench" / "results.md").read_text(encoding="utf-8")
    assert [ratio for ratio in ratios if f"{ratio} × as fast" not in written] == []


def test_an_unknown_workload_is_told_with_those_there_are():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "fintune"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "fintune: no such workload; there are finetune, pretrain, predict" in done.stderr


def test_a_base_without_an_adapter_is_served_as_a_run(inside):
    from bench import serving
    from stages import configure

    shutil.copy(ROOT / "params.yaml", inside)
    configure.main()
    Path("models", serving.DEMO).mkdir(parents=True)
    run = serving.run_of(inside, "large")
    assert (run.name, run.task, run.folder) == ("large", "typst", inside / "base")
    assert run.settings.max_length_tokens == 1024


def test_the_corpus_of_prepare_has_what_it_is_said_to_have(inside, monkeypatch):
    from bench import prepare

    monkeypatch.setattr(prepare, "SIZES", (2_000,))
    prepare.make(inside)
    monkeypatch.chdir(ROOT)  # put back at the end, whatever the side changes to
    work = prepare.ours(inside, 2_000)
    assert 150 < work.same["duplicates"] < 250  # one in ten
    assert (
        25 < work.same["near-duplicates"] < 100
    )  # half of one in twenty: a changed word counts more in a short sentence
    assert work.same["rows kept"] == 2_000 - work.same["duplicates"] - work.same["near-duplicates"]


def test_the_table_of_make_repro_is_that_of_its_summary():
    said = [
        "train@a-001 | memory: 100 MB planned\n",
        "│ train    │ 12     │ 15 min        │ train@lm-001, 4 min │\n",
        "│ evaluate │ 1      │ 3 s           │ evaluate@a-001, 3 s │\n",
        "│ gec-001 │ 0.521 │ 0.48 to 0.55 │\n",
    ]
    told = repro.report(said, 130, 700, " M dvc.lock\n?? a file\n", {})
    assert told.startswith("## As it is committed\n")
    assert (
        "12 min in all, 2 min of it the installation. `git status` afterwards: dvc.lock, a file."
        in told
    )
    assert "`git status` afterwards: empty." in repro.report(said, 130, 700, "", {})
    other = repro.report(said, 130, 700, " M dvc.lock\n", repro.MACHINE)
    assert other.startswith("## With `exact: machine` and `threads: 1`\n")
    assert "git status" not in other
    params = Path("params.yaml").read_text(encoding="utf-8")
    assert [params.count(line) for line in repro.MACHINE] == [1, 1]
    rows = [line for line in told.splitlines() if line.startswith("|")]
    assert rows[2:] == [
        "| train | 12 | 15 min | train@lm-001, 4 min |",
        "| evaluate | 1 | 3 s | evaluate@a-001, 3 s |",
    ]
    assert "cores of" in told


def test_a_run_is_set_beside_what_could_be_had_without_it(whole_graph):
    options = ("--rows", "4", "--shots", "1", "--program", "cat")
    told = run(whole_graph, "python", "-m", "bench.beside", "gec-002", *options).stdout
    assert told.startswith("4 test rows\n")
    cells = [line.split(" | ") for line in told.splitlines() if re.match(r"\| \w", line)]
    named = [cell[0].removeprefix("| ") for cell in cells]
    wanted = [
        "the input as it is",
        "cat",
        "untuned base",
        "base with 1 examples",
        "gec-001",
        "gec-002",
    ]
    assert named == wanted
    assert cells[0][1:] == cells[1][1:]  # what writes what it reads answers with its input


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["sh", "-c", "echo Unknown writer >&2; exit 22"], "failed on each of 2 rows; it says: Unknown writer"),
        (["/nowhere/pandoc"], "/nowhere/pandoc: No such file or directory"),
    ],
)  # fmt: skip
def test_a_program_that_fails_on_every_row_is_no_score_of_0(command, says):
    with pytest.raises(SystemExit, match=says):
        beside.converted(command, ["a", "b"], "$")
    half = ["sh", "-c", "grep -v b"]
    assert beside.converted(half, ["a", "b"], "$") == ["a", ""]


NODE = """#!{python}
import json, sys
for latex in sys.stdin.read().split("\\n"):
    if "?" not in latex:
        print(json.dumps({{"latex": latex, "typst": "#(" if "bad" in latex else "x"}}))
"""


def test_published_formulas_become_corpora_of_pairs_that_compile(inside, monkeypatch, capsys):
    (inside / "bin").mkdir()
    (inside / "bin/node").write_text(NODE.format(python=sys.executable), encoding="utf-8")
    (inside / "bin/node").chmod(0o755)
    monkeypatch.setenv("PATH", f"{inside / 'bin'}:{os.environ['PATH']}")
    formulas.FOLDER.mkdir(parents=True)
    lines = ["a", "b", "a", "bad", "?", "", "c" * 201, "d", "e"]
    Path("formulas.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    formulas.main("formulas.txt", "2", "1")
    made = {
        name: [row["latex"] for row in read_rows(formulas.FOLDER / name)]
        for name in ("001.jsonl", "002.jsonl")
    }
    assert made == {"001.jsonl": ["a", "b"], "002.jsonl": ["d"]}
    assert "1 further pairs of 8 formulas" in capsys.readouterr().out


def test_of_each_problem_two_rated_solutions_are_drawn(inside, capsys):
    def path(problem: str, count: int) -> str:
        rated = [{"text": f"step {n}", "rating": n % 2, "flagged": False} for n in range(count)]
        last = {"completions": rated, "human_completion": None, "chosen_completion": 0}
        question = {"problem": problem, "ground_truth_answer": None}
        label = {"steps": [last], "finish_reason": "solution"}
        return json.dumps({"question": question, "label": label})

    lines = [path("first?", 5), path("second?", 1)]
    Path("published.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    steps.main("published.jsonl")
    assert "3 solutions of 2 problems" in capsys.readouterr().out
    drawn = list(tasks.corpus("reward").read(steps.WRITTEN, {}))
    assert [example.source for example in drawn] == ["first?", "first?", "second?"]
    assert all(example.steps[0].startswith("step ") for example in drawn)
    first = steps.WRITTEN.read_bytes()
    steps.main("published.jsonl")
    assert steps.WRITTEN.read_bytes() == first


def test_the_commands_of_the_real_cases_are_commands_that_there_are():
    """What they need cannot be had in a test: it is their modules, verbs, options and presets."""
    text = (ROOT / "docs/real.md").read_text(encoding="utf-8")
    lines = [
        line
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    commands = [shlex.split(line)[2:] for line in lines if line.startswith("python -m ")]
    assert len(commands) >= 9
    presets = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["presets"]
    for module, *words in commands:
        assert find_spec(module), module
        options = {word for word in words if word.startswith("--")}
        if options:
            verb = words[:1] if module == "stages" else []
            told = run(ROOT, sys.executable, "-m", module, *verb, "--help").stdout
            assert {option for option in options if option not in told} == set()
        if "--preset" in words:
            assert words[words.index("--preset") + 1] in presets


def test_a_large_corpus_is_measured_stage_by_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(large, "RESULT", tmp_path / "large.csv")
    monkeypatch.setattr(large, "STAGES", ("prepare", "mix", "train"))
    large.RESULT.write_text(
        f"{','.join(large.COLUMNS)}\n300,mix,1,1,1,1,1,1\n600,mix,1,1,1,1,1,1\n"
    )
    base, folder = checkpoint(tmp_path / "base", "llama"), tmp_path / "folder"
    monkeypatch.setattr(sys, "argv", ["large", "300", "--base", base, "--folder", str(folder)])
    large.main()
    found = [*csv.DictReader(large.RESULT.read_text(encoding="utf-8").splitlines())]
    assert [(each["rows"], each["stage"]) for each in found] == [
        *(("300", stage) for stage in large.STAGES), ("600", "mix")
    ]  # fmt: skip
    assert all(float(each["cpu_s"]) >= 0 and int(each["peak_mb"]) > 40 for each in found[:3])
    assert not [*folder.iterdir()]
