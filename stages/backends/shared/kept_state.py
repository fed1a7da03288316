"""What neither the weights nor a TrainerState hold of a training, kept in each checkpoint."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from transformers import TrainerState

from stages.backends.shared.stopping import RECENT, out_of_patience
from stages.backends.shared.training_plan import TrainingPlan
from stages.errors import UserError
from stages.files import write_json

FILE = "kept.json"


@dataclass
class KeptState:
    """losses: of the steps made, by their number, so that a report after a resume is what it would
    have been.   first_steps_md5: as in stages.backends.Trained, "" before.
    lowest_mean: LossWatch's, of RECENT steps; None before so many.
    """

    precision: str
    losses: dict[int, float] = field(default_factory=dict)
    first_steps_md5: str = ""
    lowest_mean: float | None = None

    @classmethod
    def read(cls, checkpoint: Path, precision: str) -> "KeptState":
        """Of a checkpoint that a training goes on from in a precision. Raises UserError where it
        began in another one.
        """
        kept = json.loads((checkpoint / FILE).read_text(encoding="utf-8"))
        if kept["precision"] != precision:
            raise UserError(
                f"{checkpoint}: this training began with precision {kept['precision']} and would "
                f"go on with {precision}; go on where it began, or remove {checkpoint.parent} to "
                f"begin again here"
            )
        kept["losses"] = {int(step): loss for step, loss in kept["losses"].items()}
        return cls(**kept)

    def write(self, checkpoint: Path) -> None:
        write_json(checkpoint / FILE, asdict(self))

    def mean_since_report(self, history: Sequence[Mapping[str, float]], step: int) -> float:
        """The mean loss of the steps since the last report in a TrainerState's history.

        Forgets losses that neither the next report nor LossWatch will ask for.
        """
        reported = max((int(entry["step"]) for entry in history if "loss" in entry), default=0)
        since = [self.losses[made] for made in range(reported + 1, step + 1)]
        self.losses = {made: loss for made, loss in self.losses.items() if made > step - RECENT}
        return math.fsum(since) / len(since)


def has_ended(
    state: TrainerState, plan: TrainingPlan, kept: KeptState, first_steps_only: bool
) -> bool:
    """Whether a training that goes on from this state has no more steps to make."""
    return (
        state.global_step >= plan.batches.steps
        or out_of_patience(state.log_history, plan.patience)
        or (first_steps_only and bool(kept.first_steps_md5))
    )
