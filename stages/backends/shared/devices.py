"""Where there is something to compute with."""

import torch

from stages.errors import UserError


def device(wanted: str) -> str:
    """Where to compute, "cuda", "mps" or "cpu".

    wanted: one of them, or "auto" for the first that there is. Raises UserError for one that this machine has not.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = next(name for name, is_there in there.items() if is_there)
    if wanted != "auto" and not there[wanted]:
        raise UserError(f"device: there is no {wanted} here; set auto, which takes {found}")
    return found if wanted == "auto" else wanted
