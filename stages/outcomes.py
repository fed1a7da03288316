"""What runs made of the rows that are held out: each row beside its answer and its score."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages import tasks
from stages.errors import UserError
from stages.files import read_lines
from stages.records import Prediction, Row, read_predictions, read_rows


@dataclass(frozen=True, slots=True)
class Outcome:
    """A held-out row and what a run made of it.

    corpus: the corpus version that holds it out.
    score: 0 to 1, of this row alone: the task's measure, or for a solution with labelled steps 1 -
    the mean distance of its scores from their labels (0.5 where no step has both).
    statistics: those of stages.tasks.Score, of which a score of several rows is made.
    """

    row: Row
    corpus: str
    answer: Prediction
    score: float
    statistics: tuple[float, ...]

    @property
    def key(self) -> tuple[str, str]:
        """What the same row has for every run: two versions may hold out the same one."""
        return self.corpus, self.row["id"]


def of_run(task: str, run: str, folder: Path = Path()) -> list[Outcome]:
    """Every row of the task's test sets, set after set, as a run answered it.

    folder: the repository, or another copy of its outputs.
    Raises UserError where the run has no scored rows, or its files are not of the same time.
    """
    scored = folder / "data/scored" / task / f"{run}.jsonl"
    made = folder / "data/predictions" / f"{run}.jsonl"
    for path in (scored, made):
        if not path.is_file():
            raise UserError(
                f"{path}: not there; run `dvc repro evaluate@{run}`, or `dvc pull {scored} {made}` "
                "where a remote has it"
            )
    records = [json.loads(line) for _, line in read_lines(scored)]
    answers = {
        (answer.corpus, answer.id): answer
        for answer in read_predictions(made)
        if answer.by == "run"
    }
    rows = {
        (corpus, row["id"]): row
        for corpus in dict.fromkeys(record["corpus"] for record in records)
        for row in held_out(task, corpus, folder)
    }
    keys = [(record["corpus"], record["id"]) for record in records]
    if not set(keys) == set(answers) <= set(rows):
        raise UserError(
            f"{scored}: not of the same rows as {made} and data/prepared/{task}/test; run `dvc "
            f"repro evaluate@{run}`"
        )
    alone = tasks.score(task).headline(np.array([record["statistics"] for record in records]))
    return [
        Outcome(
            rows[key],
            key[0],
            answers[key],
            closeness(rows[key], answers[key]) if "completions" in rows[key] else float(score),
            tuple(record["statistics"]),
        )
        for key, record, score in zip(keys, records, alone, strict=True)
    ]


def held_out(task: str, corpus: str, folder: Path) -> list[Row]:
    path = folder / "data/prepared" / task / "test" / f"{corpus}.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: not there; run `dvc repro prepare@{corpus}`")
    return read_rows(path)


def once(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """A row that two versions hold out counts once, as the first of them has it."""
    first: dict[str, Outcome] = {}
    for outcome in outcomes:
        first.setdefault(outcome.row["id"], outcome)
    return [*first.values()]


def together(task: str, outcomes: Iterable[Outcome]) -> float:
    """The task's measure of several rows."""
    statistics = np.array([outcome.statistics for outcome in outcomes])
    return float(tasks.score(task).headline(statistics.sum(axis=0)))


def closeness(row: Row, answer: Prediction) -> float:
    """1 - the mean distance of a solution's step scores from their labels."""
    distances = [
        abs(score - label)
        for score, label in zip(answer.step_scores, row["labels"], strict=False)
        if label is not None
    ]
    return 1 - sum(distances) / len(distances) if distances else 0.5
