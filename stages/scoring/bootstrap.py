"""Bootstrap: confidence intervals by resampling examples (Efron & Tibshirani 1993).

Two systems are compared on the same resampled examples (Koehn 2004). Every measure is computed from
sums of per-example statistics (F0.5 from counts, bits per byte from nats and bytes), so one matrix
product gives the sums of all resamples: draws (R, N) @ statistics (N, K) -> totals (R, K).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
CHUNK = 100  # resamples at once: for 10,000 examples their draws take 8 MB

Floats = NDArray[np.float64]
Headline = Callable[[Floats], Floats]


def interval(statistics: Floats, headline: Headline, seed: int = 0) -> tuple[float, float]:
    """(low, high): 95 % percentile interval of the headline over resampled examples.

    statistics: (N, K), of N examples.
    """
    low, high = np.percentile(_resampled([statistics], headline, seed)[0], [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """The child's headline minus the parent's, on the same examples.

    low, high: its 95 % interval.   verdict: "better", "worse" or "no difference shown", which
    is said where the interval contains 0.
    """

    difference: float
    low: float
    high: float
    verdict: str


def paired(child: Floats, parent: Floats, headline: Headline, seed: int = 0) -> Difference:
    """The difference of two systems, both resampled with the same draws.

    child, parent: (N, K), statistics of the same examples in the same order.
    """
    of_child, of_parent = _resampled([child, parent], headline, seed)
    low, high = (float(bound) for bound in np.percentile(of_child - of_parent, [2.5, 97.5]))
    verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
    observed = float(headline(child.sum(axis=0)) - headline(parent.sum(axis=0)))
    return Difference(observed, low, high, verdict)


def _resampled(systems: list[Floats], headline: Headline, seed: int) -> list[Floats]:
    """For each system (R,): its headline in RESAMPLES samples of the examples with replacement.

    All systems have the same draws.
    """
    rng = np.random.default_rng(seed)
    examples = len(systems[0])
    values: list[list[Floats]] = [[] for _ in systems]
    for _ in range(RESAMPLES // CHUNK):
        # (CHUNK, N): how often each example is in each resample.
        counts = rng.multinomial(examples, np.full(examples, 1 / examples), size=CHUNK)
        draws = counts.astype(np.float64)
        for value, statistics in zip(values, systems, strict=True):
            # (CHUNK, N) @ (N, K) -> (CHUNK, K) -> (CHUNK,)
            value.append(headline(draws @ statistics))
    return [np.concatenate(value) for value in values]
