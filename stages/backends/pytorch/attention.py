"""Attention in fewer passes over memory than transformers makes of the same formula, and of rows
that stand in one line.

A small model's step on a CPU is mostly operations that move more than they compute: bench/NOTES.md,
W2.
"""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from stages.backends.pytorch.loss import causal_model, outputs
from stages.text import joined_rows
from stages.text.chat import Encoded
from stages.text.joined_rows import Joined

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
    """On a CPU, the model attends by `attention` below, if that is what its own attention computes.

    Answers gain by it as training does: keys and values that heads share are not copied
    (bench/NOTES.md, W3).
    """
    if where == "cpu" and attention_is_plain(causal_model(model)):
        AttentionInterface.register(NAME, attention)
        AttentionMaskInterface.register(NAME, eager_mask)
        causal_model(model).set_attn_implementation(NAME)


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


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    joined: Joined | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: (B, H, T, D), (B, G, S, D), (B, G, S, E) -> (B, T, H, E),
    and no weights.

    attention_mask: (B, 1, T, S), 0 or so low that nothing is left.   scaling: of the scores.
    joined: of rows that stand in one line, where they do (B = 1, T = S).
    """
    if joined is not None:
        return AttendedAlone.apply(query, key, value, joined, scaling), None
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


class AttendedAlone(torch.autograd.Function):
    """`Attended` of each row by itself, where rows stand in one line and share its beginning: their
    tokens are picked from the line, rows of like length together, and the answers put back.
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, joined: Joined, scaling: float
    ) -> Tensor:
        """(1, H, T, D), (1, G, T, D), (1, G, T, E) -> (1, T, H, E)."""
        (_, heads, _, size), sharing = query.shape, key.shape[1]
        queries, keys, values = (_by_token(part) for part in (query * scaling, key, value))
        answers, kept = [], list[Tensor]()
        for places in joined.groups:
            rows, length = places.shape
            of_rows = _of_rows(queries, places, heads).reshape(rows, sharing, -1, size)
            of_keys, of_values = (_of_rows(part, places, sharing) for part in (keys, values))
            scores = of_rows @ of_keys.mT  # (rows, G, H/G · L, L)
            mask = joined.mask[:, :, None, :length, :length]
            scores.unflatten(2, (-1, length)).add_(mask)
            weights = torch.softmax(scores, -1)
            attended = (weights @ of_values).view(rows, heads, length, -1)
            answers.append(attended.transpose(1, 2).reshape(rows * length, -1))
            kept += [of_rows, of_keys, of_values, weights]
        ctx.save_for_backward(*kept)
        ctx.joined, ctx.scaling, ctx.heads = joined, scaling, (heads, sharing)
        return _put_back(answers, joined).view(1, -1, heads, value.shape[-1])

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        joined, (heads, sharing) = ctx.joined, ctx.heads
        of_line = gradient.reshape(gradient.shape[1], -1)
        of_line = torch.cat([of_line, of_line.new_zeros(1, of_line.shape[1])])
        found: list[list[Tensor]] = [[], [], []]
        for at, places in enumerate(joined.gradients_from):
            of_rows, of_keys, of_values, weights = ctx.saved_tensors[4 * at : 4 * at + 4]
            rows, length = places.shape
            of_answer = _of_rows(of_line, places, heads).reshape(*weights.shape[:3], -1)
            of_scores = torch._softmax_backward_data(
                of_answer @ of_values.mT, weights, -1, weights.dtype
            )
            of_query = (of_scores @ of_keys).mul_(ctx.scaling).view(rows, heads, length, -1)
            parts = (of_query, of_scores.mT @ of_rows, weights.mT @ of_answer)
            for part, of_part in zip(parts, found, strict=True):
                of_part.append(part.transpose(1, 2).reshape(rows, length, -1))
        return (
            *(
                _of_line(of_part, joined, count)
                for of_part, count in zip(found, (heads, sharing, sharing), strict=True)
            ),
            None,
            None,
        )


def _by_token(states: Tensor) -> Tensor:
    """(1, H, T, D) -> (T, H · D)."""
    return states[0].transpose(0, 1).reshape(states.shape[2], -1)


def _of_rows(line: Tensor, places: Tensor, heads: int) -> Tensor:
    """(T, H · D), (rows, L) -> (rows, H, L, D)."""
    return line[places].view(*places.shape, heads, -1).transpose(1, 2)


def _put_back(groups: list[Tensor], joined: Joined) -> Tensor:
    """(rows · L, N) of each group -> (T, N), nothing where the line is padded."""
    return torch.cat([*groups, groups[0].new_zeros(1, groups[0].shape[1])])[joined.answers_from]


def _of_line(groups: list[Tensor], joined: Joined, heads: int) -> Tensor:
    """Gradients of the rows' tokens, (rows, L, H · D) of each group -> (1, H, T, D): those of a
    shared token are added up.
    """
    of_line = _put_back([group.flatten(0, 1) for group in groups], joined)
    if joined.shared:
        sums = [group[:, : joined.shared].sum(0) for group in groups]
        of_line[: joined.shared] = torch.stack(sums).sum(0) if len(sums) > 1 else sums[0]
    return of_line.view(len(of_line), heads, -1).transpose(0, 1)[None]


@torch.no_grad()
def joins_rows(model: nn.Module) -> bool:
    """Whether rows that stand in one line, and share its beginning, come out of a model as they do
    alone, and see nothing of each other. It is tried on two rows.
    """
    config: Any = causal_model(model).config
    kinds = {*(getattr(config, "layer_types", None) or ()), "full_attention"}
    windowed = len(kinds) > 1 or getattr(config, "sliding_window", None)
    if config._attn_implementation != NAME or windowed or getattr(config, "attention_dropout", 0):
        return False
    rows = [Encoded("", ids, given) for ids, given in (([0, 1, 2, 3], 2), ([0, 1, 4, 5, 6], 3))]
    other = [Encoded("", [0, 1, 5, 3], 2), rows[1]]
    place = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        one, two = (outputs(model, joined_rows.joined(each, 0))[0] for each in (rows, other))
        alone = [
            outputs(model, {"input_ids": torch.tensor([row.ids], device=place)})[0] for row in rows
        ]
    except TypeError:  # its layers hand nothing on to their attention
        return False
    finally:
        model.train(training)
    told = torch.cat([alone[0], alone[1][1:]])  # the first token is shared
    close = torch.allclose(
        one[: len(told)].float(), told.float(), rtol=0.02, atol=0.02 * told.abs().max().item()
    )
    return close and torch.equal(one[4:8], two[4:8])
