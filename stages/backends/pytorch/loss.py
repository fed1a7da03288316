"""Loss at labelled positions only."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stages.backends.pytorch import cross_entropy
from stages.backends.shared.devices import LOGITS_AT_ONCE
from stages.backends.shared.model_folders import HEAD_NOT_PLAIN, NOT_NUMBERS
from stages.errors import UserError
from stages.text import batches, joined_rows
from stages.text.chat import IGNORE, Encoded
from stages.text.token_files import lengths

LABELS = 64
"""The head is given a multiple of so many: one product for each number of labels took a tenth of a
step's time and memory.
"""


def token_nats(hidden: Tensor, head: nn.Linear, labels: Tensor) -> Tensor:
    """Cross-entropy at labelled positions only, row after row: (N,), in nats.

    hidden: (B, T, D), the last layer's output.   head: D -> V.   labels: (B, T), -100 where nothing
    is learned.

    Most positions of a conversation are prompt, so the (B, T, V) logits are never made.
    """
    keep = labels[:, 1:] != IGNORE  # (B, T-1): position t predicts token t+1
    learned, wanted = hidden[:, :-1][keep], labels[:, 1:][keep]  # (N, D), (N,)
    most = max(1, LOGITS_AT_ONCE // head.weight.shape[0])
    size = most - most % LABELS or most
    if len(wanted) <= size:
        return _nats(head, learned, wanted, min(size, LABELS))
    keeps = head.weight.requires_grad or not cross_entropy.is_plain_matrix(head)
    nats = partial(checkpoint, _nats, use_reentrant=False) if keeps else _nats
    parts = zip(torch.split(learned, size), torch.split(wanted, size), strict=True)
    return torch.cat([nats(head, *part, min(size, LABELS)) for part in parts])


def _nats(head: nn.Linear, hidden: Tensor, wanted: Tensor, multiple: int) -> Tensor:
    """(N, D), (N,) -> (N,)."""
    rows, room = len(wanted), -len(wanted) % multiple
    hidden, wanted = F.pad(hidden, (0, 0, 0, room)), F.pad(wanted, (0, room))
    if cross_entropy.is_plain_matrix(head) and torch.is_grad_enabled():
        return cross_entropy.nats(hidden, head.weight, wanted)[:rows]
    return F.cross_entropy(head(hidden).float(), wanted, reduction="none")[:rows]


def causal_model(model: nn.Module) -> Any:
    """The language model, inside PEFT's wrapper too, told by its mark: importing PEFT takes a
    second.
    """
    wrapped: Any = model
    return wrapped.base_model.model if hasattr(model, "peft_config") else wrapped


def causal_parts(model: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """(decoder stack, language-model head)."""
    causal = causal_model(model)
    return causal.get_decoder(), causal.get_output_embeddings()


def summed_nats(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """Summed cross-entropy of a batch. Causal attention never looks right, so padding needs no
    mask.

    The sum, not the mean: micro-batches with unequal numbers of labels must add up to the loss of
    the whole batch (transformers#37766).
    """
    return token_nats(outputs(model, batch), causal_parts(model)[1], batch["labels"]).sum()


def outputs(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """(B, T, D), the decoder's last layer at every token of a batch."""
    # A mask in four dimensions is handed on to attention as it is.
    apart = (
        {"joined": batch["joined"], "attention_mask": batch["joined"].mask}
        if "joined" in batch
        else {}
    )
    hidden: Tensor = causal_parts(model)[0](
        input_ids=batch["input_ids"],
        position_ids=batch.get("position_ids"),
        use_cache=False,
        **apart,
    ).last_hidden_state
    return hidden


@torch.no_grad()
def require_plain_head(model: nn.Module, folder: Path) -> None:
    """Refuse a model whose logits are more than its head's product with the decoder's output.

    The loss here is computed from that product alone. Gemma 2 caps its logits, Cohere and Granite
    scale them: training them so would train another model's loss. It is tried on three tokens, and
    raises UserError.
    """
    (decoder, head), seen = causal_parts(model), list[Tensor]()
    hooks = [
        decoder.register_forward_hook(
            lambda _, given, output: seen.append(output.last_hidden_state)
        ),
        head.register_forward_hook(lambda _, given, output: seen.extend([given[0], output])),
    ]
    logits = causal_model(model)(input_ids=torch.arange(3, device=head.weight.device)[None]).logits
    for hook in hooks:
        hook.remove()
    decoded, given, made = seen
    if logits.isnan().any():
        raise UserError(NOT_NUMBERS.format(folder=folder))
    if not (torch.equal(given, decoded) and torch.equal(logits.float(), made.float())):
        raise UserError(
            HEAD_NOT_PLAIN.format(folder=folder, kind=causal_model(model).config.model_type)
        )


@torch.no_grad()
def isolates_packed_rows(model: nn.Module) -> bool:
    """Whether rows that are packed into one line do not see each other.

    It is tried: with another first row, the second row's outputs must stay the same to the last
    bit. Recurrent layers cannot do it, nor can models that do not look at position_ids.
    """
    training, place = model.training, next(model.parameters()).device
    model.eval()
    positions = torch.arange(3, device=place).repeat(2)[None]
    lines = [torch.tensor([[*first, 3, 4, 5]], device=place) for first in ([0, 1, 2], [2, 0, 1])]
    try:
        one, other = (
            outputs(model, {"input_ids": line, "position_ids": positions})[:, 3:] for line in lines
        )
    except TypeError:  # no such argument
        return False
    finally:
        model.train(training)
    return torch.equal(one, other)


@torch.no_grad()
def row_nats(
    model: nn.Module,
    rows: Sequence[Encoded],
    batch_size: int,
    pad_id: int,
    advance: Callable[[int], None] = lambda rows: None,
    joins: bool = False,
) -> list[tuple[float, int]]:
    """(summed nats, labelled tokens) of each row, in order.

    advance: told how many more rows are done.   joins: whether the model keeps joined rows apart.
    """
    training = model.training
    model.eval()
    head = causal_parts(model)[1]
    sums: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    for together in batches.by_length(lengths(rows), batch_size):
        batch = joined_rows.laid_out([rows[at] for at in together], pad_id, joins)
        batch = joined_rows.moved(batch, next(model.parameters()).device)
        nats = token_nats(outputs(model, batch), head, batch["labels"])
        counts = [sum(label != IGNORE for label in rows[at].labels[1:]) for at in together]
        for at, part in zip(together, torch.split(nats, counts), strict=True):
            sums[at] = (part.sum().item(), len(part))
        advance(len(together))
    model.train(training)
    return sums


@torch.no_grad()
def step_likelihoods(
    model: nn.Module,
    rows: Sequence[Encoded],
    batch_size: int,
    pad_id: int,
    advance: Callable[[int], None],
    joins: bool = False,
) -> list[list[float]]:
    """What an untuned model says of a step: the geometric mean of its tokens' probabilities.

    A list for each row, with a number for each of its steps.
    """
    scores = []
    for row in rows:
        starts = [row.given, *(end + 1 for end in row.step_ends[:-1])]
        steps = [
            Encoded(row.id, row.ids[: end + 1], start)
            for start, end in zip(starts, row.step_ends, strict=True)
        ]
        scores.append(
            [
                math.exp(-nats / tokens)
                for nats, tokens in row_nats(model, steps, batch_size, pad_id, joins=joins)
            ]
        )
        advance(1)
    return scores
