"""What a clone needs of a run to use it, look at its scores and continue it; and the remote from
which it comes.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.commands.next_run import ancestors
from stages.errors import UserError
from stages.layers import Params
from stages.params import run_entry

Runs = Annotated[list[str], typer.Argument(help="runs of params.yaml")]
Remote = Annotated[
    str, typer.Option("-r", "--remote", help="one of `dvc remote list`; else the default")
]
Needs = dict[str, list[str]]
Outputs = dict[str, tuple[Any, list[str]]]
MOST_PATHS = 3  # that an error lists of a run


def needs_of(params: Params, runs: Iterable[str]) -> Needs:
    """{target of DVC: the runs that need it}: each run with its base and its parents, their answers
    and scores, and the task's corpora, raw and prepared, from which a next version is mixed.

    Neither the corpora of a base that is of another task nor any mixed rows, which are made again.
    Raises UserError for a run that there is not, and for a model that neither git nor DVC has.
    """
    needs: Needs = {}
    for run in dict.fromkeys(runs):
        task = run_entry(params, run).task
        line = [*ancestors(params, run), run]
        targets = ["configure"]
        for corpus, spec in params.corpora.items():
            if spec.task == task:
                targets += [*_target(params, spec.file), f"prepare@{corpus}"]
        for each in line:
            targets.append(f"train@{each}")
            if params.runs[each].task == task:
                targets += [f"predict@{each}", f"evaluate@{each}"]
        own = params.runs[run]
        for path in (own.base, *(params.runs[each].parent for each in line)):
            # What a run of `method: full` began with is not in what it has become.
            if path == own.base or path.removeprefix("models/bases/") not in params.bases:
                targets += _target(params, path)
        for target in dict.fromkeys(targets):
            needs.setdefault(target, []).append(run)
    return needs


def _target(params: Params, path: str) -> list[str]:
    """The target of DVC that has a corpus or a model; none where git has it, or a run is it.

    A stage's name or a .dvc file: of paths among other targets DVC fetches those alone. Raises
    UserError for a file that is in this clone alone.
    """
    for stage, entries in (("synthesize", params.synthetic), ("fetch", params.sources)):
        for name, item in entries.items():
            if item.file == path:
                return [f"{stage}@{name}"]
    if (base := path.removeprefix("models/bases/")) in params.bases:
        return [f"initialise@{base}"]
    if path.removeprefix("models/") in params.runs:
        return []
    if Path(f"{path}.dvc").is_file():
        return [f"{path}.dvc"]
    listed = ["git", "ls-files", "--error-unmatch", path]
    if subprocess.run(listed, capture_output=True).returncode:
        raise UserError(
            f"{path}: neither git nor DVC has it, so that no other clone gets it; run `dvc add "
            f"{path}`, then `git add {path}.dvc` and commit"
        )
    return []


def locked(repo: Any, needs: Needs) -> tuple[Needs, Outputs]:
    """(the targets that dvc.lock has, {path: (DVC's output, the runs that need it)} of what DVC's
    cache keeps of them): not every corpus need be prepared yet, nor every run be scored.

    Raises UserError for a run that is not trained in dvc.lock.
    """
    targets: Needs = {}
    outputs: Outputs = {}
    for target, runs in needs.items():
        for stage, _ in repo.stage.collect_granular(target):
            cached = [out for out in stage.outs if out.use_cache]
            if all(out.hash_info for out in cached):
                targets[target] = runs
                outputs |= {out.def_path: (out, runs) for out in cached}
            elif target.startswith("train@"):
                raise UserError(
                    f"{runs[0]}: dvc.lock has no {cached[0].def_path}; run `dvc repro "
                    f"evaluate@{runs[0]}`, or take the dvc.lock of the clone where that was run"
                )
    return targets, outputs


def lacking(outputs: Outputs) -> Outputs:
    """Those of which DVC's cache here has not every file."""
    return {path: (out, runs) for path, (out, runs) in outputs.items() if out.changed_cache()}


def told(lacks: Outputs) -> str:
    """Which run needs what of them."""
    by_run: dict[str, list[str]] = {}
    for path, (_, runs) in lacks.items():
        for run in runs:
            by_run.setdefault(run, []).append(path)
    return "; ".join(
        f"{run} needs {', '.join(paths[:MOST_PATHS])}"
        + (f" and {len(paths) - MOST_PATHS} more" if len(paths) > MOST_PATHS else "")
        for run, paths in by_run.items()
    )


def reached(repo: Any, name: str) -> tuple[Any, str]:
    """(the remote, how errors name it). Raises UserError where there is none, or no answer.

    DVC itself tells of one that does not answer as of one that lacks the file.
    """
    from dvc.exceptions import DvcException

    try:
        remote = repo.cloud.get_remote(name or None)
    except (DvcException, ImportError) as error:  # a kind whose package is not installed
        raise UserError(f"{_line(error)}; docs/together.md says how remotes are added") from None
    shown = f"remote `{remote.name}` ({remote.fs.unstrip_protocol(remote.path)})"
    try:
        if not remote.fs.exists(remote.path) and remote.fs.protocol == "local":
            raise FileNotFoundError("no such folder; mount or make it")
    except Exception as error:  # the library of each kind of remote has errors of its own
        raise UserError(
            f"{shown}: not reached: {_line(error) or type(error).__name__}; `dvc remote list` "
            "shows its address, which `dvc remote modify` corrects"
        ) from None
    return remote, shown


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
