"""A limit of time for what somebody else wrote and this process runs: a chat template is a program.

It holds in every thread, where a signal would reach the first alone.
"""

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import TypeVar

T = TypeVar("T")
LOOKS_SECONDS = 0.2

_ends: dict[int, float] = {}
"""When the call of each thread has to have ended; whoever takes an entry out decides whether it has
in time."""


class TookTooLong(Exception):
    """The call was stopped."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns. Raises TookTooLong where it takes longer and runs Python code."""
    _watcher(os.getpid())
    thread = threading.get_ident()
    _ends[thread] = time.monotonic() + seconds
    try:
        return call()
    finally:
        is_stopped = _ends.pop(thread, None) is None
        while is_stopped and not isinstance(sys.exception(), TookTooLong):
            time.sleep(LOOKS_SECONDS)  # it is raised here, having come too late for the call


@cache
def _watcher(process: int) -> None:
    """Start the thread that stops calls, once in a process: a fork has none of its parent's."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while True:
        time.sleep(LOOKS_SECONDS)
        for thread, end in [*_ends.items()]:
            if time.monotonic() > end and _ends.pop(thread, 0.0):
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(TookTooLong)
                )
