"""Which rows are computed together, decided before the first step, and how they are laid out so that little is padding."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stages.text.chat import IGNORE, Encoded

if TYPE_CHECKING:
    from torch import Tensor

# Rows are put into lines wider than the longest of them up to here: attention is computed over whole lines.
WIDEST = 256
# Every shape of a product is prepared for once and takes memory; with any width there was one for nearly every batch, which
# cost a sixth of the time of short steps (bench/NOTES.md).
WIDTHS = 16
# What a pass over a model costs beside its tokens, in tokens: where rows cannot be packed, they are split for less padding.
PASS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """Every micro-batch of a training as row indices, in order; `accumulation` of them make one optimizer step.

    room: tokens that one may take with its padding, where steps are cut by that; 0 = they are cut by rows.
    """

    micro_batches: list[list[int]]
    accumulation: int
    room: int = 0

    @property
    def steps(self) -> int:
        return len(self.micro_batches) // self.accumulation

    def step(self, number: int) -> list[list[int]]:
        """The micro-batches of a step, counted from 0."""
        return self.micro_batches[number * self.accumulation : (number + 1) * self.accumulation]


def plan(
    lengths: Sequence[int], micro_batch: int, accumulation: int, steps: int, seed: int
) -> Plan:
    """Batches for `steps` optimizer steps, every row once an epoch, in an order that the seed alone decides.

    An effective batch is drawn at random, then sorted by length and cut into micro-batches: 1 x 8 and 8 x 1 train on the same
    rows. Batches of rows alike in length would leave less padding, but what is alike in length is alike in kind: at the same
    number of steps the held-out loss of a pretraining was 0.27 nats higher (bench/NOTES.md).
    A short last batch of an epoch is kept: its micro-batches are fewer rows each, down to none.
    """
    effective = micro_batch * accumulation
    rng = random.Random(seed)
    batches: list[list[int]] = []
    while len(batches) < steps:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        epoch = [order[at : at + effective] for at in range(0, len(order), effective)]
        batches += [sorted(batch, key=lambda row: lengths[row]) for batch in epoch]
    cut = [
        batch[at * micro_batch : (at + 1) * micro_batch]
        for batch in batches[:steps]
        for at in range(accumulation)
    ]
    return Plan(cut, accumulation)


def in_fewer_passes(plan: Plan, lengths: Sequence[int], micro_batch: int) -> Plan:
    """The same steps in fewer micro-batches, for a model that keeps the rows of a line apart; what is left of them is empty.

    Memory must do for `micro_batch` rows as long as the longest of all. Lines of that length, as many at once, hold several
    short rows each, and a pass over the weights costs the same however few tokens it is for.
    """
    if plan.accumulation == 1:
        return plan
    width, cut = wide(max(lengths)), list[list[int]]()
    for number in range(plan.steps):
        rows = [row for batch in plan.step(number) for row in batch]
        passes: list[list[int]] = [[] for _ in range(plan.accumulation)]
        for row, (line, _) in zip(
            rows, first_fit([lengths[row] for row in rows], width), strict=True
        ):
            passes[line // micro_batch].append(row)
        cut += passes
    return Plan(cut, plan.accumulation, micro_batch * width)


def halved(rows: Sequence[int], lengths: Sequence[int], tokens: float) -> list[Sequence[int]]:
    """Rows cut in half, and the halves again, until none has more tokens than that or is one row."""
    if len(rows) < 2 or sum(lengths[row] for row in rows) <= tokens:
        return [rows]
    middle = len(rows) // 2
    return halved(rows[:middle], lengths, tokens) + halved(rows[middle:], lengths, tokens)


def steps_in(rows: int, effective: int, epochs: float) -> int:
    """Optimizer steps that `epochs` passes over the rows take."""
    return max(1, math.ceil(epochs * math.ceil(rows / effective)))


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """All rows in batches of at most `size`, longest first, so that what does not fit in memory shows at once."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    return [order[at : at + size] for at in range(0, len(order), size)]


def alike(lengths: Sequence[int]) -> list[list[int]]:
    """Rows of a micro-batch in passes of like length: the split with the fewest tokens, padding and PASS for each included."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    cheapest = [(0, 0)]  # of the shortest rows: (cost, where the last pass begins)
    for end, row in enumerate(order, start=1):
        cheapest.append(
            min(
                (cheapest[begin][0] + (end - begin) * lengths[row] + PASS, begin)
                for begin in range(end)
            )
        )
    passes, end = list[list[int]](), len(order)
    while end:
        begin = cheapest[end][1]
        passes.append(order[begin:end])
        end = begin
    return passes


def in_lines(lengths: Sequence[int], room: int = 0) -> list[tuple[int, int]]:
    """(line, place in it) of each sequence: of several widths, the lines that leave the least room unused.

    room: tokens that must do; wider lines are made where they do not. 0 = however many.
    """

    def taken(places: list[tuple[int, int]]) -> int:
        return math.prod(extent(lengths, places, WIDTHS))

    longest = max(lengths, default=0)
    least = wide(longest)
    widths = range(least, max(longest, min(2 * longest, WIDEST)) + WIDTHS, WIDTHS)
    best = min((first_fit(lengths, width) for width in widths), key=taken)
    if not room or taken(best) <= room:
        return best
    wider = (first_fit(lengths, width) for width in range(least, room + WIDTHS, WIDTHS))
    return next(places for places in wider if taken(places) <= room)


def first_fit(lengths: Sequence[int], width: int) -> list[tuple[int, int]]:
    """Each sequence, the longest first, in the first line that has room for it.

    It takes at most 11/9 of the fewest lines and one more (Johnson 1973, "Near-optimal bin packing algorithms").
    """
    used, places = list[int](), [(0, 0)] * len(lengths)
    for at in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        line = next(
            (number for number, taken in enumerate(used) if taken + lengths[at] <= width), len(used)
        )
        if line == len(used):
            used.append(0)
        places[at] = (line, used[line])
        used[line] += lengths[at]
    return places


def wide(tokens: int, multiple: int = WIDTHS) -> int:
    """A line's width for so many tokens, rounded up."""
    return tokens + -tokens % multiple


def extent(
    lengths: Sequence[int], places: Sequence[tuple[int, int]], multiple: int = 1
) -> tuple[int, int]:
    """(lines, their width, rounded up)."""
    width = max(
        (begin + length for length, (_, begin) in zip(lengths, places, strict=True)), default=1
    )
    return max((line for line, _ in places), default=-1) + 1, wide(width, multiple)


def pad(
    rows: Sequence[Encoded], pad_id: int, packed: bool = False, room: int = 0
) -> dict[str, "Tensor"]:
    """Right-padded input_ids and labels, each (B, T), a row to a line, T the length of the longest.

    packed: several rows to a line, told apart by position_ids (B, T), which begin again with each.   room: as for `in_lines`.

    Where steps are scored: steps (B, T), the number of the step in the batch that a token belongs to, else -1; step_labels
    (S,), NaN where nobody labelled the step; and `labels` marks the last token of labelled steps, where a batch's labels are
    counted.
    """
    import torch

    lengths = [len(row.ids) for row in rows]
    places = in_lines(lengths, room) if packed else [(line, 0) for line in range(len(rows))]
    shape = extent(lengths, places, WIDTHS if packed else 1)
    ids, labels = np.full(shape, pad_id), np.full(shape, IGNORE)
    batch = {"input_ids": ids, "labels": labels}
    if shape[0] < len(rows):
        batch["position_ids"] = np.zeros(shape, dtype=int)
    if any(row.step_ends for row in rows):
        batch["steps"] = np.full(shape, -1)
    scored: list[float] = []
    for row, (line, begin) in zip(rows, places, strict=True):
        end = begin + len(row.ids)
        ids[line, begin:end] = row.ids
        if "position_ids" in batch:
            batch["position_ids"][line, begin:end] = range(len(row.ids))
        if not row.step_ends:
            labels[line, begin + row.given : end] = row.ids[row.given :]
        start = row.given
        for last, label in zip(row.step_ends, row.step_labels, strict=True):
            batch["steps"][line, begin + start : begin + last + 1] = len(scored)
            scored.append(float("nan") if label is None else label)
            start = last + 1
            if label is not None:
                labels[line, begin + last] = 1
    tensors = {key: torch.from_numpy(values) for key, values in batch.items()}
    if scored:
        tensors["step_labels"] = torch.tensor(scored)
    return tensors
