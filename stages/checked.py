"""Answers that are checked: where the first answer to a row does not pass its task's check, the
likeliest other one that does is given.

The first answer stays where it passes, so that most rows cost nothing, and where none does.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stages import tasks
from stages.backends import Answerer
from stages.backends.shared.beam_search import Candidates
from stages.records import Answer, Row
from stages.settings import Answering

if TYPE_CHECKING:
    from stages.backends.shared.answering import Reader  # which loads PyTorch

MOST_STOPPED = 2
"""Answers of a row that may run into the check's time limit: then the row keeps its first answer,
so that a model that writes loops does not cost this for each candidate."""


def checked(answerer: Any, task: str, settings: Answering) -> Any:
    """The answerer itself where no answers are checked.   answerer: of stages.backends, or of
    several processes.
    """
    return Checked(answerer, task, settings) if settings.generation.candidates > 1 else answerer


class Checked:
    """As stages.backends.Answerer, by one."""

    def __init__(self, answerer: Any, task: str, settings: Answering) -> None:
        self.answerer, self.task, self.settings = answerer, task, settings

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        answers: list[Answer] = self.answerer.predict(rows)
        asked = [row | {"messages": row["messages"][:-1]} for row in rows]
        chosen = self._chosen(asked, [answer.answer for answer in answers])
        return [answer._replace(answer=text) for answer, text in zip(answers, chosen, strict=True)]

    def respond(self, rows: Sequence[Row], reader: "Reader | None" = None) -> list[str]:
        """Nothing of an answer is told before it is checked."""
        held = _Held(reader) if reader else None
        return self._chosen(rows, self.answerer.respond(rows, held))

    def candidates(self, rows: Sequence[Row], count: int) -> list[Candidates]:
        found: list[Candidates] = self.answerer.candidates(rows, count)
        return found

    def asked_with(self, settings: Answering) -> Answerer:
        asked: Answerer = checked(self.answerer.asked_with(settings), self.task, settings)
        return asked

    def share(self, other: Any) -> None:
        self.answerer.share(other.answerer if isinstance(other, Checked) else other)

    def close(self) -> None:
        self.answerer.close()

    def _chosen(self, rows: Sequence[Row], answers: Sequence[str]) -> list[str]:
        """What is given to each row, of its answer and its candidates."""
        chosen, stopped = [*answers], [0] * len(rows)
        with tasks.candidates(self.task).Check() as check:

            def failing(places: Sequence[int], texts: Sequence[str]) -> list[int]:
                """Those of some rows whose text does not pass, and that go on."""
                passed = check.passes([rows[at] for at in places], texts)
                left = []
                for at, text, passes in zip(places, texts, passed, strict=True):
                    stopped[at] += passes is None
                    if passes:
                        chosen[at] = text
                    elif stopped[at] < MOST_STOPPED:
                        left.append(at)
                return left

            waiting = failing(range(len(rows)), answers)
            if not waiting:
                return chosen
            count = self.settings.generation.candidates
            found = self.candidates([rows[at] for at in waiting], count)
            others = {
                at: [text for text, _ in of_row if text != answers[at]]
                for at, of_row in zip(waiting, found, strict=True)
            }
            for rank in range(count):
                waiting = [at for at in waiting if rank < len(others[at])]
                waiting = failing(waiting, [others[at][rank] for at in waiting])
        return chosen


class _Held:
    """A reader that is told how far answers are, and nothing of what they say."""

    def __init__(self, reader: "Reader") -> None:
        self.reader = reader
        self.prompt = reader.prompt

    def token(self, row: int, so_far: Any) -> bool:
        return self.reader.token(row, str)

    def end(self, row: int, answer: str) -> None:
        """It has not been checked."""
