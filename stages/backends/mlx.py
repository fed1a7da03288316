"""The MLX backend: LoRA on a base in full precision or in MLX's own 4 bits, on Apple silicon and on Linux.

mlx-lm has the models, its LoRA layers and the batched generation; batches, labels, loss, schedule, stopping and checkpoints are
those of the PyTorch backend.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import torch
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from mlx_lm.generate import batch_generate
from mlx_lm.sample_utils import make_sampler

from stages.backends import adapter, planning, pytorch, pytorch_model, scratch
from stages.backends.course import course
from stages.backends.mlx_model import attach, graft, head, load_state, load_weights, peft_state
from stages.backends.progress import Progress
from stages.backends.pytorch import Trained
from stages.backends.stopping import RECENT, Interruption, Watch, out_of_patience
from stages.errors import UserError
from stages.records import Answer, Row
from stages.settings import Lora, Run, Settings
from stages.text import batches
from stages.text.chat import IGNORE, Encoded, end_of_turn


def train(
    run: str,
    spec: Run,
    settings: Settings,
    train_rows: list[Row],
    valid_rows: list[Row],
    checkpoints: Path,
    report_to: Sequence[str] = (),
) -> Trained:
    """As stages.backends.pytorch.train; `report_to` is told nothing beyond logs/."""
    if "completions" in train_rows[0]:
        raise UserError("task reward: backend mlx has no head for steps; use backend: pytorch")
    if settings.memory_limit_mb:
        mx.set_memory_limit(settings.memory_limit_mb * 2**20)
    tokenizer = pytorch_model.load_tokenizer(spec.base, spec.base)
    encoded, too_long = pytorch.encoded_parts(tokenizer, spec, settings, {"train": train_rows, "valid": valid_rows})
    planned = planning.require_room(adapter.locate(spec.base), settings, encoded["train"])
    model = graft(spec.base, spec.parent, settings)
    progress = Progress(run, [len(row.ids) for row in encoded["train"]], [])
    progress.left_out(too_long, settings.max_length_tokens)
    progress.plan_memory(planned.total, settings)
    if report_to:
        progress.say(f"report_to {', '.join(report_to)}: backend mlx reports to logs/ alone")
    loop = Loop(model, encoded["train"], encoded["valid"], settings, tokenizer.pad_token_id, checkpoints, progress)
    loop.run()
    return Trained(
        model, tokenizer, loop.state.log_history, loop.state.global_step, loop.state.best_global_step, len(encoded["train"]),
        too_long, loop.last,
    )  # fmt: skip


class Loop:
    """A training from its first step, or from its last checkpoint, to its last step; then the model has its best weights."""

    def __init__(
        self,
        model: Any,
        train_rows: Sequence[Encoded],
        valid_rows: Sequence[Encoded],
        settings: Settings,
        pad_id: int,
        checkpoints: Path,
        progress: Progress,
    ) -> None:
        from transformers import TrainerState

        self.course = course(train_rows, valid_rows, settings)
        self.model, self.rows, self.settings, self.pad_id = model, train_rows, settings, pad_id
        steps = self.course.plan.steps
        self.rates = learning_rates(settings, steps)
        self.folder, self.progress = checkpoints, progress
        self.last: dict[str, torch.Tensor] = {}
        self.optimizer = optim.AdamW(
            settings.learning_rate, [0.9, settings.adam_beta2], 1e-8, settings.weight_decay, bias_correction=True
        )
        self.optimizer.init(model.trainable_parameters())
        self.state, self.losses = TrainerState(max_steps=steps), dict[int, float]()
        self.watch = Watch(settings, model.args.vocab_size)
        self.gradient = nn.value_and_grad(model, summed_nats)

    def run(self) -> None:
        every, trained = self.model.parameters(), self.model.trainable_parameters()
        sizes = (sum(value.size for _, value in tree_flatten(tree)) for tree in (every, trained))
        self.progress.begin(self.course.plan, *sizes)
        if start := scratch.latest(self.folder, self.progress.say):
            self._resume(start)
        self._tell("on_train_begin")
        interruption, control = Interruption(), SimpleNamespace(should_save=False, should_training_stop=False)
        with interruption:
            while self.state.global_step < self.state.max_steps and not control.should_training_stop:
                norm = self._step()
                self.state.global_step += 1
                self.watch.look(self.state.global_step, self.losses)
                interruption.on_step_end(None, self.state, control)
                self._report(norm, control)
        if interruption.cause and self.state.global_step < self.state.max_steps:
            raise interruption.exit(self.progress.say, self.state.global_step)
        self._tell("on_train_end")
        if "last" in self.settings.save:
            self.last = peft_state(self.model)
        self._load(Path(str(self.state.best_model_checkpoint)))

    def _step(self) -> float:
        """One optimizer step; the norm of its gradient before clipping."""
        at = self.state.global_step
        parts = [
            arrays([self.rows[rows[at]] for at in chosen], self.pad_id)
            for rows in self.course.plan.step(at)
            for chosen in batches.alike([len(self.rows[row].ids) for row in rows])
        ]
        labels = sum(wanted.size for _, _, wanted in parts)
        self.model.train()
        mx.random.seed(self.settings.seed + 1000003 * (at + 1))  # MLX's state cannot be restored; so each step has its own
        nats, total = 0.0, None
        for part in parts:
            value, gradient = self.gradient(self.model, *part)
            total = gradient if total is None else tree_map(mx.add, total, gradient)
            mx.eval(value, total)
            nats += value.item()
        mean, norm = optim.clip_grad_norm(tree_map(lambda each: each / labels, total), self.settings.max_grad_norm)
        self.optimizer.learning_rate = self.rates[at]
        self.optimizer.update(self.model, mean)
        mx.eval(self.model.trainable_parameters(), self.optimizer.state)
        self.losses[at + 1] = nats / labels
        return float(norm.item())

    def _report(self, norm: float, control: SimpleNamespace) -> None:
        """Log, evaluate and save where the step asks for it, as the Trainer does."""
        step, final = self.state.global_step, self.state.global_step >= self.state.max_steps
        if step % min(self.settings.logging_steps, self.state.max_steps) == 0 or final:
            reported = max((entry["step"] for entry in self.state.log_history if "loss" in entry), default=0)
            since = [self.losses[done] for done in range(reported + 1, step + 1)]
            logs = {"loss": math.fsum(since) / len(since), "grad_norm": norm, "learning_rate": self.rates[step - 1]}
            self.state.log_history.append(logs | {"step": step})
            self.losses = {done: loss for done, loss in self.losses.items() if done > step - RECENT}
            self._tell("on_log", logs=logs)
        if step % self.course.every == 0 or final:
            loss = self._evaluate()
            self.state.log_history.append({"eval_loss": loss, "step": step})
            self._tell("on_evaluate", metrics={"eval_loss": loss})
            if self.state.best_metric is None or loss < self.state.best_metric:
                self.state.best_metric, self.state.best_global_step = loss, step
                self.state.best_model_checkpoint = str(self.folder / f"checkpoint-{step}")
            control.should_training_stop |= out_of_patience(self.state.log_history, self.course.patience)
            control.should_save = True
        if control.should_save:
            self._save()
            control.should_save = False

    def _evaluate(self) -> float:
        """Mean nats per labelled token over every validation row, each once."""
        sums = row_nats(self.model, self.course.judges, self.settings.per_device_train_batch_size, self.pad_id)
        return math.fsum(nats for nats, _ in sums) / sum(tokens for _, tokens in sums)

    def _tell(self, event: str, **what: Any) -> None:
        getattr(self.progress, event)(None, self.state, None, **what)

    def _save(self) -> None:
        folder = self.folder / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        mx.save_safetensors(str(folder / "weights.safetensors"), dict(tree_flatten(self.model.trainable_parameters())))
        mx.save_safetensors(str(folder / "optimizer.safetensors"), dict(tree_flatten(self.optimizer.state)))
        (folder / "losses.json").write_text(json.dumps(self.losses), encoding="utf-8")
        self.state.save_to_json(str(folder / "trainer_state.json"))
        scratch.seal(folder)
        kept = sorted(self.folder.glob("checkpoint-*"), key=lambda path: -int(path.name.rsplit("-")[-1]))
        for old in kept[self.settings.save_total_limit :]:
            if str(old) != self.state.best_model_checkpoint:
                scratch.remove(old)

    def _resume(self, folder: Path) -> None:
        self.state = type(self.state).load_from_json(str(folder / "trainer_state.json"))
        self._load(folder)
        self.optimizer.state = tree_unflatten(list(tensors(folder / "optimizer.safetensors").items()))
        losses = json.loads((folder / "losses.json").read_text(encoding="utf-8"))
        self.losses = {int(step): loss for step, loss in losses.items()}

    def _load(self, folder: Path) -> None:
        self.model.load_weights(list(tensors(folder / "weights.safetensors").items()), strict=False)


def tensors(file: Path) -> dict[str, mx.array]:
    found: Any = mx.load(str(file))
    return dict(found)


def learning_rates(settings: Settings, steps: int) -> list[float]:
    """Of each step, by transformers' own schedules."""
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=settings.learning_rate)
    schedule = get_scheduler(settings.lr_scheduler_type, optimizer, min(settings.warmup_steps, steps), steps)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


def arrays(rows: Sequence[Encoded], pad_id: int) -> tuple[mx.array, mx.array, mx.array]:
    """Right-padded ids (B, T), where in their flat order labelled tokens are predicted (N,), and these tokens (N,)."""
    batch = {key: tensor.numpy() for key, tensor in batches.pad(rows, pad_id).items()}
    labels = np.concatenate([batch["labels"][:, 1:], np.full((len(rows), 1), IGNORE)], axis=1)  # position t predicts t + 1
    places = np.flatnonzero(labels != IGNORE)
    return mx.array(batch["input_ids"]), mx.array(places), mx.array(labels.reshape(-1)[places])


def token_nats(model: Any, ids: mx.array, places: mx.array, wanted: mx.array) -> mx.array:
    """Cross-entropy at labelled positions only, in nats: (N,); the (B, T, V) logits are never made."""
    hidden = model.model(ids)
    picked = hidden.reshape(-1, hidden.shape[-1])[places]  # (N, D)
    return nn.losses.cross_entropy(head(model, picked).astype(mx.float32), wanted)


def summed_nats(model: Any, ids: mx.array, places: mx.array, wanted: mx.array) -> mx.array:
    return token_nats(model, ids, places, wanted).sum()


def row_nats(model: Any, rows: Sequence[Encoded], batch_size: int, pad_id: int) -> list[tuple[float, int]]:
    """(summed nats, labelled tokens) of each row, in order."""
    model.eval()
    sums: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    for chosen in batches.by_length([len(row.ids) for row in rows], batch_size):
        ids, places, wanted = arrays([rows[at] for at in chosen], pad_id)
        nats = iter(np.array(token_nats(model, ids, places, wanted), dtype=np.float64).tolist())
        for at in chosen:
            tokens = len(rows[at].ids) - max(rows[at].given, 1)
            sums[at] = (math.fsum(next(nats) for _ in range(tokens)), tokens)
    return sums


def save(trained: Trained, folder: Path, base: str) -> None:
    """`models/RUN` in PEFT's format, as the PyTorch backend writes it."""
    for place, state in ((folder, peft_state(trained.model)), (folder / "last", trained.last)):
        if state:
            adapter.write_peft(place, state, trained.model.peft_config, base)


class Answerer(pytorch.Answerer):
    """A run, or its base, that answers by MLX."""

    def __init__(self, model: str, base: str, settings: Settings) -> None:
        self.settings, self.generation = settings, settings.generation
        self.tokenizer = pytorch_model.load_tokenizer(model, base)
        if not adapter.is_adapter(Path(model)):
            self.model = load_weights(model, settings)
        else:
            config, state = adapter.read(Path(model))
            self.model = load_weights(base, settings)
            attach(self.model, Lora(**{key: config[key] for key in Lora.model_fields}))
            load_state(self.model, state)
        self.model.eval()

    def nats(self, sequences: Sequence[Encoded]) -> list[tuple[float, int]]:
        return row_nats(self.model, sequences, self.generation.batch_size, self.tokenizer.pad_token_id)

    def score_steps(self, rows: Sequence[Row], advance: Callable[[int], None]) -> list[Answer]:
        raise UserError("task reward: backend mlx has no head for steps; use backend: pytorch")

    def continued(self, prompts: Sequence[list[int]], advance: Callable[[int], None]) -> list[str]:
        """As stages.backends.pytorch.Answerer.continued, by mlx-lm's continuous batches."""
        mx.random.seed(self.settings.seed)
        room = self.settings.max_length_tokens
        tokenizer: Any = SimpleNamespace(
            eos_token_ids=[end_of_turn(self.tokenizer)],
            decode=lambda ids: self.tokenizer.decode(ids, skip_special_tokens=True),
        )
        sampler = make_sampler(temp=self.generation.temperature, top_p=self.generation.top_p)
        size = self.generation.batch_size
        options: Any = {"max_tokens": self.generation.max_new_tokens, "sampler": sampler, "completion_batch_size": size}
        answers = []
        for begin in range(0, len(prompts), size):
            ids = [prompt[-room:] for prompt in prompts[begin : begin + size]]
            answers += batch_generate(self.model, tokenizer, ids, **options).texts
            advance(len(ids))
        return answers
