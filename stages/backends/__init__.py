"""What trains and answers. A backend NAME is a package in this folder: its __init__.py has what
`Limits` asks for, its backend.py what `Backend` asks for; shared/ is what backends have in common.
No backend imports another.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stages import contracts
from stages.backends.shared import process
from stages.entries import Run
from stages.errors import UserError
from stages.records import Answer, Row
from stages.settings import Answering, Settings

if TYPE_CHECKING:
    from stages.backends.shared.answering import Reader
    from stages.backends.shared.beam_search import Candidates
    from stages.backends.shared.memory import MemoryPlan
    from stages.backends.shared.precision import Precision


@dataclass(frozen=True)
class Trained(ABC):
    """A finished training, whose model has its weights of the lowest validation loss.

    history: what was logged, a record for each report, with its "loss" and "step", and for each
    evaluation, with its "eval_loss" and "step".
    steps: optimizer steps made.   best_step: the one whose weights are kept.
    rows: sequences trained on.   rows_too_long: rows without room for a label.
    first_steps_md5: of the trained weights after FIRST_STEPS steps, or all where there are fewer.
    precision: the type that matrices were multiplied in.   computed_on: the device and its
    instructions.
    """

    history: list[dict[str, float]]
    steps: int
    best_step: int
    rows: int
    rows_too_long: int
    first_steps_md5: str
    precision: str
    computed_on: str

    @abstractmethod
    def save(self, folder: Path) -> None:
        """`models/RUN`: an adapter in PEFT's format, or full weights."""


class Answerer(Protocol):
    """A model that answers, and tells how far it is."""

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """An answer to each prepared row, in order, and what its reference costs."""

    def respond(self, rows: Sequence[Row], reader: "Reader | None" = None) -> list[str]:
        """An answer to each row that has no reference: the next turn of `messages`, what follows a
        `text`, or the score of each of the `completions`.

        reader: follows the answers while they are written, in place of a bar on the terminal.
        """

    def candidates(self, rows: Sequence[Row], count: int) -> "list[Candidates]":
        """At most `count` different answers to each row that has no reference, with their
        log-probabilities: the greedy one first, whatever the settings say of sampling, the others
        from the likeliest on.

        rows: whose answers are texts, not scores of steps.
        """

    def asked_with(self, settings: Answering) -> "Answerer":
        """The same loaded model, which answers in another way.   settings: with another generation
        or seed.
        """

    def share(self, other: Any) -> None:
        """Have in memory once what both have to the last bit, such as all of their base that no
        adapter has changed. Answers stay what they are.   other: of the same backend.
        """


class Limits(Protocol):
    """A backend's package, NAME/__init__.py, which loads no library."""

    @property
    def PACKAGES(self) -> tuple[str, ...]:
        """The modules that must be installed."""

    def refuses(self, settings: Settings, scores_steps: bool) -> list[str]:
        """Why it cannot train with these settings, a sentence each, or [].

        scores_steps: whether the task's rows are solutions whose steps are scored.
        """


class Backend(Protocol):
    """What trains and answers, NAME/backend.py."""

    def train(
        self,
        run: str,
        spec: Run,
        settings: Settings,
        train_rows: Sequence[Row],
        valid_rows: Sequence[Row],
        checkpoints: Path,
        report_to: Sequence[str] = (),
        first_steps_only: bool = False,
    ) -> Trained:
        """The parent's weights, trained on the rows; a training that was killed goes on from
        `checkpoints`.

        checkpoints: the backend's own, in folders `checkpoint-STEP` that
        stages.backends.shared.checkpoints seals, each with a trainer_state.json in transformers'
        form.
        report_to: "tensorboard", "wandb"; what they are told lies in logs/.
        first_steps_only: whether it ends after the steps that `first_steps_md5` is of.
        """

    def precision(self, settings: Settings) -> "Precision":
        """The type that a training on this machine would multiply matrices in. Raises UserError for
        one that it cannot train in.
        """

    def plan_memory(self, folder: Path, settings: Settings, rows: int, tokens: int) -> "MemoryPlan":
        """What a training on the base in `folder` takes, with micro-batches of so many rows of so
        many tokens.
        """

    def answerer(self, model: str, base: str, settings: Answering) -> Answerer:
        """A run, or its base, that answers."""


def names() -> list[str]:
    """The backends that there are."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/backend.py"))


def limits(name: str) -> Limits:
    """What a backend cannot do, whether or not what it stands on is installed."""
    found: Limits = contracts.load(f"stages.backends.{name}", Limits)
    return found


def load(name: str, exact: str) -> Backend:
    """A backend, in a process that is set up for it.

    exact: as in stages.settings; the first call in a process decides. Raises UserError where a
    package that it stands on is not installed.
    """
    if absent := [package for package in limits(name).PACKAGES if find_spec(package) is None]:
        raise UserError(
            f"backend {name}: the package {absent[0]} is not installed here; run "
            "`pip install -r requirements.txt`, or set another backend"
        )
    process.set_up(exact)
    backend: Backend = contracts.load(f"stages.backends.{name}.backend", Backend)
    return backend
