"""What a worker of stages/confined_workers.py runs: it answers requests, and can do nothing else.

A worker's module is run with `python -P -m`, from an empty folder, and imports of the project this
module alone, so that it starts in a tenth of a second.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any


def answer_requests(
    answering: Callable[[Any], Any], timeout_seconds: float, memory_limit_mb: int
) -> None:
    """Confine this process, write `"ready"`, then answer each line of requests with a line for each
    of them; null where `answering` raises an Exception.

    answering: has opened what it needs, since it can open nothing from here on.
    """
    confine(memory_limit_mb)
    # The file is named to show that these lines are data, not messages (see stages/imports.py).
    print('"ready"', file=sys.stdout, flush=True)
    for line in sys.stdin:
        for request in json.loads(line):
            _allow_cpu(timeout_seconds)
            answer = None
            with contextlib.suppress(Exception):
                answer = answering(request)
            print(json.dumps(answer), file=sys.stdout, flush=True)


def confine(memory_limit_mb: int) -> None:
    """Limit this process: it can open nothing, write no file, and not exceed its address space.

    The limits are POSIX; on Windows only the time limit and the empty folder remain.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    memory = memory_limit_mb * 2**20
    for kind, limit in (("NOFILE", 3), ("FSIZE", 0), ("CORE", 0), ("AS", memory)):
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some limits
            resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (limit, limit))


def _allow_cpu(seconds: float) -> None:
    """Raise the limit of CPU time for one more request.

    A worker whose parent has died then ends too, even if the request is an endless loop.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(
            resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 2, most)
        )
