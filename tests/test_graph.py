"""The graph: what reruns after which change, proved with real `dvc` in nano clones."""

import ast
import csv
import json
from pathlib import Path

import pytest
import yaml
from ruamel.yaml import YAML

from stages import settings
from stages.corpus import clean
from stages.records import rows, target
from tests.conftest import run

ROOT = Path(__file__).parents[1]
STAGES = ("synthesize", "prepare", "configure", "initialise", "train", "predict", "evaluate", "compare")


def reran(folder: Path, *targets: str) -> set[str]:
    """The stages that `dvc repro` really runs, by name."""
    output = run(folder, "dvc", "repro", *targets).stdout
    names = {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}
    assert names or "Data and pipelines are up to date" in output or "didn't change" in output, output
    return names


def change(folder: Path, path: str, value: object) -> None:
    """One value of params.yaml."""
    yaml_file = YAML()
    params = yaml_file.load(folder / "params.yaml")
    *above, last = path.split("/")
    at = params
    for key in above:
        at = at[key]
    at[last] = value
    yaml_file.dump(params, folder / "params.yaml")


def own_material(folder: Path, corpus: str) -> Path:
    """The corpus's file as a user's own: no grammar writes it any more."""
    yaml_file = YAML()
    params = yaml_file.load(folder / "params.yaml")
    path = folder / params["corpora"][corpus]["file"]
    del params["synthetic"][corpus]
    yaml_file.dump(params, folder / "params.yaml")
    content = path.read_bytes()
    path.unlink()  # a link into DVC's cache
    path.write_bytes(content)
    return path


# Which code a stage may run


def imports(file: Path) -> set[Path]:
    """Files of this project that a file imports, wherever in it; dynamic imports are named in DYNAMIC."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            path = ROOT / (module.replace(".", "/") + ".py")
            if module.startswith("stages.") and path.is_file():
                found.add(path)
    return found


def closure(files: set[Path]) -> set[Path]:
    reached: set[Path] = set()
    while files:
        reached |= files
        files = {path for file in files for path in imports(file)} - reached
    return reached


DYNAMIC = {
    "synthesize": "tasks/{task}/synthetic.py",
    "prepare": "tasks/{task}/corpus.py",
    "train": "backends/pytorch.py",
    "predict": "backends/pytorch.py",
    "evaluate": "tasks/{task}/score.py",
    "compare": "tasks/{task}/score.py",
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("task", ["lm", "gec", "typst", "polish", "reward"])
def test_the_deps_of_a_stage_are_the_closure_of_its_imports(stage, task):
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    for name in ("${item.task}", "${key}") if stage == "compare" else ("${item.task}",):
        text = text.replace(name, task)
    entry = yaml.safe_load(text)["stages"][stage]
    deps = [ROOT / dep for dep in entry.get("do", entry)["deps"] if dep.startswith("stages")]
    wanted = {ROOT / f"stages/{stage}.py"} | (
        {ROOT / "stages" / DYNAMIC[stage].format(task=task)} if stage in DYNAMIC else set()
    )
    reached = closure(wanted)
    assert not {str(path) for path in reached if not any(path == dep or dep in path.parents for dep in deps)}
    unused = {str(dep) for dep in deps if not any(path == dep or dep in path.parents for path in reached)}
    # Of use to some tasks only.
    shared = {str(ROOT / "stages" / part) for part in ("grammar", "scoring", "corpus/formats.py")}
    assert unused - shared <= {str(ROOT / f"stages/tasks/{task}/corpus.py"), str(ROOT / "stages/corpus/split.py")}


def test_imports_only_point_down():
    floors = [
        {"settings", "records", "scoring", "grammar"},
        {"configure", "compare", "tasks", "corpus", "text"},
        {"synthesize", "fetch", "prepare", "mix", "initialise", "evaluate", "backends"},
        {"train", "predict"},
        {"commands"},
    ]
    floor = {name: height for height, names in enumerate(floors) for name in names}
    part = {file: file.relative_to(ROOT / "stages").parts[0].removesuffix(".py") for file in (ROOT / "stages").rglob("*.py")}
    checked = 0
    for file, name in part.items():
        for other in imports(file):
            if name in ("__main__", "__init__") or part[other] == name:
                continue
            checked += 1
            assert floor[part[other]] <= floor[name], f"{file} imports {other}"
            assert part[other] not in STAGES, f"{file} imports a stage"
    assert checked > 50


@pytest.mark.parametrize("stage", ["synthesize", "prepare", "mix", "configure", "evaluate", "compare"])
def test_a_stage_that_neither_trains_nor_predicts_does_not_import_torch(stage):
    code = f"import sys, importlib\nimport stages.{stage}\n"
    code += "for task in ('lm', 'gec', 'typst', 'polish', 'reward'):\n    for module in ('corpus', 'synthetic', 'score'):\n"
    code += "        importlib.import_module(f'stages.tasks.{task}.{module}')\n"
    code += "print('torch' in sys.modules, 'transformers' in sys.modules)"
    assert run(ROOT, "python", "-c", code).stdout.split() == ["False", "False"]


# What the default graph must hold


def held_out_in_training(folder: Path) -> list[str]:
    """Every test item, by question and by (question, answer), that stands in a training or validation split of its task."""
    found = []
    tasks = sorted(path.name for path in (folder / "data/prepared").iterdir())
    assert tasks == ["gec", "lm", "polish", "reward", "typst"]
    for task in tasks:
        prepared = folder / "data/prepared" / task
        tests = [row for path in sorted((prepared / "test").glob("*.jsonl")) for row in rows(path)]
        assert tests
        held = {clean.asked(row) for row in tests}
        for path in [*(prepared / "train").glob("*.jsonl"), *(prepared / "valid").glob("*.jsonl")]:
            found += [f"{path}: {target(row)}" for row in rows(path) if clean.asked(row) in held]
    read = [row for path in (folder / "data/prepared/lm/train").glob("*.jsonl") for row in rows(path)]
    texts = "\n".join(text for row in read for text in (row["source"], target(row)))
    lines = set(texts.split("\n")) | {f"{part}。" for part in texts.replace("\n", "。").split("。")}
    for task in ("gec", "typst"):
        for path in (folder / "data/prepared" / task / "test").glob("*.jsonl"):
            found += [
                f"lm: {text}" for row in rows(path) for text in (row["source"], target(row)) if len(text) > 12 and text in lines
            ]
    return found


def test_no_held_out_item_is_in_any_training_split_of_any_version_at_full_size(tmp_path):
    """Over the default corpora as they are, not at nano size: the texts alone, which takes seconds."""
    for name in ("params.yaml", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    params = settings.load(ROOT / "params.yaml")
    for name in params.corpora:
        run(tmp_path, "python", "-m", "stages.synthesize", name)
        run(tmp_path, "python", "-m", "stages.prepare", name)
    assert held_out_in_training(tmp_path) == []


def test_the_whole_graph_runs_and_leaves_what_it_promises(whole_graph):
    params = settings.load(whole_graph / "params.yaml")
    assert {run.task for run in params.runs.values()} == {"lm", "gec", "typst", "polish", "reward"}
    for name, spec in params.runs.items():
        record = json.loads((whole_graph / f"metrics/evaluate/{spec.task}/{name}.json").read_text(encoding="utf-8"))
        assert set(record) == {"score", "low", "high", "baseline", "base", "loss", "n"}
        assert 0 <= record["low"] <= record["high"] <= 1
        lineage = json.loads((whole_graph / f"models/{name}/lineage.json").read_text(encoding="utf-8"))
        assert lineage["parent"]["path"] == spec.parent
        assert str(whole_graph) not in "".join(
            path.read_text(encoding="utf-8") for path in (whole_graph / f"models/{name}").glob("*.json")
        )
    with (whole_graph / "metrics/compare/typst/chain.csv").open(encoding="utf-8", newline="") as file:
        chain = list(csv.DictReader(file))
    assert [entry["run"] for entry in chain] == ["typst-001", "typst-002", "typst-003"]
    assert [entry["parent"] for entry in chain] == ["", "typst-001", "typst-002"]
    matrix = (whole_graph / "metrics/compare/typst/matrix.csv").read_text(encoding="utf-8").splitlines()
    assert len(matrix) == 1 + 9


def test_a_finished_graph_is_up_to_date(clone):
    assert reran(clone) == set()


# What a change reruns


def test_editing_corpus_002_reruns_002_and_its_descendants_only(clone):
    path = own_material(clone, "typst-002")
    reran(clone)
    path.write_text(
        path.read_text(encoding="utf-8") + '{"latex": "\\\\frac{9}{7} + \\\\zeta", "typst": "frac(9, 7) + zeta"}\n',
        encoding="utf-8",
    )
    names = reran(clone)
    assert {name for name in names if name.startswith("train")} == {"train@typst-002", "train@typst-003"}
    assert {name.partition("@")[2].partition("-")[0] for name in names} == {"typst"}


def test_editing_a_tasks_score_rescores_that_task_and_trains_nothing(clone):
    path = clone / "stages/tasks/gec/score.py"
    path.write_text(path.read_text(encoding="utf-8") + "\nANOTHER = 1\n", encoding="utf-8")
    assert reran(clone) == {"evaluate@gec-001", "evaluate@gec-002", "compare@gec"}


def test_changing_a_default_retrains_only_the_runs_it_reaches(clone):
    change(clone, "defaults/lora/lora_alpha", 12)
    names = reran(clone)
    trained = {name for name in names if name.startswith("train")}
    assert trained == {f"train@{run}" for run in settings.load().runs if not run.startswith("lm")}


def test_changing_how_a_task_answers_retrains_nothing(clone):
    change(clone, "tasks/gec/generation", {"max_new_tokens": 5})
    names = reran(clone)
    assert (
        {"configure", "predict"}
        <= {name.partition("@")[0] for name in names}
        <= {"configure", "predict", "evaluate", "compare"}
    )
    assert {name for name in names if name.startswith("predict")} == {"predict@gec-001", "predict@gec-002"}


def test_a_version_added_with_new_is_trained_and_rescores_the_chain(clone):
    lines = [f'{{"latex": "\\\\sqrt{{{n}}} + \\\\beta_{n}", "typst": "sqrt({n}) + beta_{n}"}}' for n in range(60)]
    (clone / "more.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    before = (clone / "params.yaml").read_text(encoding="utf-8")
    said = run(clone, "python", "-m", "stages", "new", "typst", "more.jsonl", "--note", "numbered | roots").stdout
    assert "Next:  dvc repro evaluate@typst-004 compare@typst" in said
    after = (clone / "params.yaml").read_text(encoding="utf-8")
    assert [line for line in before.splitlines() if "#" in line] == [line for line in after.splitlines() if "#" in line]
    assert "| typst-004 | train_004.jsonl | 60 | numbered \\| roots |" in (clone / "data/typst/README.md").read_text(
        encoding="utf-8"
    )
    assert (clone / "data/typst/train_004.jsonl.dvc").is_file()

    names = reran(clone)
    assert {name for name in names if name.startswith("train")} == {"train@typst-004"}
    assert {name for name in names if name.startswith("evaluate")} == {f"evaluate@typst-00{n}" for n in range(1, 5)}
    lineage = json.loads((clone / "models/typst-004/lineage.json").read_text(encoding="utf-8"))
    assert lineage["parent"]["path"] == "models/typst-003"
    answers = (clone / "data/predictions/typst-001.jsonl").read_text(encoding="utf-8")
    assert "typst-004" in answers


def test_two_clones_write_the_same_lock_and_force_changes_nothing(whole_graph, tmp_path):
    from tests import nano

    second = nano.make(tmp_path / "second")
    run(second, "dvc", "repro", "compare@gec", "compare@reward")  # adapters, full weights and step heads
    first, again = (
        yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"] for folder in (whole_graph, second)
    )
    assert {"train@lm-001", "train@gec-002", "train@reward-002", "compare@reward"} <= set(again)
    assert again == {name: first[name] for name in again}
    before = (second / "dvc.lock").read_bytes()
    run(second, "dvc", "repro", "--force", "train@gec-001", "predict@gec-001", "evaluate@gec-001")
    assert (second / "dvc.lock").read_bytes() == before


# Experiments


def test_an_experiment_is_shown_compared_and_plotted(clone):
    run(clone, "dvc", "exp", "run", "--name", "narrow", "-S", "runs.gec-001.lora.r=2")
    shown = json.loads(run(clone, "dvc", "exp", "show", "--json").stdout)
    assert "narrow" in json.dumps(shown)
    assert '"r": 2' in run(clone, "dvc", "params", "diff", "--json").stdout or "2" in run(clone, "dvc", "params", "diff").stdout
    assert "metrics/evaluate/gec/gec-001.json" in run(clone, "dvc", "metrics", "diff", "--all").stdout
    drawn = run(clone, "dvc", "plots", "diff", "HEAD", "workspace", "--json").stdout
    assert "metrics/compare/gec/curves.csv" in drawn


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("+runs.gec-001.lora.rr=8", "`runs.gec-001.lora.rr` is no option; did you mean `r`?"),
        ("runs.gec-001.lora.r=wide", "`runs.gec-001.lora.r`: input should be a valid integer"),
        ("defaults.learning_rate=-1", "`defaults.learning_rate`: input should be greater than 0"),
    ],
)
def test_a_misspelt_key_stops_an_experiment_before_anything_runs(clone, override, says):
    done = run(clone, "dvc", "exp", "run", "-S", override, succeeds=False)
    assert done.returncode != 0
    assert says in done.stdout + done.stderr
    assert "Running stage 'train" not in done.stdout


def test_the_commands_of_the_readme_run():
    """Each is run by a test here or in the Makefile; the README names no other."""
    blocks = (ROOT / "README.md").read_text(encoding="utf-8").split("```bash\n")[1:]
    commands = [line for block in blocks for line in block.split("```")[0].splitlines() if line.strip()]
    assert commands
    verbs = {" ".join(command.split()[: 4 if command.startswith("python") else 2]) for command in commands}
    stages = {f"python -m stages {verb}" for verb in ("new", "check", "plan", "apply", "report")}
    known = stages | {"make repro", "make test", "dvc repro", "dvc metrics", "dvc exp", ". .venv/bin/activate"}
    assert verbs <= known, verbs - known


def test_the_lock_is_committed_and_belongs_to_these_params():
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    params = settings.load(ROOT / "params.yaml")
    assert {f"train@{name}" for name in params.runs} <= set(lock)
    locked = lock["configure"]["params"]["params.yaml"]
    assert locked["runs"] == yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["runs"]
