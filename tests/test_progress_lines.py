"""Long work says how far it is: soon, and at least once a minute, whatever takes its time."""

import os
import pty
import subprocess
import sys
from itertools import pairwise

import pytest

from stages import progress_lines
from stages.backends.shared import progress
from stages.progress_lines import FIRST_SECONDS, SECONDS, ProgressLines, duration
from stages.text import batches


class Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_lines, "monotonic", clock)
    return clock


def test_the_first_line_comes_soon_and_then_one_a_minute(clock):
    said = []
    with ProgressLines("work", 1000, "parts", lambda line: said.append((clock.now, line))) as lines:
        for _ in range(1000):
            clock.passes(1)
            lines.advance()
    times = [time - 1000 for time, _ in said]
    assert times[:3] == [FIRST_SECONDS, FIRST_SECONDS + SECONDS, FIRST_SECONDS + 2 * SECONDS]
    assert said[0][1] == "work: 5 of 1,000 parts (0%), about 17 min left"
    assert said[-1][1].startswith("work: 965 of 1,000 parts (96%), about 35 s left")


def test_quick_work_says_nothing(clock, capsys):
    with ProgressLines("work", 100, "parts") as lines:
        for _ in range(100):
            clock.passes(FIRST_SECONDS / 101)
            lines.advance()
    assert capsys.readouterr() == ("", "")


def test_a_slow_first_part_is_told_at_once_with_what_is_left_from_where_it_began(clock, capsys):
    with ProgressLines("work", 110, "parts", done=100) as lines:
        clock.passes(3600)
        lines.advance()
    said = capsys.readouterr()
    assert said.out == ""  # which may be a pipe of answers
    assert said.err == "work: 101 of 110 parts (92%), about 9 h 0 min left\n"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (90, "2 min"), (3599, "1 h 0 min")]
)
def test_durations_are_words(seconds, words):
    assert duration(seconds) == words


def test_a_long_training_with_slow_evaluations_prints_a_line_every_minute(
    clock, inside, monkeypatch
):
    """2,000 steps of a second, a report each 500, and each 250 an evaluation of 15 minutes."""
    said: list[float] = []
    monkeypatch.setattr(
        progress.Progress, "say", lambda self, *_, say=progress.Progress.say, **record: (
            said.append(clock.now), say(self, *_, **record)
        )
    )  # fmt: skip
    listener = progress.Progress("run", [10] * 8)
    listener.plan_is_made(batches.plan([10] * 8, 4, 1, 2000, 0), 1, 1)
    begins = clock.now
    listener.training_begins(0)
    for step in range(1, 2001):
        clock.passes(1)
        listener.step_ends(step)
        if step % 500 == 0:
            listener.loss_is_reported(step, 2000, 1.0, 1e-3, 1.0)
        if step % 250 == 0:
            with ProgressLines("validation", 180, "rows", listener.say) as lines:
                for _ in range(180):
                    clock.passes(5)
                    lines.advance()
            listener.evaluation_ends(step, 2000, 1.0, None)
    listener.training_ends()
    assert said[1] - begins <= 1 + 10
    gaps = [after - before for before, after in pairwise(said[1:])]
    assert max(gaps) <= SECONDS + 5
    assert len(said) > 2000 * 4.6 / SECONDS


SHOWN = """
import sys
from stages.progress_lines import ProgressLines

with ProgressLines("work", 3, "parts") as lines:
    for part in range(3):
        print("part", part)
        lines.advance()
"""


def test_on_a_terminal_it_is_a_bar_and_what_is_piped_stays_clean():
    leader, follower = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", SHOWN], stdout=subprocess.PIPE, stderr=follower, text=True
    )
    os.close(follower)
    drawn = os.read(leader, 10_000).decode()
    os.close(leader)
    assert done.returncode == 0
    assert done.stdout == "part 0\npart 1\npart 2\n"
    assert "work" in drawn
    assert "3/3" in drawn
    assert "\x1b[?25h" in drawn  # the cursor is shown again
