"""Where there is something to compute with, and how much at once."""

import torch

from stages.errors import UserError

LOGITS_AT_ONCE = 2**25
"""More are made in parts, and each part again in the backward pass where it would be kept till
then: 2,048 labels of a vocabulary of 128k are 1 GB in float32.
"""


def device(wanted: str) -> str:
    """Where to compute, "cuda", "mps" or "cpu".

    wanted: one of them, or "auto" for the first that there is. Raises UserError for one that this
    machine has not.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    found = next(name for name, is_there in there.items() if is_there)
    if wanted != "auto" and not there[wanted]:
        raise UserError(f"device: there is no {wanted} here; set auto, which takes {found}")
    return found if wanted == "auto" else wanted
