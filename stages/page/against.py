"""Each run beside what it is judged by: itself at another revision, or its parent."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stages import outcomes, tasks, version_changes
from stages.errors import UserError
from stages.outcomes import ByKey, Outcome
from stages.page import figures, lineage
from stages.page.contents import TaskRuns
from stages.page.markdown import code
from stages.page.revisions import Copy
from stages.revisions import files_of
from stages.scoring import bootstrap

LONGEST_SENTENCE = 500  # characters of why something is not told


@dataclass(frozen=True)
class Moved:
    """A test set or category that a run answers better or worse, more surely than by chance."""

    name: str
    test_set: bool
    change: bootstrap.Difference


@dataclass(frozen=True)
class Judged:
    """A run of the workspace.

    state: "new"; of those that the revision has too "same", "changed", or "unknown" where rows of
    one are not at hand.   other: the label of what it is compared with, "" for nothing.
    data: what training rows it has that the other has not; "" where nothing is to be told.
    settings: [what, then, now] of those that differ.
    """

    run: dict[str, Any]
    state: str
    other: str = ""
    change: bootstrap.Difference | None = None
    moved: list[Moved] = field(default_factory=list)
    data: str = ""
    settings: list[tuple[str, Any, Any]] = field(default_factory=list)


def judged(of: TaskRuns, here: Copy, there: Copy | None, scratch: Path) -> list[Judged]:
    """The workspace's runs in their order.

    there: another revision, None for none: then each is new.   scratch: a folder for files of it.
    """
    known = {run["label"]: run for run in of.figures}
    theirs = figures.chain(of.task, there.folder) if there else {}
    found = []
    for run in of.figures:
        if run["revision"]:
            continue
        before = known.get(there.label(run["run"])) if there else None
        if before is None and run["run"] in theirs:
            found.append(Judged(run, "same"))
        elif before is None or there is None:
            found.append(_beside(of, run, "new", run["parent"], _brought(run), _settings(run)))
        else:
            settings = lineage.changed_settings(run["run"], there.folder, here.folder)
            data = _other_rows(of.task, run, before, there.revision, here.folder, scratch)
            found.append(_beside(of, run, "changed", before["label"], data, settings))
    return found


def gone(of: TaskRuns) -> list[dict[str, Any]]:
    """Runs that the revision has and the workspace has not."""
    here = {run["run"] for run in of.figures if not run["revision"]}
    return [run for run in of.figures if run["run"] not in here]


def from_parent(run: dict[str, Any]) -> bootstrap.Difference | None:
    """What `compare` noted."""
    if "difference" not in run:
        return None
    low, high = run["difference_low"], run["difference_high"]
    return bootstrap.Difference(run["difference"], low, high, run["verdict"])


def _beside(
    of: TaskRuns,
    run: dict[str, Any],
    state: str,
    other: str,
    data: str,
    settings: list[tuple[str, Any, Any]],
) -> Judged:
    own, theirs = _answered_by_both(of.held_out.get(run["label"], []), of.held_out.get(other, []))
    noted = from_parent(run) if state == "new" else None
    if not own:
        state = "unknown" if state == "changed" else state
        return Judged(run, state, other, noted, [], data, settings)
    answers_differ = any(outcome.statistics != theirs[outcome.key].statistics for outcome in own)
    if state == "changed" and not answers_differ and not _trained_otherwise(of, run, other):
        return Judged(run, "same", other)
    change = noted or _change(of.task, outcomes.once(own), theirs)
    return Judged(run, state, other, change, _moved(of.task, own, theirs), data, settings)


def _trained_otherwise(of: TaskRuns, run: dict[str, Any], other: str) -> bool:
    """Whether both are noted and differ: with another test set alone, a run's scores are new."""
    before = next(each for each in of.figures if each["label"] == other)
    both = [each["lineage"] for each in (run, before) if each["lineage"]]
    return len({(str(each["noted"]), each["data_md5"]) for each in both}) > 1


def _answered_by_both(
    own: Sequence[Outcome], other: Sequence[Outcome]
) -> tuple[list[Outcome], dict[tuple[str, str], Outcome]]:
    """The run's, and the other's by their keys, of rows that ask and expect the same in both."""
    others = {outcome.key: outcome for outcome in other}
    both = [
        outcome
        for outcome in own
        if outcome.key in others and others[outcome.key].row == outcome.row
    ]
    return both, others


def _change(task: str, own: Sequence[Outcome], theirs: ByKey) -> bootstrap.Difference:
    """As `compare` tells it of a run and its parent: rows in the order of their ids."""
    rows = sorted(own, key=lambda outcome: outcome.row["id"])
    return bootstrap.paired(
        np.array([outcome.statistics for outcome in rows]),
        np.array([theirs[outcome.key].statistics for outcome in rows]),
        tasks.score(task).headline,
    )


def _moved(task: str, own: list[Outcome], theirs: ByKey) -> list[Moved]:
    """Test sets by the task's measure, categories by the mean of their rows' own scores; the
    greatest change first.
    """
    found = [
        Moved(name, True, _change(task, [each for each in own if each.corpus == name], theirs))
        for name in dict.fromkeys(each.corpus for each in own)
    ]
    categories = version_changes.score_changes((theirs[each.key] for each in own), own)
    found += [Moved(name, False, of.change) for name, of in categories.items() if of.change]
    told = [moved for moved in found if moved.change.verdict != "no difference shown"]
    return sorted(told, key=lambda moved: (-abs(moved.change.difference), moved.name))


def _settings(run: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Beside its parent's, where that is a run of the same task."""
    return run["lineage"].get("differs", []) if run["parent"] else []


def _brought(run: dict[str, Any]) -> str:
    """What its corpus has that its parent's has not."""
    version = next((each for each in run["versions"] if each["against"] == run["parent"]), None)
    if not version:
        return ""
    if "lacks" in version:
        return code(str(version["lacks"]), LONGEST_SENTENCE)
    alike = version["near_duplicates"]
    return (
        f"beside {version['corpora'][0]} "
        + _counts(version["added"], version["removed"], version["changed"])
        + (f", {alike:,} of the new ones like a row before" if alike else "")
    )


def _other_rows(
    task: str, run: dict[str, Any], before: dict[str, Any], revision: str, here: Path, scratch: Path
) -> str:
    """What its corpus has that it had not at the revision."""
    own, then = run["lineage"], before["lineage"]
    if not own or not then or own["data_md5"] == then["data_md5"]:
        return ""
    corpus, corpus_then = own["corpora"][0]["name"], then["corpora"][0]["name"]
    try:
        old = version_changes.prepared_at(
            revision, files_of(revision), task, corpus_then, scratch / "prepared"
        )
        found = version_changes.compared(old, version_changes.prepared(task, corpus, here)).changes
    except UserError as error:
        return code(str(error), LONGEST_SENTENCE)
    counts = _counts(len(found.added), len(found.removed), len(found.changed[0]))
    return f"beside {corpus_then} there {counts}"


def _counts(added: int, removed: int, changed: int) -> str:
    return f"{added:,} new rows, {removed:,} gone, {changed:,} with another answer"
