"""What each of several processes gets of rows that they compute together."""

import heapq
from collections.abc import Sequence

from stages.text.batches import Plan
from stages.text.steps import MicroBatches


def dealt(rows: Sequence[int], lengths: Sequence[int], parts: int) -> list[list[int]]:
    """Rows in parts of about as many tokens each: the longest first, each to the part that has the
    fewest (Graham 1969, "Bounds on multiprocessing timing anomalies").
    """
    shares, fewest = [list[int]() for _ in range(parts)], [(0, part) for part in range(parts)]
    for row in sorted(rows, key=lambda row: -lengths[row]):
        tokens, part = heapq.heappop(fewest)
        shares[part].append(row)
        heapq.heappush(fewest, (tokens + lengths[row], part))
    return shares


def every_nth(lengths: Sequence[int], part: int, parts: int) -> list[int]:
    """One process's rows of those that each are computed once: as many as any other's, so that the
    last may be in two processes, and of about the same lengths.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    order += order[-1:] * (-len(order) % parts)
    return order[part::parts]


def share(plan: Plan, lengths: Sequence[int], micro_batch: int, part: int, parts: int) -> Plan:
    """What one of several processes computes of each step; with what the others do, it is the step.

    Each part of a step may have as many micro-batches as the whole: rows that are short may all be
    one process's.
    """
    if parts == 1:
        return plan

    def of_step(step: int) -> list[list[int]]:
        rows = [row for batch in plan.step(step) for row in batch]
        own = sorted(dealt(rows, lengths, parts)[part], key=lambda row: lengths[row])
        return [own[at * micro_batch :][:micro_batch] for at in range(plan.accumulation)]

    return Plan(MicroBatches(plan.steps, plan.accumulation, of_step), plan.accumulation)
