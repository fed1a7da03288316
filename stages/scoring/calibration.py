"""Measures of scores between 0 and 1: ranking, calibration, and where a solution is said to go wrong."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 200
"""Of the scores' logits between -10 and 10: scores that saturate near 0 or 1 stay apart, where equal bins would tie them."""


def binned(scores: Sequence[float], right: Sequence[bool]) -> Floats:
    """(2 BINS,) counts of right and of wrong steps by the logit of their score: what sums to a ROC curve."""
    clipped = np.clip(np.asarray(scores, dtype=np.float64), 1e-9, 1 - 1e-9)
    places = ((np.log(clipped / (1 - clipped)) + 10) * (BINS / 20)).astype(int).clip(0, BINS - 1)
    truth = np.asarray(right, dtype=bool)
    return np.concatenate(
        [np.bincount(places[truth], minlength=BINS), np.bincount(places[~truth], minlength=BINS)]
    ).astype(float)


def roc_auc(totals: Floats) -> Floats:
    """(..., 2 BINS) counts -> (...) area under the ROC curve, ties counted half; 0.5 where one class is missing."""
    right, wrong = totals[..., :BINS], totals[..., BINS:]
    below = np.cumsum(wrong, axis=-1) - wrong
    pairs = right.sum(axis=-1) * wrong.sum(axis=-1)
    won = (right * (below + wrong / 2)).sum(axis=-1)
    return np.where(pairs > 0, won / np.maximum(pairs, 1), 0.5)


def expected_calibration_error(scores: Floats, labels: Floats, bins: int = 10) -> float:
    """Mean distance of score and label over bins of equal width, by their share of the steps (Naeini et al. 2015)."""
    places = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = [abs((scores - labels)[places == place].sum()) for place in range(bins)]
    return float(sum(gaps) / len(scores))


def first_error(scores: Sequence[float], threshold: float = 0.5) -> int:
    """Place of the first step below the threshold; -1 where there is none (Zheng et al. 2024, ProcessBench)."""
    return next((place for place, score in enumerate(scores) if score < threshold), -1)
