"""reward: how well scores separate right steps from wrong ones: ROC-AUC over all labelled steps.

A step is right if its label is at least 0.5. Steps without a label are ignored. Labelled steps
without a score, because the model's context was too short for them, count only in `steps_unscored`.
"""

from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score, roc_auc_score

from stages.records import Prediction, Row, RowFile
from stages.scoring import calibration
from stages.scoring.calibration import Floats

STATISTICS = tuple(
    f"{kind}_{place}" for kind in ("right", "wrong") for place in range(calibration.BINS)
)


def statistics(rows: list[Row], answers: list[Prediction]) -> Floats:
    """(N, 400): for each row, histograms of the scores of its right and of its wrong steps."""
    counts = []
    for row, answer in zip(rows, answers, strict=True):
        pairs = scored_and_labelled(row, answer)
        counts.append(
            calibration.binned([score for score, _ in pairs], [label >= 0.5 for _, label in pairs])
        )
    return np.array(counts, dtype=np.float64).reshape(-1, len(STATISTICS))


def headline(totals: Floats) -> Floats:
    """(..., 400) sums -> (...) ROC-AUC."""
    return calibration.roc_auc(totals)


def details(rows: list[Row], answers: list[Prediction]) -> dict[str, float]:
    """Errors against the labels, ranking, calibration, and whether the first wrong step is found.

    accuracy_erroneous: share of the wrong solutions whose first wrong step is found.
    accuracy_correct: share of the right solutions in which no step is taken for wrong.
    processbench_f1: their harmonic mean (Zheng et al. 2024), over the solutions whose steps all
    have labels, up to the first wrong one.
    steps_unscored: share of the labelled steps that have no score.
    """
    pairs = np.array(
        [
            pair
            for row, answer in zip(rows, answers, strict=True)
            for pair in scored_and_labelled(row, answer)
        ]
    )
    if not len(pairs):
        return {}
    scores, labels = pairs.T
    right = labels >= 0.5
    measures = {
        "mse": mean_squared_error(labels, scores),
        "mae": mean_absolute_error(labels, scores),
        "r2": r2_score(labels, scores),
        "calibration_error": calibration.expected_calibration_error(scores, labels),
        "steps_unscored": 1
        - len(pairs) / sum(label is not None for row in rows for label in row["labels"]),
    }
    if right.any() and not right.all():
        measures["auc"] = roc_auc_score(right, scores)
    if len(set(scores)) > 1 and len(set(labels)) > 1:
        measures["spearman"] = spearmanr(scores, labels).statistic
    found: dict[bool, list[bool]] = {True: [], False: []}
    for row, answer in zip(rows, answers, strict=True):
        first = next(
            (
                place
                for place, label in enumerate(row["labels"])
                if label is not None and label < 0.5
            ),
            -1,
        )
        if None not in (row["labels"] if first < 0 else row["labels"][: first + 1]):
            found[first < 0].append(calibration.first_error(answer.step_scores) == first)
    if found[True] and found[False]:
        correct, erroneous = (sum(hits) / len(hits) for hits in (found[True], found[False]))
        measures |= {"accuracy_correct": correct, "accuracy_erroneous": erroneous}
        measures["processbench_f1"] = (
            2 * correct * erroneous / (correct + erroneous) if correct + erroneous else 0.0
        )
    return {name: float(measure) for name, measure in measures.items()}


def baseline(train: Path, rows: list[Row], base: Path) -> list[Prediction]:
    """The mean of the training labels, as the score of every step."""
    labels = [label for row in RowFile(train) for label in row["labels"] if label is not None]
    mean = sum(labels) / len(labels) if labels else 0.5
    return [
        Prediction(row["id"], "", "", 0.0, 0, step_scores=[mean] * len(row["completions"]))
        for row in rows
    ]


def scored_and_labelled(row: Row, answer: Prediction) -> list[tuple[float, float]]:
    """(score, label) of the steps that have both."""
    pairs = zip(answer.step_scores, row["labels"], strict=False)
    return [(score, label) for score, label in pairs if label is not None]
