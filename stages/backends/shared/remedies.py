"""What a training may do without when memory is too small for it."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

from stages.backends.shared import workers
from stages.processes import usable_cores
from stages.settings import Settings


def remedies(settings: Settings) -> Iterator[dict[str, Any]]:
    """Changes of settings that save memory, the cheapest first.

    First no more processes than cores, then the same step in more passes, then slower passes, then
    all cards of this machine, or fewer processes, which have its memory together, then another
    method, then matrices that are fetched for each pass, then shorter rows.
    """
    effective = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    halvings = range(1, int(math.log2(settings.per_device_train_batch_size)) + 1)
    smaller: list[dict[str, Any]] = [{}]
    for rows in (settings.per_device_train_batch_size >> times for times in halvings):
        smaller.append(
            {
                "per_device_train_batch_size": rows,
                "gradient_accumulation_steps": math.ceil(effective / rows),
            }
        )
    again: list[dict[str, Any]] = (
        [{}] if settings.gradient_checkpointing else [{}, {"gradient_checkpointing": True}]
    )
    spread: list[dict[str, Any]] = [{}]
    if len(workers.usable_cards(settings.device)) > 1 and settings.launch.strategy == "ddp":
        launch = settings.launch.model_dump() | {"processes": "auto", "strategy": "fsdp"}
        spread.append({"launch": launch})
    beyond, fewer = _fewer_processes(settings)
    spread = [*beyond, *spread, *fewer]
    leaner = {"full": ("lora", "qlora"), "lora": ("qlora",), "qlora": ()}[settings.method]
    # What `train` is given of a full training has no lora, so that only `plan` and `check` can
    # offer one.
    methods: list[dict[str, Any]] = [{}]
    methods += [{"method": name} for name in leaner if settings.lora]
    if settings.lora and settings.method != "qlora":
        fetched = {"method": "lora", "gradient_checkpointing": True, "offload_weights": True}
        methods.append({key: to for key, to in fetched.items() if getattr(settings, key) != to})
    lengths: list[dict[str, Any]] = [{}]
    while (length := settings.max_length_tokens >> len(lengths)) >= 128:
        lengths.append({"max_length_tokens": length})
    for shorter in lengths:
        for method in methods:
            for over_cards, recomputed in itertools.product(spread, again):
                for rows_at_once in smaller:
                    if change := shorter | method | over_cards | recomputed | rows_at_once:
                        yield change


def _fewer_processes(settings: Settings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(what takes no time from a training, what does), where processes compute on this machine's
    cores and each has the whole model.
    """
    launch, most = settings.launch, usable_cores()
    has_cards = workers.usable_cards(settings.device)
    if launch.processes == "auto" or has_cards or launch.strategy != "ddp":
        return [], []
    counts = [count for count in (most, most // 2, 1) if 0 < count < launch.processes]
    changes = [
        {"launch": launch.model_dump() | {"processes": count}} for count in dict.fromkeys(counts)
    ]
    at = int(launch.processes > most)
    return changes[:at], changes[at:]
