"""A task's part of the page: the figures and lineage of each run, and the rows behind them."""

import filecmp
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages import outcomes, tasks
from stages.errors import UserError
from stages.outcomes import Outcome
from stages.page import curves, figures, lineage, rows
from stages.page.revisions import Copy
from stages.page.versions import Trained, Versions


@dataclass(frozen=True)
class TaskRuns:
    """What there is of a task's runs, the workspace's first.

    figures: of each run.   held_out: of each that has rows, by its label.
    """

    task: str
    figures: list[dict[str, Any]]
    held_out: dict[str, list[Outcome]]


def read(task: str, copies: list[Copy], runs: list[str], done: Callable[[], None]) -> TaskRuns:
    """A task's runs in the workspace and at revisions.

    copies: the workspace, then revisions.   runs: those of params.yaml, in their order.
    done: called after each run.
    """
    shown, found = [], {}
    for copy in copies:
        compared = figures.chain(task, copy.folder)
        for run in dict.fromkeys([*compared, *([] if copy.revision else runs)]):
            if copy.revision and _same(task, run, copies[0].folder, copy.folder):
                continue
            label, entry = copy.label(run), compared.get(run, {})
            held_out, lacks = _outcomes(task, run, copy)
            if held_out:
                found[label] = held_out
            shown.append(
                entry
                | {
                    "label": label,
                    "run": run,
                    "revision": copy.revision,
                    "parent": _label(task, entry.get("parent", ""), copy, copies[0].folder),
                    "lacks": lacks,
                    "sets": figures.by_test_set(task, run, copy.folder, held_out),
                    "categories": figures.by_category(task, run, copy.folder, held_out),
                    "measures": figures.measures(task, run, copy.folder),
                    "lineage": lineage.of_run(run, copy.folder),
                    "losses": figures.losses(task, run, copy.folder),
                }
            )
            done()
    _add_versions(task, copies, shown, found)
    return TaskRuns(task, shown, found)


def of_task(of: TaskRuns) -> tuple[dict[str, Any], dict[str, Any]]:
    """(figures, rows) of a task, as the page has them."""
    losses = {run["label"]: run["losses"] for run in of.figures}
    about = {"task": of.task, "measure": _measure(of.task), "runs": of.figures}
    return about | {"curves": curves.drawing(losses)}, rows.of_task(of.task, of.held_out)


def _add_versions(
    task: str, copies: list[Copy], shown: list[dict[str, Any]], found: Mapping[str, list[Outcome]]
) -> None:
    """To each run what its corpus brought beside its parent's, and beside that of the run of the
    same name in each copy before its own.
    """
    versions, runs = Versions(task, copies[0].folder), dict[str, Trained]()
    by_revision = {copy.revision: copy for copy in copies}
    for run in shown:
        label, copy = run["label"], by_revision[run["revision"]]
        runs[label] = Trained(label, run["run"], copy, run["lineage"], found.get(label, []))
    for number, run in enumerate(shown):
        own, parent = runs[run["label"]], runs.get(run["parent"])
        namesakes = [runs[each["label"]] for each in shown[:number] if each["run"] == own.run]
        run["versions"] = versions.of(own, parent, namesakes)


def unchanged(tasks: Iterable[str], copies: list[Copy]) -> dict[str, list[str]]:
    """By revision the runs that are in it as in the workspace, and are shown once."""
    return {
        copy.revision: [
            run
            for task in tasks
            for run in figures.chain(task, copy.folder)
            if _same(task, run, copies[0].folder, copy.folder)
        ]
        for copy in copies[1:]
    }


def _label(task: str, run: str, copy: Copy, workspace: Path) -> str:
    """What the page calls a run of a copy, which is the workspace's where they are the same."""
    same = not run or _same(task, run, workspace, copy.folder)
    return run if same else copy.label(run)


def _same(task: str, run: str, workspace: Path, other: Path) -> bool:
    """Whether a run has the same figures in both, and the same rows where the other has any."""
    scored = f"metrics/evaluate/{task}/{run}.json"
    files = (
        f"data/scored/{task}/{run}.jsonl",
        f"data/predictions/{run}.jsonl",
        f"models/{run}/lineage.json",
    )
    both = [scored, *(file for file in files if (other / file).is_file())]
    return all((copy / file).is_file() for file in both for copy in (workspace, other)) and all(
        filecmp.cmp(workspace / file, other / file, shallow=False) for file in both
    )


def _outcomes(task: str, run: str, copy: Copy) -> tuple[list[Outcome], str]:
    """A run's rows, or why there are none and what to do."""
    try:
        return outcomes.of_run(task, run, copy.folder), ""
    except UserError:
        if not copy.revision:
            return [], f"no rows: run `dvc repro {outcomes.evaluation_of(run)}`"
    needed = (f"data/scored/{task}/{run}.", f"data/predictions/{run}.", f"data/prepared/{task}/")
    lost = ", ".join(path for path in copy.missing if path.startswith(needed))
    return [], (
        f"no rows: {lost or run} of {copy.revision} in neither the cache nor a remote; `dvc push` "
        f"where it was made, or `git checkout {copy.revision}` and `dvc repro "
        f"{outcomes.evaluation_of(run)}`"
    )


def _measure(task: str) -> str:
    """The first sentence of what the task's score says of itself."""
    said = " ".join((tasks.score(task).__doc__ or "").split()).partition(": ")[2]
    return said.partition(". ")[0].rstrip(".")
