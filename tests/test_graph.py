"""The graph: what reruns after which change, proved with real `dvc` in nano clones."""

import ast
import csv
import json
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ruamel.yaml import YAML

from stages import configure, contracts, imports, meaning, predict, tasks
from stages.corpus import clean
from stages.errors import UserError
from stages.layers import Params
from stages.params import load_params
from stages.records import Answer, read_rows, target
from stages.settings import Answering
from tests import nano
from tests.conftest import run

ROOT = Path(__file__).parents[1]
STAGES = (
    "configure",
    "synthesize",
    "fetch",
    "prepare",
    "initialise",
    "mix",
    "train",
    "predict",
    "evaluate",
    "compare",
)


def reran(folder: Path, *targets: str) -> set[str]:
    """The stages that `dvc repro` really runs, by name."""
    output = run(folder, "dvc", "repro", *targets).stdout
    names = {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}
    assert names or "Data and pipelines are up to date" in output or "didn't change" in output, (
        output
    )
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


def forget() -> None:
    """What imports.py keeps of files, for one that has changed since."""
    for kept in (
        imports.imported,
        imports.imported_modules,
        meaning.parsed,
        meaning.meaning_md5,
        imports.installed,
        imports.loaded_by_name,
        imports.require_followable,
    ):
        kept.cache_clear()


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


@pytest.mark.parametrize("backend", ["pytorch", "mlx"])
def test_the_code_that_decides_a_stage_holds_every_file_that_it_loads(backend):
    """What Python really loads is the twin of what is read from the imports, which sees those
    inside functions too.

    Only modules of which it is said why may be loaded and left out; what they alone import would be
    missed here."""
    left_out = {str(imports.files_of(module)[-1]) for module in imports.DECIDES_NOTHING}
    assert len(left_out) == len(imports.DECIDES_NOTHING)
    params = load_params(ROOT / "params.yaml")
    params = params.model_copy(update={"defaults": params.defaults | {"backend": backend}})
    parts = {
        "synthesize": ["synthetic"],
        "prepare": ["corpus"],
        "evaluate": ["score"],
        "compare": ["score"],
    }
    stages = {
        (made.stage, made.task if made.stage in parts else "", made.backend)
        for made in configure.decisions(params)
        if made.stage != configure.CONDUCT
    }
    assert {name for name, _, _ in stages} == set(STAGES) - {"configure", "fetch"}
    if backend != "pytorch":
        stages = {each for each in stages if each[2]}
    for name, task, of_run in sorted(stages):
        loads = [f"stages.tasks.{task}.{part}" for part in parts.get(name, [])]
        loads += [f"stages.backends.{of_run}.backend"] if of_run else []
        command = ("python", "-m", "tests.loaded", f"stages.{name}", *loads)
        loaded = json.loads(run(ROOT, *command).stdout)
        found = {str(file) for file in imports.closure(f"stages.{name}", task, of_run)}
        assert set(loaded) - found <= left_out | imported_by(left_out), f"{name} {loads}"
        assert not found & left_out
        code = {path for path in found if path.endswith(".py")}  # beside it lie templates
        assert {path for path in code - set(loaded) if "/backends/" not in path} == set(), (
            f"{name} {loads}"
        )


def imported_by(files: set[str]) -> set[str]:
    return {str(other) for file in files for other in imports.imported(Path(file))}


def test_code_is_followed_through_relative_imports_packages_and_functions(inside, monkeypatch):
    files = {
        "stages/__init__.py": "",
        "stages/own/__init__.py": "from .first import a",
        "stages/own/first.py": "def f():\n    from .. import second",
        "stages/second.py": "import os, stages.third, numpy\nif TYPE_CHECKING:\n    import "
        "stages.fourth",
        "stages/third.py": "import stages.own",
        "stages/fourth.py": "",
    }
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(imports, "PROJECT", inside)
    assert set(imports.code(imports.closure("stages.own.first"))) == set(files) - {
        "stages/fourth.py"
    }
    assert imports.code(imports.closure("stages.fourth")) == {
        name: meaning.meaning_md5(Path(name)) for name in ("stages/__init__.py", "stages/fourth.py")
    }
    Path("stages/fourth.py").write_text("def f(:\n", encoding="utf-8")
    forget()
    with pytest.raises(
        UserError, match=r"stages/fourth.py line 1: invalid syntax; correct the code"
    ):
        imports.closure("stages.fourth")


def test_what_a_stage_loads_by_name_is_seen_in_its_calls():
    """contracts.load stands in the two places alone whose functions `imports.loaded_by_name` looks
    for."""
    files = list((ROOT / "stages").rglob("*.py"))
    found = {
        path.relative_to(ROOT).as_posix() for path in files if "contracts.load(" in path.read_text()
    }
    assert found == {"stages/backends/__init__.py", "stages/tasks/__init__.py"}
    # No layer may import stages/__main__.py (pyproject.toml), so that it is part of no stage.
    for file in set(files) - {ROOT / "stages/__main__.py"}:
        imports.require_followable(file)
    loaders = {
        node.name
        for node in meaning.parsed(ROOT / "stages/tasks/__init__.py").body
        if isinstance(node, ast.FunctionDef)
    }
    assert loaders == imports.LOADERS["tasks"] | {"names", "has_candidates"}


@pytest.mark.parametrize(
    ("text", "loads"),
    [
        ("from stages import tasks\ntasks.score(task)", {("tasks", "score")}),
        ("from stages import tasks\n[tasks.score][0](task)", {("tasks", "score")}),
        ("from stages.tasks import score as score_of\nscore_of(task)", {("tasks", "score")}),
        ("import stages.tasks\nstages.tasks.score(task)", {("tasks", "score")}),
        ("import stages.tasks as t\nt.corpus(task)", {("tasks", "corpus")}),
        ("from stages import backends as b\nload = b.load", {("backends", "load")}),
        ("from stages import tasks\ntasks.names()\nother.score(task)", set()),
    ],
)
def test_a_loader_is_seen_however_it_is_written(tmp_path, text, loads):
    (tmp_path / "code.py").write_text(text, encoding="utf-8")
    assert imports.loaded_by_name(tmp_path / "code.py") == loads


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'from importlib import import_module\nimport_module("stages.second")',
            "stages/first.py line 2: import_module: which code that runs cannot be seen, so that an "
            "edit there would rerun nothing; import it by its name",
        ),
        (
            "import importlib\n\n\nimportlib.import_module(name)",
            "line 4: import_module: which code",
        ),
        ("from stages.second import *", r"line 1: from stages.second import \*: which code"),
        ('exec("a = 1")', "line 1: exec: which code"),
        (
            "import helpers",
            "stages/first.py: import helpers: helpers.py lies outside stages/, and an edit there "
            "would rerun nothing; move it into stages/",
        ),
    ],
)
def test_an_import_that_cannot_be_followed_is_refused(inside, monkeypatch, text, says):
    Path("stages").mkdir()
    Path("helpers.py").touch()
    Path("stages/first.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(imports, "PROJECT", inside)
    with pytest.raises(UserError, match=says):
        imports.closure("stages.first")


def test_a_file_of_data_beside_code_belongs_to_it(inside, monkeypatch):
    Path("stages").mkdir()
    Path("stages/first.py").touch()
    words = Path("stages/words.txt")
    words.write_text("a\n", encoding="utf-8")
    monkeypatch.setattr(imports, "PROJECT", inside)
    before = imports.code(imports.closure("stages.first"))
    assert set(before) == {"stages/first.py", "stages/words.txt"}
    words.write_text("b\n", encoding="utf-8")
    forget()
    assert imports.code(imports.closure("stages.first")) != before


def test_a_task_or_backend_that_lacks_a_part_is_told_which(inside, monkeypatch):
    monkeypatch.syspath_prepend(inside)
    for file, text in (
        ("tasks/none/__init__.py", ""),
        ("tasks/echo/__init__.py", ""),
        ("tasks/echo/corpus.py", "SCORES_STEPS = False\ndef read(path): ...\ndef show(e): ..."),
    ):
        Path("stages_of_a_test", file).parent.mkdir(parents=True, exist_ok=True)
        Path("stages_of_a_test", file).write_text(text, encoding="utf-8")
    with pytest.raises(
        UserError,
        match=r"stages_of_a_test/tasks/none/corpus\.py: no such file; "
        r"stages/tasks/__init__\.py says what it has",
    ):
        contracts.load("stages_of_a_test.tasks.none.corpus", tasks.Corpus)
    with pytest.raises(
        UserError,
        match=r"stages_of_a_test/tasks/echo/corpus\.py: no reads_lines_alone, group_key, question; "
        r"stages/tasks/__init__\.py says what it has",
    ):
        contracts.load("stages_of_a_test.tasks.echo.corpus", tasks.Corpus)
    Path("stages_of_a_test/tasks/echo/score.py").write_text("import no_such_package")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        contracts.load("stages_of_a_test.tasks.echo.score", tasks.Score)


CODE = '''"""A module."""

import os
from typing import TYPE_CHECKING, Any

from stages.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

LIMIT: int = 3


def f(a, *, b=1):  # of a kind
    """Two lines,
    or three."""
    # Why.
    text = """first

    # second"""
    count: int = 0
    print(f"{len(a)} rows", flush=True)
    print("data", file=a)
    self.say(f"{count} of {b}", step=count)
    if not a:
        raise UserError(f"{a}: no rows")
    return text + "# third" + f"{a:>{b}}{a!r}" + a


class Empty:
    """Nothing."""

    field: int = 0

    @cached
    def g(self, d):
        return {**self.h, "é": 1.0}
'''


@pytest.mark.parametrize(
    ("before", "after", "another"),
    [
        # Comments, docstrings, blank lines
        ("A module.", "Another module.", False),
        ('"""A module."""\n', "", False),
        ("Two lines,\n    or three", "One", False),
        ("  # of a kind", "", False),
        ("    # Why.\n", "    # Because.\n\n    # Therefore.\n", False),
        ("# second", "# a second", True),
        ("# third", "# a third", True),
        ("first\n\n", "first\n", True),
        # Formatting
        ('"# third"', "'# third'", False),
        ("(a, *, b=1)", "(\n    a,\n    *,\n    b=1,\n)", False),
        ("text + ", "(text) + ", False),
        ("1.0", "1.00", False),
        ("1.0", "1", True),
        ("b=1", "b=True", True),
        ('"é"', '"\\u00e9"', False),
        ('"# third"', '"# " "third"', False),
        # Hints
        ("f(a, *", "f(a: Any, *", False),
        ("b=1):", "b: int = 1) -> str:", False),
        ("count: int = 0", "count = 0", False),
        ("count: int = 0", "count: int = 1", True),
        ("LIMIT: int = 3", "LIMIT = 3", False),
        ("import Tensor", "import Tensor, nn", False),
        ("TYPE_CHECKING, Any", "TYPE_CHECKING", False),
        ("if TYPE_CHECKING:", "if not TYPE_CHECKING:", True),
        ("if TYPE_CHECKING:", "if TYPE_CHECKING and os:", True),
        ("field: int = 0", "field: float = 0", True),  # pydantic makes another value of it
        ("field: int = 0", "field = 0", True),
        ("g(self, d)", "g(self, d: int)", True),  # a decorator may read it
        # What is told to a person
        ('f"{a}: no rows"', 'f"{a}: there is no row; add some"', False),
        ('raise UserError(f"{a}: no rows")', "pass", True),
        ('raise UserError(f"{a}: no rows")', 'raise ValueError(f"{a}: no rows")', True),
        ("if not a:", "if a is None:", True),
        ('f"{len(a)} rows"', '"rows"', False),
        ('f"{len(a)} rows"', 'f"{(a := b)} rows"', True),  # more than told
        ('f"{len(a)} rows"', 'f"{write(a)} rows"', True),
        ("    print(f", "    written = print(f", True),
        ("from stages.errors", "from collections.abc import Sized\nfrom stages.errors", False),
        ('f"{count} of {b}", step=count', '"some"', False),
        ('print("data"', 'print("other data"', True),
        # What decides
        ("import os", "import sys", True),
        (":>{b}", ":<{b}", True),
        ("a!r", "a!s", True),
        ("**self.h", "None: self.h", True),
        ("    return text", "    if a:\n        return text", True),
    ],
)
def test_what_decides_no_byte_is_no_code(tmp_path, before, after, another):
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.write_text(CODE, encoding="utf-8")
    assert CODE.count(before) == 1
    second.write_text(CODE.replace(before, after), encoding="utf-8")
    assert (meaning.meaning_md5(first) != meaning.meaning_md5(second)) is another


def test_what_code_means_has_the_same_md5_on_every_python(tmp_path):
    """One machine's dvc.lock is another's: syntax trees are written in other words by ast.dump of
    3.12 and 3.13."""
    (tmp_path / "code.py").write_text(CODE, encoding="utf-8")
    assert meaning.meaning_md5(tmp_path / "code.py") == "c9be30492b07a065446c05a823bc5340"


def test_reformatting_changes_no_file_of_the_project(tmp_path):
    for file in (ROOT / "stages").rglob("*.py"):
        other = tmp_path / "other.py"
        other.write_text(ast.unparse(ast.parse(file.read_text(encoding="utf-8"))), encoding="utf-8")
        assert meaning.meaning_md5.__wrapped__(file) == meaning.meaning_md5.__wrapped__(other), file
        meaning.parsed.cache_clear()


# Which packages


def test_the_packages_of_a_stage_are_those_that_its_code_imports():
    def of_stage(stage: str, task: str = "", backend: str = "", *others: str) -> dict[str, str]:
        return imports.packages(imports.closure(f"stages.{stage}", task, backend), *others)

    found = of_stage("train", "gec", "pytorch", "bitsandbytes")
    assert set(found) == {
        "accelerate",
        "bitsandbytes",
        "jinja2",
        "numpy",
        "peft",
        "pydantic",
        "safetensors",
        "torch",
        "transformers",
    }
    assert found["torch"] == metadata.version("torch").partition("+")[0]
    assert set(of_stage("train", "gec", "mlx")) == {*found, "mlx", "mlx-lm"} - {
        "bitsandbytes",
        "accelerate",
    }
    assert of_stage("evaluate", "reward").keys() == {"numpy", "scikit-learn", "scipy"}
    assert of_stage("synthesize", "gec") == {}


def test_every_package_that_is_imported_is_found_by_the_name_of_its_distribution():
    known = metadata.packages_distributions()
    checked = 0
    for file in (ROOT / "stages").rglob("*.py"):
        for name in {
            module.partition(".")[0] for module in imports.imported_modules(file)
        } & known.keys() - {"stages"}:
            distribution, version = imports.installed(name)
            assert version == metadata.version(distribution).partition("+")[0]
            assert distribution.lower().replace("_", "-") in {
                other.lower().replace("_", "-") for other in known[name]
            }, name
            checked += 1
    assert checked > 50


def test_a_package_that_is_not_installed_is_told_as_such_and_a_local_version_is_the_same(
    monkeypatch,
):
    imports.installed.cache_clear()
    monkeypatch.setattr(imports.metadata, "version", lambda name: {"torch": "2.13.0+cu130"}[name])
    assert imports.packages([], "torch") == {"torch": "2.13.0"}

    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(imports.metadata, "version", none)
    assert imports.packages([], "no_such.module") == {"no-such": "not installed"}
    imports.installed.cache_clear()


def test_a_run_in_4_bits_depends_on_the_package_that_has_them():
    params = load_params(ROOT / "params.yaml")
    loads = {}
    for settings in (
        {},
        {"method": "qlora"},
        {"optim": "paged_adamw_8bit"},
        {"method": "qlora", "backend": "mlx"},
    ):
        changed = params.model_copy(update={"defaults": params.defaults | settings})
        train = next(
            each for each in configure.decisions_of(changed, "gec-001") if each.stage == "train"
        )
        loads[tuple(settings.values())] = "bitsandbytes" in train.packages
    assert loads == {
        (): False,
        ("qlora",): True,
        ("paged_adamw_8bit",): True,
        ("qlora", "mlx"): False,
    }


def test_answers_of_other_versions_are_not_taken_for_those_of_these(inside, monkeypatch):
    asked = []
    monkeypatch.setattr(
        predict.backends, "load", lambda *_: SimpleNamespace(answerer=lambda *_: Model(asked))
    )
    Path("model").write_text("weights")
    config = {
        "task": "gec",
        "base": "model",
        "settings": next(
            made.settings["settings"]
            for made in configure.decisions_of(load_params(ROOT / "params.yaml"), "gec-001")
            if made.stage == "predict"
        ),
        "code": {"a.py": "1"},
        "packages": {"torch": "2.13.0"},
    }
    tests = {"gec-001": [{"id": "1", "category": "", "source": "", "text": "a"}]}
    for version in ("2.13.0", "2.13.0", "2.14.0"):
        changed = config | {"packages": {"torch": version}}
        settings = Answering.model_validate(changed["settings"])
        assert len([*predict.answered("run", "model", changed, settings, tests, 1)]) == 1
    assert len(asked) == 2


class Model:
    def __init__(self, asked: list) -> None:
        self.asked = asked

    def predict(self, rows: list) -> list[Answer]:
        self.asked += rows
        return [Answer("", 0.0, 1) for _ in rows]


def test_a_stage_depends_on_its_one_file_of_settings_and_code():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert set(stages) == {*STAGES, "predict-variant", "evaluate-variant"}
    assert stages.pop("configure")["deps"] == ["stages", "requirements.txt"]
    for name, entry in stages.items():
        key, stage = "item" if name == "compare" else "key", name.removesuffix("-variant")
        decided = f"build/config/{stage}/${{{key}}}.json"
        assert [dep for dep in entry["do"]["deps"] if dep.startswith(("stages", "build"))] == [
            decided
        ]
        assert "params" not in entry["do"]


@pytest.mark.parametrize(
    ("file", "line", "says"),
    [
        ("train.py", "", "3 kept, 0 broken"),
        ("train.py", "from stages import mix", "stages.train is not allowed to import stages.mix"),
        (
            "commands/plan.py",
            "from stages import mix",
            "stages.commands is not allowed to import stages.mix",
        ),
        (
            "text/chat.py",
            "def f():\n    import stages.backends",
            "stages.text is not allowed to import stages.backends",
        ),
        (
            "tasks/gec/score.py",
            "import stages.tasks.lm.corpus",
            "stages.tasks.gec is not allowed to import stages.tasks.lm",
        ),
        (
            "backends/pytorch/loss.py",
            "from .. import mlx",
            "stages.backends.pytorch is not allowed to import stages.backends.mlx",
        ),
        (
            "backends/mlx/loop.py",
            "from ..pytorch import loss",
            "stages.backends.mlx is not allowed to import stages.backends.pytorch",
        ),
        (
            "backends/shared/memory.py",
            "from .. import mlx",
            "stages.backends.shared is not allowed to import stages.backends.mlx",
        ),
        ("another.py", "", "stages.another"),
    ],
)
def test_imports_only_point_down_and_no_stage_or_task_imports_another(tmp_path, file, line, says):
    shutil.copytree(
        ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "stages" / file).open("a", encoding="utf-8") as code:
        code.write(f"\n{line}\n")
    kept = says.endswith("0 broken")
    done = run(tmp_path, "lint-imports", "--no-cache", succeeds=kept)
    assert says in " ".join(done.stdout.split())
    assert (done.returncode == 0) is kept


@pytest.mark.parametrize(
    "stage", ["synthesize", "prepare", "mix", "configure", "evaluate", "compare"]
)
def test_a_stage_that_neither_trains_nor_predicts_does_not_import_torch(stage):
    code = f"import sys, importlib\nimport stages.{stage}\n"
    code += "for task in ('lm', 'gec', 'typst', 'polish', 'reward'):\n    for module in ('corpus', 'synthetic', 'score'):\n"
    code += "        importlib.import_module(f'stages.tasks.{task}.{module}')\n"
    code += "print('torch' in sys.modules, 'transformers' in sys.modules)"
    assert run(ROOT, "python", "-c", code).stdout.split() == ["False", "False"]


def test_no_verb_waits_for_torch_before_it_says_how_it_is_used():
    """All verbs took 1.5 s more where one module imported it for a type."""
    code = "import sys\nfrom stages.__main__ import VERBS, application\napplication([])\n"
    code += (
        "print(*(f'stages.commands.{verb}'.replace('-', '_') in sys.modules for verb in VERBS))\n"
    )
    code += "print('torch' in sys.modules, 'transformers' in sys.modules)"
    loaded, heavy = run(ROOT, "python", "-c", code).stdout.splitlines()
    assert set(loaded.split()) == {"True"}
    assert heavy == "False False"


# What the default graph must hold


def held_out_in_training(folder: Path) -> list[str]:
    """Every test item, by question and by (question, answer), that stands in a training or
    validation split of its task."""
    found = []
    prepared_tasks = sorted(path.name for path in (folder / "data/prepared").iterdir())
    assert prepared_tasks == tasks.names()
    for task in prepared_tasks:
        prepared = folder / "data/prepared" / task
        tests = [
            row for path in sorted((prepared / "test").glob("*.jsonl")) for row in read_rows(path)
        ]
        assert tests
        held = {clean.question_digest(row) for row in tests}
        for path in [*(prepared / "train").glob("*.jsonl"), *(prepared / "valid").glob("*.jsonl")]:
            found += [
                f"{path}: {target(row)}"
                for row in read_rows(path)
                if clean.question_digest(row) in held
            ]
    read = [
        row
        for path in (folder / "data/prepared/lm/train").glob("*.jsonl")
        for row in read_rows(path)
    ]
    texts = "\n".join(text for row in read for text in (row["source"], target(row)))
    lines = set(texts.split("\n")) | {f"{part}。" for part in texts.replace("\n", "。").split("。")}
    for task in ("gec", "typst"):
        for path in (folder / "data/prepared" / task / "test").glob("*.jsonl"):
            found += [
                f"lm: {text}"
                for row in read_rows(path)
                for text in (row["source"], target(row))
                if len(text) > 12 and text in lines
            ]
    return found


def test_no_held_out_item_is_in_any_training_split_of_any_version_at_full_size(tmp_path):
    """Over the default corpora as they are, not at nano size: the texts alone, which takes
    seconds."""
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
    assert {run.task for run in params.runs.values()} == set(tasks.names())
    for name, spec in params.runs.items():
        record = json.loads(
            (whole_graph / f"metrics/evaluate/{spec.task}/{name}.json").read_text(encoding="utf-8")
        )
        assert set(record) == {"score", "low", "high", "baseline", "base", "loss", "n"}
        assert 0 <= record["low"] <= record["high"] <= 1
        lineage = json.loads(
            (whole_graph / f"models/{name}/lineage.json").read_text(encoding="utf-8")
        )
        assert lineage["parent"]["path"] == spec.parent
        assert str(whole_graph) not in "".join(
            path.read_text(encoding="utf-8")
            for path in (whole_graph / f"models/{name}").glob("*.json")
        )
    with (whole_graph / "metrics/compare/typst/chain.csv").open(
        encoding="utf-8", newline=""
    ) as file:
        chain = list(csv.DictReader(file))
    runs = ["typst-001", "typst-002", "typst-003", "typst-003-checked"]
    assert [entry["run"] for entry in chain] == runs
    assert [entry["parent"] for entry in chain] == ["", *runs[:3]]
    matrix = (
        (whole_graph / "metrics/compare/typst/matrix.csv").read_text(encoding="utf-8").splitlines()
    )
    assert len(matrix) == 1 + 12


def test_a_finished_graph_is_up_to_date(clone):
    assert reran(clone) == set()


# What a change reruns

Edit = Callable[[Path], None]
TASKS = tasks.names()
ALL = ["synthesize", "prepare", "initialise", "mix", "train", "predict", "evaluate", "compare"]


def line(path: str, before: str, after: str) -> Edit:
    """Another text for one that stands in a file once."""

    def edit(folder: Path) -> None:
        text = (folder / path).read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{path}: {before}"
        (folder / path).write_text(text.replace(before, after), encoding="utf-8")

    return edit


def more(path: str) -> Edit:
    """A statement more."""
    return lambda folder: (folder / path).write_text(
        (folder / path).read_text(encoding="utf-8") + "\nANOTHER = 1\n"
    )


def setting(path: str, value: object) -> Edit:
    return lambda folder: change(folder, path, value)


def reformat(folder: Path) -> None:
    """Every file, in another style and without its comments."""
    for file in (folder / "stages").rglob("*.py"):
        file.write_text(ast.unparse(ast.parse(file.read_text(encoding="utf-8"))), encoding="utf-8")


def of(*stages: str) -> Callable[[set[str]], set[str]]:
    """Among all configs those of these stages, each `stage`, or `stage@` with how a name begins."""
    return lambda every: {
        name
        for name in every
        if name.startswith(tuple(f"{s}@" if "@" not in s else s for s in stages))
    }


@pytest.fixture(scope="module")
def configs(tmp_path_factory) -> dict[str, str]:
    """Of the repository as it is."""
    return configured_in(copied(tmp_path_factory.mktemp("as_it_is")))


def copied(folder: Path) -> Path:
    shutil.copytree(
        ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy2(ROOT / "params.yaml", folder)
    return folder


def configured_in(folder: Path, anew: bool = False) -> dict[str, str]:
    """{stage@key: the config that `configure` writes}; `anew`: by a process that imports the
    folder's own code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imports, "PROJECT", folder)
        patch.chdir(folder)
        forget()
        run(folder, "python", "-m", "stages.configure") if anew else configure.main()
        forget()
    paths = (folder / "build/config").rglob("*.json")
    return {f"{path.parent.name}@{path.stem}": path.read_text(encoding="utf-8") for path in paths}


TRAINER, FILES = "stages/backends/pytorch/trainer.py", "stages/files.py"
EDITS = {
    "a comment": (line(TRAINER, "class LabelledTrainer", "# At its end.\nclass LabelledTrainer"), of()),
    "a docstring": (line(TRAINER, '"""Forward and backward over', '"""Both passes over'), of()),
    "a type hint": (line(TRAINER, "autocast(self) -> torch.autocast:", "autocast(self) -> Any:"), of()),
    "another style in every file": (reformat, of()),
    "an error sentence": (line(FILES, "make room or correct its rights", "make room, or change its rights"), of()),
    "a log line": (line("stages/corpus/clean.py", "report.read:,} records read", "report.read:,} records are read"), of()),
    "a report of a training": (line("stages/backends/shared/progress.py", "rows left out: their", "rows go: their"), of()),
    "the plan of memory": (line("stages/backends/shared/memory.py", "PAGED_FROM = 100_000", "PAGED_FROM = 200_000"), of()),
    "the bookkeeping of checkpoints": (more("stages/backends/shared/checkpoints.py"), of()),
    "the description of an option": (line("stages/settings.py", 'description="rank"', 'description="dimensions"'), of()),
    "a default in the code": (line("stages/settings.py", "weight_decay: float = Field(0.0", "weight_decay: float = Field(0.5"), of("train")),
    "a default of corpora in the code": (line("stages/entries.py", "        0.2, ge=0, le=1, description=\"share of the rows that may", "        0.3, ge=0, le=1, description=\"share of the rows that may"), of("prepare")),
    "an option that is off": (line("stages/settings.py", "    backend: str", "    another: int = 0\n    backend: str"), of()),
    "the other backend": (more("stages/backends/mlx/loop.py"), of()),
    "the loss": (more("stages/backends/pytorch/cross_entropy.py"), of("train", "predict")),
    "a rule of cleaning": (more("stages/corpus/clean.py"), of("prepare", "mix")),
    "what is labelled": (more("stages/text/chat.py"), of("train", "predict")),
    "the cache of answers": (more("stages/backends/shared/answer_cache.py"), of("predict")),
    "a measure": (
        more("stages/scoring/edits.py"), of("evaluate@gec", "evaluate@polish", "compare@gec", "compare@polish"),
    ),
    "a task's score": (more("stages/tasks/gec/score.py"), of("evaluate@gec", "compare@gec")),
    "a task's reader of corpora": (more("stages/tasks/gec/corpus.py"), of("prepare@gec", "prepare@style")),
    "a task's check": (more("stages/tasks/typst/candidates.py"), of("predict@typst-003-checked")),
    "how many candidates a variant has": (
        setting("variants/typst-003-checked/generation/candidates", 4), of("predict@typst-003-checked"),
    ),
    "a task's grammar": (more("stages/tasks/gec/synthetic.py"), of("synthesize@gec", "synthesize@style")),
    "what every stage runs": (more(FILES), of(*ALL)),
    "how params.yaml is read": (more("stages/params.py"), of()),
    "a command": (more("stages/commands/new.py"), of()),
    "a default": (setting("defaults/weight_decay", 0.5), of("train")),
    "a default of adapters": (
        setting("defaults/lora/lora_alpha", 12), of(*(f"train@{task}" for task in TASKS if task != "lm")),
    ),
    "the number of threads": (setting("defaults/threads", 1), of("conduct")),
    "the number of threads of a run that is exact for one kind of machine alone": (
        lambda folder: [change(folder, f"runs/gec-002/{key}", value) for key, value in (("exact", "machine"), ("threads", 3))],
        of("train@gec-002", "predict@gec-002", "conduct@gec-002"),
    ),
    "how long answers are": (setting("tasks/gec/generation", {"max_new_tokens": 5}), of("predict@gec")),
    "how answers are sampled": (setting("defaults/generation/temperature", 0.5), of("predict")),
    "a run's own setting": (setting("runs/gec-002/learning_rate", 0.125), of("train@gec-002")),
    "a run's seed": (
        setting("runs/gec-002/seed", 5), of("mix@gec-002", "train@gec-002", "predict@gec-002"),
    ),
    "the precision of training": (setting("defaults/precision", "float32"), of("train")),
    "how many checkpoints are kept": (setting("defaults/save_total_limit", 5), of("conduct")),
    "who is told": (setting("runs/gec-002/report_to", ["wandb"]), of("conduct@gec-002")),
    "a run's mixture": (setting("runs/gec-002/mix/style-001", 0.25), of("mix@gec-002", "train@gec-002")),
    "what is held out": (setting("split/test", 0.2), of("prepare")),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "stale"), EDITS.values(), ids=EDITS.keys())
def test_an_edit_here_reruns_there(configs, tmp_path, edit, stale):
    folder = copied(tmp_path)
    edit(folder)
    types = ("stages/settings.py", "stages/entries.py")
    own = any((folder / name).read_bytes() != (ROOT / name).read_bytes() for name in types)
    now = configured_in(folder, anew=own)
    assert now.keys() == configs.keys()
    assert {name for name in now if now[name] != configs[name]} == stale(set(configs))


@pytest.mark.parametrize(
    ("package", "stale"),
    [
        ("torch", of("train", "predict", "initialise")),
        ("scikit-learn", of("evaluate@reward", "compare@reward")),
        ("rich", of()),
        ("typer", of()),
        ("mlx", of()),
    ],
)
def test_another_version_of_a_package_reruns_what_computes_with_it(
    configs, tmp_path, monkeypatch, package, stale
):
    version = metadata.version
    monkeypatch.setattr(
        imports.metadata, "version", lambda name: "99.0" if name == package else version(name)
    )
    now = configured_in(copied(tmp_path))
    assert {name for name in now if now[name] != configs[name]} == stale(set(configs))


def test_an_upgrade_is_told_with_both_versions(inside):
    path = Path("gec-001.json")
    path.write_text(
        json.dumps({"packages": {"torch": "2.13.0", "peft": "0.21.2"}, "settings": {"seed": 0}})
    )
    now = {"packages": {"torch": "2.14.0", "numpy": "2.4.6"}, "settings": {"seed": 1}}
    assert configure.changes(path, now) == [
        "numpy not used → 2.4.6",
        "peft 0.21.2 → not used",
        "torch 2.13.0 → 2.14.0",
        "settings.seed 0 → 1",
    ]


def test_editing_corpus_002_reruns_002_and_its_descendants_only(clone):
    path = own_material(clone, "typst-002")
    reran(clone)
    path.write_text(
        path.read_text(encoding="utf-8")
        + '{"latex": "\\\\frac{9}{7} + \\\\zeta", "typst": "frac(9, 7) + zeta"}\n',
        encoding="utf-8",
    )
    names = reran(clone)
    assert {name for name in names if name.startswith("train")} == {
        "train@typst-002",
        "train@typst-003",
    }
    assert {name.partition("@")[2].partition("-")[0] for name in names} == {"typst"}


def test_editing_a_tasks_score_rescores_that_task_and_trains_nothing(clone):
    path = clone / "stages/tasks/gec/score.py"
    path.write_text(path.read_text(encoding="utf-8") + "\nANOTHER = 1\n", encoding="utf-8")
    assert reran(clone) == {"configure", "evaluate@gec-001", "evaluate@gec-002", "compare@gec"}


def test_editing_a_backend_that_no_run_uses_or_a_comment_reruns_none(clone):
    for name, line in (
        ("backends/mlx/loop.py", "ANOTHER = 1"),
        ("backends/pytorch/loss.py", "# another comment"),
    ):
        path = clone / "stages" / name
        path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    assert reran(clone) == {"configure"}


def test_configure_writes_no_config_that_is_as_it_was(inside):
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    configure.main()
    files = sorted(Path("build/config").rglob("*.json"))
    before = {file: file.stat().st_ino for file in files}
    files[0].write_text("{}", encoding="utf-8")
    configure.main()
    after = {file: file.stat().st_ino for file in files}
    assert after.pop(files[0]) != before.pop(files[0])
    assert after == before
    assert files[0].read_text(encoding="utf-8") != "{}"


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
        "stages/scoring/edits.py has changed: evaluate@gec-001, evaluate@gec-002, "
        "evaluate@polish-001, evaluate@polish-002, "
        "compare@gec, compare@polish",
    ]
    assert not (clone / "build/config/train/old-001.json").exists()
    assert run(clone, "python", "-m", "stages.configure").stdout == ""


def test_changing_a_default_retrains_only_the_runs_it_reaches(clone):
    """Two of the twelve, of which it reaches one; EDITS has all of them, by their configs."""
    change(clone, "defaults/lora/lora_alpha", 12)
    names = reran(clone, "train@lm-003", "train@reward-001")
    assert {name for name in names if name.startswith("train")} == {"train@reward-001"}


def test_changing_how_a_task_answers_retrains_nothing(clone):
    change(clone, "tasks/gec/generation", {"max_new_tokens": 5})
    names = reran(clone)
    assert (
        {"configure", "predict"}
        <= {name.partition("@")[0] for name in names}
        <= {"configure", "predict", "evaluate", "compare"}
    )
    assert {name for name in names if name.startswith("predict")} == {
        "predict@gec-001",
        "predict@gec-002",
    }


def test_a_version_added_with_new_is_trained_and_rescores_the_chain(clone):
    lines = [
        f'{{"latex": "\\\\sqrt{{{n}}} + \\\\beta_{n}", "typst": "sqrt({n}) + beta_{n}"}}'
        for n in range(60)
    ]
    (clone / "more.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    before = (clone / "params.yaml").read_text(encoding="utf-8")
    said = run(
        clone, "python", "-m", "stages", "new", "typst", "more.jsonl", "--note", "numbered | roots"
    ).stdout
    assert "Next:  dvc repro evaluate@typst-004 compare@typst" in said
    after = (clone / "params.yaml").read_text(encoding="utf-8")
    assert [line for line in before.splitlines() if "#" in line] == [
        line for line in after.splitlines() if "#" in line
    ]
    assert "| typst-004 | train_004.jsonl | 60 | numbered \\| roots |" in (
        clone / "data/typst/README.md"
    ).read_text(encoding="utf-8")
    assert (clone / "data/typst/train_004.jsonl.dvc").is_file()

    names = reran(clone)
    assert {name for name in names if name.startswith("train")} == {"train@typst-004"}
    assert {name for name in names if name.startswith("compare")} == {"compare@typst"}
    assert {name for name in names if name.startswith("evaluate")} == {
        "evaluate-variant@typst-003-checked",
        *(f"evaluate@typst-00{n}" for n in range(1, 5)),
    }
    lineage = json.loads((clone / "models/typst-004/lineage.json").read_text(encoding="utf-8"))
    assert lineage["parent"]["path"] == "models/typst-003"
    answers = (clone / "data/predictions/typst-001.jsonl").read_text(encoding="utf-8")
    assert "typst-004" in answers


def test_two_clones_write_the_same_lock_and_force_changes_nothing(whole_graph, tmp_path):
    second = nano.make(tmp_path / "second")
    # full weights, an adapter and a step head
    run(second, "dvc", "repro", "evaluate@reward-001", cold=True)
    first, again = (
        yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
        for folder in (whole_graph, second)
    )
    assert {"train@lm-001", "train@reward-001", "evaluate@reward-001"} <= set(again)
    assert again == {name: first[name] for name in again}
    before = (second / "dvc.lock").read_bytes()
    run(
        second, "dvc", "repro", "--force", "--single-item", "train@reward-001", "predict@reward-001"
    )
    assert (second / "dvc.lock").read_bytes() == before


# Experiments


def test_an_experiment_is_shown_compared_and_plotted(clone):
    run(clone, "dvc", "exp", "run", "--name", "wide", "-S", "runs.gec-002.lora.r=8")
    shown = json.loads(run(clone, "dvc", "exp", "show", "--json").stdout)
    assert "wide" in json.dumps(shown)
    differs = json.loads(run(clone, "dvc", "params", "diff", "--json").stdout)
    assert differs["params.yaml"]["runs.gec-002.lora.r"] == {"old": 4, "new": 8, "diff": 4}
    assert (
        "metrics/evaluate/gec/gec-002.json" in run(clone, "dvc", "metrics", "diff", "--all").stdout
    )
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


@pytest.mark.parametrize("target", [(), ("-s",)])
def test_a_key_that_a_shell_would_run_is_never_put_into_a_command(tmp_path, target):
    """Asked for alone, the stage misses the settings that configure has not written."""
    folder = nano.make(tmp_path / "repository")
    key = "x; touch ran #"
    tiny = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["bases"]["tiny"]
    change(folder, f"bases/{key}", tiny)
    done = run(folder, "dvc", "repro", *target, f"initialise@{key}", succeeds=False)
    assert done.returncode
    assert target or f"`bases`: '{key}' is no name" in done.stderr
    assert not (folder / "ran").exists()


def test_the_commands_of_the_readme_run():
    """Each is run by a test here or in the Makefile; the README names no other."""
    blocks = (ROOT / "README.md").read_text(encoding="utf-8").split("```bash\n")[1:]
    commands = [
        line for block in blocks for line in block.split("```")[0].splitlines() if line.strip()
    ]
    assert commands
    verbs = {
        " ".join(command.split()[: 4 if command.startswith("python") else 2])
        for command in commands
    }
    stages = {
        f"python -m stages {verb}"
        for verb in ("begin", "new", "check", "plan", "apply", "report", "repro", "inspect", "diff")
    }
    known = stages | {
        "git clone",
        "make install",
        "make repro",
        "make test",
        "dvc repro",
        "dvc metrics",
        "dvc exp",
        ". .venv/bin/activate",
    }
    assert verbs <= known, verbs - known


def test_the_lock_is_committed_and_belongs_to_these_params():
    read = YAML(typ="safe").load  # as dvc does: to PyYAML its 5e-05 is no number
    lock = read(ROOT / "dvc.lock")["stages"]
    params = load_params(ROOT / "params.yaml")
    assert {f"train@{name}" for name in params.runs} <= set(lock)
    locked = lock["configure"]["params"]["params.yaml"]
    assert set(Params.model_fields) - set(locked) == {"allow_outside", "base", "compare"}
    given = read(ROOT / "params.yaml")
    assert locked == {key: given[key] for key in locked}
