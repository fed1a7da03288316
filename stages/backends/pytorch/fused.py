"""Norms, attention and dropout in fewer passes over memory than transformers makes of the same
formulas.

A small model's step on a CPU is mostly operations that move more than they compute: bench/NOTES.md,
W2.
"""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from stages.backends.pytorch.loss import causal_model

NAME = "tsugiki_fused"  # among transformers' kinds of attention


HARMLESS = {
    "cache_position",
    "is_causal",
    "output_attentions",
    "position_ids",
    "sliding_window",
    "use_cache",
}
"""What layers tell their attention that changes nothing here: windows are in the mask."""


def fuse(model: nn.Module, where: str) -> None:
    """Replaces the norms and, on a CPU, the attention that compute what those here do, and dropout.

    What adds something, as Gemma's norms or the sinks of gpt-oss do, stays as it is.

    model: a causal language model, in PEFT's wrapper too.   where: "cuda", "mps" or "cpu".
    """
    if where == "mps":  # where nothing was measured
        return
    for name, module in list(model.named_modules()):
        if is_rms_norm(module):
            model.set_submodule(name, RMSNorm(module.weight, module.variance_epsilon))
        if where == "cpu" and type(module) is nn.Dropout:
            model.set_submodule(name, Dropout(module.p).train(module.training))
    fuse_attention(model, where)


def fuse_attention(model: nn.Module, where: str) -> None:
    """The attention alone, which answers sooner too: keys and values that heads share are not
    copied (bench/NOTES.md, W3).
    """
    if where == "cpu" and attention_is_plain(causal_model(model)):
        AttentionInterface.register(NAME, attention)
        AttentionMaskInterface.register(NAME, eager_mask)
        causal_model(model).set_attn_implementation(NAME)


@torch.no_grad()
def is_rms_norm(module: nn.Module) -> bool:
    """Whether a module computes what `RMSNorm` does, tried: what looks alike may add one to its
    weight, as Gemma's do.

    Of its three rows the smallest shows whether its epsilon is what it says.
    """
    weight, eps = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if not isinstance(weight, nn.Parameter) or weight.dim() != 1 or not isinstance(eps, float):
        return False
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, len(weight), generator=generator) * torch.tensor(
        [[1.0], [30.0], [eps**0.5]]
    )
    rows = rows.to(weight.device, weight.dtype)
    tolerance = 1e-5 if weight.dtype == torch.float32 else 0.02
    return torch.allclose(module(rows), RMSNorm(weight, eps)(rows), rtol=tolerance, atol=tolerance)


@torch.no_grad()
def attention_is_plain(model: nn.Module) -> bool:
    """Whether a model's attention computes what `attention` does, tried on a few numbers; its
    weights are not looked at.

    What a layer tells it beside, such as sinks or a cap of the scores, `attention` leaves to the
    model's own.
    """
    own = eager_attention(model)
    if own is None:
        return False
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, 3, 4, generator=generator) for heads in (2, 1, 1))
    mask = torch.full((1, 1, 3, 3), torch.finfo(torch.float32).min).triu(1)
    layer: Any = SimpleNamespace(num_key_value_groups=2, training=False)
    try:
        theirs, _ = own(layer, query, key, value, mask, scaling=0.5, dropout=0.0)
    except (
        AttributeError,
        TypeError,
        RuntimeError,
    ):
        # it wants more of a layer, as gpt-oss its sinks
        return False
    ours, _ = attention(layer, query, key, value, mask, scaling=0.5)
    return theirs.shape == ours.shape and torch.allclose(theirs, ours, rtol=1e-5, atol=1e-6)


def eager_attention(module: nn.Module) -> Callable[..., Any] | None:
    """A model's own attention, of the file that its layers are in."""
    return getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight (Zhang & Sennrich 2019, equation 4), in float32; under
    autocast what comes out has its type, so that the products that share it do not convert it once
    each.

    weight: (D,), the replaced norm's.
    """

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = weight, eps

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        where = hidden.device.type
        own = torch.promote_types(hidden.dtype, self.weight.dtype)
        dtype = torch.get_autocast_dtype(where) if torch.is_autocast_enabled(where) else own
        normed: Tensor = (Normed.apply if where == "cpu" else one_kernel)(
            hidden, self.weight, self.eps, dtype
        )
        return normed


def one_kernel(hidden: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """PyTorch's own, which is one kernel on CUDA and on a CPU as many passes as transformers
    makes.
    """
    # which would make float32 of a bfloat16 input first
    with torch.autocast(hidden.device.type, enabled=False):
        return F.rms_norm(hidden, weight.shape, weight.to(hidden.dtype), eps).to(dtype)


class Normed(torch.autograd.Function):
    """With n = x / rms and g the gradient times the weight, the gradient of x is (g − n · mean(g ·
    n)) / rms.
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        values = hidden.float()
        scale = (
            torch.linalg.vector_norm(values, dim=-1, keepdim=True)
            .square_()
            .div_(values.shape[-1])
            .add_(eps)
            .rsqrt_()
        )
        ctx.save_for_backward(hidden, weight, scale)
        return (values * scale).mul_(weight).to(dtype)

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, scale = ctx.saved_tensors
        normed = hidden * scale  # (..., D), float32
        products = gradient * normed
        means = (products @ weight.float()).div_(-normed.shape[-1]).unsqueeze(-1)
        of_weight = products.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        return (
            (gradient * weight.float()).addcmul_(normed, means).mul_(scale),
            of_weight,
            None,
            None,
        )


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014, section 10) with a quarter of a random number for
    each value, to 2^-16 of its share. PyTorch draws a whole one on a CPU, which took a third of a
    step of LoRA with dropout.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not self.share:
            return values
        drawn = (
            torch.empty(-(-values.numel() // 4), dtype=torch.int64)
            .random_(-(2**63), None)
            .view(torch.int16)
        )
        kept = drawn[: values.numel()].view(values.shape) >= round(self.share * 2**16) - 2**15
        thinned: Tensor = Thinned.apply(values, kept, 1 / (1 - self.share))
        return thinned


class Thinned(torch.autograd.Function):
    """Values that are kept, scaled; for the backward pass a byte each is remembered."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return torch.where(kept, values, 0).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return torch.where(kept, gradient, 0).mul_(ctx.scale), None, None


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: (B, H, T, D), (B, G, S, D), (B, G, S, E) -> (B, T, H, E),
    and no weights.

    attention_mask: (B, 1, T, S), 0 or so low that nothing is left.   scaling: of the scores.
    """
    others_matter = any(value is not None for name, value in others.items() if name not in HARMLESS)
    if (dropout or others_matter) and (own := eager_attention(module)):
        return own(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **others
        )
    attended: Tensor = Attended.apply(query, key, value, attention_mask, scaling)
    return attended.transpose(1, 2).contiguous(), None


class Attended(torch.autograd.Function):
    """softmax(scaling · Q Kᵀ + mask) V (Vaswani et al. 2017, equation 1). The H / G heads that
    share a key are one product, the scores are masked in place, and of them only the weights are
    kept; softmax computes in float32 whatever it is given.
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # no other half type on a CPU
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
    ) -> Tensor:
        rows, heads, length, size = query.shape
        shared = (query * scaling).reshape(rows, key.shape[1], -1, size)  # (B, G, H/G · T, D)
        scores = shared @ key.mT  # (B, G, H/G · T, S)
        if mask is not None:
            scores.unflatten(2, (-1, length)).add_(mask.unsqueeze(2))
        weights = torch.softmax(scores, -1)
        ctx.save_for_backward(shared, key, value, weights)
        ctx.scaling = scaling
        return (weights @ value).view(rows, heads, length, -1)

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        shared, key, value, weights = ctx.saved_tensors
        rows, heads, length, _ = gradient.shape
        of_answer = gradient.reshape(*weights.shape[:3], -1)  # (B, G, H/G · T, E)
        of_scores = torch._softmax_backward_data(of_answer @ value.mT, weights, -1, weights.dtype)
        of_query = (of_scores @ key).mul_(ctx.scaling).view(rows, heads, length, -1)
        return of_query, of_scores.mT @ shared, weights.mT @ of_answer, None, None
