"""Worker processes for what strangers wrote: confined, given a time limit, replaced when they die.

A request that loops, crashes its worker or eats memory costs its own time limit and a new worker.
Where many of them do, each is given a shorter time, so that they do not take hours together.
"""

import os
import queue
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stages.processes import cores
from stages.progress_lines import ProgressLines
from stages.worker_process import Stopped, Worker

PROJECT = Path(__file__).parents[1]

REQUESTS_AT_ONCE = 64
"""Requests in one line. A line for each took 3 ms a Typst source on two busy cores; this takes
1 ms."""

HASTY_SECONDS, PATIENCE = 0.3, 40
"""What a request is given at first, and how many of those that take longer are given all their
time: a model that writes loops costs 0.4 s an answer then, shared by the cores."""

NO_NETWORK = {
    **{
        name: "http://127.0.0.1:9"
        for protocol in ("HTTP", "HTTPS", "ALL")
        for name in (f"{protocol}_PROXY", f"{protocol.lower()}_proxy")
    },
    "NO_PROXY": "",
    "no_proxy": "",
}
"""The environment of a process that fetches nothing: by a proxy at the discard port, where nothing
answers."""

ENVIRONMENT = {
    **NO_NETWORK,
    "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    # Each thread takes address space: with one, the limit does not depend on the cores.
    "RAYON_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}


class ConfinedWorkers:
    """Processes that answer side by side; used as a context manager, which stops them."""

    def __init__(
        self, module: str, *arguments: str, timeout_seconds: float, patience: int = PATIENCE
    ) -> None:
        """module: of this project; it ends in `confinement.answer_requests`, and is called with an
        empty folder, `timeout_seconds` and the arguments.   timeout_seconds: of one request.
        patience: as PATIENCE.
        """
        self.timeout_seconds = timeout_seconds
        self._patience = patience
        self._root = tempfile.TemporaryDirectory(prefix="confined-")
        Path(self._root.name).chmod(0o500)
        command = [sys.executable, "-P", "-m", module, self._root.name, str(timeout_seconds)]
        self._workers = [
            Worker([*command, *arguments], Path(self._root.name), ENVIRONMENT)
            for _ in range(cores())
        ]

    def __enter__(self) -> "ConfinedWorkers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        Path(self._root.name).chmod(0o700)
        self._root.cleanup()

    def answers(self, requests: Sequence[Any], work: str, unit: str) -> list[Any]:
        """The answer to each request, both of them what JSON can hold; None where its worker failed
        at it, and `Stopped.there` where it did not survive it.

        work, unit: what the lines of progress call it.
        """
        hasty = min(self.timeout_seconds, HASTY_SECONDS)
        with ProgressLines(work, len(requests), unit) as lines:
            at_once = max(1, min(REQUESTS_AT_ONCE, len(requests) // (2 * len(self._workers))))
            found = self._answered(requests, hasty, at_once, lines.advance)
            # By their order among the requests, not by which was stopped first.
            stopped = [at for at, answer in enumerate(found) if answer is Stopped.there]
            again = stopped[: self._patience] if hasty < self.timeout_seconds else []
            self._patience -= len(again)
            patient = [requests[at] for at in again]
            answers = self._answered(patient, self.timeout_seconds, 1, lambda count: None)
            for at, answer in zip(again, answers, strict=True):
                found[at] = answer
        return found

    def _answered(
        self,
        requests: Sequence[Any],
        seconds: float,
        at_once: int,
        advance: Callable[[int], None],
    ) -> list[Any]:
        """The answer to each request within so many seconds, or Stopped."""
        free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            free.put(worker)

        def answered(part: Sequence[Any]) -> list[Any]:
            worker = free.get()
            try:
                return worker.answers(part, seconds)
            finally:
                free.put(worker)

        found: list[Any] = []
        parts = [requests[at : at + at_once] for at in range(0, len(requests), at_once)]
        with ThreadPoolExecutor(len(self._workers)) as threads:
            try:
                for answers in threads.map(answered, parts):
                    found += answers
                    advance(len(answers))
            except BaseException:  # what waits is not begun, and what runs ends with its worker
                threads.shutdown(wait=False, cancel_futures=True)
                for worker in self._workers:
                    worker.end()
                raise
        return found
