"""A training from its first step or its last checkpoint to its end."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn
from transformers import PrinterCallback, TrainerState, TrainingArguments

from stages.backends.pytorch.callback import Reports
from stages.backends.pytorch.loss import causal_model
from stages.backends.pytorch.process_group import ProcessGroup
from stages.backends.pytorch.spread_trainer import ShardedArguments
from stages.backends.pytorch.trainer import LabelledTrainer
from stages.backends.shared.checkpoints import latest
from stages.backends.shared.devices import device
from stages.backends.shared.kept_state import KeptState, has_ended
from stages.backends.shared.learning_rate import learning_rates
from stages.backends.shared.progress import Progress
from stages.backends.shared.stopping import Interruption
from stages.backends.shared.training_plan import training_plan
from stages.errors import UserError
from stages.settings import Settings
from stages.text.chat import Encoded


class Fitted(NamedTuple):
    """What is known of a training at its end.

    model: with its weights of the lowest validation loss, in the first process.
    last: the trained weights of the last step by name, for `save: [best, last]`.
    first_steps_md5: as in stages.backends.Trained.
    """

    model: nn.Module
    state: TrainerState
    last: dict[str, Tensor]
    first_steps_md5: str


def state_of(checkpoint: Path) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))


def fit(
    make_model: Callable[[], nn.Module],
    train_rows: Sequence[Encoded],
    valid_rows: Sequence[Encoded],
    settings: Settings,
    pad_id: int,
    checkpoints: Path,
    progress: Progress,
    first_steps_only: bool,
    group: ProcessGroup,
) -> Fitted:
    """Train what `make_model` gives.

    checkpoints: a training that was killed goes on from the last one there, to the same bytes.
    first_steps_only: as in stages.backends.Backend.
    """
    planned, where = training_plan(train_rows, valid_rows, settings), device(settings.device)
    steps = planned.batches.steps
    plain = where != "cuda" or settings.optim == "muon"
    shards = group.size > 1 and settings.launch.strategy == "fsdp"
    arguments = (ShardedArguments if shards else TrainingArguments)(
        output_dir=str(checkpoints),
        seed=settings.seed,
        max_steps=steps,
        per_device_train_batch_size=settings.per_device_train_batch_size,
        per_device_eval_batch_size=settings.per_device_train_batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler_type,
        lr_scheduler_kwargs=settings.lr_scheduler_kwargs,
        warmup_steps=min(settings.warmup_steps, steps),
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        max_grad_norm=settings.max_grad_norm,
        use_cpu=where == "cpu",
        # Of this the loss takes only its scaling, and a step without a number is left out.
        fp16=settings.precision == "float16",
        # Elsewhere the paged optimizers, which there is nothing to page for, are the plain one.
        optim="adamw_torch_fused" if plain else settings.optim,
        eval_strategy="steps",
        eval_steps=planned.eval_steps,
        save_strategy="steps",
        save_steps=planned.eval_steps,
        save_total_limit=settings.save_total_limit,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=min(settings.logging_steps, steps),
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=progress.report_to,
        run_name=progress.run,
        remove_unused_columns=False,
    )
    learning_rates(settings, steps)  # refuses what the schedule does not take
    interruption = Interruption()
    # The first process removes what is damaged before the others look.
    start = group.of_first(latest(checkpoints, progress.say) if group.leads else None)
    kept = KeptState.read(start, settings.precision) if start else KeptState(settings.precision)
    trainer = LabelledTrainer(
        planned,
        pad_id,
        settings,
        progress,
        kept,
        group,
        make_model,
        args=arguments,
        train_dataset=train_rows,
        eval_dataset=planned.valid_rows,
    )
    trainer.add_callback(
        Reports(
            progress,
            lambda: interruption.has_come(group.most),
            planned.patience,
            kept,
            trainer.whole_learned,
            first_steps_only,
        )
    )
    trainer.pop_callback(PrinterCallback)
    weights = causal_model(trainer.model)
    progress.plan_is_made(
        trainer.plan if group.size == 1 else planned.batches,
        weights.num_parameters(),
        weights.num_parameters(only_trainable=True),
    )
    try:
        with interruption:
            if start and has_ended(state := state_of(start), planned, kept, first_steps_only):
                trainer.finish(start, state)
            else:
                trainer.train(resume_from_checkpoint=str(start) if start else None)
    except (OSError, RuntimeError) as error:
        if "No space left" not in str(error) and shutil.disk_usage(checkpoints).free > 2**20:
            raise
        raise UserError(
            f"{checkpoints}: the disk is full; make room and run the same command again, it goes "
            f"on from its last checkpoint"
        ) from error
    if interruption.cause and trainer.state.global_step < steps:
        raise interruption.exit(progress.say, trainer.state.global_step)
    return Fitted(trainer.model, trainer.state, trainer.last, kept.first_steps_md5)
