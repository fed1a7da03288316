"""Who is told of a training while it runs, on every backend."""

from typing import Protocol


class Listener(Protocol):
    """step: optimizer steps made so far.   steps: those that the training will make at most."""

    def training_begins(self, step: int) -> None:
        """step: above 0 where a training goes on from a checkpoint."""

    def step_ends(self, step: int) -> None:
        """After the weights have changed. May raise UserError, which ends the training."""

    def loss_is_reported(
        self, step: int, steps: int, loss: float, learning_rate: float, grad_norm: float
    ) -> None:
        """loss: mean over the steps since the last report, in nats a label."""

    def evaluation_ends(self, step: int, steps: int, loss: float, lowest: float | None) -> None:
        """loss: on the validation rows, in nats a label.   lowest: of the evaluations before, if
        any.
        """

    def training_ends(self) -> None:
        """After the last step."""
