"""The loss of a linear head and its gradient, computed together (bench/NOTES.md, W1).

It goes over the logits less often than PyTorch's cross-entropy does, and keeps fewer of them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LOGITS_IN_CACHE = 2**21
"""How many logits become their gradient in one go on a CPU: 8 MiB in float32, about its cache."""


def is_plain_matrix(head: nn.Module) -> bool:
    """Whether `nats` computes what this head does.

    It does for a matrix alone: without a bias, and without rows of its own for added tokens.
    """
    return type(head) is nn.Linear and head.bias is None


def rows_at_once(where: str, vocabulary: int) -> int:
    """How many rows of logits become their gradient in one go.

    On a card eight times as many as on a CPU: a kernel over fewer can take less time than its
    launch. (Estimated, not measured: 2^21 logits in float32 are 8 MiB.)
    """
    return max(1, (LOGITS_IN_CACHE if where == "cpu" else 8 * LOGITS_IN_CACHE) // vocabulary)


def nats(hidden: Tensor, weight: Tensor, wanted: Tensor) -> Tensor:
    """(N, D), (V, D), (N,) -> (N,): what each wanted token costs."""
    costs: Tensor = CrossEntropy.apply(hidden, weight, wanted)
    return costs


class CrossEntropy(torch.autograd.Function):
    """−log softmax(W h)[wanted], whose gradient by the logits, softmax(W h) less 1 at the wanted
    token, takes their place: they are neither copied whole to float32 nor kept beside it. Where W
    is frozen, what is kept is (N, D), the gradient of h.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, wanted: Tensor) -> Tensor:
        """hidden: (N, D).   weight: (V, D).   wanted: (N,)."""
        where = hidden.device.type
        dtype = (
            torch.get_autocast_dtype(where) if torch.is_autocast_enabled(where) else hidden.dtype
        )
        given, matrix = hidden.to(dtype), weight.to(dtype)
        logits, label = given @ matrix.T, wanted[:, None]  # (N, V), (N, 1)
        nats = torch.empty_like(label, dtype=torch.float32)
        size = rows_at_once(where, len(weight))
        for part, at, found in zip(
            logits.split(size), label.split(size), nats.split(size), strict=True
        ):
            values = part.float()
            chances = torch.softmax(values, -1)
            # By the likeliest token, whose chance is at least 1 / V: that of the wanted one may be
            # too small for a float32.
            above = values.amax(-1, keepdim=True) - values.gather(-1, at)
            # −log p as log1p(1/p − 1): log would be MKL's, which differs by a processor's vendor.
            likeliest = chances.amax(-1, keepdim=True)
            torch.add(above, likeliest.reciprocal_().sub_(1).log1p_(), out=found)
            part.copy_(chances.scatter_(-1, at, torch.expm1(-found)))
        ctx.dtypes = hidden.dtype, weight.dtype
        ctx.save_for_backward(
            *((logits, given, matrix) if ctx.needs_input_grad[1] else (logits @ matrix,))
        )
        return nats.squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept, *others = ctx.saved_tensors
        of_hidden, of_weight, share = kept, None, gradient[:, None]  # share: (N, 1)
        if others:
            given, matrix = others
            of_hidden, of_weight = (
                kept @ matrix,
                (kept.T @ (given * share).to(kept.dtype)).to(ctx.dtypes[1]),
            )
        return (of_hidden * share).to(ctx.dtypes[0]), of_weight, None
