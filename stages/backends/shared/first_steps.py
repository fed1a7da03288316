"""The weights after a training's first steps as a checksum.

An edit that is meant to change nothing is proved by it: the same first steps are made with the new
code, which takes seconds, and the checksums compared (`python -m stages repro --verify`).
"""

import hashlib
from collections.abc import Mapping

import torch

FIRST_STEPS = 20


def weights_md5(weights: Mapping[str, torch.Tensor]) -> str:
    """32 hex digits that stand for the names and the bytes of these tensors."""
    total = hashlib.md5(usedforsecurity=False)
    for name, tensor in sorted(weights.items()):
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()
