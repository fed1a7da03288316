"""What a training will do, decided before its first step and the same on every backend."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.settings import Settings
from stages.text import batches
from stages.text.chat import Encoded


@dataclass(frozen=True)
class Course:
    """plan: the rows of each step.   every: steps between evaluations.   patience: evaluations without improvement that end it,
    0 = never.   judges: the validation rows that are looked at."""

    plan: batches.Plan
    every: int
    patience: int
    judges: Sequence[Encoded]


def course(train_rows: Sequence[Encoded], valid_rows: Sequence[Encoded], settings: Settings) -> Course:
    rows, accumulation = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    an_epoch = batches.steps_in(len(train_rows), rows * accumulation, 1)
    steps = settings.max_steps or batches.steps_in(len(train_rows), rows * accumulation, settings.num_train_epochs)
    every = settings.eval_steps or min(steps, an_epoch)
    stopping = settings.early_stopping
    return Course(
        batches.plan([len(row.ids) for row in train_rows], rows, accumulation, steps, settings.seed),
        every,
        stopping.patience * (max(1, round(an_epoch / every)) if stopping.unit == "epochs" else 1),
        valid_rows[: settings.max_eval_batches * rows or None],
    )
