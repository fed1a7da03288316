"""What may enter a corpus: readable lines, sound text, each row once, and nothing that is held out.

Everything streams: one example in memory at a time, and eight bytes for each row already seen.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from stages.records import LISTED_LINES, BadLine, Example, Row, UserError, listed


class Report:
    """How many rows were read, and how many were dropped for which reason."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read = 0
        self.dropped: Counter[str] = Counter()
        self.bad: list[BadLine] = []

    def drop(self, reason: str) -> None:
        self.dropped[reason] += 1

    def judge(self, malformed: str, max_drop_fraction: float) -> None:
        """Raise UserError for unreadable lines that must not be passed over, for an empty file, and for too many drops."""
        if self.dropped["malformed"] and malformed == "stop":
            remedy = "correct these lines, or set `malformed: drop` for this corpus in params.yaml"
            raise listed(self.path, self.bad, self.dropped["malformed"], remedy)
        if not self.read:
            raise UserError(f"{self.path}: no records in it; a corpus has at least one line")
        share = self.dropped.total() / self.read
        if share > max_drop_fraction:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.most_common())
            raise UserError(
                f"{self.path}: cleaning drops {self.dropped.total()} of {self.read} rows ({share:.0%}: {reasons}), more than "
                f"max_drop_fraction {max_drop_fraction:.0%}; mend the file, or raise max_drop_fraction for this corpus"
            )


def readable(lines: Iterable[Example | BadLine], report: Report) -> Iterator[Example]:
    """The examples among what a task read; unreadable lines and unsound text are noted."""
    for item in lines:
        report.read += 1
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
    """Each (source, target) once."""
    seen: set[int] = set()
    for example in examples:
        mark = digest(example.source, example.target)
        if mark in seen:
            report.drop("duplicate")
        else:
            seen.add(mark)
            yield example


def digest(*texts: str) -> int:
    """64 bits that stand for the texts; a million rows collide with probability 3e-8."""
    return int.from_bytes(hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest())


def asked(row: Row) -> int:
    """What stands for the question of a row: a training row with a held-out question leaks it, whatever its answer."""
    if "messages" in row:
        return digest(*(message["content"] for message in row["messages"][:-1]))
    return digest(row["text"])


def _unsound(example: Example) -> str:
    """Why a text was damaged before it came here, or ""."""
    for text in (example.source, example.target):
        if "\ufffd" in text:
            return "U+FFFD in it: the text was decoded wrongly before; go back to the original file"
        for character in text:
            if unicodedata.category(character) == "Cc" and character not in "\n\t\r":
                return f"control character U+{ord(character):04X} in it; remove it"
    return ""
