"""How far long work is and when it will end: a bar on a terminal, now and then a line elsewhere.

Both go to standard error, because standard output may be a pipe of answers.
"""

import atexit
import sys
from collections.abc import Callable
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

FIRST_SECONDS = 5  # of work, after which the first line is written
SECONDS = 60  # between two lines, whoever writes them


def write(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class ProgressLines:
    """Told how many parts of some work are done, between `begin` and `end` or inside a `with`."""

    def __init__(
        self, work: str, total: int, unit: str, say: Callable[[str], None] = write, done: int = 0
    ) -> None:
        """work, unit: as a line names them.   say: writes a line.   done: before it began."""
        self.work, self.total, self.unit, self.say = work, total, unit, say
        self.done = self.before = done
        self.bar: Progress | None = None

    def begin(self) -> "ProgressLines":
        self.began = monotonic()
        self.due = self.began + FIRST_SECONDS
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
            )
            self.bar = Progress(
                *columns,
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=sys.stdout.isatty(),
            )
            self.task = self.bar.add_task(self.work, total=self.total, completed=self.done)
            self.bar.start()
            atexit.register(self.bar.stop)  # an error must leave the terminal its cursor
        return self

    def end(self) -> None:
        if self.bar:
            self.bar.stop()
            atexit.unregister(self.bar.stop)

    __enter__ = begin

    def __exit__(self, *_: object) -> None:
        self.end()

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        if self.bar:
            self.bar.update(self.task, completed=self.done)
        elif (now := monotonic()) >= self.due and self.done < self.total:
            left = (now - self.began) / (self.done - self.before) * (self.total - self.done)
            self.say(
                f"{self.work}: {self.done:,} of {self.total:,} {self.unit} "
                f"({self.done / self.total:.0%}), about {duration(left)} left"
            )
            self.another_line()

    def another_line(self) -> None:
        """Something was said of the work: the next line has time."""
        self.due = monotonic() + SECONDS


def duration(seconds: float) -> str:
    """In words, to the minute where it is more than one."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
