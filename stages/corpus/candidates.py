"""What becomes of a raw file's records, each by itself: rows to be written, and hashes by which it
is decided later whether they are. Parts of a large file are read by several processes.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.corpus import augment, clean, duplicates, near_duplicates, source_files, split
from stages.corpus.examples import BadLine, Example
from stages.corpus.source_files import Span
from stages.entries import Corpus, Split
from stages.files import as_line
from stages.processes import cores, in_order
from stages.records import Row, Shown

BYTES_OF_A_PROCESS = 2**25
"""Of the raw file: short rows of so many bytes take 8 s, and a process half a second to begin."""


Prepared = tuple[split.Part, str, bytes, tuple[int, ...]]
"""A row to be written: its part, its category, its line, and its clean.question_digests."""


class Candidate(NamedTuple):
    """An undamaged example, of which rows are written where it is chosen: the fields of Example
    that this is decided by, its clean.digests, and its rows.
    """

    line: int
    source: str
    target: str
    category: str
    test_only: str
    digests: tuple[int, int]
    rows: tuple[Prepared, ...]


class Packed(NamedTuple):
    """Candidates as the process that made them has pickled them, by column: another process looks
    at one only where it is chosen, and unpacks it once.   kept: the places of those that are.
    """

    columns: bytes
    kept: list[int]

    def candidates(self) -> list[Candidate]:
        found = [*map(Candidate, *pickle.loads(self.columns))]
        return [found[at] for at in self.kept]


class Block(NamedTuple):
    """What one process has made of N candidates that follow each other.

    digests: (N, 2), their clean.digests.   keys: (N, bands), their near_duplicates.band_keys, where
    the corpus asks for them.
    """

    digests: NDArray[np.uint64]
    keys: NDArray[np.uint64] | None
    columns: bytes


class Task(Protocol):
    """What is needed of stages.tasks.Corpus, which says what it does."""

    def read(
        self, path: Path, columns: Mapping[str, str], span: Span | None = None
    ) -> Iterator[Example | BadLine]: ...
    def reads_lines_alone(self, path: Path, columns: Mapping[str, str]) -> bool: ...
    def show(self, example: Example) -> Shown: ...
    def group_key(self, example: Example) -> str: ...


@dataclass(frozen=True)
class Reader:
    """A task's functions, which another process is given, and what a corpus asks of them."""

    read: Callable[..., Iterator[Example | BadLine]]
    show: Callable[[Example], Shown]
    group_key: Callable[[Example], str]
    corpus: Corpus
    shares: Split

    def of_span(self, span: Span) -> tuple[clean.Report, Block | None]:
        """What was read of the span, and its candidates, if there are any."""
        report = clean.Report(Path(self.corpus.file))
        read = self.read(report.path, self.corpus.columns, span)
        found = [self.candidate(example) for example in clean.readable(read, report)]
        if not found:
            return report, None
        keys = None
        if self.corpus.near_duplicates:
            bands = near_duplicates.fewest_bands(self.corpus.near_duplicates)
            batches = near_duplicates.batched(found)
            keys = np.concatenate([near_duplicates.band_keys(batch, bands) for batch in batches])
        digests = np.array([candidate.digests for candidate in found], np.uint64)
        columns = pickle.dumps([*zip(*found, strict=True)], pickle.HIGHEST_PROTOCOL)
        return report, Block(digests, keys, columns)

    def candidate(self, example: Example) -> Candidate:
        part = split.part_of(self.corpus, self.group_key(example), self.shares)
        digests = clean.digests(example)
        rows = [self._row(part, example, digests[0])]
        if self.corpus.augment and part == "train":
            for copy in augment.copies(example, self.corpus.augment):
                rows.append(self._row(part, copy, clean.digests(copy)[0]))
        return Candidate(
            example.line,
            example.source,
            example.target,
            example.category,
            example.test_only,
            digests,
            tuple(rows),
        )

    def _row(self, part: split.Part, example: Example, mark: int) -> Prepared:
        row = prepared(self.show, self.corpus, example, mark)
        return part, example.category, as_line(row).encode(), tuple(clean.question_digests(row))


def prepared(show: Callable[[Example], Shown], corpus: Corpus, example: Example, mark: int) -> Row:
    """mark: the first of clean.digests, which names the row."""
    shown = show(clean.with_instruction(example, corpus.instruction))
    return {
        "id": f"{mark:016x}",
        "category": example.category,
        "source": example.source,
        **shown,
    }


def distinct(
    task: Task, corpus: Corpus, shares: Split, report: clean.Report, folder: Path
) -> Iterator[Candidate]:
    """The candidates of a corpus's file in its order, without duplicates, and without
    near-duplicates where the corpus says so; the report counts what was read and dropped. They are
    the same, whatever the number of processes.

    folder: for what waits on the disk.
    """
    reader = Reader(task.read, task.show, task.group_key, corpus, shares)
    path, near = report.path, corpus.near_duplicates
    alone = task.reads_lines_alone(path, corpus.columns)
    processes = min(cores(), path.stat().st_size // BYTES_OF_A_PROCESS) if alone else 1
    if processes < 2:
        spans: Iterable[Span | None] = source_files.spans(path) if alone else [None]
        read = chain.from_iterable(task.read(path, corpus.columns, span) for span in spans)
        found = map(reader.candidate, clean.readable(read, report))
        firsts = duplicates.deduplicate(found, report, lambda candidate: candidate.digests)
        if not near:
            return firsts
        return near_duplicates.drop_near_duplicates(firsts, near, report, folder)
    blocks = _firsts(in_order(reader.of_span, source_files.spans(path), processes), report)
    if not near:
        return chain.from_iterable(packed.candidates() for packed, _ in blocks)
    return near_duplicates.drop_from_blocks(blocks, Packed.candidates, near, report, folder)


def _firsts(
    found: Iterable[tuple[clean.Report, Block | None]], report: clean.Report
) -> Iterator[tuple[Packed, NDArray[np.uint64] | None]]:
    """The candidates that say what none before them says, with their keys."""
    seen = duplicates.Seen()
    for of_span, block in found:
        report.add(of_span)
        if block:
            kept = seen.firsts(block.digests, report)
            yield Packed(block.columns, kept), None if block.keys is None else block.keys[kept]
