"""The steps of a training, made when they are asked for: a plan of any length takes no more memory
than the orders of two epochs.
"""

import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import overload

# Steps that are at hand: the next one is laid out while one is computed, and each is asked for once
# for every micro-batch of it.
STEPS_AT_HAND = 8
EPOCHS_AT_HAND = 2  # a report at the beginning of an epoch still counts tokens of the one before


class MicroBatches(Sequence[list[int]]):
    """All micro-batches of a training, in order, as lists of row indices. Those of a step are made
    when they are asked for: in memory are those of a few steps.
    """

    def __init__(
        self, steps: int, accumulation: int, of_step: Callable[[int], list[list[int]]]
    ) -> None:
        """of_step: the micro-batches of a step, counted from 0, `accumulation` of them."""
        self.steps, self.accumulation = steps, accumulation
        self.of_step = lru_cache(STEPS_AT_HAND)(of_step)

    def __len__(self) -> int:
        return self.steps * self.accumulation

    @overload
    def __getitem__(self, at: int) -> list[int]: ...
    @overload
    def __getitem__(self, at: slice) -> list[list[int]]: ...
    def __getitem__(self, at: int | slice) -> list[int] | list[list[int]]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        step, place = divmod(range(len(self))[at], self.accumulation)
        return self.of_step(step)[place]

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.steps):
            yield from self.of_step(step)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MicroBatches) and [*self] == [*other]

    __hash__ = None  # type: ignore[assignment]


def orders(rows: int, seed: int) -> Callable[[int], "array[int]"]:
    """What gives the order of the rows in an epoch, counted from 0: one generator shuffles them for
    each epoch anew. Four bytes a row are in memory for each epoch at hand.
    """
    states = [random.Random(seed).getstate()]  # of the generator, before each epoch

    def order(epoch: int) -> "array[int]":
        while len(states) <= epoch:
            order_of(len(states) - 1)
        rng = random.Random()
        rng.setstate(states[epoch])
        numbers = array("I", range(rows))
        rng.shuffle(numbers)
        if len(states) == epoch + 1:
            states.append(rng.getstate())
        return numbers

    order_of = lru_cache(EPOCHS_AT_HAND)(order)
    return order_of
