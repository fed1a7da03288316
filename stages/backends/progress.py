"""What a training says while it runs: one line format on the screen and in logs/RUN.log, as records in logs/RUN.jsonl."""

import json
import math
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from stages.records import UserError
from stages.settings import Settings
from stages.text.batches import Plan

MIB = 2**20
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # of getrusage's ru_maxrss, in bytes


class Progress(TrainerCallback):
    """Prints and files each report; stops a training on a CPU that takes more memory than it may."""

    def __init__(self, run: str, row_tokens: list[int], report_to: Sequence[str] = (), logs: Path = Path("logs")) -> None:
        """row_tokens: token count of each training row, for tokens/s.   report_to: who else is told."""
        logs.mkdir(exist_ok=True)
        self.text, self.records = logs / f"{run}.log", logs / f"{run}.jsonl"
        self.run, self.row_tokens, self.report_to = run, row_tokens, list(report_to)
        self.at = (0, time.monotonic())
        self.trained, self.warned = math.inf, False
        self.planned = self.limit = 0
        # transformers reads these where its TensorBoard and W&B callbacks begin.
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(logs / "tensorboard" / run)
        os.environ |= {"WANDB_DIR": str(logs), "WANDB_NAME": run, "WANDB_PROJECT": os.environ.get("WANDB_PROJECT", "tsugiki")}
        if not os.environ.get("WANDB_API_KEY"):  # without an account; `wandb sync logs/wandb/*` sends it later
            os.environ.setdefault("WANDB_MODE", "offline")

    def begin(self, plan: Plan, every: int, trained: int) -> None:
        """every, trained: how many parameters there are, and how many of them learn."""
        steps = [[row for batch in plan.step(at) for row in batch] for at in range(plan.steps)]
        self.step_tokens = [sum(self.row_tokens[row] for row in rows) for rows in steps]
        batch = math.ceil(max(map(len, steps)) / plan.accumulation)
        packed = f", in {sum(map(bool, plan.micro_batches)) / plan.steps:.1f} passes each" if plan.room else ""
        self.say(
            f"{every:,} parameters, {trained:,} of them trained; {len(self.row_tokens):,} rows, "
            f"{sum(self.row_tokens):,} tokens; {plan.steps:,} steps of {batch} x {plan.accumulation} rows{packed}"
        )

    def left_out(self, rows: int, max_length_tokens: int) -> None:
        if rows:
            self.say(f"{rows} rows left out: their answers do not fit max_length_tokens {max_length_tokens}")

    def plan_memory(self, planned: int, settings: Settings) -> None:
        """planned: bytes. On a CPU the limit is watched here; on CUDA PyTorch refuses what goes past it."""
        self.planned, self.limit = planned, settings.memory_limit_mb

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if torch.cuda.is_available():
            measured, what = torch.cuda.max_memory_reserved(), "reserved on the device"
        else:
            measured, what = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT, "resident at most"
        self.say(
            f"memory: {self.planned / MIB:,.0f} MB planned, {measured / MIB:,.0f} MB {what}",
            **{"memory/planned_bytes": self.planned, "memory/measured_bytes": measured},
        )

    def say(self, line: str, **record: Any) -> None:
        print(line, flush=True)
        with self.text.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        with self.records.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"timestamp": round(time.time(), 3), **(record or {"message": line})}) + "\n")

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.at = (state.global_step, time.monotonic())
        if state.global_step:
            self.say(f"resumed at step {state.global_step}")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.limit and args.device.type == "cpu" and (taken := psutil.Process().memory_info().rss) > self.limit * MIB:
            raise UserError(
                f"step {state.global_step}: {taken / MIB:,.0f} MB resident, more than memory_limit_mb {self.limit}; nothing "
                "was written. Set a smaller per_device_train_batch_size or gradient_checkpointing: true, or raise the limit"
            )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        step = state.global_step
        if logs and "loss" in logs:
            (before, then), now = self.at, time.monotonic()
            seconds = max(now - then, 1e-9)
            self.at, self.trained = (step, now), logs["loss"]
            rate, tokens = (step - before) / seconds, sum(self.step_tokens[before:step]) / seconds
            self.say(
                f"Iter {step}/{state.max_steps}: Train loss {logs['loss']:.4f}, ppl {_perplexity(logs['loss'])}, "
                f"Learning Rate {logs['learning_rate']:.3e}, It/sec {rate:.2f}, Tokens/sec {tokens:.0f}",
                step=step,
                **{f"train/{key}": value for key, value in logs.items() if key != "epoch"},
                tokens_per_second=round(tokens, 1),
            )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        loss = (metrics or {})["eval_loss"]
        better = state.best_metric is None or loss < state.best_metric
        self.say(
            f"Iter {state.global_step}/{state.max_steps}: Val loss {loss:.4f}, ppl {_perplexity(loss)}"
            f"{' (best so far)' if better else ''}",
            **{"step": state.global_step, "val/loss": loss},
        )
        if not better and not self.warned and loss > self.trained and loss > 1.02 * (state.best_metric or loss):
            self.warned = True
            self.say(
                f"overfitting: validation loss {loss:.4f} is {loss - self.trained:.4f} above training loss {self.trained:.4f} "
                f"and {loss - state.best_metric:.4f} above its best; the best weights are kept. Fewer epochs, more data, a "
                "lower rank or more dropout close the gap"
            )
        self.at = (state.global_step, time.monotonic())  # the time that evaluating took is no training time


def _perplexity(loss: float) -> str:
    return f"{math.exp(min(loss, 50)):.2f}"
