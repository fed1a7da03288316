"""reward: demo corpora of solved arithmetic problems with planted mistakes.

Level 1 has bare expressions. Level 2 has word problems; a share of its rows is drawn as at level 1,
so that a model whose training continues on level 2 does not forget level 1. Steps before the
mistake have label 1, the mistake has label 0. Steps after it have label 0.7: they are right in
themselves but follow from a wrong step. Some rows lack the labels of some steps.
"""

import json
import random
from collections.abc import Iterator

from stages.grammar import arithmetic

CLEAN = 0.4
"""Share of the rows without a mistake."""

SIMPLE = 0.4
"""Share of level 2's rows that are drawn as at level 1."""

SAME_PROBLEM = 0.3
"""Share of the rows that solve the same problem as the row before."""

CONSISTENT_LABEL = 0.7
"""The label of steps after a mistake that follow from it consistently."""

UNLABELLED_ROWS, UNLABELLED_STEPS = 0.1, 0.5
"""Share of the rows that lack labels, and share of their steps, but the first, that have none."""


def lines(rng: random.Random, rows: int, level: int) -> Iterator[str]:
    """JSON objects with problem, steps, labels and category (the mistake, or "correct").

    No two of them are equal in problem and steps.
    """
    seen: set[tuple[str, ...]] = set()
    right: arithmetic.Solution | None = None
    while len(seen) < rows:
        if right is None or rng.random() >= SAME_PROBLEM:
            right = arithmetic.solution(rng, 1 if level == 1 or rng.random() < SIMPLE else 2)
        texts, labels, category = right.texts, [1.0] * (len(right.steps) + 1), "correct"
        if rng.random() >= CLEAN:
            category = rng.choice(arithmetic.MISTAKES)
            made = arithmetic.with_mistake(rng, right, category)
            if made is None:
                continue
            texts, at = made
            labels = [1.0] * at + [0.0] + [CONSISTENT_LABEL] * (len(texts) - at - 1)
        if (right.problem, *texts) in seen:
            right = None
            continue
        seen.add((right.problem, *texts))
        gaps = rng.random() < UNLABELLED_ROWS
        given_labels = [
            None if gaps and place and rng.random() < UNLABELLED_STEPS else label
            for place, label in enumerate(labels)
        ]
        yield json.dumps(
            {"problem": right.problem, "steps": texts, "labels": given_labels, "category": category}
        )
