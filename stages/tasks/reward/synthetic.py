"""reward: demo corpora of solved arithmetic with planted mistakes, their labels known.

Level 1: bare expressions. Level 2: little stories, and a share of rows as at level 1, so that a model that continues on it
does not forget. Steps before the mistake are 1, the mistake is 0, what follows consistently from it is 0.7: right in itself,
on wrong ground. In some rows nobody labelled a step.
"""

import json
import random
from collections.abc import Iterator

from stages.grammar import arithmetic

CLEAN = 0.4
"""Share of the rows without a mistake."""

SIMPLE = 0.4
"""Share of level 2's rows that are drawn as at level 1."""

AGAIN = 0.3
"""Share of the rows that solve the problem before once more."""

FOLLOWING = 0.7
UNLABELLED_ROWS, UNLABELLED_STEPS = 0.1, 0.5


def lines(rng: random.Random, rows: int, level: int) -> Iterator[str]:
    """JSON objects with problem, steps, labels and category (the mistake, or "correct"); no solution twice."""
    seen: set[tuple[str, ...]] = set()
    right: arithmetic.Solution | None = None
    while len(seen) < rows:
        if right is None or rng.random() >= AGAIN:
            right = arithmetic.solution(rng, 1 if level == 1 or rng.random() < SIMPLE else 2)
        texts, labels, category = right.texts, [1.0] * (len(right.steps) + 1), "correct"
        if rng.random() >= CLEAN:
            category = rng.choice(arithmetic.MISTAKES)
            made = arithmetic.spoiled(rng, right, category)
            if made is None:
                continue
            texts, at = made
            labels = [1.0] * at + [0.0] + [FOLLOWING] * (len(texts) - at - 1)
        if (right.problem, *texts) in seen:
            right = None
            continue
        seen.add((right.problem, *texts))
        gaps = rng.random() < UNLABELLED_ROWS
        told = [
            None if gaps and place and rng.random() < UNLABELLED_STEPS else label
            for place, label in enumerate(labels)
        ]
        yield json.dumps(
            {"problem": right.problem, "steps": texts, "labels": told, "category": category}
        )
