"""A model that answers in several processes of one machine, each with a card or its share of the
cores.
"""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from typing import Any

from stages import backends
from stages.backends.shared import cards, workers
from stages.backends.shared.beam_search import Candidates
from stages.backends.shared.dealing import dealt
from stages.errors import UserError
from stages.processes import belong_to_parent, cores
from stages.records import Answer, Row
from stages.settings import Answering

loaded: Callable[[], Any]  # in such a process: its stages.backends.Answerer


class Answerers:
    """Rows are dealt out by their length; an answer is that of one process, whichever gives it."""

    def __init__(self, model: str, base: str, settings: Answering, processes: int) -> None:
        """processes: more than one."""
        self.processes = processes
        spawn = multiprocessing.get_context("spawn")
        places = spawn.Queue()
        taken = cards.take(processes) if workers.usable_cards(settings.device) else []
        threads = f"{max(1, cores() // processes)}"
        for number in range(processes):
            own = {"CUDA_VISIBLE_DEVICES": taken[number]} if taken else {}
            # Both are read when PyTorch begins, which has not been imported there yet.
            places.put((number, own | {"OMP_NUM_THREADS": threads}))
        self.pool = ProcessPoolExecutor(
            processes, spawn, initializer=_begin, initargs=(places, model, base, settings)
        )

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """As stages.backends.Answerer. Raises UserError where a process is killed."""
        return self._in_shares(rows, _predict)

    def candidates(self, rows: Sequence[Row], count: int) -> list[Candidates]:
        """As stages.backends.Answerer. Raises UserError where a process is killed."""
        return self._in_shares(rows, partial(_candidates, count=count))

    def _in_shares(self, rows: Sequence[Row], ask: Callable[[list[Row]], list[Any]]) -> list[Any]:
        """What each row is answered with.   ask: in such a process, for its share of the rows."""
        lengths = [len(str(row)) for row in rows]
        shares = dealt(range(len(rows)), lengths, self.processes)
        futures = [self.pool.submit(ask, [rows[at] for at in share]) for share in shares if share]
        answers = dict[int, Any]()
        try:
            for share, future in zip(filter(None, shares), futures, strict=True):
                answers |= zip(share, future.result(), strict=True)
        except BrokenProcessPool:
            raise UserError(
                "a process that answered was ended, as where memory runs out; the same command "
                "goes on from the answers that are kept, with a smaller launch.processes or "
                "generation.batch_size if need be"
            ) from None
        return [answers[at] for at in range(len(rows))]

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


def _begin(places: Any, model: str, base: str, settings: Answering) -> None:
    """Begin such a process. The first one tells how far it is. The model is loaded for the first
    rows, so that what is wrong with it is raised where their answers would come.
    """
    global loaded
    number, own = places.get()
    os.environ |= own
    if number:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    belong_to_parent()
    loaded = cache(
        lambda: backends.load(settings.backend, settings.exact).answerer(model, base, settings)
    )


def _predict(rows: list[Row]) -> list[Answer]:
    answers: list[Answer] = loaded().predict(rows)
    return answers


def _candidates(rows: list[Row], count: int) -> list[Candidates]:
    found: list[Candidates] = loaded().candidates(rows, count)
    return found
