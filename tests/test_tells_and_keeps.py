"""What only tells, plans or keeps decides no byte: `imports.DECIDES_NOTHING`, without which every
edit there would retrain."""

import ast
import json
import shutil
from pathlib import Path

import pytest

from stages import imports, meaning, train
from stages.backends.shared import adapters, model_folders
from tests.conftest import run
from tests.tiny import OPTIONS, checkpoint, folder_to_train

ROOT = Path(__file__).parents[1]
STAGES = (
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
MODULES = [
    name
    for name in imports.DECIDES_NOTHING
    if name not in ("stages.command_line", "stages.settings", "stages.entries")
]

SILENT = '''
import json, sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace


def nothing(*_, **__):
    """Tells nobody, keeps nothing."""


class Progress:
    def __init__(self, run, row_tokens, report_to=(), tells=True):
        self.run, self.report_to = run, []

    say = precision_is_chosen = plan_is_made = rows_are_left_out = memory_is_planned = nothing
    training_begins = step_ends = loss_is_reported = evaluation_ends = training_ends = nothing


@contextmanager
def locked_folder(label):
    yield Path(label)


class ProgressLines:
    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    begin = __enter__
    __exit__ = end = advance = another_line = nothing


def tokenised(work, rows, tokenizer, encode, *options):
    sequences = [encode(row) for row in rows]
    return [each for of_row in sequences for each in of_row], sum(not each for each in sequences)


STAND_INS = {
    "progress_lines": {"ProgressLines": ProgressLines, "SECONDS": 60, "duration": nothing},
    "memory": {
        "MemoryPlan": None,
        "plan": lambda *_, **__: SimpleNamespace(need=SimpleNamespace(total=0), require_room=nothing),
    },
    "progress": {"Progress": Progress},
    "workers": {
        "is_spread": nothing,
        "heed_interrupt": nothing,
        "ended_together": nullcontext,
    },
    "kept_tokens": {"tokenised": tokenised},
    "checkpoints": {
        "folder_name": lambda *_: "kept",
        "locked_folder": locked_folder,
        "latest": nothing,
        "seal": nothing,
        "remove": nothing,
    },
}
import stages.backends.shared

for name in sys.argv[1:]:
    package, _, module = name.rpartition(".")
    sys.modules[name] = ModuleType(name)
    setattr(sys.modules[package], module, sys.modules[name])
    vars(sys.modules[name]).update(STAND_INS[module])

from stages import train

train.main("gec-001")
'''


@pytest.mark.parametrize("backend", ["pytorch", "mlx"])
def test_a_training_writes_the_same_bytes_where_nothing_is_told_planned_or_kept(inside, backend):
    """The last step is the best, and falls between two reports: that it is told of and evaluated
    must be another's work."""
    base = checkpoint(inside / "base", "llama")
    settings = OPTIONS | {"backend": backend, "max_steps": 7, "logging_steps": 2}
    folder_to_train(inside, settings, base)

    train.main("gec-001")
    shutil.move("models/gec-001", "told")
    curve = Path("metrics/curves/gec/gec-001.csv")
    shutil.move(curve, "told.csv")
    Path("stages").symlink_to(ROOT / "stages")
    said = run(inside, "python", "-c", SILENT, *MODULES).stdout
    assert said == ""
    names = sorted(path.name for path in Path("told").iterdir())
    assert {adapters.ADAPTER, model_folders.ADAPTER_CONFIG, model_folders.LINEAGE} <= set(names)
    assert names == sorted(path.name for path in Path("models/gec-001").iterdir())
    for name in names:
        assert Path("told", name).read_bytes() == Path("models/gec-001", name).read_bytes(), name
    lineage = json.loads(Path("told", model_folders.LINEAGE).read_text(encoding="utf-8"))
    assert lineage["best_step"] == lineage["steps"] == 7
    assert curve.read_bytes() == Path("told.csv").read_bytes()


def test_what_scores_or_reads_corpora_imports_nothing_that_only_tells_plans_or_keeps(monkeypatch):
    # How far rendering and near-duplicates are is told where that work is done.
    others = [name for name in MODULES if name != "stages.progress_lines"]
    left_out = {imports.files_of(module)[-1] for module in others}
    assert len(left_out) == len(others) == len(MODULES) - 1
    monkeypatch.setattr(imports, "DECIDES_NOTHING", {})
    parts = ("scoring", "corpus", "grammar", "text", "tasks")
    files = [file for part in parts for file in (ROOT / "stages" / part).rglob("*.py")]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    others = [f"stages.{stage}" for stage in STAGES if stage not in ("train", "predict")]
    assert len(names) > 30
    assert (
        set[Path]().union(*(imports.closure(name) for name in (*names, *others))) & left_out
        == set()
    )


def test_the_options_are_data_alone_so_that_a_config_holds_all_that_they_decide():
    kinds = {
        type(node) for node in ast.walk(meaning.parsed(imports.files_of("stages.settings")[-1]))
    }
    assert not kinds & {
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.Lambda,
        ast.If,
        ast.For,
        ast.While,
    }


def test_what_goes_through_a_pipe_is_not_told():
    """The arguments of `print` are no code; but the lines of what answers through a pipe are
    data."""
    piped = [
        file
        for file in (ROOT / "stages").rglob("*.py")
        if "sys.stdin" in file.read_text(encoding="utf-8") and "commands" not in file.parts
    ]
    assert piped
    for file in piped:
        calls = [node for node in ast.walk(meaning.parsed(file)) if isinstance(node, ast.Call)]
        told = [call for call in calls if getattr(call.func, "id", "") == "print"]
        assert not [call for call in told if meaning.tells(call)], f"{file}: print with a file"
