"""Norms, adapters and dropout in fewer passes over memory than transformers and PEFT make of the
same formulas.

A small model's step on a CPU is mostly operations that move more than they compute: bench/NOTES.md,
W2.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from stages.backends.pytorch import attention


def fuse(model: nn.Module, where: str) -> None:
    """Replaces the norms and, on a CPU, the attention and the adapters that compute what those here
    do, and dropout.

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
        if where == "cpu" and adds_a_product_alone(module):
            module.forward = partial(adapted, module)
    attention.fuse(model, where)


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
        self.p = share  # by nn.Dropout's name, which attention of transformers reads

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not self.p:
            return values
        drawn = (
            torch.empty(-(-values.numel() // 4), dtype=torch.int64)
            .random_(-(2**63), None)
            .view(torch.int16)
        )
        kept = drawn[: values.numel()].view(values.shape) >= round(self.p * 2**16) - 2**15
        thinned: Tensor = Thinned.apply(values, kept, 1 / (1 - self.p))
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


def adds_a_product_alone(module: Any) -> bool:
    """Whether a module is PEFT's LoRA as Hu et al. 2021 have it (section 4.1), on a matrix in
    float32: one adapter, without dropout, bias of its own, or a variant.
    """
    if type(module).__module__ != "peft.tuners.lora.layer" or len(module.active_adapters) != 1:
        return False
    name: str = module.active_adapters[0]
    return (
        name in module.lora_A
        and type(module.base_layer) is nn.Linear
        and module.base_layer.weight.dtype == torch.float32
        and not module.base_layer.weight.requires_grad
        and name not in module.lora_variant
        and type(module.lora_dropout[name]) is nn.Identity
        and module.lora_A[name].bias is None
        and module.lora_B[name].bias is None
    )


def adapted(module: Any, hidden: Tensor, *others: Any, **options: Any) -> Tensor:
    """PEFT's `forward` of such a module, in float32; under autocast its own, because what an
    adapter adds would be rounded away in half the precision.
    """
    plain = not (others or options or module.merged or module.disable_adapters)
    if not plain or hidden.dtype != torch.float32 or torch.is_autocast_enabled(hidden.device.type):
        own: Tensor = type(module).forward(module, hidden, *others, **options)
        return own
    (name,) = module.active_adapters
    base, down, up = module.base_layer, module.lora_A[name], module.lora_B[name]
    made: Tensor = Adapted.apply(
        hidden, base.weight, base.bias, down.weight, up.weight, module.scaling[name]
    )
    return made


class Adapted(torch.autograd.Function):
    """x (W + s B A)ᵀ. Merging costs as much as the product of r rows; the adapter's part of what
    comes out, its scaling and its sum with the base's part would be three more passes over memory
    that as many rows of output fill, and two more in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scaling: float,
    ) -> Tensor:
        """(..., I), (O, I), (O,), (R, I), (O, R) -> (..., O)."""
        ctx.save_for_backward(hidden, weight, down, up)
        ctx.scaling = scaling
        return F.linear(hidden, torch.addmm(weight, up, down, alpha=scaling), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, down, up = ctx.saved_tensors
        flat, given = gradient.flatten(0, -2), hidden.flatten(0, -2)  # (N, O), (N, I)
        of_hidden = None
        if ctx.needs_input_grad[0]:
            merged = torch.addmm(weight, up, down, alpha=ctx.scaling)
            of_hidden = (flat @ merged).view_as(hidden)
        scaled = (flat @ up).mul_(ctx.scaling)  # (N, R)
        of_up = (flat.T @ (given @ down.T)).mul_(ctx.scaling)
        return of_hidden, None, None, scaled.T @ given, of_up, None
