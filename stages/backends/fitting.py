"""transformers' Trainer with this project's batches, loss and evaluation."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerControl, TrainerState, TrainingArguments

from stages.backends.labelled import row_nats, summed_nats
from stages.backends.progress import Progress
from stages.backends.reward_head import nats as step_nats
from stages.backends.reward_head import step_scores, summed_step_nats
from stages.records import UserError
from stages.settings import Settings
from stages.text import batches
from stages.text.chat import Encoded


class LabelledTrainer(Trainer):
    """The micro-batches of a plan, the summed loss at labelled positions, and an evaluation that keeps sums."""

    def __init__(self, plan: batches.Plan, valid: Sequence[Encoded], pad_id: int, precision: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.plan, self.valid, self.pad_id, self.bfloat16 = plan, valid, pad_id, precision == "bfloat16"
        self.model_accepts_loss_kwargs = True  # the loss is divided by the labels of the whole accumulation window

    def get_train_dataloader(self) -> DataLoader[Encoded]:
        return DataLoader(self.train_dataset, batch_sampler=self.plan.micro_batches, collate_fn=self._pad)

    def _pad(self, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        return batches.pad(rows, self.pad_id)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not len(inputs["input_ids"]):  # an epoch's last batch can have fewer rows than micro-batches
            return sum(parameter.sum() for parameter in model.parameters() if parameter.requires_grad) * 0.0
        with self.autocast():
            nats = summed_step_nats(model, inputs) if "step_labels" in inputs else summed_nats(model, inputs)
            return nats / num_items_in_batch

    def autocast(self) -> torch.autocast:
        """Opened here: accelerate opens its own around `forward` of the whole model, which `labelled_loss` goes past."""
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.bfloat16)

    def training_step(self, *arguments: Any, **named: Any) -> Tensor:
        loss = super().training_step(*arguments, **named)
        if not torch.isfinite(loss):
            raise UserError(
                f"step {self.state.global_step + 1}: the loss is {loss.item()}; nothing was written. Lower learning_rate "
                f"(now {self.args.learning_rate:g}) or max_grad_norm (now {self.args.max_grad_norm:g}), or set precision: "
                "float32"
            )
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Mean nats per labelled token or step over every validation row, each once; sums are kept, logits are not."""
        with self.autocast():
            size = self.args.per_device_eval_batch_size
            if self.valid[0].step_ends:
                scores = step_scores(self.model, self.valid, size, self.pad_id)
                sums = [step_nats(found, row.step_labels) for found, row in zip(scores, self.valid, strict=True)]
            else:
                sums = row_nats(self.model, self.valid, size, self.pad_id)
        nats, tokens = math.fsum(nats for nats, _ in sums), sum(tokens for _, tokens in sums)
        metrics = {"eval_loss": nats / tokens}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def fit(
    model: nn.Module,
    train_rows: Sequence[Encoded],
    valid_rows: Sequence[Encoded],
    settings: Settings,
    pad_id: int,
    checkpoints: Path,
    progress: Progress,
) -> TrainerState:
    """Train in place; at the end the model holds its weights of the lowest validation loss.

    checkpoints: a training that was killed goes on from the last one there, to the same bytes.
    """
    accumulation = settings.gradient_accumulation_steps
    effective = settings.per_device_train_batch_size * accumulation
    steps = settings.max_steps or batches.steps_in(len(train_rows), effective, settings.num_train_epochs)
    plan = batches.plan(
        [len(row.ids) for row in train_rows], settings.per_device_train_batch_size, accumulation, steps, settings.seed
    )
    every = settings.eval_steps or min(steps, batches.steps_in(len(train_rows), effective, 1))
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        seed=settings.seed,
        max_steps=steps,
        per_device_train_batch_size=settings.per_device_train_batch_size,
        per_device_eval_batch_size=settings.per_device_train_batch_size,
        gradient_accumulation_steps=accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=min(settings.warmup_steps, steps),
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        max_grad_norm=settings.max_grad_norm,
        use_cpu=not torch.cuda.is_available(),
        # On a CPU the paged optimizers, which there is nothing to page for, are the plain one.
        optim=settings.optim if torch.cuda.is_available() else "adamw_torch",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=settings.save_total_limit,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=min(settings.logging_steps, steps),
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=progress.report_to,
        run_name=progress.run,
        remove_unused_columns=False,
    )
    patience = settings.early_stopping.patience
    if settings.early_stopping.unit == "epochs":
        patience *= max(1, round(batches.steps_in(len(train_rows), effective, 1) / every))
    trainer = LabelledTrainer(
        plan,
        valid_rows,
        pad_id,
        settings.precision,
        model=model,
        args=arguments,
        train_dataset=train_rows,
        eval_dataset=valid_rows,
        callbacks=[progress, *([EarlyStoppingCallback(patience)] if patience else [])],
    )
    trainer.pop_callback(PrinterCallback)
    progress.begin(plan, model)
    trainer.train(resume_from_checkpoint=latest(checkpoints))
    return trainer.state


def latest(folder: Path) -> str | None:
    """The newest complete checkpoint: the Trainer writes trainer_state.json last."""
    complete = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(complete, key=lambda path: int(path.name.rsplit("-")[-1]))) if complete else None
