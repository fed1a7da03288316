"""What a corpus holds and what models make of it: examples, prepared rows, answers, predictions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Required, TypedDict

from stages.files import read_lines


class Message(TypedDict):
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One raw record of a corpus, as its task read it.

    line: 1-based, in the raw file.   source: what is given.   target: what should come out (for a text to be
    learned as it is: the text, and an empty source).   category: error type, construct or kind of document.
    prompt: the messages before the answer where the record brings its own; else the task writes them.
    steps, labels: a solution's steps and how right each is, 0 to 1; None = nobody labelled it.
    test_only: why the record may be tested on and never trained on, such as its licence.
    """

    line: int
    source: str
    target: str
    category: str
    prompt: tuple[Message, ...] = ()
    steps: tuple[str, ...] = ()
    labels: tuple[float | None, ...] = ()
    test_only: str = ""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be read, and why; yielded among the examples so that all of a file's faults are told at once."""

    line: int
    reason: str


class Shown(TypedDict, total=False):
    """What of an example a model is shown.

    A conversation has `messages`, a text `text`, and a solution whose steps are scored `prompt`, `completions` (its steps)
    and `labels`, TRL's names for stepwise supervision.
    """

    messages: list[Message]
    text: str
    prompt: str
    completions: list[str]
    labels: list[float | None]


class Row(Shown):
    """One prepared example, a line of data/prepared, as mlx-lm and TRL read it too."""

    id: Required[str]
    category: Required[str]
    source: Required[str]


class Answer(NamedTuple):
    """What a model made of a row, before it is filed under the row and the model as a Prediction."""

    answer: str
    nats: float
    tokens: int
    step_scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model made of one row.

    answer: the generated text ("" for plain text rows and solutions).   nats: summed cross-entropy of the reference's
    labelled tokens, or of its labelled steps.   tokens: how many there were.   by: who answered, "run" or "base".
    step_scores: 0 to 1, one for each of the row's steps from the first on, as many as there was room for.
    """

    id: str
    corpus: str
    answer: str
    nats: float
    tokens: int
    by: str = "run"
    step_scores: Sequence[float] = ()


def target(row: Row) -> str:
    """The reference answer of a prepared row, its whole text, or its solution with a step a line."""
    if "completions" in row:
        return "\n".join(row["completions"])
    return row["messages"][-1]["content"] if "messages" in row else row["text"]


def read_rows(path: Path) -> list[Row]:
    """All rows of a prepared file."""
    return [json.loads(line) for _, line in read_lines(path)]


def read_predictions(path: Path) -> list[Prediction]:
    """All records of a file in data/predictions."""
    return [Prediction(**json.loads(line)) for _, line in read_lines(path)]
