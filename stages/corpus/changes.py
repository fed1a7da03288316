"""What one version of a corpus has that another has not."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.corpus import clean
from stages.corpus.examples import Example
from stages.corpus.near_duplicates import drop_near_duplicates
from stages.errors import UserError
from stages.files import digest
from stages.records import Row, target

ALIKE = 0.8  # Jaccard similarity of character 5-grams
PARTS = ("train", "valid", "test")
ENCODED_AT_ONCE = 1_000  # rows

Places = NDArray[np.int64]
"""Numbers of a version's rows, from 0, its parts one after another."""


class Version:
    """The prepared rows of a corpus version. Of each, 28 bytes are in memory; a row is read from
    its file again where it is asked for.

    sizes: rows by part.   source_characters, reference_characters: of all rows.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        """files: by part. Raises UserError for a file that is damaged."""
        self.files = files
        self.sizes = dict.fromkeys(files, 0)
        self.source_characters = self.reference_characters = 0
        self.names: dict[str, int] = {}
        dtype = [("question", "u8"), ("whole", "u8"), ("offset", "i8"), ("category", "i4")]
        self.known = np.fromiter(self._read(), np.dtype(dtype))

    def __len__(self) -> int:
        return len(self.known)

    def _read(self) -> Iterator[tuple[int, int, int, int]]:
        for part, path in self.files.items():
            offset = 0
            with path.open("rb") as file:
                for line in file:
                    try:
                        row: Row = json.loads(line)
                        reference = target(row)
                        question = clean.question_digest(row)
                        yield (
                            question,
                            digest(f"{question}", reference, f"{row.get('labels')}"),
                            offset,
                            self.names.setdefault(row["category"], len(self.names)),
                        )
                        self.source_characters += len(row["source"])
                    except (ValueError, TypeError, LookupError) as error:
                        raise UserError(
                            f"{path}: damaged ({error!r}); run `dvc repro prepare@{path.stem}`"
                        ) from None
                    self.sizes[part] += 1
                    self.reference_characters += len(reference)
                    offset += len(line)

    def rows(self, places: Places) -> Iterator[Row]:
        ends = np.cumsum([*self.sizes.values()])
        parts = np.searchsorted(ends, places, side="right")
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("rb")) for path in self.files.values()]
            for part, offset in zip(parts, self.known["offset"][places], strict=True):
                files[part].seek(offset)
                yield json.loads(files[part].readline())

    def categories(self, places: Places) -> Counter[str]:
        counts = np.bincount(self.known["category"][places], minlength=len(self.names))
        return Counter(dict(zip(self.names, counts.tolist(), strict=True)))

    def tokens(self, tokenizer_file: Path) -> int:
        """Of all inputs and references."""
        from tokenizers import Tokenizer

        encode = partial(
            Tokenizer.from_file(str(tokenizer_file)).encode_batch_fast, add_special_tokens=False
        )
        total, places = 0, np.arange(len(self))
        for first in range(0, len(self), ENCODED_AT_ONCE):
            rows = self.rows(places[first : first + ENCODED_AT_ONCE])
            texts = [text for row in rows for text in (row["source"], target(row))]
            total += sum(len(each.ids) for each in encode(texts))
        return total


@dataclass(frozen=True, slots=True)
class Changes:
    """added, removed: places of rows with a question that the other version has not, of the version
    after and of that before.
    changed: (before, after) with the same question, and another answer or other labels.
    same: how many rows are equal.
    """

    added: Places
    removed: Places
    changed: tuple[Places, Places]
    same: int


def between(before: Version, after: Version) -> Changes:
    """Of a question that stands several times, equal rows are matched first, then in order."""
    old, new = (np.arange(len(version)) for version in (before, after))
    equal_old, equal_new = _matched(before.known["whole"], after.known["whole"])
    old, new = np.delete(old, equal_old), np.delete(new, equal_new)
    was, now = _matched(before.known["question"][old], after.known["question"][new])
    return Changes(
        added=np.delete(new, now),
        removed=np.delete(old, was),
        changed=(old[was], new[now]),
        same=len(equal_old),
    )


def _matched(before: NDArray[np.uint64], after: NDArray[np.uint64]) -> tuple[Places, Places]:
    """Places of equal keys: the first of a key before with the first of it after, and so on, in
    the order of those after.
    """
    order = np.argsort(np.concatenate((before, after)), kind="stable")
    keys = np.concatenate((before, after))[order]
    is_after = order >= len(before)
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))[: len(keys)])
    sizes = np.diff(np.append(starts, len(keys)))
    befores = np.add.reduceat(~is_after, starts, dtype=np.int64) if len(starts) else sizes
    start, count = np.repeat(starts, sizes), np.repeat(befores, sizes)
    rank = np.arange(len(keys)) - start - count  # of a row after, among those of its key
    hit = is_after & (rank < count)
    was, now = order[(start + rank)[hit]], order[hit] - len(before)
    by_after = np.argsort(now)
    return was[by_after], now[by_after]


def near_duplicates(before: Version, after: Version, added: Places, folder: Path) -> int:
    """How many of the added rows resemble one before them, of either version.

    folder: for temporary files.
    """
    report = clean.Report(folder)
    examples = _examples(before, after, added)
    kept = drop_near_duplicates(examples, ALIKE, report, folder)
    return len(added) - sum(example.line >= len(before) for example in kept)


def _examples(before: Version, after: Version, added: Places) -> Iterator[Example]:
    rows = itertools.chain(before.rows(np.arange(len(before))), after.rows(added))
    for number, row in enumerate(rows):
        yield Example(number, row["source"], target(row), row["category"])
