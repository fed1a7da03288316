"""What a training says while it runs: one line format on the screen and in logs/RUN.log, as records in logs/RUN.jsonl."""

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from stages.text.batches import Plan


class Progress(TrainerCallback):
    """Prints and files each report; also sees to it that the last step is evaluated, so that it can be the best."""

    def __init__(self, run: str, row_tokens: list[int], report_to: Sequence[str] = (), logs: Path = Path("logs")) -> None:
        """row_tokens: token count of each training row, for tokens/s.   report_to: who else is told."""
        logs.mkdir(exist_ok=True)
        self.text, self.records = logs / f"{run}.log", logs / f"{run}.jsonl"
        self.run, self.row_tokens, self.report_to = run, row_tokens, list(report_to)
        self.at = (0, time.monotonic())
        self.trained, self.warned = math.inf, False
        # transformers reads these where its TensorBoard and W&B callbacks begin.
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(logs / "tensorboard" / run)
        os.environ |= {"WANDB_DIR": str(logs), "WANDB_NAME": run, "WANDB_PROJECT": os.environ.get("WANDB_PROJECT", "tsugiki")}
        if not os.environ.get("WANDB_API_KEY"):  # without an account; `wandb sync logs/wandb/*` sends it later
            os.environ.setdefault("WANDB_MODE", "offline")

    def begin(self, plan: Plan, model: nn.Module) -> None:
        self.step_tokens = [
            sum(self.row_tokens[row] for batch in plan.micro_batches[at : at + plan.accumulation] for row in batch)
            for at in range(0, len(plan.micro_batches), plan.accumulation)
        ]
        every = sum(parameter.numel() for parameter in model.parameters())
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        batch = max(len(batch) for batch in plan.micro_batches)
        self.say(
            f"{every:,} parameters, {trained:,} of them trained; {len(self.row_tokens):,} rows, "
            f"{sum(self.row_tokens):,} tokens; {plan.steps:,} steps of {batch} x {plan.accumulation} rows"
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
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = control.should_log = True

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
