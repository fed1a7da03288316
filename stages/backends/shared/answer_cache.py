"""Answers that were given before, kept in .scratch, outside of DVC's outputs.

An answer is used again for the same row by the same weights, settings, code and packages. They are
kept part by part, so that a prediction that is killed goes on from the last whole part.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
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
    """The kept answers of one model in one way of answering, by row. In memory is where each stands
    in their file, about a hundred bytes an answer; other predictions may add to it meanwhile.
    """

    def __init__(self, path: Path) -> None:
        """path: as `path_of` names it."""
        self.path = path
        self.known: dict[str, int] = {}
        self._seen = 0  # bytes of the file
        if path.is_file():
            self._look_on()

    def complete(
        self,
        rows: Sequence[Row],
        predict: Callable[[list[Row]], list[Answer]],
        processes: int = 1,
    ) -> Iterator[Answer]:
        """An answer for each row, in order, each read when it is asked for; `predict` has been
        asked for all that are new by then.

        processes: that share a part, each of which has PART_ROWS of it.
        """
        waiting = dict[str, Row]()
        for row in rows:
            if (key := _key(row)) not in self.known:
                waiting[key] = row
            if len(waiting) == PART_ROWS * processes:
                self._keep(waiting, predict)
                waiting.clear()
        if waiting:
            self._keep(waiting, predict)
        return self._answers(rows)

    def _keep(self, new: dict[str, Row], predict: Callable[[list[Row]], list[Answer]]) -> None:
        answers = zip(new, predict([*new.values()]), strict=True)
        lines = [json.dumps({"row": key, **answer._asdict()}) for key, answer in answers]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            # What a kill has left may be half a line, which the first line break ends. All is
            # written at once, so that no other prediction's answers come in between.
            file.write("\n".join(["", *lines, ""]).encode())
        self._look_on()

    def _look_on(self) -> None:
        """Note where the answers stand that were added since the last look."""
        with self.path.open("rb") as file:
            file.seek(self._seen)
            for line in file:
                if not line.endswith(b"\n"):  # a process was killed, or is writing it
                    break
                with suppress(ValueError, TypeError, KeyError, AttributeError):
                    self.known[_read(line)[0]] = self._seen
                self._seen += len(line)

    def _answers(self, rows: Sequence[Row]) -> Iterator[Answer]:
        if not rows:
            return
        with self.path.open("rb") as file:
            for row in rows:
                file.seek(self.known[_key(row)])
                yield _read(file.readline())[1]


def _key(row: Row) -> str:
    return f"{digest(json.dumps(row, sort_keys=True)):016x}"


def _read(line: bytes) -> tuple[str, Answer]:
    """(row's key, its answer) of a line that is kept. Raises errors of several kinds where it is
    damaged.
    """
    record = json.loads(line.decode("utf-8", errors="replace"))
    row = record.pop("row")
    scores = tuple(record.pop("step_scores"))
    return row, Answer(**record, step_scores=scores)
