"""How rows become questions to a model, and what it says becomes answers: the same on every
backend.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from transformers import PreTrainedTokenizerBase

from stages.backends.shared import beam_search
from stages.backends.shared.beam_search import Candidates
from stages.files import digest
from stages.progress_lines import ProgressLines
from stages.records import Answer, Row
from stages.settings import Answering, Generation
from stages.text import batches
from stages.text.chat import (
    Encoded,
    encode,
    end_of_turn,
    opening_ids,
    prompt_ids,
    scored_steps,
    windows,
)
from stages.text.rendering import plain_ids
from stages.text.spoken import Speech

OPENING_TOKENS = 16  # of a held-out text, which a language model continues to show how it writes


class Reader(Protocol):
    """Who reads answers while they are written."""

    def prompt(self, row: int, tokens: int) -> None:
        """Told how long a row's prompt is."""

    def token(self, row: int, so_far: Callable[[], str]) -> bool:
        """Told of each token of a row's answer, but not of its end; returns whether it goes on.

        so_far: the part of the answer that no later token changes.
        """

    def end(self, row: int, answer: str) -> None:
        """Told of a row's whole answer where it ends while others are still written."""


class ModelAnswerer(ABC):
    """A model that answers: text for conversations, scores for the steps of solutions, and the nats
    of references.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    settings: Answering

    @abstractmethod
    def nats(
        self, sequences: Sequence[Encoded], advance: Callable[[int], None]
    ) -> list[tuple[float, int]]:
        """(summed nats, labelled tokens) of each sequence.   advance: told how many more are done,
        as in the two methods below.
        """

    @abstractmethod
    def continued(
        self,
        prompts: Sequence[list[int]],
        advance: Callable[[int], None],
        watch: Callable[[int, int], bool] | None = None,
    ) -> list[str]:
        """What follows each sequence of ids.   watch: told each prompt's number and new id, its end
        of turn too where that comes before others'; returns whether its answer goes on.
        """

    @abstractmethod
    def step_scores(
        self, solutions: Sequence[Encoded], advance: Callable[[int], None]
    ) -> list[list[float]]:
        """How right each step of each solution is, 0 to 1."""

    @abstractmethod
    def lines(self) -> beam_search.Lines:
        """What a beam continues by this model."""

    @abstractmethod
    def share(self, other: Any) -> None:
        """As stages.backends.Answerer."""

    @property
    def generation(self) -> Generation:
        return self.settings.generation

    def asked_with(self, settings: Answering) -> Self:
        """As stages.backends.Answerer."""
        asked = copy.copy(self)
        asked.settings = settings
        return asked

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """As stages.backends.Answerer."""
        if "completions" in rows[0]:
            scores = self._scores(rows)
            costs = [
                step_nats(of_row, row["labels"]) for of_row, row in zip(scores, rows, strict=True)
            ]
            return [
                Answer("", *cost, tuple(of_row)) for cost, of_row in zip(costs, scores, strict=True)
            ]
        limit = self.settings.max_length_tokens
        sequences = [
            encode(self.tokenizer, row, limit)
            if "messages" in row
            else list(windows(self.tokenizer, row, limit, limit // 2))
            for row in rows
        ]
        flat = [sequence for of_row in sequences for sequence in of_row]
        with ProgressLines(f"{self.name}: losses of references", len(flat), "sequences") as lines:
            sums = iter(self.nats(flat, lines.advance))
        nats = [[next(sums) for _ in of_row] for of_row in sequences]
        asked = [row for row in rows if self._is_answered(row)]
        answers = iter(self._continued([self._opening(row) for row in asked]))
        return [
            Answer(
                next(answers) if self._is_answered(row) else "",
                math.fsum(value for value, _ in of_row),
                sum(tokens for _, tokens in of_row),
            )
            for row, of_row in zip(rows, nats, strict=True)
        ]

    def respond(self, rows: Sequence[Row], reader: Reader | None = None) -> list[str]:
        """As stages.backends.Answerer."""
        if "completions" in rows[0]:
            scores = self._scores(rows, reader)
            return [" ".join(f"{score:.3f}" for score in of_row) for of_row in scores]
        return self._continued([self._question(row) for row in rows], reader)

    def candidates(self, rows: Sequence[Row], count: int) -> list[Candidates]:
        """As stages.backends.Answerer. Lines of a batch are as many as rows otherwise."""
        end, said = end_of_turn(self.tokenizer), Speech(self.tokenizer)
        room = self.settings.max_length_tokens
        prompts = [self._question(row)[-room:] for row in rows]
        found = dict[int, Candidates]()
        size = max(1, self.generation.batch_size // count)
        with ProgressLines(f"{self.name}: candidates", len(rows), "rows") as progress:
            for together in batches.by_length([len(prompt) for prompt in prompts], size):
                asked = [prompts[at] for at in together]
                most = self.generation.max_new_tokens
                answers = beam_search.search(self.lines(), asked, count, end, most, said.text)
                found |= zip(together, answers, strict=True)
                progress.advance(len(together))
        return [found[at] for at in range(len(rows))]

    def _is_answered(self, row: Row) -> bool:
        """By the row alone: which others are asked with it depends on what was answered before."""
        return digest(row["id"]) <= self.settings.generation.answered_share * 2**64

    def _continued(self, prompts: list[list[int]], reader: Reader | None = None) -> list[str]:
        if not reader:
            with ProgressLines(f"{self.name}: answers", len(prompts), "rows") as lines:
                return self.continued(prompts, lines.advance)
        said, speech = [list[int]() for _ in prompts], Speech(self.tokenizer)
        for row, prompt in enumerate(prompts):
            reader.prompt(row, len(prompt))

        end = end_of_turn(self.tokenizer)

        def watch(row: int, new: int) -> bool:
            if new == end:
                reader.end(row, speech.text(said[row]))
                return False
            said[row].append(new)
            return reader.token(row, partial(speech.so_far, said[row]))

        return self.continued(prompts, lambda rows: None, watch)

    def _scores(self, rows: Sequence[Row], reader: Reader | None = None) -> list[list[float]]:
        limit, most = self.settings.max_length_tokens, self.settings.max_steps_per_example
        solutions = [scored_steps(self.tokenizer, row, limit, most) for row in rows]
        if not reader:
            with ProgressLines(f"{self.name}: step scores", len(rows), "rows") as lines:
                return self.step_scores(solutions, lines.advance)
        for row, solution in enumerate(solutions):
            reader.prompt(row, len(solution.ids))
        return self.step_scores(solutions, lambda rows: None)

    def _opening(self, row: Row) -> list[int]:
        """What the model is shown of a row with a reference: the prompt of a conversation, a text's
        first words.
        """
        if "messages" in row:
            return prompt_ids(self.tokenizer, row["messages"][:-1], row.get("tools", ()))
        return next(windows(self.tokenizer, row, OPENING_TOKENS, OPENING_TOKENS)).ids

    def _question(self, row: Row) -> list[int]:
        """All of a row that has no reference."""
        if "messages" in row:
            return prompt_ids(self.tokenizer, row["messages"], row.get("tools", ()))
        return opening_ids(self.tokenizer) + plain_ids(self.tokenizer, row["text"])


def step_nats(scores: Sequence[float], labels: Sequence[float | None]) -> tuple[float, int]:
    """(summed binary cross-entropy, number) of the labelled steps among those that were scored."""
    pairs = [
        (score, label) for score, label in zip(scores, labels, strict=False) if label is not None
    ]
    if not pairs:
        return 0.0, 0
    made, wanted = torch.tensor(pairs, dtype=torch.float64).T
    return F.binary_cross_entropy(made, wanted, reduction="sum").item(), len(pairs)
