"""A head that scores each step of a solution by what the backbone makes of the step's tokens."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backends.pytorch.loss import causal_model, outputs, token_nats
from stages.backends.shared.model_folders import HEAD, STEP_HEAD
from stages.text import batches, joined_rows
from stages.text.chat import IGNORE, Encoded
from stages.text.token_files import lengths


class StepHead(nn.Module):
    """A logit for each step, whose sigmoid is its score: a step is as right as the least right of
    its tokens.

    A token is judged by the decoder's output at it, by a perceptron with one hidden layer, and by
    how much it surprises the backbone's language model, its nats. From the output at a step's end
    alone a small backbone's head did not learn what the untuned model knows (AUC 0.72 against 0.84
    for its likelihoods): the surprise is in no later token's output.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(hidden_size + 1, hidden_size)
        self.score = nn.Linear(hidden_size, 1)
        self.surprise = nn.Parameter(torch.ones(()))

    def forward(self, outputs: Tensor, nats: Tensor, steps: Tensor) -> Tensor:
        """(M, D) outputs at M tokens, their (M,) nats, (M,) numbers of their steps -> (S,)
        logits.
        """
        features = torch.cat([outputs.to(nats.dtype), nats[:, None]], dim=-1)  # (M, D + 1)
        judged: Tensor = self.score(F.gelu(self.hidden(features))).squeeze(-1)
        wrong = judged.float() + self.surprise * nats  # (M,)
        # Log-sum-exp over each step's tokens: a soft maximum of wrongness.
        count = int(steps.max()) + 1
        largest = wrong.new_full((count,), -torch.inf).scatter_reduce(
            0, steps, wrong.detach(), "amax"
        )
        # expm1 and log1p, because exp and log are MKL's and differ by a processor's vendor. The
        # largest's own part of the sum is 1.
        shares = torch.expm1(wrong - largest[steps]) + 1
        others = wrong.new_full((count,), -1.0).index_add(0, steps, shares)
        return -(largest + torch.log1p(others))


def attach(model: nn.Module) -> None:
    """A fresh head as a part of the model, so that the Trainer and PEFT train, checkpoint and
    restore it.
    """
    config: Any = model.config
    device = next(model.parameters()).device
    model.add_module(STEP_HEAD, StepHead(config.get_text_config().hidden_size).to(device))


def load(model: nn.Module, folder: Path) -> None:
    """The head of a trained run."""
    from safetensors.torch import load_file

    attach(model)
    model.get_submodule(STEP_HEAD).load_state_dict(load_file(folder / HEAD))


def summed_step_nats(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """Summed binary cross-entropy at the labelled steps of a batch, in nats.

    Labels are shares of rightness and stay floats: 0.7 draws the score to 0.7 (a proper scoring
    rule), not to 0 or 1.
    """
    keep = ~batch["step_labels"].isnan()
    return F.binary_cross_entropy_with_logits(
        _logits(model, batch)[keep], batch["step_labels"][keep], reduction="sum"
    )


@torch.no_grad()
def step_scores(
    model: nn.Module,
    rows: Sequence[Encoded],
    batch_size: int,
    pad_id: int,
    advance: Callable[[int], None] = lambda rows: None,
    joins: bool = False,
) -> list[list[float]]:
    """The score of each step of each row, labelled or not.

    advance: told how many more rows are done.   joins: as in `loss.row_nats`.
    """
    training = model.training
    model.eval()
    scores: list[list[float]] = [[] for _ in rows]
    device = next(model.parameters()).device
    for together in batches.by_length(lengths(rows), batch_size):
        batch = joined_rows.laid_out([rows[at] for at in together], pad_id, joins)
        batch = joined_rows.moved(batch, device)
        found = torch.sigmoid(_logits(model, batch)).tolist() if "steps" in batch else []
        for at in together:
            count = len(rows[at].step_ends)
            scores[at], found = found[:count], found[count:]
        advance(len(together))
    model.train(training)
    return scores


def _logits(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """(S,) logits of a batch's steps."""
    causal = causal_model(model)
    hidden = outputs(model, batch)  # (B, T, D)
    labels = torch.where(batch["steps"] >= 0, batch["input_ids"], IGNORE)
    # (M,); a prompt stands before every step
    nats = token_nats(hidden, causal.get_output_embeddings(), labels)
    keep = labels[:, 1:] != IGNORE  # (B, T-1)
    head: StepHead = causal.get_submodule(STEP_HEAD)
    return head(hidden[:, 1:][keep], nats, batch["steps"][:, 1:][keep])
