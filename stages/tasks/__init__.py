"""Tasks: each is a folder here, whose modules are loaded by name.

The protocols below say what each module of a task must define. Every task has corpus.py and
score.py. A task with a demo grammar has synthetic.py; a task whose documents `apply` can convert
has document.py, one whose answers can be checked without a reference has candidates.py, one whose
references may be such that no answer to them is right has references.py, and one of which `propose`
can make training rows from inputs alone has proposals.py.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from stages import contracts
from stages.corpus.examples import BadLine, Example
from stages.records import Prediction, Row, Shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.corpus.source_files import Span

    Floats = NDArray[np.float64]


class Corpus(Protocol):
    """corpus.py: how a raw file is read, and what a model is shown of each record."""

    @property
    def SCORES_STEPS(self) -> bool:
        """Whether rows are solutions whose steps are scored."""

    def read(
        self, path: Path, columns: Mapping[str, str], span: "Span | None" = None
    ) -> Iterator[Example | BadLine]:
        """The file's records in order. A record in none of the task's forms becomes a BadLine.

        columns: the record's key for each column, or key, of the file that has another name.
        span: those lines alone, of a file that `reads_lines_alone`.
        """

    def reads_lines_alone(self, path: Path, columns: Mapping[str, str]) -> bool:
        """Whether what is read of a line depends on no line but the first with text, so that spans
        of the file give what the whole gives. False where it is not known.
        """

    def show(self, example: Example) -> Shown:
        """The fields of a prepared row beside its id, category and source."""

    def group_key(self, example: Example) -> str:
        """The unit that is not divided: records with the same key are in the same part."""

    def question(self, text: str) -> Row:
        """A text of the user as a row without a reference, to be answered.

        Raises UserError where the task cannot read the text.
        """


class Score(Protocol):
    """score.py: the task's measure, computed from sums over rows, so that rows can be resampled."""

    @property
    def STATISTICS(self) -> tuple[str, ...]:
        """The names of the K statistics of a row."""

    def statistics(self, rows: list[Row], answers: list[Prediction]) -> "Floats":
        """(N, K): the statistics of each of N rows."""

    def headline(self, totals: "Floats") -> "Floats":
        """(..., K) sums over rows -> (...), the score."""

    def details(self, rows: list[Row], answers: list[Prediction]) -> dict[str, float]:
        """Further measures by name."""

    def baseline(self, train: Path, rows: list[Row], base: Path) -> list[Prediction]:
        """The answers of a simple method, to compare with.

        train: the file of the prepared training rows.   base: the folder of the untuned model.
        """


class Synthetic(Protocol):
    """synthetic.py: a demo grammar."""

    def lines(self, rng: random.Random, rows: int, level: int) -> Iterator[str]:
        """`rows` different lines of a raw corpus.   level: the difficulty, from 1."""


class Converted(Protocol):
    """A document that was converted."""

    @property
    def text(self) -> str: ...

    @property
    def answers(self) -> Sequence[tuple[str, str]]:
        """What was asked in it, and what was taken for an answer; "" where nothing was."""

    def summary(self) -> list[str]:
        """What was converted by what, and what was not, in lines."""

    def report(self) -> str:
        """The same as HTML, part by part."""


Answers = Callable[[Sequence[str]], Sequence[Sequence[str]]]
"""For each question a model's answers, best first."""


class Document(Protocol):
    """document.py: whole documents, in which a model answers for what rules cannot be sure of."""

    @property
    def READS(self) -> tuple[str, ...]:
        """The suffixes of a document's file, such as ".tex"."""

    @property
    def WRITES(self) -> str:
        """The suffix of the converted document's file."""

    def converted(
        self, file: Path, into: Path, greedy: Answers | None, more: Answers | None, by_rules: bool
    ) -> Converted:
        """The document in a form that is shown without an error.

        into: the folder that it will be in.   greedy: a model's answers, None for rules alone.
        more: its further ones, asked where the first is no use.   by_rules: whether rules answer
        too what a model is asked. Raises UserError for a file that cannot be read.
        """


class Check(Protocol):
    """Check of candidates.py, a context manager: whether an answer can be right at all, told
    without a reference.
    """

    def passes(self, rows: Sequence[Row], answers: Sequence[str]) -> list[bool | None]:
        """Of each row's answer; None where that takes longer than an answer may take."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Candidates(Protocol):
    """candidates.py: by what one of several answers is chosen."""

    @property
    def Check(self) -> "type[Check]":
        """The check, made anew for each lot of rows."""


class References(Protocol):
    """Of a task whose references can be such that no answer to them is right."""

    def told(self, rows: Sequence[Row]) -> str:
        """What is wrong with how many of them, in a sentence; "" where nothing is.

        rows: their `id` says where they stand.
        """


@dataclass(frozen=True)
class Proposal:
    """What became of an input.

    record: of the task's corpus; {} where there is none.   makers: who wrote its answer, by name.
    refused: why there is no record, in words that many inputs share; "" where there is one.
    tried: the answers that were looked at, and what was found of each.
    """

    record: Mapping[str, str]
    makers: Sequence[str]
    refused: str
    tried: Sequence[Mapping[str, str | float]]


class Proposals(Protocol):
    """proposals.py: of a task whose answers can be told right from wrong without a reference."""

    def inputs(self, path: Path) -> Sequence[str]:
        """Those of a file. Raises UserError where it cannot be read."""

    def unfit(self, text: str, benchmark_too: bool) -> str:
        """Why an input cannot become a training row, whatever its answer; "" where it can.

        benchmark_too: also an input that the benchmark keeps for itself.
        """

    def require_judge(self, by_pictures: bool) -> None:
        """Raises UserError where `proposed` cannot judge on this machine."""

    def proposed(
        self,
        inputs: Sequence[str],
        answers: Sequence[Mapping[str, Sequence[tuple[str, float]]]],
        by_pictures: bool,
    ) -> list[Proposal]:
        """What becomes of each input.

        answers: what runs answer to each input, by run, with their log-probabilities in nats, in
        addition to what the task's own converters do.   by_pictures: whether the picture of the
        input itself decides; otherwise the agreement of those who answer.
        """


def names() -> list[str]:
    """The names of all tasks."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/corpus.py"))


def corpus(task: str) -> Corpus:
    loaded: Corpus = contracts.load(f"{__name__}.{task}.corpus", Corpus)
    return loaded


def score(task: str) -> Score:
    loaded: Score = contracts.load(f"{__name__}.{task}.score", Score)
    return loaded


def synthetic(task: str) -> Synthetic:
    loaded: Synthetic = contracts.load(f"{__name__}.{task}.synthetic", Synthetic)
    return loaded


def document(task: str) -> Document | None:
    """None where the task has no documents."""
    module = f"{__name__}.{task}.document"
    return contracts.load(module, Document) if find_spec(module) else None


def candidates(task: str) -> Candidates:
    """Of a task of which `has_candidates`."""
    loaded: Candidates = contracts.load(f"{__name__}.{task}.candidates", Candidates)
    return loaded


def has_candidates(task: str) -> bool:
    """Whether answers can be checked."""
    return find_spec(f"{__name__}.{task}.candidates") is not None


def references(task: str) -> References | None:
    """None where every reference can be scored."""
    module = f"{__name__}.{task}.references"
    return contracts.load(module, References) if find_spec(module) else None


def proposals(task: str) -> Proposals | None:
    """None where nothing tells a right answer without a reference."""
    module = f"{__name__}.{task}.proposals"
    return contracts.load(module, Proposals) if find_spec(module) else None
