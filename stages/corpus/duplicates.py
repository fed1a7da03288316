"""Rows of which all that is said, or all that is asked, is said or asked elsewhere.

Rows are streamed: in memory are a thousand examples at a time, and eight bytes for each row seen.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.corpus.clean import Report, question_digests
from stages.records import Row

T = TypeVar("T")

LOOKUP_BATCH_EXAMPLES = 1_000  # examples whose hashes are looked up in one call


class Seen:
    """The hashes of all that came before.

    They are in sorted arrays, which take a tenth of a set's memory. Of two that follow each other
    the first is more than twice as long, so that N hashes are in log2(N) arrays at most, and each
    is sorted as often.
    """

    def __init__(self) -> None:
        self.arrays: list[NDArray[np.uint64]] = []

    def firsts(self, digests: NDArray[np.uint64], report: Report) -> NDArray[np.int64]:
        """The places, among the next N examples, of those of which all that is said comes for the
        first time. Where a solution came with other labels, the report says so.

        digests: (N, 2), `digests` of the examples.
        """
        marks, labelled = digests.T
        distinct, places = np.unique(marks, return_index=True)  # the first of each
        firsts: NDArray[np.int64] = np.sort(places[~self._has(distinct)])
        self._add(digests[firsts])
        for is_same in self._has(np.delete(labelled, firsts)).tolist():
            report.drop("duplicate" if is_same else "solution with other labels before")
        return firsts

    def _has(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        found = np.zeros(len(hashes), np.bool_)
        for array in self.arrays:
            found |= isin_sorted(hashes, array)
        return found

    def _add(self, hashes: NDArray[np.uint64]) -> None:
        hashes = np.sort(hashes, axis=None)  # np.unique took ten times as long
        if not len(hashes):
            return
        added = hashes[np.append(True, hashes[1:] != hashes[:-1])]
        while self.arrays and len(self.arrays[-1]) <= 2 * len(added):
            added = np.sort(np.append(self.arrays.pop(), added))
        self.arrays.append(added)


def deduplicate(
    examples: Iterable[T], report: Report, digests_of: Callable[[T], tuple[int, int]]
) -> Iterator[T]:
    """The examples without those of which all that is said came before.

    digests_of: `digests` of an example.
    """
    seen, coming = Seen(), iter(examples)
    while batch := list(itertools.islice(coming, LOOKUP_BATCH_EXAMPLES)):
        digests = np.array([digests_of(example) for example in batch], np.uint64)
        yield from (batch[at] for at in seen.firsts(digests, report).tolist())


def without_questions(rows: Iterable[Row], held_out: NDArray[np.uint64]) -> Iterator[Row]:
    """The rows of which no answer that is learned is to a question that is held out.

    held_out: (N,), sorted hashes of questions.
    """
    coming = iter(rows)
    while batch := list(itertools.islice(coming, LOOKUP_BATCH_EXAMPLES)):
        asked = [question_digests(row) for row in batch]
        leaks = iter(isin_sorted([each for of_row in asked for each in of_row], held_out).tolist())
        for row, of_row in zip(batch, asked, strict=True):
            leaking = [next(leaks) for _ in of_row]
            if not any(leaking):
                yield row


def isin_sorted(
    numbers: Sequence[int] | NDArray[np.uint64], ordered: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """(N,): whether each of N 64-bit numbers is in a sorted array.

    np.isin(numbers, ordered) by binary search, without sorting the array again.
    """
    queries = np.asarray(numbers, dtype=np.uint64)
    if not len(ordered):
        return np.zeros(len(queries), dtype=np.bool_)
    found: NDArray[np.bool_] = (
        ordered[np.searchsorted(ordered, queries).clip(max=len(ordered) - 1)] == queries
    )
    return found
