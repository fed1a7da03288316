"""gec: F0.5 of character edits, those from source to answer against those from source to reference.

Spaces around an answer are ignored. An answer that copies its source has no edits: F0.5 is 0 as
soon as a reference has one.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import CHRF

from stages.records import Prediction, Row, target
from stages.scoring import edits

STATISTICS = ("right_edits", "spurious_edits", "missed_edits")


def statistics(rows: list[Row], answers: list[Prediction]) -> NDArray[np.float64]:
    """(N, 3): the true positives, false positives and false negatives among each row's edits."""
    counts = [
        edits.counts(row["source"], answer.answer.strip(), target(row))
        for row, answer in zip(rows, answers, strict=True)
    ]
    return np.array(counts, dtype=np.float64).reshape(-1, len(STATISTICS))


def headline(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3) sums -> (...) F0.5; 1 where neither references nor answers have an edit."""
    return edits.f_beta(totals[..., 0], totals[..., 1], totals[..., 2])


def details(rows: list[Row], answers: list[Prediction]) -> dict[str, float]:
    """Further measures: precision and recall of edits, exact match, GLEU and chrF by characters.

    repetition_rate: share of the answers that loop where their source does not.
    over_correction_rate: share of the correct sentences that were changed; missing where no row has
    a correct sentence.
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
        # chrF (Popović 2015) with sacrebleu's defaults: character 1- to 6-grams, beta 2.
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
    """The source, unchanged."""
    return [Prediction(row["id"], "", row["source"], 0.0, 0) for row in rows]
