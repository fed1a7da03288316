"""Batches: which rows are computed together, and how they are packed so that padding is small.

The batches of a whole training are decided before its first step.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.text.chat import IGNORE, Encoded
from stages.text.steps import MicroBatches, orders

if TYPE_CHECKING:
    from torch import Tensor

# A line that holds several rows may be wider than the longest row, but only up to this width:
# attention is computed over whole lines, and its cost grows with the square of the width.
MAX_WIDENED_TOKENS = 256
# Widths are multiples of this. The first product of each shape costs time and memory; with free
# widths nearly every batch had a new shape, which took a sixth of short steps (bench/NOTES.md).
WIDTH_MULTIPLE = 16
# The fixed cost of one pass through a model, expressed in tokens. Where rows cannot be packed,
# a micro-batch is split into passes only if that saves more padding than the passes cost.
PASS_OVERHEAD_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """All micro-batches of a training.

    accumulation: the micro-batches of one optimizer step.
    room: the tokens, padding included, that one micro-batch may take; 0 = no such limit, because
    micro-batches were cut by their number of rows.
    """

    micro_batches: Sequence[list[int]]
    accumulation: int
    room: int = 0

    @property
    def steps(self) -> int:
        return len(self.micro_batches) // self.accumulation

    def step(self, number: int) -> Sequence[list[int]]:
        """The micro-batches of a step, counted from 0."""
        return self.micro_batches[number * self.accumulation : (number + 1) * self.accumulation]


def plan(
    lengths: Sequence[int], micro_batch: int, accumulation: int, steps: int, seed: int
) -> Plan:
    """Batches for `steps` optimizer steps; the seed decides the order of the rows in each epoch.

    lengths: tokens of each row.   micro_batch: rows of a micro-batch.

    An effective batch (micro_batch * accumulation rows) is drawn at random, then sorted by length
    and cut into micro-batches, so that 1 x 8 and 8 x 1 train on the same rows. Every row comes once
    an epoch. The last effective batch of an epoch may be short; its last micro-batches then have
    fewer rows, or none.

    Effective batches of rows of similar length would need less padding, but such rows are also
    similar in kind: after the same number of steps the held-out loss of a pretraining was 0.27 nats
    higher (bench/NOTES.md).
    """
    effective = micro_batch * accumulation
    epoch_steps, order_of = math.ceil(len(lengths) / effective), orders(len(lengths), seed)

    def of_step(step: int) -> list[list[int]]:
        epoch, at = divmod(step, epoch_steps)
        drawn = order_of(epoch)[at * effective : (at + 1) * effective]
        batch = sorted(drawn, key=lambda row: lengths[row])
        return [batch[at * micro_batch : (at + 1) * micro_batch] for at in range(accumulation)]

    return Plan(MicroBatches(steps, accumulation, of_step), accumulation)


def in_fewer_passes(plan: Plan, lengths: Sequence[int], micro_batch: int) -> Plan:
    """The same optimizer steps, each with its rows packed into as few micro-batches as possible.

    The micro-batches that are no longer needed stay in the plan as empty lists. Only for a model
    that does not let the rows of one line attend to each other.

    Memory must suffice for `micro_batch` rows of the greatest length anyway. So each micro-batch
    gets `micro_batch` lines of that length, and a line holds several short rows: a pass over the
    weights costs the same for few tokens as for many.
    """
    if plan.accumulation == 1:
        return plan
    width = round_up(max(lengths))

    def of_step(step: int) -> list[list[int]]:
        rows = [row for batch in plan.step(step) for row in batch]
        passes: list[list[int]] = [[] for _ in range(plan.accumulation)]
        for row, (line, _) in zip(
            rows, first_fit([lengths[row] for row in rows], width), strict=True
        ):
            passes[line // micro_batch].append(row)
        return passes

    packed = MicroBatches(plan.steps, plan.accumulation, of_step)
    return Plan(packed, plan.accumulation, micro_batch * width)


def halved(rows: Sequence[int], lengths: Sequence[int], tokens: float) -> list[Sequence[int]]:
    """Rows cut in half, and the halves again, until a part has at most `tokens` or one row."""
    if len(rows) < 2 or sum(lengths[row] for row in rows) <= tokens:
        return [rows]
    middle = len(rows) // 2
    return halved(rows[:middle], lengths, tokens) + halved(rows[middle:], lengths, tokens)


def steps_in(rows: int, effective: int, epochs: float) -> int:
    """Optimizer steps that `epochs` passes over the rows take."""
    return max(1, math.ceil(epochs * math.ceil(rows / effective)))


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """All rows in batches of at most `size`.

    The longest rows come first, so that a lack of memory shows in the first batch.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    return [order[at : at + size] for at in range(0, len(order), size)]


def common_beginning(rows: Sequence[list[int]]) -> int:
    """How many ids all rows begin with."""
    first, last = min(rows), max(rows)  # as words in a dictionary: what these begin with, all do
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return sum(1 for _ in alike)


def pass_cost(rows: int, longest: int) -> int:
    """The tokens of a pass with padding, and PASS_OVERHEAD_TOKENS."""
    return rows * longest + PASS_OVERHEAD_TOKENS


def split_by_length(
    lengths: Sequence[int], cost: Callable[[int, int], int] = pass_cost
) -> list[list[int]]:
    """The rows of a micro-batch, split into parts of similar length, at the least cost.

    cost: of a number of rows, computed together, of which the longest has so many tokens.   The
    cheapest split is found by dynamic programming over the rows in order of length.
    """
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    cheapest = [(0, 0)]  # for the n shortest rows: (cost, index of the last pass's first row)
    for end, row in enumerate(order, start=1):
        cheapest.append(
            min(
                (cheapest[begin][0] + cost(end - begin, lengths[row]), begin)
                for begin in range(end)
            )
        )
    passes, end = list[list[int]](), len(order)
    while end:
        begin = cheapest[end][1]
        passes.append(order[begin:end])
        end = begin
    return passes


def pack_lines(lengths: Sequence[int], room: int = 0) -> list[tuple[int, int]]:
    """(line, first position in it) of each sequence, at the width that needs the fewest tokens.

    room: the most tokens, padding included, that the lines may take together; wider lines are tried
    where that is exceeded. 0 = no limit.
    """

    def taken(places: list[tuple[int, int]]) -> int:
        return math.prod(batch_shape(lengths, places, WIDTH_MULTIPLE))

    longest = max(lengths, default=0)
    least = round_up(longest)
    widths = range(
        least, max(longest, min(2 * longest, MAX_WIDENED_TOKENS)) + WIDTH_MULTIPLE, WIDTH_MULTIPLE
    )
    best = min((first_fit(lengths, width) for width in widths), key=taken)
    if not room or taken(best) <= room:
        return best
    wider = (
        first_fit(lengths, width) for width in range(least, room + WIDTH_MULTIPLE, WIDTH_MULTIPLE)
    )
    return next(places for places in wider if taken(places) <= room)


def first_fit(lengths: Sequence[int], width: int) -> list[tuple[int, int]]:
    """(line, first position in it) of each sequence: first-fit decreasing bin packing.

    The longest sequence goes first, each into the first line that has room for it. This takes at
    most 11/9 of the optimal number of lines, and 4 more (Johnson 1973, "Near-optimal bin packing
    algorithms").
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


def round_up(tokens: int, multiple: int = WIDTH_MULTIPLE) -> int:
    """The number of tokens, rounded up to a multiple."""
    return tokens + -tokens % multiple


def batch_shape(
    lengths: Sequence[int], places: Sequence[tuple[int, int]], multiple: int = 1
) -> tuple[int, int]:
    """(lines, width) of packed sequences, the width rounded up to a multiple.

    places: (line, first position in it) of each sequence.
    """
    width = max(
        (begin + length for length, (_, begin) in zip(lengths, places, strict=True)), default=1
    )
    return max((line for line, _ in places), default=-1) + 1, round_up(width, multiple)


def lay_out_labels(
    row: Encoded, labels: Any, steps: Any, begin: int, scored: list[float], first: int = 0
) -> None:
    """Write the labels of a row, or the numbers of its steps, into a line in which it begins at
    `begin`; of its tokens the line has those from `first` on.

    scored: the labels of the steps so far, to which its own are added.
    """
    if not row.step_ends:
        labels[begin + first : begin + len(row.ids)] = row.labels[first:]
    start = row.given
    for last, label in zip(row.step_ends, row.step_labels, strict=True):
        steps[begin + start : begin + last + 1] = len(scored)
        scored.append(float("nan") if label is None else label)
        start = last + 1
        if label is not None:
            labels[begin + last] = 1


def pad(
    rows: Sequence[Encoded], pad_id: int, packed: bool = False, room: int = 0
) -> dict[str, "Tensor"]:
    """Right-padded input_ids and labels, each (B, T), with one row on each of the B lines.

    T: the length of the longest row.
    packed: a line may hold several rows. Where one does, the batch has position_ids (B, T), which
    begin again at 0 with each row and so tell the rows apart.   room: see `pack_lines`.

    For rows whose steps are scored there are also
    steps (B, T): the index, in the whole batch, of the step that a token belongs to; -1 for others;
    step_labels (S,): the label of each step; NaN where it has none.
    Their `labels` are IGNORE but for a 1 at the last token of each labelled step, because a batch's
    labels are counted there.
    """
    import torch

    lengths = [len(row.ids) for row in rows]
    places = pack_lines(lengths, room) if packed else [(line, 0) for line in range(len(rows))]
    shape = batch_shape(lengths, places, WIDTH_MULTIPLE if packed else 1)
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
        steps = batch["steps"][line] if "steps" in batch else None
        lay_out_labels(row, labels[line], steps, begin, scored)
    tensors = {key: torch.from_numpy(values) for key, values in batch.items()}
    if scored:
        tensors["step_labels"] = torch.tensor(scored)
    return tensors
