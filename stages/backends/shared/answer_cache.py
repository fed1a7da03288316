"""Answers that were given before, kept in .scratch, outside of DVC's outputs.

An answer is used again for the same row by the same weights, settings, code and packages. They are
kept part by part, so that a prediction that is killed goes on from the last whole part.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stages.backends.shared import checkpoints
from stages.backends.shared.fingerprint import fingerprint
from stages.files import as_json, digest
from stages.records import Answer, Row

PART_ROWS = 256
"""Rows that are answered before they are kept. The demo's typst-003 answered its 859 rows and the
base's in as many seconds as all at once (8.7 and 9.2 s, in turn, on two cores of a Zen 5)."""


def path_of(model: str, base: str, config: dict[str, Any]) -> Path:
    """Where the answers of a model are kept.

    config: the file of build/config/predict, which has what decides them beside weights and row.
    """
    answering = as_json([config[key] for key in ("settings", "code", "packages")])
    weights = fingerprint(Path(model), Path(base))
    return _folder() / f"{weights}-{digest(answering):016x}.jsonl"


def unused(wanted: set[Path]) -> list[Path]:
    """Files of answers beside those that are wanted."""
    return sorted(set(_folder().glob("*.jsonl")) - wanted)


def _folder() -> Path:
    return checkpoints.root() / "answers"


class Answers:
    """The kept answers of one model in one way of answering, by row."""

    def __init__(self, path: Path) -> None:
        """path: as `path_of` names it."""
        self.path = path
        self.known: dict[str, Answer] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    record = json.loads(line)
                    row = record.pop("row")
                    scores = tuple(record.pop("step_scores"))
                    self.known[row] = Answer(**record, step_scores=scores)
                except (ValueError, TypeError, KeyError, AttributeError):
                    # the last line of a process that was killed while it wrote
                    continue

    def complete(
        self,
        rows: Sequence[Row],
        predict: Callable[[list[Row]], list[Answer]],
        processes: int = 1,
    ) -> list[Answer]:
        """An answer for each row, in order; `predict` is asked for those that are new.

        processes: that share a part, each of which has PART_ROWS of it.
        """
        keys = [f"{digest(json.dumps(row, sort_keys=True)):016x}" for row in rows]
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in self.known}
        waiting = list(new.items())
        for begin in range(0, len(waiting), PART_ROWS * processes):
            part = waiting[begin : begin + PART_ROWS * processes]
            answers = predict([row for _, row in part])
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                # What a kill has left may be half a line, which the first line break ends.
                file.write("\n")
                for (key, _), answer in zip(part, answers, strict=True):
                    self.known[key] = answer
                    file.write(json.dumps({"row": key, **answer._asdict()}) + "\n")
        return [self.known[key] for key in keys]
