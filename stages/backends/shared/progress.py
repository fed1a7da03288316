"""What a training says while it runs: one line format on the screen and in logs/RUN.log, as records
in logs/RUN.jsonl.
"""

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

from stages.backends.shared.precision import Precision
from stages.errors import UserError
from stages.progress_lines import ProgressLines
from stages.text.batches import Plan

MIB = 2**20
COUNTED_STEPS = 1_000  # of which the mean number of passes is told
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # of getrusage's ru_maxrss, in bytes


class Progress:
    """A Listener that prints and files each report, and ends what takes more memory than its
    limit.
    """

    def __init__(
        self,
        run: str,
        row_tokens: Sequence[int],
        report_to: Sequence[str] = (),
        logs: Path = Path("logs"),
        tells: bool = True,
    ) -> None:
        """row_tokens: token count of each training row, for tokens/s.   report_to: who else is
        told.   tells: whether it says anything, which of several processes the first one does.
        """
        logs.mkdir(exist_ok=True)
        self.text, self.records = logs / f"{run}.log", logs / f"{run}.jsonl"
        self.run, self.row_tokens, self.report_to = run, row_tokens, list(report_to)
        self.tells = tells
        self.at = (0, time.monotonic())
        self.trained, self.warned = math.inf, False
        self.planned = self.limit = 0
        self.lines: ProgressLines | None = None
        # transformers reads these where its TensorBoard and W&B callbacks begin.
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(logs / "tensorboard" / run)
        os.environ |= {
            "WANDB_DIR": str(logs),
            "WANDB_NAME": run,
            "WANDB_PROJECT": os.environ.get("WANDB_PROJECT", "tsugiki"),
        }
        # without an account; `wandb sync logs/wandb/*` sends it later
        if not os.environ.get("WANDB_API_KEY"):
            os.environ.setdefault("WANDB_MODE", "offline")

    def plan_is_made(self, plan: Plan, every: int, trained: int) -> None:
        """every, trained: how many parameters there are, and how many of them learn."""
        self.plan = plan
        # the first step of an epoch has as many rows as any
        batch = math.ceil(sum(map(len, plan.step(0))) / plan.accumulation)
        counted = min(plan.steps, COUNTED_STEPS)
        passes = sum(bool(rows) for at in range(counted) for rows in plan.step(at))
        packed = f", in {passes / counted:.1f} passes each" if plan.room else ""
        self.say(
            f"{every:,} parameters, {trained:,} of them trained; {len(self.row_tokens):,} rows, "
            f"{sum(self.row_tokens):,} tokens; {plan.steps:,} steps of {batch} x "
            f"{plan.accumulation} rows{packed}"
        )

    def precision_is_chosen(self, precision: Precision) -> None:
        self.say(f"precision {precision.name}: {precision.why}")
        if precision.warning:
            self.say(f"warning: {precision.warning}")

    def rows_are_left_out(self, rows: int, max_length_tokens: int) -> None:
        if rows:
            self.say(
                f"{rows} rows left out: their answers do not fit max_length_tokens "
                f"{max_length_tokens}"
            )

    def memory_is_planned(self, planned: int, limit: int) -> None:
        """planned: bytes.   limit: of resident memory, in 2^20 bytes; 0 = none, or the backend's
        own.
        """
        self.planned, self.limit = planned, limit

    def training_ends(self) -> None:
        assert self.lines
        self.lines.end()
        if torch.cuda.is_available():
            measured, what = torch.cuda.max_memory_reserved(), "reserved on the device"
        else:
            measured, what = (
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT,
                "resident at most",
            )
        self.say(
            f"memory: {self.planned / MIB:,.0f} MB planned, {measured / MIB:,.0f} MB {what}",
            **{"memory/planned_bytes": self.planned, "memory/measured_bytes": measured},
        )

    def say(self, line: str, **record: Any) -> None:
        if not self.tells:
            return
        print(line, flush=True)
        if self.lines:
            self.lines.another_line()
        with self.text.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        with self.records.open("a", encoding="utf-8") as file:
            file.write(
                json.dumps({"timestamp": round(time.time(), 3), **(record or {"message": line})})
                + "\n"
            )

    def training_begins(self, step: int) -> None:
        self.at = (step, time.monotonic())
        self.lines = ProgressLines("training", self.plan.steps, "steps", self.say, step)
        self.lines.begin()
        if step:
            self.say(f"resumed at step {step}")

    def step_ends(self, step: int) -> None:
        assert self.lines
        self.lines.advance()
        if self.limit and (taken := psutil.Process().memory_info().rss) > self.limit * MIB:
            raise UserError(
                f"step {step}: {taken / MIB:,.0f} MB resident, more than memory_limit_mb "
                f"{self.limit}; nothing was "
                "written. Set a smaller per_device_train_batch_size or gradient_checkpointing: "
                "true, or raise the limit"
            )

    def loss_is_reported(
        self, step: int, steps: int, loss: float, learning_rate: float, grad_norm: float
    ) -> None:
        (before, then), now = self.at, time.monotonic()
        seconds = max(now - then, 1e-9)
        self.at, self.trained = (step, now), loss
        rows = (row for at in range(before, step) for batch in self.plan.step(at) for row in batch)
        rate = (step - before) / seconds
        tokens = sum(self.row_tokens[row] for row in rows) / seconds
        self.say(
            f"Iter {step}/{steps}: Train loss {loss:.4f}, ppl {_perplexity(loss)}, "
            f"Learning Rate {learning_rate:.3e}, It/sec {rate:.2f}, Tokens/sec {tokens:.0f}",
            **{
                "step": step,
                "train/loss": loss,
                "train/grad_norm": grad_norm,
                "train/learning_rate": learning_rate,
                "tokens_per_second": round(tokens, 1),
            },
        )

    def evaluation_ends(self, step: int, steps: int, loss: float, lowest: float | None) -> None:
        better = lowest is None or loss < lowest
        self.say(
            f"Iter {step}/{steps}: Val loss {loss:.4f}, ppl "
            f"{_perplexity(loss)}{' (best so far)' if better else ''}",
            **{"step": step, "val/loss": loss},
        )
        if (
            lowest is not None
            and not better
            and not self.warned
            and loss > self.trained
            and loss > 1.02 * lowest
        ):
            self.warned = True
            self.say(
                f"overfitting: validation loss {loss:.4f} is {loss - self.trained:.4f} above "
                f"training loss "
                f"{self.trained:.4f} and {loss - lowest:.4f} above its best; the best weights are "
                f"kept. Fewer epochs, "
                "more data, a lower rank or more dropout close the gap"
            )
        self.at = (step, time.monotonic())  # the time that evaluating took is no training time


def _perplexity(loss: float) -> str:
    return f"{math.exp(min(loss, 50)):.2f}"
