"""What a job of `stages repro` is to take of the memory, and what it takes."""

import contextlib
from functools import cache

import psutil

from stages.errors import UserError
from stages.params import load_params


@cache
def planned_bytes(stage: str) -> int:
    """What a training takes of the CPU's memory; 0 of other stages, and where it is not known."""
    kind, _, run = stage.partition("@")
    if kind != "train":
        return 0
    from stages import backends
    from stages.backends.shared import model_folders, workers

    params = load_params()
    settings, base = params.resolve(run), params.runs[run].base
    with contextlib.suppress(UserError, OSError):
        backend = backends.load(settings.backend, settings.exact)
        rows, tokens = settings.per_device_train_batch_size, settings.max_length_tokens
        plan = backend.plan_memory(model_folders.locate(base), settings, rows, tokens)
        of_all = plan.need.total * workers.processes_here(settings.launch, settings.device)
        return of_all if plan.where == "cpu" else 0
    return 0


def resident(pid: int) -> int:
    """Bytes of a process and all that it has begun."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
    return total
