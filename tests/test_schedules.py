"""Schedules of the learning rate: the same rates on either backend, their parameters passed on."""

import pytest

from stages.backends.mlx import backend as mlx
from stages.backends.pytorch import backend as pytorch
from stages.backends.shared.learning_rate import learning_rates
from stages.entries import Run
from stages.errors import UserError
from tests.tiny import ROWS, SETTINGS, checkpoint

SCHEDULES = [
    ("cosine", {}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.5}),
    ("polynomial", {"power": 2.0, "lr_end": 1e-4}),
    ("warmup_stable_decay", {"num_decay_steps": 3}),
]


@pytest.mark.parametrize(("kind", "parameters"), SCHEDULES)
def test_a_schedule_takes_its_parameters_on_either_backend(inside, kind, parameters):
    base = checkpoint(inside / "base", "llama")
    changes = {"lr_scheduler_type": kind, "lr_scheduler_kwargs": parameters, "warmup_steps": 2}
    settings = SETTINGS.model_copy(update=changes)
    planned = learning_rates(settings, settings.max_steps)
    assert planned[:3] == pytest.approx([0.0, 0.005, 0.01])
    spec = Run(task="gec", corpus="gec-001", base=base, parent=base)
    for backend in (pytorch, mlx):
        folder = inside / backend.__name__
        made = backend.train("run", spec, settings, ROWS[:16], ROWS[16:], folder)
        rates = [each["learning_rate"] for each in made.history if "learning_rate" in each]
        assert rates == pytest.approx(planned)
    if kind == "cosine_with_min_lr":
        assert min(planned[2:]) >= 0.005


def test_parameters_that_a_schedule_does_not_take_are_told_before_the_first_step(inside):
    base = checkpoint(inside / "base", "llama")
    settings = SETTINGS.model_copy(update={"lr_scheduler_kwargs": {"min_rate": 0.5}})
    spec = Run(task="gec", corpus="gec-001", base=base, parent=base)
    with pytest.raises(UserError, match=r"lr_scheduler_type cosine: .*min_rate.*; correct lr_sch"):
        pytorch.train("run", spec, settings, ROWS[:16], ROWS[16:], inside / "scratch")
