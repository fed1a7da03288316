"""The graph: what reruns after which change, proved with real `dvc` in nano clones."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml
from ruamel.yaml import YAML

from stages import configure, imports
from stages.corpus import clean
from stages.params import Params, load_params
from stages.records import UserError, rows, target
from tests.conftest import run

ROOT = Path(__file__).parents[1]
STAGES = ("configure", "synthesize", "fetch", "prepare", "initialise", "mix", "train", "predict", "evaluate", "compare")


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

LOADED = """
import json, sys
from importlib import import_module
for module in sys.argv[1:]:
    import_module(module)
ours = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "stages"]
print(json.dumps([file for file in ours if file]))
"""


@pytest.mark.parametrize("backend", ["pytorch", "mlx"])
def test_the_code_that_decides_a_stage_holds_every_file_that_it_loads(backend):
    """What Python really loads is the twin of what is read from the imports, which sees those inside functions too."""
    params = load_params(ROOT / "params.yaml")
    params = params.model_copy(update={"defaults": params.defaults | {"backend": backend}})
    stages = {(name, tuple(loads)) for name, _, _, loads in configure.decisions(params) if name != configure.REPORT}
    assert {name for name, _ in stages} == set(STAGES) - {"configure", "fetch"}
    for name, loads in sorted(stages):
        loaded = json.loads(run(ROOT, "python", "-c", LOADED, f"stages.{name}", *loads).stdout)
        found = {str(ROOT / path) for path in imports.code(f"stages.{name}", *loads)}
        assert set(loaded) <= found, f"{name} {loads}"
        assert {path for path in found - set(loaded) if "/backends/" not in path} == set(), f"{name} {loads}"


def test_code_is_followed_through_relative_imports_packages_and_functions(inside, monkeypatch):
    files = {
        "stages/__init__.py": "",
        "stages/own/__init__.py": "from .first import a",
        "stages/own/first.py": "def f():\n    from .. import second",
        "stages/second.py": "import os, stages.third, numpy",
        "stages/third.py": "import stages.own",
        "stages/fourth.py": "",
    }
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(imports, "PROJECT", inside)
    assert set(imports.code("stages.own.first")) == set(files) - {"stages/fourth.py"}
    assert imports.code("stages.fourth") == {
        name: imports.meaning_md5(Path(name)) for name in ("stages/__init__.py", "stages/fourth.py")
    }
    Path("stages/fourth.py").write_text("def f(:\n", encoding="utf-8")
    imports.imported.cache_clear()
    with pytest.raises(UserError, match=r"stages/fourth.py line 1: invalid syntax; correct the code"):
        imports.code("stages.fourth")


def test_whatever_a_stage_imports_by_name_is_known_to_configure():
    """Imports by name cannot be followed; `configure.decisions` names the modules. A new one has to be entered there."""
    found = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "stages").rglob("*.py") if "import_module(" in path.read_text()
    }
    known = {"synthesize", "prepare", "evaluate", "compare", "backends/__init__", "commands/apply", "commands/new"}
    assert found == {f"stages/{name}.py" for name in known}
    assert not [path for path in (ROOT / "stages").rglob("*.py") if "__import__(" in path.read_text()]


CODE = '''"""A module."""

import os


def f(a):  # of a kind
    """Two lines,
    or three."""
    # Why.
    text = """first

    # second"""
    return text + "# third" + a


class Empty:
    """Nothing."""
'''


@pytest.mark.parametrize(
    ("before", "after", "another"),
    [
        ("A module.", "Another module.", False),
        ('"""A module."""\n', "", False),
        ("Two lines,\n    or three", "One", False),
        ("  # of a kind", "", False),
        ("    # Why.\n", "    # Because.\n\n    # Therefore.\n", False),
        ("import os", "import sys", True),
        ("first\n\n", "first\n", True),
        ("# second", "# a second", True),
        ("# third", "# a third", True),
        ("    return", "  # \n    if a:\n        return", True),
    ],
)
def test_comments_docstrings_and_blank_lines_are_no_code(tmp_path, before, after, another):
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.write_text(CODE, encoding="utf-8")
    assert CODE.count(before) == 1
    second.write_text(CODE.replace(before, after), encoding="utf-8")
    assert (imports.meaning_md5(first) != imports.meaning_md5(second)) is another


def test_a_stage_depends_on_its_one_file_of_settings_and_code():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert set(stages) == set(STAGES)
    assert stages.pop("configure")["deps"] == ["stages"]
    for name, entry in stages.items():
        decided = f"build/config/{name}/${{key}}.json"
        assert [dep for dep in entry["do"]["deps"] if dep.startswith(("stages", "build"))] == [decided]
        assert "params" not in entry["do"]


@pytest.mark.parametrize(
    ("file", "line", "says"),
    [
        ("train.py", "", "3 kept, 0 broken"),
        ("train.py", "from stages import mix", "stages.train is not allowed to import stages.mix"),
        ("commands/plan.py", "from stages import mix", "stages.commands is not allowed to import stages.mix"),
        ("text/chat.py", "def f():\n    import stages.backends", "stages.text is not allowed to import stages.backends"),
        ("tasks/gec/score.py", "import stages.tasks.lm.corpus", "stages.tasks.gec is not allowed to import stages.tasks.lm"),
        ("backends/pytorch.py", "from . import mlx", "stages.backends.pytorch is not allowed to import stages.backends.mlx"),
        ("another.py", "", "stages.another"),
    ],
)
def test_imports_only_point_down_and_no_stage_or_task_imports_another(tmp_path, file, line, says):
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "stages" / file).open("a", encoding="utf-8") as code:
        code.write(f"\n{line}\n")
    kept = says.endswith("0 broken")
    done = run(tmp_path, "lint-imports", "--no-cache", succeeds=kept)
    assert says in " ".join(done.stdout.split())
    assert (done.returncode == 0) is kept


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
    params = load_params(ROOT / "params.yaml")
    run(tmp_path, "python", "-m", "stages.configure")
    for name in params.corpora:
        run(tmp_path, "python", "-m", "stages.synthesize", name)
        run(tmp_path, "python", "-m", "stages.prepare", name)
    assert held_out_in_training(tmp_path) == []


def test_the_whole_graph_runs_and_leaves_what_it_promises(whole_graph):
    params = load_params(whole_graph / "params.yaml")
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
    assert reran(clone) == {"configure", "evaluate@gec-001", "evaluate@gec-002", "compare@gec"}


def test_editing_a_backend_that_no_run_uses_or_a_comment_reruns_none(clone):
    for name, line in (("backends/mlx.py", "ANOTHER = 1"), ("backends/pytorch.py", "# another comment")):
        path = clone / "stages" / name
        path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    assert reran(clone) == {"configure"}


def test_configure_tells_what_changed_for_which_stages(clone):
    change(clone, "runs/gec-002/learning_rate", 0.125)
    change(clone, "runs/gec-002/weight_decay", 0.5)
    path = clone / "stages/scoring/edits.py"
    path.write_text(path.read_text(encoding="utf-8") + "\nANOTHER = 1\n", encoding="utf-8")
    (clone / "build/config/train/old-001.json").write_text("{}", encoding="utf-8")
    said = run(clone, "python", "-m", "stages.configure").stdout.splitlines()
    assert said == [
        "settings.learning_rate 0.004 → 0.125: train@gec-002",
        "settings.weight_decay default → 0.5: train@gec-002",
        "stages/scoring/edits.py has changed: evaluate@gec-001, evaluate@gec-002, evaluate@polish-001, evaluate@polish-002, "
        "compare@gec, compare@polish",
    ]
    assert not (clone / "build/config/train/old-001.json").exists()
    assert run(clone, "python", "-m", "stages.configure").stdout == ""


def test_changing_a_default_retrains_only_the_runs_it_reaches(clone):
    change(clone, "defaults/lora/lora_alpha", 12)
    names = reran(clone)
    trained = {name for name in names if name.startswith("train")}
    assert trained == {f"train@{run}" for run in load_params().runs if not run.startswith("lm")}


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
    assert {name for name in names if name.startswith("compare")} == {"compare@typst"}
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
    read = YAML(typ="safe").load  # as dvc does: to PyYAML its 5e-05 is no number
    lock = read(ROOT / "dvc.lock")["stages"]
    params = load_params(ROOT / "params.yaml")
    assert {f"train@{name}" for name in params.runs} <= set(lock)
    locked = lock["configure"]["params"]["params.yaml"]
    assert set(Params.model_fields) - set(locked) == {"allow_outside"}
    given = read(ROOT / "params.yaml")
    assert locked == {key: given[key] for key in locked}
