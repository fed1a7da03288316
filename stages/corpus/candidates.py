"""What becomes of a raw file's records, each by itself: rows to be written, and hashes by which it
is decided later whether they are. Parts of a large file are read by several processes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from stages.corpus import augment, clean, source_files, split
from stages.corpus.examples import BadLine, Example
from stages.corpus.source_files import Span
from stages.files import as_line, digest
from stages.processes import cores, in_order
from stages.records import Row, Shown
from stages.settings import Corpus, Split

BYTES_OF_A_PROCESS = 2**25
"""Of the raw file: short rows of so many bytes take 8 s, and a process half a second to begin."""


class Prepared(NamedTuple):
    """A row to be written.   line: as it is written.   questions: as clean.question_digests."""

    part: split.Part
    category: str
    line: str
    questions: tuple[int, ...]


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

    def of_span(self, span: Span) -> tuple[clean.Report, list[Candidate]]:
        report = clean.Report(Path(self.corpus.file))
        read = self.read(report.path, self.corpus.columns, span)
        return report, [self.candidate(example) for example in clean.readable(read, report)]

    def candidate(self, example: Example) -> Candidate:
        part = split.part_of(self.corpus, self.group_key(example), self.shares)
        written = [example]
        if self.corpus.augment and part == "train":
            written += augment.copies(example, self.corpus.augment)
        return Candidate(
            example.line,
            example.source,
            example.target,
            example.category,
            example.test_only,
            clean.digests(example),
            tuple(self._row(part, each) for each in written),
        )

    def _row(self, part: split.Part, example: Example) -> Prepared:
        row = prepared(self.show, self.corpus, example)
        questions = tuple(clean.question_digests(row))
        return Prepared(part, row["category"], as_line(row), questions)


def candidates(
    task: Task, corpus: Corpus, shares: Split, report: clean.Report
) -> Iterator[Candidate]:
    """Those of a corpus's file in its order; the report counts what was read. It is the same,
    whatever the number of processes.
    """
    reader = Reader(task.read, task.show, task.group_key, corpus, shares)
    path = report.path
    if not task.reads_lines_alone(path, corpus.columns):
        read = task.read(path, corpus.columns)
        yield from map(reader.candidate, clean.readable(read, report))
        return
    processes = min(cores(), path.stat().st_size // BYTES_OF_A_PROCESS)
    if processes < 2:
        for span in source_files.spans(path):
            read = task.read(path, corpus.columns, span)
            yield from map(reader.candidate, clean.readable(read, report))
        return
    for of_span, found in in_order(reader.of_span, source_files.spans(path), processes):
        report.add(of_span)
        yield from found


def prepared(show: Callable[[Example], Shown], corpus: Corpus, example: Example) -> Row:
    identity = f"{digest(*example.said()):016x}"
    shown = show(clean.with_instruction(example, corpus.instruction))
    return {"id": identity, "category": example.category, "source": example.source, **shown}
