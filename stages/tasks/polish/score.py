"""polish: the mean over rows of the answer's token F1 (Rajpurkar et al. 2016, SQuAD)."""

import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import CHRF

from stages.records import Prediction, Row, RowFile, target
from stages.scoring import edits, polish_text

STATISTICS = ("f1", "rows")


def statistics(rows: list[Row], answers: list[Prediction]) -> NDArray[np.float64]:
    """(N, 2): the token F1 of each row, and 1 to count the row."""
    found = [
        (token_f1(answer.answer, target(row)), 1.0)
        for row, answer in zip(rows, answers, strict=True)
    ]
    return np.array(found, dtype=np.float64).reshape(-1, len(STATISTICS))


def headline(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 2) sums -> (...) mean F1."""
    return totals[..., 0] / np.maximum(totals[..., 1], 1)


def token_f1(answer: str, reference: str) -> float:
    """The harmonic mean of the words' precision and recall, as multisets.

    Case and punctuation are ignored. 1 where neither text has a word.
    """
    made, wanted = (Counter(re.findall(r"\w+", text.lower())) for text in (answer, reference))
    if not made or not wanted:
        return float(made == wanted)
    return 2 * sum((made & wanted).values()) / (made.total() + wanted.total())


def details(rows: list[Row], answers: list[Prediction]) -> dict[str, float]:
    """Exact match, chrF, bits per byte of the reference, loops, and measures of Polish.

    inflection_accuracy: share of the inflection rows whose answer is exactly right. A measure to
    which no row applies is left out.
    """
    references, texts = [target(row) for row in rows], [answer.answer.strip() for answer in answers]
    exact = [text == reference for text, reference in zip(texts, references, strict=True)]
    size = sum(len(reference.encode()) for reference in references)
    inflected = [
        same for same, row in zip(exact, rows, strict=True) if row["category"] == "inflection"
    ]
    measures = {
        "exact_match": sum(exact) / len(exact) if exact else None,
        "chrf": CHRF().corpus_score(texts, [references]).score / 100 if rows else None,
        "bits_per_byte": sum(answer.nats for answer in answers) / math.log(2) / size
        if size
        else None,
        "repetition_rate": edits.repetition_rate([row["source"] for row in rows], texts),
        "inflection_accuracy": sum(inflected) / len(inflected) if inflected else None,
        "diacritics_kept": polish_text.diacritics_kept(texts, references),
        "polish_share": polish_text.polish_share(texts),
    }
    return {name: measure for name, measure in measures.items() if measure is not None}


def baseline(train: Path, rows: list[Row], base: Path) -> list[Prediction]:
    """The most frequent answer of the training rows, for every row."""
    answers = Counter(target(row) for row in RowFile(train))
    answer = min(answers, key=lambda text: (-answers[text], text)) if answers else ""
    return [Prediction(row["id"], "", answer, 0.0, 0) for row in rows]
