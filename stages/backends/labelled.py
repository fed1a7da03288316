"""Loss at labelled positions only."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.text import batches
from stages.text.chat import IGNORE, Encoded


def labelled_loss(hidden: Tensor, head: nn.Module, labels: Tensor) -> Tensor:
    """Summed cross-entropy over labelled positions only, in nats.

    hidden: (B, T, D), the last layer's output.   head: D -> V.   labels: (B, T), -100 where nothing is learned.

    Most positions of a conversation are prompt, so the (B, T, V) logits are never made. The sum, not the mean, is
    returned: micro-batches with unequal numbers of labels must add up to the loss of the whole batch (transformers#37766).
    """
    keep = labels[:, 1:] != IGNORE  # (B, T-1): position t predicts token t+1
    logits = head(hidden[:, :-1][keep])  # (N, D) -> (N, V)
    return F.cross_entropy(logits.float(), labels[:, 1:][keep], reduction="sum")


def causal_parts(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """(decoder stack, language-model head), inside PEFT's wrapper too, told by its mark: importing PEFT takes a second."""
    causal: Any = model
    if hasattr(model, "peft_config"):
        causal = causal.base_model.model
    return causal.get_decoder(), causal.get_output_embeddings()


def summed_nats(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """`labelled_loss` of a right-padded batch. Causal attention never looks right, so padding needs no mask there."""
    decoder, head = causal_parts(model)
    return labelled_loss(decoder(input_ids=batch["input_ids"], use_cache=False).last_hidden_state, head, batch["labels"])


def held_out_loss(model: nn.Module, rows: Sequence[Encoded], batch_size: int, pad_id: int) -> tuple[float, int]:
    """(summed nats, labelled tokens) over the rows."""
    sums = row_nats(model, rows, batch_size, pad_id)
    return math.fsum(nats for nats, _ in sums), sum(tokens for _, tokens in sums)


@torch.no_grad()
def row_nats(model: nn.Module, rows: Sequence[Encoded], batch_size: int, pad_id: int) -> list[tuple[float, int]]:
    """(summed nats, labelled tokens) of each row, in order."""
    training = model.training
    model.eval()
    decoder, head = causal_parts(model)
    sums: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    for chosen in batches.by_length([len(row.ids) for row in rows], batch_size):
        batch = batches.pad([rows[at] for at in chosen], pad_id)
        batch = {key: tensor.to(next(model.parameters()).device) for key, tensor in batch.items()}
        hidden = decoder(input_ids=batch["input_ids"], use_cache=False).last_hidden_state
        keep = batch["labels"][:, 1:] != IGNORE  # (B, T-1)
        nats = F.cross_entropy(head(hidden[:, :-1][keep]).float(), batch["labels"][:, 1:][keep], reduction="none")  # (N,)
        counts = keep.sum(dim=1).tolist()
        for at, part in zip(chosen, torch.split(nats, counts), strict=True):
            sums[at] = (part.sum().item(), len(part))
    model.train(training)
    return sums
