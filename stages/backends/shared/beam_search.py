"""The likeliest answers to a prompt: beam search, which also follows the greedy answer to its end.

Of 909 validation rows the demo's typst-003 answers 30 with Typst that does not compile. Among eight
answers of a beam is one that compiles for 29 of them, and the likeliest such is right for 11; of
eight samples (temperature 1) that was 26 and 6, of sixteen (temperature 0.7) 27 and 10. A beam
needs no seed and no options of its own, and no answer depends on what is asked with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

Candidates = list[tuple[str, float]]
"""Different answers to one prompt with the log-probability of their tokens in nats, the end of turn
included where it was reached: the greedy one first, the others from the likeliest on."""


class Likeliest(NamedTuple):
    """For each line its likeliest next tokens, from the likeliest on, and their log-probabilities
    in nats: (lines, tokens).
    """

    tokens: list[list[int]]
    nats: list[list[float]]


class Lines(Protocol):
    """Sequences that a model continues side by side."""

    def begin(self, prompts: Sequence[list[int]], most: int) -> Likeliest:
        """A line for each prompt.   most: tokens that are wanted of each line, also later."""

    def go_on(self, lines: Sequence[int], tokens: Sequence[int]) -> Likeliest:
        """Lines that each continue one of those before by a token; one may be continued by several,
        or by none.
        """


@dataclass(frozen=True)
class _Line:
    """at: its place among the model's lines.   is_greedy: whether each token was the likeliest."""

    at: int
    ids: list[int]
    nats: float
    is_greedy: bool


@dataclass
class _Row:
    """The answers to one prompt: those that go on, and those that have ended, by their text."""

    count: int
    going: list[_Line]
    ended: dict[str, float] = field(default_factory=dict)
    greedy: str | None = None

    def end(self, line: _Line, text: str) -> None:
        if line.is_greedy:
            self.greedy = text
        self.ended[text] = max(line.nats, self.ended.get(text, line.nats))

    def keep(self, lines: list[_Line]) -> None:
        """Let go on the likeliest lines and the greedy one, but none that could only become less
        likely than all that are wanted: a further token makes no answer likelier.
        """
        enough = sorted(self.ended.values(), reverse=True)[: self.count]
        least = enough[-1] if len(enough) == self.count else -float("inf")
        lines = sorted(lines, key=lambda line: -line.nats)
        likely = [line for line in lines[: self.count] if line.nats > least]
        self.going = likely + [line for line in lines if line.is_greedy and line not in likely]

    def candidates(self) -> Candidates:
        assert self.greedy is not None
        by_likelihood = sorted(self.ended, key=lambda text: -self.ended[text])
        others = [text for text in by_likelihood if text != self.greedy][: self.count - 1]
        return [(text, self.ended[text]) for text in (self.greedy, *others)]


def search(
    lines: Lines,
    prompts: Sequence[list[int]],
    count: int,
    end: int,
    max_new_tokens: int,
    text: Callable[[Sequence[int]], str],
) -> list[Candidates]:
    """At most `count` candidates for each prompt.

    end: the token that ends an answer; one of max_new_tokens ends without it.   text: what ids say.
    """
    found = lines.begin(prompts, count + 1)
    rows = [_Row(count, [_Line(at, [], 0.0, True)]) for at in range(len(prompts))]
    for length in range(1, max_new_tokens + 1):
        for row in rows:
            further = []
            for line in row.going:
                likeliest = zip(found.tokens[line.at], found.nats[line.at], strict=True)
                for place, (token, nats) in enumerate(likeliest):
                    is_greedy = line.is_greedy and not place
                    if token == end:
                        row.end(_Line(0, line.ids, line.nats + nats, is_greedy), text(line.ids))
                    else:
                        ids = [*line.ids, token]
                        further.append(_Line(line.at, ids, line.nats + nats, is_greedy))
            row.keep(further)
            if length == max_new_tokens:
                for line in row.going:
                    row.end(line, text(line.ids))
        going = [line for row in rows for line in row.going]
        if not going or length == max_new_tokens:
            break
        found = lines.go_on([line.at for line in going], [line.ids[-1] for line in going])
        places = iter(range(len(going)))
        for row in rows:
            row.going = [
                _Line(next(places), line.ids, line.nats, line.is_greedy) for line in row.going
            ]
    return [row.candidates() for row in rows]
