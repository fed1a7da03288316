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
in time.
"""
_lock = threading.Lock()


class TookTooLong(Exception):
    """The call was stopped."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns. Raises TookTooLong where it takes longer and runs Python code."""
    _watcher(os.getpid())
    thread = threading.get_ident()
    with _lock:
        _ends[thread] = time.monotonic() + seconds
    try:
        return call()
    finally:
        with _lock:
            if is_stopped := _ends.pop(thread, None) is None:
                _raise_in(thread, None)  # what has not reached the call shall reach nothing else
        if is_stopped and not isinstance(sys.exception(), TookTooLong):
            raise TookTooLong


@cache
def _watcher(process: int) -> None:
    """Start the thread that stops calls, once in a process: a fork has none of its parent's."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while True:
        time.sleep(LOOKS_SECONDS)
        with _lock:
            for thread in [thread for thread, end in _ends.items() if time.monotonic() > end]:
                del _ends[thread]
                _raise_in(thread, TookTooLong)


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    """At the thread's next step; None takes back what it has not raised yet."""
    raised = ctypes.py_object(kind) if kind else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
