"""Answers that were given before, kept in .scratch, outside of DVC's outputs.

An answer is used again for the same row by the same weights, settings, code and packages.
"""

import json
from collections.abc import Callable, Sequence

from stages.backends.shared import checkpoints
from stages.files import digest
from stages.records import Answer, Row


class Answers:
    """The kept answers of one model in one way of answering, by row."""

    def __init__(self, model: str, answering: str) -> None:
        """model: its fingerprint.   answering: all else that decides what it answers, as text."""
        self.path = checkpoints.root() / "answers" / f"{model}-{digest(answering):016x}.jsonl"
        self.known: dict[str, Answer] = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:
                    # the last line of a process that was killed while it wrote
                    continue
                row = record.pop("row")
                self.known[row] = Answer(**record)

    def complete(
        self, rows: Sequence[Row], predict: Callable[[list[Row]], list[Answer]]
    ) -> list[Answer]:
        """An answer for each row, in order; `predict` is asked for those that are new."""
        keys = [f"{digest(json.dumps(row, sort_keys=True)):016x}" for row in rows]
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in self.known}
        if new:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                for key, answer in zip(new, predict(list(new.values())), strict=True):
                    self.known[key] = answer
                    file.write(json.dumps({"row": key, **answer._asdict()}) + "\n")
        return [self.known[key] for key in keys]
