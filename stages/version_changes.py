"""What a corpus version brought beside another, and how the scores of two runs differ by category:
what `diff` prints and the page draws.
"""

import filecmp
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stages.corpus import changes
from stages.corpus.changes import PARTS, Changes, Version
from stages.errors import UserError
from stages.outcomes import Outcome, once
from stages.scoring import bootstrap

MOST_RESEMBLING = 200_000  # rows of both: near-duplicates among 63,000 took 2 s, on two cores


def prepared(task: str, corpus: str, folder: Path = Path()) -> Version:
    """A corpus version's rows as `prepare` kept them.   folder: the repository.

    Raises UserError where a part is not there.
    """
    files = {part: folder / _path(task, part, corpus) for part in PARTS}
    for path in files.values():
        if not path.is_file():
            raise UserError(f"{path}: not there; run `dvc repro prepare@{corpus}`")
    return Version(files)


def prepared_at(revision: str, files: Any, task: str, corpus: str, scratch: Path) -> Version:
    """The same of a git revision or an experiment, copied to `scratch`.

    files: stages.revisions.files_of the revision.
    """
    for path in (_path(task, part, corpus) for part in PARTS):
        (scratch / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            files.get_file(path.as_posix(), str(scratch / path))
        except Exception:  # DVC's cache has errors of its own beside FileNotFoundError
            raise UserError(
                f"{path}: not there at {revision}; run `dvc repro prepare@{corpus}`, or `dvc pull` "
                "of that revision"
            ) from None
    return prepared(task, corpus, scratch)


def _path(task: str, part: str, corpus: str) -> Path:
    return Path("data/prepared", task, part, f"{corpus}.jsonl")


def alike(before: Version, after: Version) -> bool:
    """Whether both have the same rows in the same parts, byte for byte."""
    return all(
        filecmp.cmp(path, after.files[part], shallow=False) for part, path in before.files.items()
    )


@dataclass(frozen=True)
class Category:
    """How many of its rows each version has, and how many are new, gone and changed."""

    before: int
    after: int
    added: int
    removed: int
    changed: int


@dataclass(frozen=True)
class Compared:
    before: Version
    after: Version
    changes: Changes

    @cached_property
    def near_duplicates(self) -> int | None:
        """How many of the new rows resemble one before them; None where there are too many rows to
        look for it.
        """
        if len(self.before) + len(self.after) > MOST_RESEMBLING:
            return None
        if not len(self.changes.added):
            return 0
        with tempfile.TemporaryDirectory() as folder:
            added = self.changes.added
            return changes.near_duplicates(self.before, self.after, added, Path(folder))

    def categories(self) -> dict[str, Category]:
        """By name."""
        old, new, found = self.before, self.after, self.changes
        counts = (
            old.categories(np.arange(len(old))),
            new.categories(np.arange(len(new))),
            new.categories(found.added),
            old.categories(found.removed),
            new.categories(found.changed[1]),
        )
        names = sorted(set().union(*counts))
        return {name: Category(*(count[name] for count in counts)) for name in names}


def compared(before: Version, after: Version) -> Compared:
    return Compared(before, after, changes.between(before, after))


@dataclass(frozen=True)
class ScoreChange:
    """Of held-out rows, which two runs have both answered where there are two: how many, and the
    mean of the rows' own scores; None for a run that there is not.
    """

    rows: int
    before: float | None
    after: float | None
    change: bootstrap.Difference | None


def score_changes(before: Iterable[Outcome], after: Iterable[Outcome]) -> dict[str, ScoreChange]:
    """By category.   before, after: of the two runs; [] where there is only one."""
    runs = [{outcome.key: outcome for outcome in once(some)} for some in (before, after)]
    both = all(runs)
    scores: dict[str, tuple[list[float], list[float]]] = {}
    for place, of_run in enumerate(runs):
        for key, outcome in of_run.items():
            if not both or key in runs[1 - place]:
                scores.setdefault(outcome.row["category"], ([], []))[place].append(outcome.score)
    return {name: _score_change(*scores[name]) for name in sorted(scores)}


def _score_change(before: list[float], after: list[float]) -> ScoreChange:
    """Of the same rows in the same order, or of one run alone."""
    mean_before, mean_after = (sum(some) / len(some) if some else None for some in (before, after))
    change = None
    if before and after:
        was, now = (np.stack([some, np.ones(len(some))], axis=-1) for some in (before, after))
        change = bootstrap.paired(now, was, lambda sums: sums[..., 0] / sums[..., 1])
    return ScoreChange(len(after or before), mean_before, mean_after, change)


def most_gained_first(names: Iterable[str], scores: Mapping[str, ScoreChange]) -> list[str]:
    """Categories by the change of their score, those without one last."""
    gains = {name: of.change.difference for name, of in scores.items() if of.change}
    return sorted(names, key=lambda name: (name not in gains, -gains.get(name, 0.0), name))
