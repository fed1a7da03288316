"""transformers' Trainer in each of several processes, which have one model, one optimizer and the
checkpoints of one process.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from stages.backends.pytorch import sharding
from stages.backends.pytorch.muon import MuonAdamW, groups
from stages.backends.pytorch.process_group import ProcessGroup
from stages.settings import Settings


class ShardedArguments(TrainingArguments):
    """Of a model whose layers go to the device one by one, each process's part."""

    place_model_on_device = False


class SpreadTrainer(Trainer):
    """A model that each process has whole, or shared out where its arguments are ShardedArguments;
    alone, plainly a Trainer.
    """

    model: Any
    optimizer: Any

    def __init__(
        self,
        group: ProcessGroup,
        make_model: Callable[[], nn.Module],
        settings: Settings,
        **arguments: Any,
    ) -> None:
        """make_model: gives the model as its training begins."""
        super().__init__(model=make_model(), **arguments)
        self.make_model, self.settings = make_model, settings
        self.group = group
        self.computed_by = sharding.Computed(self.model, group.leads)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Of the weights as they are trained: a sharded model's are other tensors."""
        if isinstance(self.args, ShardedArguments):
            self.computed_by.shard(self.group.size, self.args.device.type)
        if self.settings.optim == "muon" and self.optimizer is None:
            self.optimizer = MuonAdamW(
                groups(self.model),
                self.settings.learning_rate,
                self.settings.adam_beta2,
                self.settings.weight_decay,
            )
        return super().create_optimizer(model)

    def _wrap_model(self, model: nn.Module, *_: Any, **__: Any) -> nn.Module:
        """As it is. accelerate takes another one than the Trainer's for wrapped already, and would
        else wrap it into DDP, whose forward pass is not the one that the loss here goes through.
        """
        return model if self.group.size == 1 else self.computed_by

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        return sharding.whole(super()._clip_grad_norm(model))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """By the first process, whose weights of a sharded model come from all."""
        if self.computed_by.is_sharded:
            state_dict = self.computed_by.whole_weights()
        super()._save(output_dir, state_dict)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.computed_by.is_sharded:
            state = self.computed_by.whole_state(self.optimizer.optimizer)
            if self.group.leads:
                torch.save(state, Path(output_dir, OPTIMIZER_NAME))
                torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER_NAME))
        else:
            super()._save_optimizer_and_scheduler(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint and self.computed_by.is_sharded:
            state, scheduler = (
                torch.load(Path(checkpoint, name), map_location="cpu", weights_only=True)
                for name in (OPTIMIZER_NAME, SCHEDULER_NAME)
            )
            self.computed_by.load_whole_state(self.optimizer.optimizer, state)
            self.lr_scheduler.load_state_dict(scheduler)
        else:
            super()._load_optimizer_and_scheduler(checkpoint)

    def _save_rng_state(self, output_dir: str) -> None:
        """Of one process; several begin each pass from a seed."""
        if self.group.size == 1:
            super()._save_rng_state(output_dir)

    def learned(self) -> dict[str, Tensor]:
        """The weights that are trained, by name."""
        named = self.model.named_parameters()
        return {name: weights for name, weights in named if weights.requires_grad}

    def whole_learned(self) -> dict[str, Tensor]:
        """The same, of a sharded model in the first process, where every one asks."""
        learned = self.learned()
        return self.computed_by.whole_weights(learned) if self.computed_by.is_sharded else learned
