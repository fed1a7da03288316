"""Which rows are computed together: alike in length, so that little is padding, and decided before the first step."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.text.chat import IGNORE, Encoded

if TYPE_CHECKING:
    from torch import Tensor

# Rows are sorted by length within this many batches: wide enough for 2 % padding, narrow enough to keep the order random.
POOL_BATCHES = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """Every micro-batch of a training as row indices, in order; `accumulation` of them make one optimizer step."""

    micro_batches: list[list[int]]
    accumulation: int

    @property
    def steps(self) -> int:
        return len(self.micro_batches) // self.accumulation


def plan(lengths: Sequence[int], micro_batch: int, accumulation: int, steps: int, seed: int) -> Plan:
    """Batches for `steps` optimizer steps, every row once an epoch, in an order that the seed alone decides.

    Effective batches are formed first and cut into micro-batches after, so that 1 x 8 and 8 x 1 train on the same rows.
    A short last batch of an epoch is kept: its micro-batches are fewer rows each, down to none.
    """
    effective = micro_batch * accumulation
    rng = random.Random(seed)
    batches: list[list[int]] = []
    while len(batches) < steps:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        epoch = []
        for begin in range(0, len(order), effective * POOL_BATCHES):
            pool = sorted(order[begin : begin + effective * POOL_BATCHES], key=lambda row: lengths[row])
            epoch += [pool[at : at + effective] for at in range(0, len(pool), effective)]
        rng.shuffle(epoch)
        batches += epoch
    cut = [batch[at * micro_batch : (at + 1) * micro_batch] for batch in batches[:steps] for at in range(accumulation)]
    return Plan(cut, accumulation)


def steps_in(rows: int, effective: int, epochs: float) -> int:
    """Optimizer steps that `epochs` passes over the rows take."""
    return max(1, math.ceil(epochs * math.ceil(rows / effective)))


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """All rows in batches of at most `size`, longest first, so that what does not fit in memory shows at once."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    return [order[at : at + size] for at in range(0, len(order), size)]


def pad(rows: Sequence[Encoded], pad_id: int) -> dict[str, "Tensor"]:
    """Right-padded input_ids, attention_mask and labels, each (B, T).

    Where steps are scored: steps (B, T), the number of the step in the batch that a token belongs to, else -1; step_labels
    (S,), NaN where nobody labelled the step; and `labels` marks the last token of labelled steps, where a batch's labels are
    counted.
    """
    import torch

    longest = max((len(row.ids) for row in rows), default=1)
    ids = torch.full((len(rows), longest), pad_id)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORE)
    for at, row in enumerate(rows):
        ids[at, : len(row.ids)] = torch.tensor(row.ids)
        mask[at, : len(row.ids)] = 1
        if not row.step_ends:
            labels[at, row.given : len(row.ids)] = torch.tensor(row.ids[row.given :])
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if any(row.step_ends for row in rows):
        batch["steps"] = torch.full((len(rows), longest), -1)
        scored: list[float] = []
        for at, row in enumerate(rows):
            begin = row.given
            for end, label in zip(row.step_ends, row.step_labels, strict=True):
                batch["steps"][at, begin : end + 1] = len(scored)
                scored.append(float("nan") if label is None else label)
                begin = end + 1
                if label is not None:
                    labels[at, end] = 1
        batch["step_labels"] = torch.tensor(scored)
    return batch
