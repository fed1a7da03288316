"""A head that says how right each step of a solution is, from the decoder's output at the step's last token."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backends.adapter import HEAD, STEP_HEAD
from stages.backends.labelled import causal_model
from stages.text import batches
from stages.text.chat import IGNORE, Encoded


class StepHead(nn.Module):
    """(N, D) -> (N,): a perceptron with one hidden layer as wide as the model; its logit's sigmoid is the score."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.score(F.gelu(self.hidden(hidden.to(self.score.weight.dtype)))).squeeze(-1)
        return logits


def attach(model: nn.Module) -> None:
    """A fresh head as a part of the model, so that the Trainer and PEFT train, checkpoint and restore it."""
    config: Any = model.config
    device = next(model.parameters()).device
    model.add_module(STEP_HEAD, StepHead(config.get_text_config().hidden_size).to(device))


def load(model: nn.Module, folder: Path) -> None:
    """The head of a trained run."""
    from safetensors.torch import load_file

    attach(model)
    model.get_submodule(STEP_HEAD).load_state_dict(load_file(folder / HEAD))


def summed_step_nats(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Summed binary cross-entropy at the labelled steps of a right-padded batch, in nats.

    Labels are shares of rightness and stay floats: 0.7 draws the score to 0.7 (a proper scoring rule), not to 0 or 1.
    """
    keep = batch["labels"] != IGNORE  # (B, T)
    logits = _logits(model, batch["input_ids"], keep)
    return F.binary_cross_entropy_with_logits(logits, batch["step_labels"][keep], reduction="sum")


@torch.no_grad()
def step_scores(model: nn.Module, rows: Sequence[Encoded], batch_size: int, pad_id: int) -> list[list[float]]:
    """The score of each step of each row, labelled or not."""
    training = model.training
    model.eval()
    scores: list[list[float]] = [[] for _ in rows]
    for chosen in batches.by_length([len(row.ids) for row in rows], batch_size):
        ids = batches.pad([rows[at] for at in chosen], pad_id)["input_ids"].to(next(model.parameters()).device)
        ends = torch.zeros_like(ids, dtype=torch.bool)
        for place, at in enumerate(chosen):
            ends[place, list(rows[at].step_ends)] = True
        found = torch.sigmoid(_logits(model, ids, ends)).tolist()
        for at in chosen:
            count = len(rows[at].step_ends)
            scores[at], found = found[:count], found[count:]
    model.train(training)
    return scores


def nats(scores: Sequence[float], labels: Sequence[float | None]) -> tuple[float, int]:
    """(summed binary cross-entropy, number) of the labelled steps among those that were scored."""
    pairs = [(score, label) for score, label in zip(scores, labels, strict=False) if label is not None]
    if not pairs:
        return 0.0, 0
    made, wanted = torch.tensor(pairs, dtype=torch.float64).T
    return F.binary_cross_entropy(made, wanted, reduction="sum").item(), len(pairs)


def _logits(model: nn.Module, ids: Tensor, places: Tensor) -> Tensor:
    """(B, T) ids and (B, T) marks -> (N,) logits at the marks."""
    causal = causal_model(model)
    hidden = causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state  # (B, T, D)
    logits: Tensor = causal.get_submodule(STEP_HEAD)(hidden[places]).float()
    return logits
