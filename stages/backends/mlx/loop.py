"""A training by MLX with this project's batches, labels, loss, schedule, stopping and
checkpoints.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import torch
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from stages.backends.mlx.models import head, peft_state
from stages.backends.shared import checkpoints
from stages.backends.shared.first_steps import FIRST_STEPS, weights_md5
from stages.backends.shared.kept_state import KeptState, has_ended
from stages.backends.shared.learning_rate import learning_rates
from stages.backends.shared.progress import Progress
from stages.backends.shared.stopping import Interruption, LossWatch, out_of_patience
from stages.backends.shared.training_plan import training_plan
from stages.progress_lines import ProgressLines
from stages.settings import Settings
from stages.text import batches
from stages.text.chat import IGNORE, Encoded
from stages.text.token_files import lengths


class Loop:
    """A training from its first step, or from its last checkpoint, to its last step; then the model
    has its best weights.
    """

    def __init__(
        self,
        model: Any,
        train_rows: Sequence[Encoded],
        valid_rows: Sequence[Encoded],
        settings: Settings,
        pad_id: int,
        folder: Path,
        progress: Progress,
    ) -> None:
        from transformers import TrainerState

        self.plan = training_plan(train_rows, valid_rows, settings)
        self.model, self.rows, self.settings, self.pad_id = model, train_rows, settings, pad_id
        steps = self.plan.batches.steps
        self.rates = learning_rates(settings, steps)
        self.folder, self.progress = folder, progress
        self.last: dict[str, torch.Tensor] = {}
        self.optimizer = optim.AdamW(
            settings.learning_rate,
            [0.9, settings.adam_beta2],
            1e-8,
            settings.weight_decay,
            bias_correction=True,
        )
        self.optimizer.init(model.trainable_parameters())
        self.state, self.kept = TrainerState(max_steps=steps), KeptState(settings.precision)
        self.watch = LossWatch(settings, model.args.vocab_size)
        self.gradient = nn.value_and_grad(model, summed_nats)

    def run(self, first_steps_only: bool) -> None:
        every, trained = self.model.parameters(), self.model.trainable_parameters()
        sizes = (sum(value.size for _, value in tree_flatten(tree)) for tree in (every, trained))
        self.progress.plan_is_made(self.plan.batches, *sizes)
        if start := checkpoints.latest(self.folder, self.progress.say):
            self._resume(start)
        self.progress.training_begins(self.state.global_step)
        interruption = Interruption()
        ends = has_ended(self.state, self.plan, self.kept, first_steps_only)
        with interruption:
            while self.state.global_step < self.state.max_steps and not ends:
                norm = self._step()
                self.state.global_step += 1
                self.kept.lowest_mean = self.watch.check(
                    self.state.global_step, self.kept.losses, self.kept.lowest_mean
                )
                self.progress.step_ends(self.state.global_step)
                interrupted = interruption.has_come()
                first_steps = self.state.global_step == min(FIRST_STEPS, self.state.max_steps)
                if first_steps:
                    self.kept.first_steps_md5 = weights_md5(peft_state(self.model))
                ends = self._report(norm, interrupted) or interrupted
                ends |= first_steps and first_steps_only
        if interruption.cause and self.state.global_step < self.state.max_steps:
            raise interruption.exit(self.progress.say, self.state.global_step)
        self.progress.training_ends()
        if "last" in self.settings.save:
            self.last = peft_state(self.model)
        if self.state.best_model_checkpoint is not None:
            self._load(Path(self.state.best_model_checkpoint))

    def _step(self) -> float:
        """One optimizer step; the norm of its gradient before clipping."""
        at = self.state.global_step
        parts = [
            arrays([self.rows[rows[at]] for at in together], self.pad_id)
            for rows in self.plan.batches.step(at)
            for together in batches.split_by_length([len(self.rows[row].ids) for row in rows])
        ]
        labels = sum(wanted.size for _, _, wanted in parts)
        self.model.train()
        # MLX's state cannot be restored; so each step has its own
        mx.random.seed(self.settings.seed + 1000003 * (at + 1))
        nats, total = 0.0, None
        for part in parts:
            value, gradient = self.gradient(self.model, *part)
            total = gradient if total is None else tree_map(mx.add, total, gradient)
            mx.eval(value, total)
            nats += value.item()
        mean, norm = optim.clip_grad_norm(
            tree_map(lambda each: each / labels, total), self.settings.max_grad_norm
        )
        self.optimizer.learning_rate = self.rates[at]
        self.optimizer.update(self.model, mean)
        mx.eval(self.model.trainable_parameters(), self.optimizer.state)
        self.kept.losses[at + 1] = nats / labels
        return float(norm.item())

    def _report(self, norm: float, interrupted: bool) -> bool:
        """Log, evaluate and save where the step asks for it, as the Trainer does; whether patience
        is at its end.
        """
        step, steps = self.state.global_step, self.state.max_steps
        final, out_of = step >= steps, False
        if step % min(self.settings.logging_steps, steps) == 0 or final:
            loss = self.kept.mean_since_report(self.state.log_history, step)
            rate = self.rates[step - 1]
            self.state.log_history.append(
                {"loss": loss, "grad_norm": norm, "learning_rate": rate, "step": step}
            )
            self.progress.loss_is_reported(step, steps, loss, rate, norm)
        evaluates = step % self.plan.eval_steps == 0 or final
        if evaluates:
            loss, lowest = self._evaluate(), self.state.best_metric
            self.state.log_history.append({"eval_loss": loss, "step": step})
            self.progress.evaluation_ends(step, steps, loss, lowest)
            if lowest is None or loss < lowest:
                self.state.best_metric, self.state.best_global_step = loss, step
                self.state.best_model_checkpoint = str(self.folder / f"checkpoint-{step}")
            out_of = out_of_patience(self.state.log_history, self.plan.patience)
        if evaluates or interrupted:
            self._save()
        return out_of

    def _evaluate(self) -> float:
        """Mean nats per labelled token over every validation row, each once."""
        rows, size = self.plan.valid_rows, self.settings.per_device_train_batch_size
        with ProgressLines("validation", len(rows), "rows", self.progress.say) as lines:
            sums = row_nats(self.model, rows, size, self.pad_id, lines.advance)
        return math.fsum(nats for nats, _ in sums) / sum(tokens for _, tokens in sums)

    def _save(self) -> None:
        folder = self.folder / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        mx.save_safetensors(
            str(folder / "weights.safetensors"),
            dict(tree_flatten(self.model.trainable_parameters())),
        )
        mx.save_safetensors(
            str(folder / "optimizer.safetensors"), dict(tree_flatten(self.optimizer.state))
        )
        self.kept.write(folder)
        self.state.save_to_json(str(folder / "trainer_state.json"))
        checkpoints.seal(folder)
        kept = sorted(
            self.folder.glob("checkpoint-*"), key=lambda path: -int(path.name.rsplit("-")[-1])
        )
        for old in kept[self.settings.save_total_limit :]:
            if str(old) != self.state.best_model_checkpoint:
                checkpoints.remove(old)

    def _resume(self, folder: Path) -> None:
        self.state = type(self.state).load_from_json(str(folder / "trainer_state.json"))
        if best := self.state.best_global_step:  # the folder may have been moved since
            self.state.best_model_checkpoint = str(self.folder / f"checkpoint-{best}")
        self._load(folder)
        self.optimizer.state = tree_unflatten(
            list(tensors(folder / "optimizer.safetensors").items())
        )
        self.kept = KeptState.read(folder, self.settings.precision)

    def _load(self, folder: Path) -> None:
        self.model.load_weights(list(tensors(folder / "weights.safetensors").items()), strict=False)


def tensors(file: Path) -> dict[str, mx.array]:
    found: Any = mx.load(str(file))
    return dict(found)


def arrays(rows: Sequence[Encoded], pad_id: int) -> tuple[mx.array, mx.array, mx.array]:
    """Right-padded ids (B, T), where in their flat order labelled tokens are predicted (N,), and
    these tokens (N,).
    """
    batch = {key: tensor.numpy() for key, tensor in batches.pad(rows, pad_id).items()}
    # position t predicts t + 1
    labels = np.concatenate([batch["labels"][:, 1:], np.full((len(rows), 1), IGNORE)], axis=1)
    places = np.flatnonzero(labels != IGNORE)
    return mx.array(batch["input_ids"]), mx.array(places), mx.array(labels.reshape(-1)[places])


def token_nats(model: Any, ids: mx.array, places: mx.array, wanted: mx.array) -> mx.array:
    """Cross-entropy at labelled positions only, in nats: (N,); the (B, T, V) logits are never
    made.
    """
    hidden = model.model(ids)
    picked = hidden.reshape(-1, hidden.shape[-1])[places]  # (N, D)
    return nn.losses.cross_entropy(head(model, picked).astype(mx.float32), wanted)


def summed_nats(model: Any, ids: mx.array, places: mx.array, wanted: mx.array) -> mx.array:
    return token_nats(model, ids, places, wanted).sum()


def row_nats(
    model: Any,
    rows: Sequence[Encoded],
    batch_size: int,
    pad_id: int,
    advance: Callable[[int], None] = lambda rows: None,
) -> list[tuple[float, int]]:
    """(summed nats, labelled tokens) of each row, in order.

    advance: told how many more rows are done.
    """
    model.eval()
    sums: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    for together in batches.by_length(lengths(rows), batch_size):
        ids, places, wanted = arrays([rows[at] for at in together], pad_id)
        nats = iter(np.array(token_nats(model, ids, places, wanted), dtype=np.float64).tolist())
        for at in together:
            tokens = sum(label != IGNORE for label in rows[at].labels[1:])
            sums[at] = (math.fsum(next(nats) for _ in range(tokens)), tokens)
        advance(len(together))
    return sums
