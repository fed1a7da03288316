"""Where there is something to compute with, and how much at once."""

import platform

import torch

from stages.backends.shared import cards
from stages.errors import UserError

LOGITS_AT_ONCE = 2**25
"""The most logits that are computed at once. More are computed in chunks, and the backward pass
computes each chunk again instead of storing it: 2,048 labels of a vocabulary of 128k are 1 GB in
float32.
"""


def device(wanted: str) -> str:
    """Where to compute, "cuda", "mps" or "cpu".

    wanted: one of them, or "auto" for the first that there is. Of several cards this process sees
    one from then on. Raises UserError for one that this machine has not.
    """
    if takes_cards(wanted):
        cards.choose_one()
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    found = next(name for name, is_there in there.items() if is_there)
    if wanted != "auto" and not there[wanted]:
        raise UserError(f"device: there is no {wanted} here; set auto, which takes {found}")
    return found if wanted == "auto" else wanted


def own_device(wanted: str) -> str:
    """As `device`, for what trains or predicts: with a card that no other such process has, for
    which it waits.
    """
    if takes_cards(wanted):
        cards.take()
    return device(wanted)


def takes_cards(wanted: str) -> bool:
    """Whether a process with this setting computes on a card where the machine has one. CUDA is not
    started for it: which cards a process sees is settled by then.
    """
    return wanted in ("auto", "cuda") and torch.version.cuda is not None


def use_threads(threads: int) -> None:
    """threads: of the CPU; 0 = as many as PyTorch finds, which OMP_NUM_THREADS can make fewer."""
    if threads:
        torch.set_num_threads(threads)


def description(where: str) -> str:
    """A device and what it computes with, as lineage.json names it."""
    if where == "cuda":
        return f"cuda, {torch.cuda.get_device_name()}"
    if where == "mps":
        return f"mps, {platform.processor()}"
    return f"cpu, {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
