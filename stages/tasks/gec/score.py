"""gec: F0.5 of the character edits that turn the source into the answer, against those that lead to the reference.

Spaces around an answer count for nothing. Copying the input makes no edit: its F0.5 is 0 wherever something is wrong.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import CHRF

from stages.records import Prediction, Row, target
from stages.scoring import edits

STATISTICS = ("right_edits", "spurious_edits", "missed_edits")


def statistics(rows: list[Row], answers: list[Prediction]) -> NDArray[np.float64]:
    """(N, 3): true positives, false positives and false negatives of each row's edits."""
    counts = [
        edits.counts(row["source"], answer.answer.strip(), target(row))
        for row, answer in zip(rows, answers, strict=True)
    ]
    return np.array(counts, dtype=np.float64).reshape(-1, len(STATISTICS))


def headline(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3) sums -> (...) F0.5; 1 where no edit was wanted and none made."""
    return edits.f_beta(totals[..., 0], totals[..., 1], totals[..., 2])


def details(rows: list[Row], answers: list[Prediction]) -> dict[str, float]:
    """Precision and recall of edits; exact match; GLEU and chrF by characters; loops.

    over_correction_rate: share of the correct sentences that were changed; left out where there are none.
    """
    sources, references = [row["source"] for row in rows], [target(row) for row in rows]
    texts = [answer.answer.strip() for answer in answers]
    right, spurious, missed = statistics(rows, answers).sum(axis=0)
    exact = [text == reference for text, reference in zip(texts, references, strict=True)]
    measures = {
        "precision": float(edits.precision(right, spurious)),
        "recall": float(edits.recall(right, missed)),
        "exact_match": sum(exact) / len(exact) if exact else 0.0,
        "gleu": edits.gleu(sources, texts, references),
        # chrF of Popović 2015 as in sacrebleu: character 1- to 6-grams, beta 2.
        "chrf": CHRF().corpus_score(texts, [references]).score / 100 if rows else 0.0,
        "repetition_rate": edits.repetition_rate(sources, texts),
    }
    clean = [
        same
        for same, source, reference in zip(exact, sources, references, strict=True)
        if source == reference
    ]
    if clean:
        measures["over_correction_rate"] = 1 - sum(clean) / len(clean)
    return measures


def baseline(train: Path, rows: list[Row], base: Path) -> list[Prediction]:
    """The input as it is."""
    return [Prediction(row["id"], "", row["source"], 0.0, 0) for row in rows]
