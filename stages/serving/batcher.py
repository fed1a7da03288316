"""Questions that wait are answered together: one thread has the models, and each time it takes all
that can be one batch.
"""

import secrets
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition, Thread
from time import monotonic

from stages.errors import UserError
from stages.records import Row
from stages.serving.runs import LoadedRuns, TrainedRun
from stages.settings import Answering

QUIET_SECONDS = 0.005  # without another question, after which a batch begins
QUIET_SECONDS_OF_ALL = 0.002  # the same where as many wait as are likely to come
GATHERING_SECONDS = 0.1  # the longest that a batch is waited for
# While fewer questions wait than are likely, a batch begins after this share of the seconds of the
# batch before without another question. Whoever asked then is likely to ask again, and two small
# batches take nearly twice as long as one.
QUIET_SHARE = 1 / 4
# As many are likely as the batch before had, or this share of what was likely then: where one of
# 32 was divided into 28 and 4, the next one should not begin with 4.
LIKELY_SHARE = 3 / 4
PIECE_SECONDS = 0.02  # the shortest between two pieces of an answer: each costs as a token does
# The shortest between two times that answers are told while others of their batch are written.
# Sending them takes from the cores that compute: told one by one, a batch of 0.08 s took 0.1.
ENDED_SECONDS = 0.1


class Busy(Exception):
    """As many questions wait as may."""


@dataclass(frozen=True)
class Answered:
    """The end of an answer.

    cut: whether it has as many tokens as it may have, and so no end of its own.
    """

    text: str
    prompt_tokens: int
    tokens: int
    cut: bool


Event = str | Answered | Exception
"""A further piece of an answer, its end, or why there is none."""


class Question:
    """What one row is asked, and how far its answer is."""

    def __init__(
        self,
        run: TrainedRun,
        row: Row,
        settings: Answering,
        tell: Callable[[Event], None],
        stops: Sequence[str] = (),
        in_pieces: bool = False,
        seeded: bool = False,
    ) -> None:
        """tell: called by the thread that answers.   stops: texts before which the answer ends.

        in_pieces: whether pieces are told too; all of them are the answer's text.
        seeded: whether the seed is the asker's: such a sampled row is answered alone, because what
        is drawn for it depends on the rows beside it.
        """
        self.run, self.row, self.settings, self.tell = run, row, settings, tell
        self.stops, self.in_pieces = stops, in_pieces
        self.sampled = settings.generation.temperature > 0
        self.alone = self.sampled and seeded
        self.prompt_tokens = self.tokens = 0
        self.text, self.stopped, self.ended, self.withdrawn = "", False, False, False
        self.latest_piece = 0.0

    def goes_with(self, other: "Question") -> bool:
        """Whether both can be rows of one batch."""
        if self.alone or other.alone:
            return self is other
        return self.run == other.run and self.settings == other.settings

    def token(self, so_far: Callable[[], str]) -> bool:
        """As stages.backends.shared.answering.Reader, of this row alone."""
        self.tokens += 1
        is_due = self.in_pieces and monotonic() - self.latest_piece > PIECE_SECONDS
        if not self.withdrawn and (is_due or self.stops):
            self.latest_piece = monotonic()
            self._say(so_far())
        return not (self.stopped or self.withdrawn)

    def end(self, text: str) -> None:
        """Told once: an answer that ends before those beside it may be told before them."""
        if self.ended:
            return
        self.ended = True
        if not self.stopped:
            self._say(text, whole=True)
        cut = not self.stopped and self.tokens >= self.settings.generation.max_new_tokens
        self._tell(Answered(self.text, self.prompt_tokens, self.tokens, cut))

    def fail(self, fault: Exception) -> None:
        self._tell(fault)

    def _say(self, text: str, whole: bool = False) -> None:
        """Tell what is new in an answer so far, but for what may yet become one of the stops."""
        if found := [text.index(stop) for stop in self.stops if stop in text]:
            text, self.stopped = text[: min(found)], True
        elif not whole:
            begun = (
                size
                for stop in self.stops
                for size in range(len(stop))
                if text.endswith(stop[:size])
            )
            text = text[: len(text) - max(begun, default=0)]
        if self.in_pieces and (piece := text[len(self.text) :]):
            self._tell(piece)
        self.text = text

    def _tell(self, event: Event) -> None:
        if not self.withdrawn:
            self.tell(event)


class Batch:
    """As stages.backends.shared.answering.Reader, for the questions of a batch."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.questions = questions
        self.ended: list[tuple[Question, str]] = []
        self.latest_told = monotonic()

    def prompt(self, row: int, tokens: int) -> None:
        self.questions[row].prompt_tokens = tokens

    def token(self, row: int, so_far: Callable[[], str]) -> bool:
        if self.ended and monotonic() - self.latest_told > ENDED_SECONDS:
            self.latest_told = monotonic()
            for question, answer in self.ended:
                question.end(answer)
            self.ended.clear()
        return self.questions[row].token(so_far)

    def end(self, row: int, answer: str) -> None:
        self.ended.append((self.questions[row], answer))


class Batcher:
    """Answers questions in the order in which they come, with those that fit to the first.

    Models are loaded by the thread that answers: PyTorch keeps as many threads as there are cores
    for each thread that computes, and where there are more of them than cores libgomp lets none
    wait actively. Loaded by another one, a batch of 32 short answers took 2.3 times as long.
    """

    def __init__(
        self, loaded: LoadedRuns, most_waiting: int, runs: Sequence[TrainedRun] = ()
    ) -> None:
        """runs: those to be loaded before a question is answered."""
        self.loaded, self.most_waiting, self.runs = loaded, most_waiting, runs
        self.loading: Future[None] = Future()
        self.likely = 0  # how many questions the next batch is likely to have
        self.seconds_before = 0.0  # of the latest batch
        self.waiting: list[Question] = []
        self.latest_put = 0.0
        self.answering: list[Question] = []
        self.changed, self.closed = Condition(), False
        self.thread = Thread(target=self._work, name="batcher", daemon=True)
        self.thread.start()

    def ready(self) -> None:
        """Waits until the runs are loaded. Raises UserError where one cannot be."""
        self.loading.result()

    def put(self, question: Question) -> None:
        """Raises Busy where too many wait."""
        with self.changed:
            if len(self.waiting) >= self.most_waiting:
                raise Busy
            self.waiting.append(question)
            self.latest_put = monotonic()
            # Woken by each, the thread that answers would take turns with the one that reads them.
            if len(self.waiting) in (1, self.likely):
                self.changed.notify()

    def withdraw(self, question: Question) -> None:
        """Nobody wants the answer any more: it is not begun, or ends with its next token."""
        with self.changed:
            question.withdrawn = True
            if question in self.waiting:
                self.waiting.remove(question)

    def close(self) -> None:
        """Withdraws all questions and ends the thread."""
        with self.changed:
            self.closed = True
            for question in (*self.waiting, *self.answering):
                question.withdrawn = True
            self.changed.notify()
        self.thread.join()

    def _work(self) -> None:
        try:
            for run in self.runs:
                self.loaded.answerer(run)
        except BaseException as fault:
            self.loading.set_exception(fault)
            return
        self.loading.set_result(None)
        while questions := self._next_batch():
            begun = monotonic()
            self._answer(questions)
            self.seconds_before = monotonic() - begun
            self.likely = max(len(questions), int(LIKELY_SHARE * self.likely))

    def _next_batch(self) -> list[Question]:
        """[] when it is closed."""
        with self.changed:
            while not (self.waiting or self.closed):
                self.changed.wait()
            begun = monotonic()
            while not self.closed:
                quiet_since = max(begun, self.latest_put)
                begins = min(quiet_since + self._quiet_seconds(), begun + GATHERING_SECONDS)
                if (left := begins - monotonic()) <= 0:
                    break
                self.changed.wait(left)
            if self.closed:
                return []
            if not self.waiting:  # withdrawn meanwhile
                return self._next_batch()
            first = self.waiting[0]
            size = first.settings.generation.batch_size
            self.answering = [each for each in self.waiting if each.goes_with(first)][:size]
            self.waiting = [each for each in self.waiting if each not in self.answering]
            return self.answering

    def _quiet_seconds(self) -> float:
        """How long no question must have come for a batch to begin."""
        if len(self.waiting) < self.likely:
            return max(QUIET_SECONDS, QUIET_SHARE * self.seconds_before)
        return QUIET_SECONDS_OF_ALL if self.likely > 1 else QUIET_SECONDS

    def _answer(self, questions: Sequence[Question]) -> None:
        first = questions[0]
        settings = first.settings
        if first.sampled and not first.alone:
            settings = settings.model_copy(update={"seed": secrets.randbits(32)})
        try:
            answerer = self.loaded.answerer(first.run).asked_with(settings)
            rows = [question.row for question in questions]
            answers = answerer.respond(rows, Batch(questions))
        except UserError as fault:
            if len(questions) == 1:
                return first.fail(fault)
            # One row cannot be asked, such as a conversation that the chat template refuses: the
            # others are answered.
            half = len(questions) // 2
            self._answer(questions[:half])
            return self._answer(questions[half:])
        except Exception as fault:
            traceback.print_exception(fault)
            for question in questions:
                question.fail(fault)
            return
        for question, answer in zip(questions, answers, strict=True):
            question.end(answer)
