"""transformers' Trainer with this project's batches, loss, evaluation and checkpoints."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    TrainerControl,
    TrainerState,
)

from stages.backends.pytorch import attention
from stages.backends.pytorch.loss import (
    causal_model,
    isolates_packed_rows,
    row_nats,
    summed_nats,
)
from stages.backends.pytorch.process_group import ProcessGroup
from stages.backends.pytorch.spread_trainer import SpreadTrainer
from stages.backends.pytorch.step_head import step_scores, summed_step_nats
from stages.backends.shared import dealing
from stages.backends.shared.answering import step_nats
from stages.backends.shared.checkpoints import seal
from stages.backends.shared.kept_state import KeptState
from stages.backends.shared.progress import Progress
from stages.backends.shared.stopping import LossWatch
from stages.backends.shared.training_plan import TrainingPlan
from stages.errors import UserError
from stages.files import digest
from stages.progress_lines import ProgressLines
from stages.settings import Settings
from stages.text import batches
from stages.text.chat import Encoded
from stages.text.joined_rows import laid_out
from stages.text.token_files import lengths


class LabelledTrainer(SpreadTrainer):
    """The micro-batches of a plan, the summed loss at labelled positions, and an evaluation that
    keeps sums.

    tokens_at_once: halved where memory runs out; rows are then computed in more passes that add up
    to the same step.
    """

    def __init__(
        self,
        planned: TrainingPlan,
        pad_id: int,
        settings: Settings,
        progress: Progress,
        kept: KeptState,
        group: ProcessGroup,
        make_model: Callable[[], nn.Module],
        **arguments: Any,
    ) -> None:
        super().__init__(group, make_model, settings, **arguments)
        self.valid, self.pad_id = planned.valid_rows, pad_id
        self.progress = progress
        choices = (
            2 if self.train_dataset[0].step_ends else causal_model(self.model).config.vocab_size
        )
        self.watch, self.kept = LossWatch(settings, choices), kept
        self.last: dict[str, Tensor] = {}
        with self.autocast():
            self.joins = attention.joins_rows(self.model)
            self.packs = self.joins or isolates_packed_rows(self.model)
        self.lengths = lengths(self.train_dataset)
        size = settings.per_device_train_batch_size
        self.plan = dealing.share(planned.batches, self.lengths, size, group.rank, group.size)
        if self.packs:
            self.plan = batches.in_fewer_passes(self.plan, self.lengths, size)
        self.tokens_at_once, self.computed, self.passes = math.inf, (-1, 0), 0
        self.model_accepts_loss_kwargs = (
            True  # the loss is divided by the labels of the whole accumulation window
        )

    def get_train_dataloader(self) -> DataLoader[Encoded]:
        return DataLoader(
            self.train_dataset, batch_sampler=self.plan.micro_batches, collate_fn=self._pad
        )

    def _pad(self, rows: Sequence[Encoded]) -> dict[str, Any]:
        return laid_out(rows, self.pad_id, self.joins, self.packs, self.plan.room)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        # a step's rows can take fewer passes than it has micro-batches
        if not len(inputs["input_ids"]):
            if self.computed[1] > self.passes:
                return torch.zeros((), device=self.args.device, requires_grad=True)
            # Others have rows in this pass, whose sharded layers come from all processes.
            inputs, num_items_in_batch = self._pad([self.train_dataset[0]]), math.inf
        with self.autocast():
            how = summed_step_nats if "step_labels" in inputs else summed_nats
            return self.computed_by(how, inputs) / num_items_in_batch

    def autocast(self) -> torch.autocast:
        """Opened around the loss here: accelerate opens its own around the model's `forward`, which
        the loss does not call.
        """
        half = self.settings.precision != "float32"
        return torch.autocast(
            self.args.device.type,
            getattr(torch, self.settings.precision) if half else None,
            enabled=half,
        )

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        before = self.state.global_step
        position = self.computed[1] if self.computed[0] == before else 0
        window = self.plan.step(before)[: position + 1]
        self.computed = (before, position + 1)
        if self.group.size > 1:
            self._begin_pass(before, position)
        loss: Tensor | None = None
        try:
            loss = self._pass(model, window[-1], inputs, num_items_in_batch)
        # tried again outside of this block: the error holds on to what the pass had in memory
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
        while loss is None:
            loss = self._repeat_with_fewer_tokens(model, window, num_items_in_batch)
        losses = self.kept.losses
        losses[before + 1] = (losses[before + 1] if position else 0.0) + loss.item()
        if self.accelerator.sync_gradients:
            losses[before + 1] = self.group.sum(losses[before + 1])
            if self.group.size > 1 and not self.computed_by.is_sharded:
                self.group.sum_gradients(self.learned().values())
        alone = self.group.size == 1
        if self.accelerator.sync_gradients or (alone and not math.isfinite(losses[before + 1])):
            self.kept.lowest_mean = self.watch.check(before + 1, losses, self.kept.lowest_mean)
        return loss

    def _begin_pass(self, step: int, position: int) -> None:
        # By its place alone, so that a training goes on alike wherever it is taken up.
        torch.manual_seed(
            digest(f"{self.settings.seed} {step} {position} {self.group.rank}") % 2**63
        )
        if self.computed_by.is_sharded and position == 0:
            self.passes = self.group.most(sum(map(bool, self.plan.step(step))))

    def _pass(
        self, model: nn.Module, rows: Sequence[int], inputs: dict[str, Any] | None, labels: Any
    ) -> Tensor:
        """Forward and backward over a micro-batch, whole or in parts.

        Returns its share of the step's loss.
        """
        losses, parts = [], batches.halved(rows, self.lengths, self.tokens_at_once)
        for part in parts:
            self.computing = part
            batch = (
                inputs
                if inputs and len(parts) == 1
                else self._pad([self.train_dataset[row] for row in part])
            )
            offload = torch.autograd.graph.save_on_cpu(pin_memory=self.args.device.type == "cuda")
            with offload if self.settings.offload_activations else nullcontext():
                losses.append(super().training_step(model, batch, labels))
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]

    def _repeat_with_fewer_tokens(
        self, model: nn.Module, window: Sequence[Sequence[int]], labels: Any
    ) -> Tensor | None:
        """Make the step so far again with half as many tokens at once.

        All of it, because the pass that ran out of memory left its gradients incomplete. Returns
        None where memory runs out again.
        """
        if self.computed_by.is_sharded:
            raise UserError(
                f"step {self.state.global_step + 1}: out of memory with {len(self.computing)} rows "
                "at once; nothing was written. With strategy fsdp all processes make the same "
                "passes: set a smaller per_device_train_batch_size"
            )
        if len(self.computing) == 1:
            row = self.train_dataset[self.computing[0]]
            raise UserError(
                f"step {self.state.global_step + 1}: out of memory with row {row.id} alone, "
                f"{len(row.ids)} tokens; nothing was "
                f"written. Lower max_length_tokens (now {self.settings.max_length_tokens}), set "
                f"gradient_checkpointing: true "
                "or method: qlora, or raise memory_limit_mb"
            )
        tokens = sum(self.lengths[row] for row in self.computing)
        self.tokens_at_once = tokens // 2
        effective = self.settings.per_device_train_batch_size * self.plan.accumulation
        self.progress.say(
            f"out of memory at step {self.state.global_step + 1} with {len(self.computing)} rows "
            f"at once, {tokens} tokens: "
            f"from here on at most {self.tokens_at_once} tokens, in more passes; a step still sees "
            f"{effective} rows"
        )
        model.zero_grad()
        if self.args.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            return [self._pass(model, rows, None, labels) for rows in window][-1]
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            return None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Report the mean loss over all steps since the last report.

        The Trainer's own mean begins anew with every resume.
        """
        if "loss" in logs:
            logs["loss"] = self.kept.mean_since_report(
                self.state.log_history, self.state.global_step
            )
        super().log(logs, start_time)

    def _save_checkpoint(self, *arguments: Any) -> None:
        super()._save_checkpoint(*arguments)
        if self.group.leads:
            folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
            self.kept.write(folder)
            seal(folder)
        self.group.meet()

    def finish(self, checkpoint: Path, state: TrainerState) -> None:
        """What follows the last step, which the checkpoint is of. The Trainer would make another
        step first where the last one was not the last of an epoch.
        """
        self.state = state
        self._load_from_checkpoint(str(checkpoint))
        self.progress.training_begins(self.state.global_step)
        self.progress.training_ends()
        self._load_best_model()

    def _load_best_model(self) -> None:
        """Keep the weights of the last step where the settings want them, then load the best.

        The Trainer calls it once, after the last step.
        """
        if "last" in self.settings.save:
            learned = self.whole_learned()
            self.last = {name: weights.detach().cpu().clone() for name, weights in learned.items()}
        if not self.group.leads:  # nobody asks the others for weights
            return
        if best := self.state.best_global_step:  # the folder may have been moved since
            self.state.best_model_checkpoint = f"{self.args.output_dir}/checkpoint-{best}"
        if self.computed_by.is_sharded:
            self.model = self.make_model()  # a whole one, to load the weights into
        super()._load_best_model()

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Mean nats per labelled token or step over every validation row, each once; sums are kept,
        logits are not.
        """
        size, every = self.args.per_device_eval_batch_size, range(len(self.valid))
        own = dealing.every_nth(lengths(self.valid), self.group.rank, self.group.size)
        rows = [self.valid[at] for at in own]
        lines = ProgressLines("validation", len(rows), "rows", self.progress.say)
        with self.autocast(), lines:
            how = step_scores if rows[0].step_ends else row_nats
            found = self.computed_by(how, rows, size, self.pad_id, lines.advance, self.joins)
        if rows[0].step_ends:
            found = [step_nats(of, row.step_labels) for of, row in zip(found, rows, strict=True)]
        everyones = dict[int, Any]()
        for theirs in self.group.gather(list(zip(own, found, strict=True))):
            everyones |= theirs
        sums = [everyones[at] for at in every]
        nats, tokens = math.fsum(nats for nats, _ in sums), sum(tokens for _, tokens in sums)
        metrics = {"eval_loss": nats / tokens}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics
