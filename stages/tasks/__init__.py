"""Tasks. A task NAME is a folder here; each protocol below says what one of its files must have, and is loaded by name.

corpus.py and score.py every task has; synthetic.py where there is a demo grammar; document.py where `apply` takes documents.
"""

import random
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stages.records import BadLine, Example, Prediction, Row, Shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class Corpus(Protocol):
    """corpus.py: how a raw file is read, and what of it a model is shown."""

    @property
    def SCORES_STEPS(self) -> bool:
        """Whether rows are solutions whose steps are scored."""

    def read(self, path: Path) -> Iterator[Example | BadLine]:
        """The file's records in order; what fits none of the forms as a BadLine with the reason."""

    def show(self, example: Example) -> Shown:
        """What a prepared row has beside its id, category and source."""

    def group_key(self, example: Example) -> str:
        """What must not be divided between training and test: records with the same key lie in the same part."""

    def question(self, text: str) -> Row:
        """A user's own text as a row without a reference. Raises UserError for a text that is none."""


class Score(Protocol):
    """score.py: the task's measure, as sums over rows so that intervals can be drawn."""

    @property
    def STATISTICS(self) -> tuple[str, ...]:
        """Names of the K figures of a row."""

    def statistics(self, rows: list[Row], answers: list[Prediction]) -> "Floats":
        """(N, K), the figures of each row."""

    def headline(self, totals: "Floats") -> "Floats":
        """(..., K) sums of rows -> (...), the score."""

    def details(self, rows: list[Row], answers: list[Prediction]) -> dict[str, float]:
        """Further measures by name."""

    def baseline(self, train: Path, rows: list[Row], base: Path) -> list[Prediction]:
        """What a stated simple answer would be.   train: the prepared training rows.   base: the untuned model."""


class Synthetic(Protocol):
    """synthetic.py: a demo grammar."""

    def lines(self, rng: random.Random, rows: int, level: int) -> Iterator[str]:
        """So many lines of a raw corpus, all different.   level: how difficult, from 1."""


class Document(Protocol):
    """document.py: documents of which parts are converted and the rest is kept."""

    @property
    def READS(self) -> str:
        """The suffix of a document, such as ".tex"."""

    @property
    def WRITES(self) -> str:
        """The suffix of what becomes of it."""

    def chunks(self, text: str, limit: int) -> Sequence[tuple[str, bool]]:
        """All of the text in order: (part, whether it is converted).   limit: characters of a part, where it can be cut."""


def names() -> list[str]:
    """The tasks that there are."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/corpus.py"))


def corpus(task: str) -> Corpus:
    loaded: Corpus = _load(task, "corpus")
    return loaded


def score(task: str) -> Score:
    loaded: Score = _load(task, "score")
    return loaded


def synthetic(task: str) -> Synthetic:
    loaded: Synthetic = _load(task, "synthetic")
    return loaded


def document(task: str) -> Document | None:
    """None where the task has no documents."""
    return _load(task, "document") if find_spec(f"{__name__}.{task}.document") else None


def _load(task: str, part: str) -> Any:
    return import_module(f"{__name__}.{task}.{part}")
