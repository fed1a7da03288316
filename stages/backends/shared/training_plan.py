"""What a training will do, decided before its first step and the same on every backend."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten

from transformers import PreTrainedTokenizerBase

from stages.errors import UserError
from stages.progress_lines import ProgressLines
from stages.records import Row, target
from stages.settings import Run, Settings
from stages.text import batches
from stages.text.chat import Encoded, encode


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
    lengths = [len(row.ids) for row in train_rows]
    return TrainingPlan(
        batches.plan(lengths, rows, accumulation, steps, settings.seed),
        eval_steps,
        stopping.patience * evaluations,
        valid_rows[: settings.max_eval_batches * rows or None],
    )


def encode_parts(
    tokenizer: PreTrainedTokenizerBase, spec: Run, settings: Settings, parts: dict[str, list[Row]]
) -> tuple[dict[str, list[Encoded]], int]:
    """The sequences of each part, and how many rows gave none.

    Raises UserError for a part that is left with nothing, and for a row that the template cannot
    write.
    """
    encoded: dict[str, list[Encoded]] = {part: [] for part in parts}
    too_long = 0
    for part, rows in parts.items():
        with ProgressLines(f"tokenising {part}", len(rows), "rows") as lines:
            for row in rows:
                try:
                    sequences = encode(
                        tokenizer,
                        row,
                        settings.max_length_tokens,
                        settings.max_steps_per_example,
                        settings.learn,
                    )
                except UserError as error:
                    begins = shorten(row["source"] or target(row), 60)
                    raise UserError(f"{part} row {row['id']} ({begins}): {error}") from None
                encoded[part] += sequences
                too_long += not sequences
                lines.advance()
        if not encoded[part]:
            raise UserError(
                f"corpus {spec.corpus}: no {part} row has an answer that fits max_length_tokens "
                f"{settings.max_length_tokens} ({len(rows)} rows); raise it, or add rows"
            )
    return encoded, too_long
