"""The learning rate of each step, by transformers' own schedules."""

import torch
from transformers import get_scheduler

from stages.errors import UserError
from stages.settings import Settings


def learning_rates(settings: Settings, steps: int) -> list[float]:
    """One for each of so many optimizer steps.

    Raises UserError for parameters that the schedule does not take.
    """
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=settings.learning_rate)
    try:
        schedule = get_scheduler(
            settings.lr_scheduler_type,
            optimizer,
            min(settings.warmup_steps, steps),
            steps,
            scheduler_specific_kwargs=settings.lr_scheduler_kwargs,
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"lr_scheduler_type {settings.lr_scheduler_type}: {error}; correct lr_scheduler_kwargs "
            f"{settings.lr_scheduler_kwargs}, which are the parameters of transformers' schedule"
        ) from None
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates
