"""What becomes of a raw file's records, each by itself: rows to be written, and hashes by which it
is decided later whether they are. Parts of a large file are read by several processes.
"""

import pickle
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


class Rows(NamedTuple):
    """R rows of one part of the split, by column: millions are written without a look at each.

    of: (R,), the place of each one's candidate.   lines: all of them, one after the other.
    sizes: (R,), the bytes of each.   questions: (Q,), the clean.question_digests of all.
    asked: (R,), how many each has.
    """

    of: NDArray[np.int64]
    lines: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    questions: NDArray[np.uint64]
    asked: NDArray[np.int64]

    def where(self, is_chosen: NDArray[np.bool_]) -> "Rows":
        """Those of the candidates that are chosen."""
        here = is_chosen[self.of]
        if here.all():
            return self
        return Rows(
            self.of[here],
            self.lines[np.repeat(here, self.sizes)],
            self.sizes[here],
            self.questions[np.repeat(here, self.asked)],
            self.asked[here],
        )


class Content(NamedTuple):
    """What is written of N candidates that follow each other, and what decides whether it is.

    texts: pickled, what near-duplicates are found by, where the corpus asks for it: another process
    looks at few of them.   categories, excluded: (N,), the category of each, and why the corpus's
    options exclude it.   refused: of those that end it all, the place and what is wrong.
    """

    texts: bytes
    categories: list[str]
    excluded: list[str]
    refused: dict[int, str]
    rows: dict[split.Part, Rows]


class Block(NamedTuple):
    """What one process has made of N candidates: undamaged examples.

    digests: (N, 2), their clean.digests.   keys: (N, bands), their near_duplicates.band_keys, where
    the corpus asks for them.
    """

    digests: NDArray[np.uint64]
    keys: NDArray[np.uint64] | None
    content: Content


Firsts = tuple[Content, NDArray[np.int64]]
"""Of a block, and the places of those that say what none before them says."""


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
        report = clean.Report(Path(self.corpus.file), tells=False)
        read = self.read(report.path, self.corpus.columns, span)
        examples = [*clean.readable(read, report)]
        return report, self.block(examples) if examples else None

    def block(self, examples: Sequence[Example]) -> Block:
        digests, texts, keys = [clean.digests(example) for example in examples], b"", None
        if self.corpus.near_duplicates:
            compared = near_duplicates.texts(examples)
            bands = near_duplicates.fewest_bands(self.corpus.near_duplicates)
            keys = near_duplicates.band_keys(compared, bands)
            texts = pickle.dumps(compared, pickle.HIGHEST_PROTOCOL)
        faults = [clean.refused(example, self.corpus) for example in examples]
        content = Content(
            texts,
            [example.category for example in examples],
            [clean.excluded(example, self.corpus) for example in examples],
            {at: fault for at, fault in enumerate(faults) if fault},
            self._rows(examples, [mark for mark, _ in digests]),
        )
        return Block(np.array(digests, np.uint64), keys, content)

    def _rows(self, examples: Sequence[Example], marks: Sequence[int]) -> dict[split.Part, Rows]:
        made = defaultdict[split.Part, list[tuple[int, bytes, list[int]]]](list)
        for at, (example, mark) in enumerate(zip(examples, marks, strict=True)):
            part = split.part_of(self.corpus, self.group_key(example), self.shares)
            made[part].append((at, *self._row(example, mark)))
            if self.corpus.augment and part == "train":
                for copy in augment.copies(example, self.corpus.augment):
                    made[part].append((at, *self._row(copy, clean.digests(copy)[0])))
        return {part: _by_column(*zip(*rows, strict=True)) for part, rows in made.items()}

    def _row(self, example: Example, mark: int) -> tuple[bytes, list[int]]:
        row = prepared(self.show, self.corpus, example, mark)
        return as_line(row).encode(), clean.question_digests(row)


def _by_column(of: Sequence[int], lines: Sequence[bytes], asked: Sequence[list[int]]) -> Rows:
    return Rows(
        np.array(of),
        np.frombuffer(b"".join(lines), np.uint8),
        np.array([len(line) for line in lines]),
        np.fromiter(chain.from_iterable(asked), np.uint64),
        np.array([len(questions) for questions in asked]),
    )


def prepared(show: Callable[[Example], Shown], corpus: Corpus, example: Example, mark: int) -> Row:
    """mark: the first of clean.digests, which names the row."""
    shown = show(clean.with_instruction(example, corpus.instruction))
    return {
        "id": f"{mark:016x}",
        "category": example.category,
        "source": example.source,
        **shown,
    }


def chosen(
    task: Task, corpus: Corpus, shares: Split, report: clean.Report, folder: Path
) -> Iterator[tuple[Content, NDArray[np.bool_]]]:
    """The candidates of a corpus's file in its order, and which of them are written: those without
    a duplicate before them, nor a near-duplicate where the corpus says so, that its options admit.
    They are the same, whatever the number of processes. The report counts what was read, dropped
    and passed over.

    folder: for what waits on the disk. Raises UserError where a record may only be tested on and
    the corpus is also for training.
    """
    selection = clean.Selection(corpus, report)
    for content, is_chosen in _distinct(task, corpus, shares, report, folder):
        if corpus.max_samples or content.refused or any(content.excluded):
            for at in np.flatnonzero(is_chosen).tolist():
                fault, reason = content.refused.get(at, ""), content.excluded[at]
                is_chosen[at] = selection.admits(fault, reason)
        yield content, is_chosen


def _distinct(
    task: Task, corpus: Corpus, shares: Split, report: clean.Report, folder: Path
) -> Iterator[tuple[Content, NDArray[np.bool_]]]:
    firsts = _firsts(_blocks(task, corpus, shares, report), report)
    if not corpus.near_duplicates:
        for (content, places), _ in firsts:
            yield content, _mask(content, places)
        return
    for (content, places), is_kept in near_duplicates.kept_of_blocks(
        firsts, _compared, corpus.near_duplicates, report, folder
    ):
        yield content, _mask(content, places[is_kept])


def _blocks(task: Task, corpus: Corpus, shares: Split, report: clean.Report) -> Iterator[Block]:
    reader = Reader(task.read, task.show, task.group_key, corpus, shares)
    path = report.path
    if not task.reads_lines_alone(path, corpus.columns):
        read = clean.readable(task.read(path, corpus.columns), report)
        yield from map(reader.block, near_duplicates.batched(read))
        return
    processes = max(1, min(cores(), path.stat().st_size // BYTES_OF_A_PROCESS))
    for of_span, block in in_order(reader.of_span, source_files.spans(path), processes):
        report.add(of_span)
        if block:
            yield block


def _firsts(
    blocks: Iterable[Block], report: clean.Report
) -> Iterator[tuple[Firsts, NDArray[np.uint64] | None]]:
    """With the keys of the firsts."""
    seen = duplicates.Seen()
    for digests, keys, content in blocks:
        places = seen.firsts(digests, report)
        yield (content, places), None if keys is None else keys[places]


def _compared(firsts: Firsts) -> list[str]:
    content, places = firsts
    texts = pickle.loads(content.texts)
    return [texts[at] for at in places.tolist()]


def _mask(content: Content, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    is_one = np.zeros(len(content.categories), np.bool_)
    is_one[places] = True
    return is_one
