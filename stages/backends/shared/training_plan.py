"""What a training will do, decided before its first step and the same on every backend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Literal

from transformers import PreTrainedTokenizerBase

from stages.backends.shared import kept_tokens
from stages.entries import Run
from stages.errors import UserError
from stages.records import Row, target
from stages.settings import Settings
from stages.text import batches
from stages.text.chat import Encoded, encode
from stages.text.token_files import lengths


@dataclass(frozen=True)
class TrainingPlan:
    """batches: the rows of each step.   eval_steps: steps between evaluations.   patience:
    evaluations without improvement that end the training, 0 = never.   valid_rows: those that an
    evaluation looks at.
    """

    batches: batches.Plan
    eval_steps: int
    patience: int
    valid_rows: Sequence[Encoded]


def training_plan(
    train_rows: Sequence[Encoded], valid_rows: Sequence[Encoded], settings: Settings
) -> TrainingPlan:
    rows, accumulation = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    epoch_steps = batches.steps_in(len(train_rows), rows * accumulation, 1)
    all_epochs = batches.steps_in(len(train_rows), rows * accumulation, settings.num_train_epochs)
    steps = settings.max_steps or all_epochs
    eval_steps = settings.eval_steps or min(steps, epoch_steps)
    stopping = settings.early_stopping
    evaluations = max(1, round(epoch_steps / eval_steps)) if stopping.unit == "epochs" else 1
    return TrainingPlan(
        batches.plan(lengths(train_rows), rows, accumulation, steps, settings.seed),
        eval_steps,
        stopping.patience * evaluations,
        valid_rows[: settings.max_eval_batches * rows or None],
    )


@dataclass(frozen=True)
class EncodePart:
    """Makes the sequences of a row. Raises UserError that names the row which the template cannot
    write.
    """

    part: str
    tokenizer: PreTrainedTokenizerBase
    max_length_tokens: int
    max_steps_per_example: int
    learn: Literal["all", "last"]

    def __call__(self, row: Row) -> list[Encoded]:
        try:
            return encode(
                self.tokenizer,
                row,
                self.max_length_tokens,
                self.max_steps_per_example,
                self.learn,
            )
        except UserError as error:
            begins = shorten(row["source"] or target(row), 60)
            raise UserError(f"{self.part} row {row['id']} ({begins}): {error}") from None


def encode_parts(
    tokenizer: PreTrainedTokenizerBase,
    spec: Run,
    settings: Settings,
    parts: Mapping[str, Sequence[Row]],
) -> tuple[dict[str, Sequence[Encoded]], int]:
    """The sequences of each part, and how many rows gave none.

    Raises UserError for a part that is left with nothing, and for a row that the template cannot
    write.
    """
    encoded, too_long = dict[str, Sequence[Encoded]](), 0
    options = settings.max_length_tokens, settings.max_steps_per_example, settings.learn
    for part, rows in parts.items():
        encoded[part], left_out = kept_tokens.tokenised(
            f"tokenising {part}", rows, tokenizer, EncodePart(part, tokenizer, *options), *options
        )
        too_long += left_out
        if not encoded[part]:
            raise UserError(
                f"corpus {spec.corpus}: no {part} row has an answer that fits max_length_tokens "
                f"{settings.max_length_tokens} ({len(rows)} rows); raise it, or add rows"
            )
    return encoded, too_long
