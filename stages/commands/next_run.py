"""Where the run of a new version begins, and what its user does next."""

from dataclasses import dataclass, field
from pathlib import Path

from stages.backends.shared import model_folders
from stages.errors import UserError
from stages.layers import Params
from stages.params import PARAMS


@dataclass(frozen=True)
class Wants:
    """What the user says of the run: where it begins, and its presets."""

    start: bool = False
    base: str = ""
    parent: str = ""
    presets: list[str] = field(default_factory=list)


def descent(params: Params, task: str, wants: Wants) -> tuple[str, str]:
    """(base, parent) of the next run: the user's; else the task's last run, and where it has none,
    the base that params.yaml names for all tasks.
    """
    if wants.base:
        return (wants.base,) * 2
    own = [name for name, run in params.runs.items() if run.task == task]
    parent = wants.parent.removeprefix("models/")
    if parent and parent not in params.runs:
        return model_folders.origin(Path(wants.parent)), wants.parent
    if own and wants.start:
        return (params.runs[own[0]].base,) * 2
    if last := parent or (own[-1] if own else ""):
        grown_whole = params.resolve(last).method == "full"
        return f"models/{last}" if grown_whole else params.runs[last].base, f"models/{last}"
    if not params.base:
        raise UserError(
            f"{PARAMS}: no `base` for the first run of {task}; set it to a model's folder or its "
            "models/bases/NAME.json, or give --base"
        )
    return (params.base,) * 2


def next_step(params: Params, version: str, kind: str) -> str:
    """What the user most likely does now, which makes no more than was asked for."""
    task = params.corpora[version].task
    trained = {run for run in params.runs if Path("models", run, model_folders.LINEAGE).is_file()}
    others = [run for run, spec in params.runs.items() if spec.task == task and run != version]
    if kind == "corpus_only":
        return f"dvc repro prepare@{version}, then name it in a run: `mix: {{{version}: 0.5}}`"
    if kind == "valid_only":
        return f"dvc repro prepare@{version}, then name it in a run: `validation: {version}`"
    if kind == "test_only":
        return f"dvc repro compare@{task}" if others else "a run of this task, by `new`"
    first = [run for run in ancestors(params, version) if run not in trained]
    before = f"  (first trains {', '.join(first)}, which it stands on)" if first else ""
    compared = f" compare@{task}" if trained.issuperset(others) else ""
    return f"dvc repro evaluate@{version}{compared}{before}"


def ancestors(params: Params, run: str) -> list[str]:
    """The runs that a run stands on, the first one first."""
    spec, found = params.runs[run], list[str]()
    for path in (spec.base, spec.parent):
        if (name := path.removeprefix("models/")) in params.runs:
            found += [*ancestors(params, name), name]
    return list(dict.fromkeys(found))
