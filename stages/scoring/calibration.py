"""Measures of scores between 0 and 1: ROC-AUC, calibration, and the first step scored as wrong."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 200
"""Bins of the scores' logits. Bins of equal width in the score would tie scores close to 0 or 1."""

LARGEST_LOGIT = 10
"""The bins reach from -LARGEST_LOGIT to LARGEST_LOGIT; logits beyond are in the outermost bins."""


def binned(scores: Sequence[float], right: Sequence[bool]) -> Floats:
    """(2 BINS,): a histogram of the right steps' scores, then one of the wrong steps' scores.

    Their sums over rows give the ROC curve of all steps.
    """
    # Scores of 0 and 1 have no finite logit; that of 1e-9 is below the lowest bin.
    clipped = np.clip(np.asarray(scores, dtype=np.float64), 1e-9, 1 - 1e-9)
    logits = np.log(clipped / (1 - clipped))
    bins_per_logit = BINS / (2 * LARGEST_LOGIT)
    places = ((logits + LARGEST_LOGIT) * bins_per_logit).astype(int).clip(0, BINS - 1)
    truth = np.asarray(right, dtype=bool)
    return np.concatenate(
        [np.bincount(places[truth], minlength=BINS), np.bincount(places[~truth], minlength=BINS)]
    ).astype(float)


def roc_auc(totals: Floats) -> Floats:
    """(..., 2 BINS) counts -> (...) area under the ROC curve; 0.5 where one class is missing.

    It is the share of the pairs of a right and a wrong step in which the right one scores higher; a
    pair in the same bin counts half.
    """
    right, wrong = totals[..., :BINS], totals[..., BINS:]
    below = np.cumsum(wrong, axis=-1) - wrong
    pairs = right.sum(axis=-1) * wrong.sum(axis=-1)
    won = (right * (below + wrong / 2)).sum(axis=-1)
    return np.where(pairs > 0, won / np.maximum(pairs, 1), 0.5)


def expected_calibration_error(scores: Floats, labels: Floats, bins: int = 10) -> float:
    """Expected calibration error (Naeini et al. 2015), with bins of equal width.

    It is the distance between the mean score and the mean label of a bin, averaged over the bins
    and weighted by their share of the steps.   scores, labels: (S,).
    """
    places = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = [abs((scores - labels)[places == place].sum()) for place in range(bins)]
    return float(sum(gaps) / len(scores))


def first_error(scores: Sequence[float], threshold: float = 0.5) -> int:
    """Index of the first step with a score below the threshold; -1 where there is none.

    As in ProcessBench (Zheng et al. 2024).
    """
    return next((place for place, score in enumerate(scores) if score < threshold), -1)
