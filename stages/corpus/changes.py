"""What one version of a corpus has that another has not."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.corpus import clean
from stages.corpus.examples import Example
from stages.corpus.near_duplicates import drop_near_duplicates
from stages.records import Row, target

ALIKE = 0.8  # Jaccard similarity of character 5-grams


@dataclass(frozen=True, slots=True)
class Changes:
    """added, removed: rows with a question that the other version has not.
    changed: (before, after) with the same question, and another answer or other labels.
    same: how many rows are equal.
    """

    added: list[Row]
    removed: list[Row]
    changed: list[tuple[Row, Row]]
    same: int


def between(before: Iterable[Row], after: Iterable[Row]) -> Changes:
    """Of a question that stands several times, equal rows are matched first, then in order."""
    waiting: dict[int, list[Row]] = {}
    for row in before:
        waiting.setdefault(clean.question_digest(row), []).append(row)
    others, same = list[Row](), 0
    for row in after:
        candidates = waiting.get(clean.question_digest(row), [])
        equal = next((at for at, other in enumerate(candidates) if _alike(row, other)), None)
        if equal is None:
            others.append(row)
        else:
            del candidates[equal]
            same += 1
    added, changed = list[Row](), list[tuple[Row, Row]]()
    for row in others:
        if candidates := waiting.get(clean.question_digest(row), []):
            changed.append((candidates.pop(0), row))
        else:
            added.append(row)
    return Changes(added, [row for rows in waiting.values() for row in rows], changed, same)


def _alike(row: Row, other: Row) -> bool:
    return target(row) == target(other) and row.get("labels") == other.get("labels")


def near_duplicates(before: list[Row], added: list[Row], folder: Path) -> int:
    """How many of the added rows resemble one before them, of either list.

    folder: for temporary files.
    """
    report = clean.Report(folder)
    kept = drop_near_duplicates(_examples(before + added), ALIKE, report, folder)
    return len(added) - sum(example.line >= len(before) for example in kept)


def _examples(rows: list[Row]) -> Iterator[Example]:
    for number, row in enumerate(rows):
        yield Example(number, row["source"], target(row), row["category"])
