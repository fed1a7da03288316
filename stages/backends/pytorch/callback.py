"""The bridge between transformers' Trainer and a listener of this project."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from stages.backends.shared.first_steps import FIRST_STEPS, weights_md5
from stages.backends.shared.kept_state import KeptState
from stages.backends.shared.listeners import Listener
from stages.backends.shared.stopping import out_of_patience


class Reports(TrainerCallback):
    """Tells a listener what the Trainer does, and tells the Trainer when to evaluate, to save and
    to stop.

    The last step is evaluated, so that it can be the best. A training ends early after an
    interruption, and after `patience` evaluations without a lower loss.
    """

    def __init__(
        self,
        listener: Listener,
        is_interrupted: Callable[[], bool],
        patience: int,
        kept: KeptState,
        learned: Callable[[], Mapping[str, Tensor]],
        first_steps_only: bool,
    ) -> None:
        """is_interrupted: asked after each step.   patience: evaluations; 0 = however many.
        learned: the weights that are trained.
        """
        self.listener, self.is_interrupted, self.patience = listener, is_interrupted, patience
        self.kept, self.learned, self.first_steps_only = kept, learned, first_steps_only

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.listener.training_begins(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.listener.step_ends(state.global_step)
        if state.global_step == min(FIRST_STEPS, state.max_steps):
            self.kept.first_steps_md5 = weights_md5(self.learned())
            control.should_training_stop |= self.first_steps_only
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = control.should_log = True
        if self.is_interrupted():
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if logs and "loss" in logs:
            self.listener.loss_is_reported(
                state.global_step,
                state.max_steps,
                logs["loss"],
                logs["learning_rate"],
                logs["grad_norm"],
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
        self.listener.evaluation_ends(state.global_step, state.max_steps, loss, state.best_metric)
        control.should_training_stop |= out_of_patience(state.log_history, self.patience)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.listener.training_ends()
