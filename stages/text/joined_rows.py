"""Rows end to end in one line, with what all of them begin with once: nothing is padded or computed
twice but in an attention that looks at each row alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.text import batches
from stages.text.chat import IGNORE, Encoded

if TYPE_CHECKING:
    from torch import Tensor
    from torch import device as Device

LONG_TOKENS, LONG_MULTIPLE = 512, 64
"""A line of more tokens has a multiple of so many: shapes come again (bench/NOTES.md, W1)."""


@dataclass(frozen=True)
class Joined:
    """Where the rows of a batch stand in one line of T tokens, for an attention that looks at each
    row alone.

    shared: how many tokens all rows begin with; they stand in the line once, at its front.
    groups: of each group of rows, (rows, L) places of their tokens in the line; behind a row's last
    token, any place.   answers_from: (T,), for each place of the line, where its token is among
    those of the groups, one group after the other; how many these are, where the line is padded.
    gradients_from: of each group, (rows, L) places whose gradient the token there has, T where it
    has none: the shared tokens count in one row.   mask: (1, 1, L, L) for the longest row, 0 where
    a token may look, else so low that nothing is left.
    """

    shared: int
    groups: list["Tensor"]
    answers_from: "Tensor"
    gradients_from: list["Tensor"]
    mask: "Tensor"


def laid_out(
    rows: Sequence[Encoded], pad_id: int, joins: bool, packed: bool = False, room: int = 0
) -> dict[str, Any]:
    """Rows as a model takes them: joined where it keeps joined rows apart, else padded.

    packed, room: of padded ones, as in batches.pad.
    """
    return joined(rows, pad_id) if joins and rows else batches.pad(rows, pad_id, packed, room)


def moved(batch: dict[str, Any], place: "Device") -> dict[str, Any]:
    """The batch on another device; joined rows are for a CPU and stay there."""
    return {
        key: value if isinstance(value, Joined) else value.to(place) for key, value in batch.items()
    }


def joined(rows: Sequence[Encoded], pad_id: int) -> dict[str, Any]:
    """As batches.pad, with B = 1. What all rows begin with stands in the line once, as far as it is
    not learned.

    "joined": a `Joined`, by which attention keeps the rows apart.
    """
    import torch

    shared = shared_ids(rows)
    total = shared + sum(len(row.ids) - shared for row in rows)
    width = batches.round_up(
        total, LONG_MULTIPLE if total > LONG_TOKENS else batches.WIDTH_MULTIPLE
    )
    ids, labels = np.full((1, width), pad_id), np.full((1, width), IGNORE)
    positions, steps = np.zeros((1, width), dtype=int), np.full((1, width), -1)
    ids[0, :shared], positions[0, :shared] = rows[0].ids[:shared], range(shared)
    places: list[Any] = []
    begin, scored = shared, list[float]()
    for row in rows:
        end = begin + len(row.ids) - shared
        ids[0, begin:end] = row.ids[shared:]
        positions[0, begin:end] = range(shared, len(row.ids))
        places.append(np.concatenate([np.arange(shared), np.arange(begin, end)]))
        batches.lay_out_labels(row, labels[0], steps[0], begin - shared, scored, shared)
        begin = end
    batch: dict[str, Any] = {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "position_ids": torch.from_numpy(positions),
        "joined": grouped(places, shared, width),
    }
    if scored:
        batch["steps"], batch["step_labels"] = torch.from_numpy(steps), torch.tensor(scored)
    return batch


def grouped(places: Sequence[Any], shared: int, width: int) -> Joined:
    """places: of each row's tokens, in a line of `width`."""
    import torch

    lengths = [len(of_row) for of_row in places]
    groups = batches.split_by_length(lengths, attention_cost)
    # Softmax's gradient in rows of another width has other bits with another number of threads.
    widths = [batches.round_up(max(lengths[row] for row in group)) for group in groups]
    tokens, gradients = list["Tensor"](), list["Tensor"]()
    answers_from = np.full(
        width, sum(len(group) * longest for group, longest in zip(groups, widths, strict=True))
    )
    before = 0
    for group, longest in zip(groups, widths, strict=True):
        of_group = np.zeros((len(group), longest), dtype=int)
        of_gradient = np.full((len(group), longest), width)
        for line, row in enumerate(group):
            own = slice(0 if before + line == 0 else shared, lengths[row])
            of_group[line, : lengths[row]] = places[row]
            of_gradient[line, own] = places[row][own]
            answers_from[places[row][own]] = before + line * longest + np.arange(lengths[row])[own]
        before += of_group.size
        tokens.append(torch.from_numpy(of_group))
        gradients.append(torch.from_numpy(of_gradient))
    mask = torch.full((max(widths), max(widths)), torch.finfo(torch.float32).min).triu(1)
    return Joined(shared, tokens, torch.from_numpy(answers_from), gradients, mask[None, None])


def shared_ids(rows: Sequence[Encoded]) -> int:
    """How many ids all rows begin with, and none of them is learned: nor is the one after them,
    which is predicted at the last of them.
    """
    if len(rows) < 2:
        return 0
    alike = batches.common_beginning([row.ids for row in rows])
    return max(0, min(alike, min(row.given for row in rows) - 1))


def attention_cost(rows: int, longest: int) -> int:
    """Of rows that attend together: the square of their length, and for each group as much as its
    operations cost that are not computation.
    """
    return rows * batches.round_up(longest) ** 2 + 128**2
