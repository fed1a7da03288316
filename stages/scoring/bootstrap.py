"""Intervals and comparisons by resampling examples (Efron & Tibshirani 1993; two systems on one test set: Koehn 2004).

A measure is computed from sums of per-example statistics (F0.5 from counts, bits per byte from nats and bytes), so one
matrix product resamples it: draws (R, N) @ statistics (N, K) -> totals (R, K).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
CHUNK = 100  # resamples at once: 100 x 10,000 examples of counts are 8 MB

Floats = NDArray[np.float64]
Headline = Callable[[Floats], Floats]


def interval(statistics: Floats, headline: Headline, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the headline over resampled examples.   statistics: (N, K)."""
    low, high = np.percentile(_resampled([statistics], headline, seed)[0], [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """child - parent on the same examples.   low, high: 95 % interval.   verdict: better, worse or no difference shown."""

    difference: float
    low: float
    high: float
    verdict: str


def paired(child: Floats, parent: Floats, headline: Headline, seed: int = 0) -> Difference:
    """Both resampled with the same draws.   child, parent: (N, K), the same examples in the same order."""
    of_child, of_parent = _resampled([child, parent], headline, seed)
    low, high = (float(bound) for bound in np.percentile(of_child - of_parent, [2.5, 97.5]))
    verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
    observed = float(headline(child.sum(axis=0)) - headline(parent.sum(axis=0)))
    return Difference(observed, low, high, verdict)


def _resampled(systems: list[Floats], headline: Headline, seed: int) -> list[Floats]:
    """The headline of each system in RESAMPLES samples with replacement, the same draws for all: a list of (R,)."""
    rng = np.random.default_rng(seed)
    examples = len(systems[0])
    values: list[list[Floats]] = [[] for _ in systems]
    for _ in range(RESAMPLES // CHUNK):
        draws = rng.multinomial(examples, np.full(examples, 1 / examples), size=CHUNK).astype(
            np.float64
        )  # (CHUNK, N)
        for value, statistics in zip(values, systems, strict=True):
            value.append(
                headline(draws @ statistics)
            )  # (CHUNK, N) @ (N, K) -> (CHUNK, K) -> (CHUNK,)
    return [np.concatenate(value) for value in values]
