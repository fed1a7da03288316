"""Trained runs by name: what they are asked, with what settings, and their models, which stay
loaded.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages import backends, tasks
from stages.backends import Answerer
from stages.backends.shared import cards
from stages.checked import checked
from stages.errors import UserError
from stages.layers import Params, answering
from stages.params import entry
from stages.records import Row
from stages.settings import Answering


@dataclass(frozen=True)
class TrainedRun:
    """model: the run whose weights it has, itself but for variants.

    settings: how it answers where nobody asks otherwise, the same as in an evaluation.
    """

    name: str
    model: str
    task: str
    base: str
    settings: Answering

    @property
    def folder(self) -> Path:
        return Path("models", self.model)

    def question(self, text: str) -> Row:
        """Raises UserError for a text that the task cannot read."""
        return tasks.corpus(self.task).question(text)

    def load(self) -> Answerer:
        backend = backends.load(self.settings.backend, self.settings.exact)
        cards.choose_one()  # and no lock: no training waits until a prompt or a page is closed
        answerer = backend.answerer(self.folder.as_posix(), self.base, self.settings)
        answers: Answerer = checked(answerer, self.task, self.settings)
        return answers


def trained_run(params: Params, name: str) -> TrainedRun:
    """Raises UserError for a name that params.yaml has not, and for a run that is not trained."""
    model = params.variants[name].model_of if name in params.variants else name
    spec = entry(params.runs, model, "runs")
    run = TrainedRun(name, model, spec.task, spec.base, answering(params.resolve(name)))
    if not run.folder.is_dir():
        raise UserError(
            f"models/{model}: not trained yet; run `dvc repro train@{model}`, or `dvc pull "
            f"models/{model}` where a remote has it"
        )
    return run


def overridden(own: Answering, seed: int | None, **generation: Any) -> Answering:
    """A way to answer with what is given of another one.

    Raises pydantic's ValidationError for a value out of the bounds of params.yaml.
    """
    record = own.model_dump() | ({} if seed is None else {"seed": seed})
    record["generation"] |= {name: value for name, value in generation.items() if value is not None}
    return Answering.model_validate(record)


class LoadedRuns:
    """Models, each loaded when it is first asked for.

    Each run has its own, also where several are adapters on one base: an adapter is merged into
    its base, as in an evaluation, so that answers are the same to the last bit. What their adapters
    leave as it is in the base is in memory once.
    """

    def __init__(self) -> None:
        self.answerers: dict[str, Answerer] = {}
        self.firsts: dict[tuple[str, str], Answerer] = {}  # of each backend and base
        self.exact = ""

    def answerer(self, run: TrainedRun) -> Answerer:
        """Raises UserError for a run that computes otherwise than those that are loaded."""
        exact = run.settings.exact
        if self.exact not in ("", exact):
            raise UserError(
                f"{run.name}: answers with exact: {exact}, the runs that are loaded with exact: "
                f"{self.exact}, and a process can only do one; start another for it"
            )
        if run.name not in self.answerers:
            loaded = run.load()
            first = self.firsts.setdefault((run.settings.backend, run.base), loaded)
            if first is not loaded:
                loaded.share(first)
            self.answerers[run.name] = loaded
            self.exact = exact
        return self.answerers[run.name]
