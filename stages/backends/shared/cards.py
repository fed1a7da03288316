"""The CUDA devices of a machine, asked of the driver's own program: no library is loaded for it."""

import os
import shutil
import subprocess

import psutil

QUERY = ["nvidia-smi", "--query-gpu=index,memory.free", "--format=csv,noheader,nounits"]


def free_megabytes() -> dict[str, int]:
    """{card: free memory in 2^20 bytes} of the cards that a process may use, named as
    CUDA_VISIBLE_DEVICES names them; 0 where the driver does not say.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return {card.strip(): 0 for card in visible.split(",") if card.strip()}
    if not shutil.which(QUERY[0]):
        return {}
    listed = subprocess.run(QUERY, capture_output=True, text=True).stdout.splitlines()
    found = {}
    for line in listed:
        card, _, free = (part.strip() for part in line.partition(","))
        if card.isdecimal():
            found[card] = int(free) if free.isdecimal() else 0
    return found


def cores() -> int:
    """Of the CPU, those that this process may use."""
    return len(psutil.Process().cpu_affinity()) if psutil.LINUX else psutil.cpu_count() or 1


def choose_one() -> None:
    """Let this process see one card: that with the most free memory, or the first of those that the
    user lets it see.

    transformers would otherwise wrap a model into DataParallel, whose decoder the loss here does
    not find.
    """
    if len(free := free_megabytes()) > 1:
        if "CUDA_VISIBLE_DEVICES" not in os.environ:
            # CUDA itself counts the fastest first, the driver's program by the bus.
            os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        os.environ["CUDA_VISIBLE_DEVICES"] = max(free, key=lambda card: free[card])
