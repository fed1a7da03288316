"""What ends a training before its last step: a signal, the death of its dvc, a loss that explodes,
patience.
"""

import math
import signal
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, TracebackType

import psutil

from stages.backends.shared.place import launcher
from stages.errors import UserError
from stages.settings import Settings

RECENT = 10
"""Steps whose mean loss is watched: one hard batch is no explosion."""


class Interruption:
    """Inside the `with` block a signal ends the training at its next step, with a checkpoint; a
    second one ends it at once.

    cause: what stopped it, or "".   exit_code: as a shell has it for the signal.
    """

    def __init__(self) -> None:
        self.cause, self.exit_code = "", 128 + signal.SIGTERM
        # SIGTERM or SIGKILL for dvc alone leaves its children running, and nobody would save what
        # they make.
        dvc = next((parent for parent in psutil.Process().parents() if _is_dvc(parent)), None)
        self.above = {"dvc": dvc, "its launcher": launcher()}

    def __enter__(self) -> None:
        self.before = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def exit(self, say: Callable[[str], None], step: int) -> SystemExit:
        """What ends the process, its checkpoint being written."""
        say(f"stopped at step {step} by {self.cause}; the same command goes on from here")
        return SystemExit(self.exit_code)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.cause, self.exit_code = signal.Signals(number).name, 128 + number
        signal.signal(number, signal.SIG_DFL)

    def has_come(self, most: Callable[[int], int] = int) -> bool:
        """Asked after each step.   most: of what all say that train together."""
        for name, process in self.above.items():
            if process is not None and not _lives(process):
                self.cause = self.cause or f"the end of {name}"
        if most(bool(self.cause)):
            self.cause = self.cause or "the end of another process"
        return bool(self.cause)


class LossWatch:
    """Ends a training whose loss is no number, or has exploded.

    Exploded: the mean of the last RECENT steps lies above the lowest such mean by more than half of
    what guessing costs, ln(choices) / 2 nats, and by more than 1 nat.
    """

    def __init__(self, settings: Settings, choices: int) -> None:
        """choices: among how many tokens one guesses, or grades of a step."""
        self.settings = settings
        self.margin = max(1.0, math.log(choices) / 2)

    def check(self, step: int, losses: Mapping[int, float], lowest: float | None) -> float | None:
        """The lowest mean so far, None before there is one; raises UserError.

        losses: of the steps made so far, or of the last RECENT at least, by their number.
        lowest: what was returned for the step before.
        """
        what = "" if math.isfinite(loss := losses[step]) else f"the loss is {loss}"
        recent = [
            losses[before] for before in range(step - RECENT + 1, step + 1) if before in losses
        ]
        if len(recent) == RECENT:
            mean = math.fsum(recent) / RECENT
            lowest = mean if lowest is None else min(lowest, mean)
            if mean > lowest + self.margin:
                change = f"from {lowest:.4f} to {mean:.4f} as a mean of {RECENT} steps"
                what = f"the loss exploded, {change}"
        if what:
            raise UserError(
                f"step {step}: {what}; nothing was written. Lower learning_rate (now "
                f"{self.settings.learning_rate:g}) or "
                f"max_grad_norm (now {self.settings.max_grad_norm:g}), or set precision: float32"
            )
        return lowest


def out_of_patience(history: Sequence[Mapping[str, float]], evaluations: int) -> bool:
    """Whether the last so many evaluations brought no lower loss.

    Counted in the history, which checkpoints hold. The count of transformers'
    EarlyStoppingCallback begins at zero again after a resume.
    """
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    if not (evaluations and losses):
        return False
    return len(losses) - 1 - losses.index(min(losses)) >= evaluations


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_dvc(process: psutil.Process) -> bool:
    try:
        return any(argument.rpartition("/")[2] == "dvc" for argument in process.cmdline()[:3])
    except psutil.Error:
        return False
