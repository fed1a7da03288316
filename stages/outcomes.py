"""What runs made of the rows that are held out: each row beside its answer and its score."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages import tasks
from stages.errors import UserError
from stages.files import read_lines
from stages.records import Prediction, Row, read_predictions, read_rows
from stages.scoring import bootstrap


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


def evaluation_of(run: str) -> str:
    """The stage that scores a run, or a variant of one."""
    return f"evaluate-variant@{run}" if is_variant(run) else f"evaluate@{run}"


def is_variant(run: str) -> bool:
    """By its name, which is TASK-NNN-WORD."""
    return run.count("-") > 1


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
                f"{path}: not there; run `dvc repro {evaluation_of(run)}`, or `dvc pull {scored} "
                f"{made}` where a remote has it"
            )
    try:
        records = [json.loads(line) for _, line in read_lines(scored)]
        keys = [(record["corpus"], record["id"]) for record in records]
        answers = {
            (answer.corpus, answer.id): answer
            for answer in read_predictions(made)
            if answer.by == "run"
        }
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{scored}, {made}: damaged ({error}); run `dvc repro {evaluation_of(run)}`"
        ) from None
    rows = {
        (corpus, row["id"]): row
        for corpus in dict.fromkeys(corpus for corpus, _ in keys)
        for row in held_out(task, corpus, folder)
    }
    if not set(keys) == set(answers) <= set(rows):
        raise UserError(
            f"{scored}: not of the same rows as {made} and data/prepared/{task}/test; run `dvc "
            f"repro {evaluation_of(run)}`"
        )
    statistics = np.array([record["statistics"] for record in records])
    scores = of_each(task, [rows[key] for key in keys], [answers[key] for key in keys], statistics)
    return [
        Outcome(rows[key], key[0], answers[key], score, tuple(record["statistics"]))
        for key, record, score in zip(keys, records, scores, strict=True)
    ]


def of_each(
    task: str, rows: Sequence[Row], answers: Sequence[Prediction], statistics: bootstrap.Floats
) -> list[float]:
    """The score of each row alone, as in Outcome.   statistics: (N, K), of stages.tasks.Score."""
    if any("completions" in row for row in rows):
        return [closeness(row, answer) for row, answer in zip(rows, answers, strict=True)]
    return [float(score) for score in tasks.score(task).headline(statistics)]


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


ByKey = Mapping[tuple[str, str], Outcome]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of several rows: the task's measure of all together with its 95 % interval, and the mean of
    the rows' own scores.

    The measure of one category can say little: F0.5 of sentences without an error is 0 as soon as
    one is changed, ROC-AUC of right steps alone is 0.5.
    change, mean_change: from another run on the same rows, where there is one.
    """

    rows: int
    score: float
    low: float
    high: float
    mean: float
    change: bootstrap.Difference | None
    mean_change: float


def figures(task: str, some: Sequence[Outcome], before: ByKey) -> Figures:
    """Of one row or more.   before: what another run made of them, {} for none."""
    headline = tasks.score(task).headline
    own = np.array([outcome.statistics for outcome in some])
    low, high = bootstrap.interval(own, headline)
    mean = sum(outcome.score for outcome in some) / len(some)
    change, mean_change = None, 0.0
    if before:
        others = [before[outcome.key] for outcome in some]
        change = bootstrap.paired(own, np.array([other.statistics for other in others]), headline)
        mean_change = mean - sum(other.score for other in others) / len(some)
    score = float(headline(own.sum(axis=0)))
    return Figures(len(some), score, low, high, mean, change, mean_change)


def by_category(task: str, scored: Iterable[Outcome], before: ByKey) -> dict[str, Figures]:
    """The figures of each category by the rows' own scores: the greatest loss first, and without
    another run the lowest mean first.
    """
    groups: dict[str, list[Outcome]] = {}
    for outcome in scored:
        groups.setdefault(outcome.row["category"], []).append(outcome)
    found = {name: figures(task, some, before) for name, some in sorted(groups.items())}
    return dict(sorted(found.items(), key=lambda item: (item[1].mean_change, item[1].mean)))


def closeness(row: Row, answer: Prediction) -> float:
    """1 - the mean distance of a solution's step scores from their labels."""
    distances = [
        abs(score - label)
        for score, label in zip(answer.step_scores, row["labels"], strict=False)
        if label is not None
    ]
    return 1 - sum(distances) / len(distances) if distances else 0.5
