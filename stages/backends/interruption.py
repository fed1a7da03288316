"""What stops a training from outside: SIGTERM, Ctrl-C, and the death of the dvc that started it."""

import signal
from types import FrameType, TracebackType
from typing import Any

import psutil
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Interruption(TrainerCallback):
    """Inside the `with` block a signal ends the training at its next step, with a checkpoint; a second one ends it at once.

    cause: what stopped it, or "".   exit_code: as a shell has it for the signal.
    """

    def __init__(self) -> None:
        self.cause, self.exit_code = "", 128 + signal.SIGTERM
        # SIGTERM or SIGKILL for dvc alone leaves its children running, and nobody would save what they make.
        self.dvc = next((parent for parent in psutil.Process().parents() if _is_dvc(parent)), None)

    def __enter__(self) -> None:
        self.before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.cause, self.exit_code = signal.Signals(number).name, 128 + number
        signal.signal(number, signal.SIG_DFL)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.dvc is not None and not _lives(self.dvc):
            self.cause = self.cause or "the end of dvc"
        if self.cause:
            control.should_save = control.should_training_stop = True


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
