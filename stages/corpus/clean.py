"""What may enter a corpus: readable lines, sound text, each row once, and nothing that is held out.

Everything streams: a thousand examples in memory at a time, and eight bytes for each row already seen.
"""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.errors import UserError
from stages.records import BadLine, Example, Message, Row
from stages.settings import Corpus

UNSOUND = re.compile(
    "[\ufffd\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]"
)  # U+FFFD; category Cc but tab, line ends
TOGETHER = 1_000  # examples that are looked up in one call
NEWEST = 2**15  # hashes in a set before they join the sorted array
LISTED_LINES = 20  # unreadable lines that an error names
TOLD = 100_000  # records after which a long reading says how far it is


class Report:
    """How many rows were read, and how many were dropped for which reason."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read = 0
        self.dropped: Counter[str] = Counter()
        self.passed_over: Counter[str] = Counter()
        self.bad: list[BadLine] = []

    def drop(self, reason: str) -> None:
        self.dropped[reason] += 1

    def pass_over(self, reason: str) -> None:
        """Not wanted by this corpus entry: no fault of the row, so it does not count against max_drop_fraction."""
        self.passed_over[reason] += 1

    def judge(self, malformed: str, max_drop_fraction: float) -> None:
        """Raise UserError for unreadable lines that must not be passed over, for an empty file, and for too many drops."""
        if self.dropped["malformed"] and malformed == "stop":
            remedy = "correct these lines, or set `malformed: drop` for this corpus in params.yaml"
            raise UserError("\n".join([*self.unreadable(), remedy]))
        if not self.read:
            raise UserError(f"{self.path}: no records in it; a corpus has at least one line")
        share = self.dropped.total() / self.read
        if share > max_drop_fraction:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.most_common())
            raise UserError(
                f"{self.path}: cleaning drops {self.dropped.total()} of {self.read} rows ({share:.0%}: {reasons}), more than "
                f"max_drop_fraction {max_drop_fraction:.0%}; mend the file, or raise max_drop_fraction for this corpus"
            )

    def unreadable(self) -> list[str]:
        """The first unreadable lines by number and reason, the rest as a count."""
        shown = [f"{self.path} line {item.line}: {item.reason}" for item in self.bad]
        more = self.dropped["malformed"] - len(shown)
        return [*shown, f"… and {more} more"] if more else shown


def readable(lines: Iterable[Example | BadLine], report: Report) -> Iterator[Example]:
    """The examples among what a task read; unreadable lines and unsound text are noted."""
    for item in lines:
        report.read += 1
        if report.read % TOLD == 0:
            print(f"{report.path}: {report.read:,} records read", flush=True)
        if isinstance(item, Example):
            if fault := _unsound(item):
                item = BadLine(item.line, fault)
            else:
                yield item
                continue
        report.drop("malformed")
        if len(report.bad) < LISTED_LINES:
            report.bad.append(item)


def deduplicate(examples: Iterable[Example], report: Report) -> Iterator[Example]:
    """Each (source, target) once. Hashes stand in memory as a sorted array, a tenth of a set; only the newest are in one."""
    seen, newest = np.empty(0, np.uint64), set[int]()
    coming = iter(examples)
    while together := list(itertools.islice(coming, TOGETHER)):
        marks = [digest(example.source, example.target) for example in together]
        for example, mark, known in zip(
            together, marks, contained(marks, seen).tolist(), strict=True
        ):
            if known or mark in newest:
                report.drop("duplicate")
            else:
                newest.add(mark)
                yield example
        if len(newest) >= max(NEWEST, len(seen) // 32):
            seen = np.concatenate((seen, np.fromiter(newest, np.uint64, len(newest))))
            seen.sort()
            newest.clear()


def contained(
    numbers: Sequence[int] | NDArray[np.uint64], ordered: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """(numbers,): whether each of the 64-bit numbers is in the sorted array."""
    asked = np.asarray(numbers, dtype=np.uint64)
    if not len(ordered):
        return np.zeros(len(asked), dtype=np.bool_)
    found: NDArray[np.bool_] = (
        ordered[np.searchsorted(ordered, asked).clip(max=len(ordered) - 1)] == asked
    )
    return found


def chosen(examples: Iterable[Example], corpus: Corpus, report: Report) -> Iterator[Example]:
    """What a corpus entry wants of its file. Raises UserError for records that may not be trained on in a corpus that is."""
    kept = 0
    for example in examples:
        if example.test_only and not corpus.test_only:
            raise UserError(
                f"{report.path} line {example.line}: {example.test_only}; set `test_only: true` for this corpus in params.yaml"
            )
        if corpus.categories and example.category not in corpus.categories:
            report.pass_over("of another category")
        elif (
            corpus.max_characters
            and len(example.source) + len(example.target) > corpus.max_characters
        ):
            report.pass_over("longer than max_characters")
        elif corpus.max_samples and kept == corpus.max_samples:
            report.pass_over("beyond max_samples")
        else:
            kept += 1
            yield example


def instructed(example: Example, instruction: str) -> Example:
    """The example with a corpus's own instruction in place of the task's words."""
    if not instruction:
        return example
    message: Message = {"role": "user", "content": f"{instruction}\n{example.source}"}
    return replace(example, prompt=(message,))


def digest(*texts: str) -> int:
    """64 bits that stand for the texts; a million rows collide with probability 3e-8."""
    return int.from_bytes(hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest())


def asked(row: Row) -> int:
    """What stands for the question of a row: a training row with a held-out question leaks it, whatever its answer."""
    if "completions" in row:
        return digest(row["prompt"])
    if "messages" in row:
        return digest(*(message["content"] for message in row["messages"][:-1]))
    return digest(row["text"])


def _unsound(example: Example) -> str:
    """Why a text was damaged before it came here, or ""."""
    for text in (example.source, example.target):
        if found := UNSOUND.search(text):
            if found[0] == "\ufffd":
                return "U+FFFD in it: the text was decoded wrongly before; go back to the original file"
            return f"control character U+{ord(found[0]):04X} in it; remove it"
    return ""
