"""What a prepared corpus holds and what models make of it: rows, answers, predictions."""

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, Required, TypedDict, overload

from stages.files import read_lines


class Message(TypedDict, total=False):
    """A turn of a conversation, in OpenAI's form.

    role: system, user, assistant or tool.   content: "" in an answer that only calls tools.
    reasoning_content: what the assistant thought before.
    tool_calls: `{"type": "function", "function": {"name": …, "arguments": {…}}}`, with an "id"
    where the record has one.   tool_call_id, name: of a tool's result.   train: false for an answer
    that is not learned.
    """

    role: Required[str]
    content: Required[str]
    reasoning_content: str
    tool_calls: list[dict[str, Any]]
    tool_call_id: str
    name: str
    train: bool


class Shown(TypedDict, total=False):
    """The part of an example that a model is shown.

    A conversation has `messages`, and `tools` where it may call some; a plain text has `text`. A
    solution whose steps are scored has `prompt`, `completions` (its steps) and `labels`: TRL's
    names for stepwise supervision.
    """

    messages: list[Message]
    tools: list[dict[str, Any]]
    text: str
    prompt: str
    completions: list[str]
    labels: list[float | None]


class Row(Shown):
    """One prepared example: a line of a file in data/prepared. mlx-lm and TRL can read it too."""

    id: Required[str]
    category: Required[str]
    source: Required[str]


class Answer(NamedTuple):
    """A model's output for one row. With the row's id and the model's name it is a Prediction."""

    answer: str
    nats: float
    tokens: int
    step_scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's output for one row.

    answer: the generated text; "" for plain texts and solutions.
    nats: the cross-entropy, summed over the labelled tokens of the reference, or over its labelled
    steps.   tokens: the number of those tokens or steps.   by: the model, "run" or "base".
    step_scores: 0 to 1 for each of the row's first steps; later steps that did not fit into
    max_length_tokens have none.
    """

    id: str
    corpus: str
    answer: str
    nats: float
    tokens: int
    by: str = "run"
    step_scores: Sequence[float] = ()


def target(row: Row) -> str:
    """The reference of a prepared row: its answer, its whole text, or its steps, one a line."""
    if "completions" in row:
        return "\n".join(row["completions"])
    return answer_text(row["messages"][-1]) if "messages" in row else row["text"]


def learned_turns(messages: Sequence[Message]) -> list[int]:
    """The places of the answers that are learned."""
    return [
        place
        for place, message in enumerate(messages)
        if message["role"] == "assistant" and message.get("train", True)
    ]


def answer_text(message: Message) -> str:
    """What an answer says, and each call of a tool as a line of JSON."""
    calls = (
        json.dumps(call["function"], ensure_ascii=False) for call in message.get("tool_calls", ())
    )
    return "\n".join(filter(None, (message["content"], *calls)))


class RowFile(Sequence[Row]):
    """The rows of a prepared file, each read when it is asked for. Where each begins takes eight
    bytes a row, and is not looked for where rows are only gone through.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Row]:
        for _, line in read_lines(self.path):
            yield json.loads(line)

    def __len__(self) -> int:
        return len(self.begins)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        with self.path.open("rb") as file:
            return next(rows_from(file, self.begins[at], 1))

    @cached_property
    def begins(self) -> "array[int]":
        """Where each row begins, in bytes."""
        begins, at = array("q"), 0
        with self.path.open("rb") as file:
            for line in file:
                if line.strip():
                    begins.append(at)
                at += len(line)
        return begins


def rows_from(file: IO[bytes], begins: int, count: int) -> Iterator[Row]:
    """So many rows of a prepared file from one of which it is known where it begins."""
    file.seek(begins)
    filled = (line for line in file if line.strip())
    for line in islice(filled, count):
        yield json.loads(line)


def read_rows(path: Path) -> list[Row]:
    """All rows of a prepared file."""
    return [*RowFile(path)]


def read_predictions(path: Path) -> list[Prediction]:
    """All records of a file in data/predictions."""
    return [Prediction(**json.loads(line)) for _, line in read_lines(path)]
