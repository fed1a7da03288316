"""Loss at labelled positions only, and the Trainer that uses it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer

from stages.records import UserError
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
    """(decoder stack, language-model head) inside any wrapper."""
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    return causal.get_decoder(), causal.get_output_embeddings()  # type: ignore[operator]


def summed_nats(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """`labelled_loss` of a right-padded batch. Causal attention never looks right, so padding needs no mask there."""
    decoder, head = causal_parts(model)
    return labelled_loss(decoder(input_ids=batch["input_ids"], use_cache=False).last_hidden_state, head, batch["labels"])


class LabelledTrainer(Trainer):
    """transformers' Trainer with this project's batches, loss and evaluation."""

    def __init__(self, plan: batches.Plan, valid: Sequence[Encoded], pad_id: int, precision: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.plan, self.valid, self.pad_id, self.bfloat16 = plan, valid, pad_id, precision == "bfloat16"
        self.model_accepts_loss_kwargs = True  # the loss is divided by the labels of the whole accumulation window

    def get_train_dataloader(self) -> DataLoader:
        return DataLoader(self.train_dataset, batch_sampler=self.plan.micro_batches, collate_fn=self._pad)  # type: ignore[arg-type]

    def _pad(self, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        return batches.pad(rows, self.pad_id)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        if not len(inputs["input_ids"]):  # an epoch's last batch can have fewer rows than micro-batches
            return sum(parameter.sum() for parameter in model.parameters() if parameter.requires_grad) * 0.0
        with self.autocast():
            return summed_nats(model, inputs) / num_items_in_batch

    def autocast(self) -> torch.autocast:
        """Opened here: accelerate opens its own around `forward` of the whole model, which `labelled_loss` goes past."""
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.bfloat16)

    def training_step(self, *arguments: Any, **named: Any) -> Tensor:
        loss = super().training_step(*arguments, **named)
        if not torch.isfinite(loss):
            raise UserError(
                f"step {self.state.global_step + 1}: the loss is {loss.item()}; nothing was written. Lower learning_rate "
                f"(now {self.args.learning_rate:g}) or max_grad_norm (now {self.args.max_grad_norm:g}), or set precision: float32"
            )
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Mean nats per labelled token over every validation row, each once; sums are kept, logits are not."""
        with self.autocast():
            nats, tokens = held_out_loss(self.model, self.valid, self.args.per_device_eval_batch_size, self.pad_id)
        metrics = {"eval_loss": nats / tokens}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


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
        for at, part in zip(chosen, nats.split(counts), strict=True):
            sums[at] = (part.sum().item(), len(part))
    model.train(training)
    return sums
