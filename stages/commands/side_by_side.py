"""`dvc repro` with the stages that do not depend on each other side by side.

Each is a `dvc repro --single-item` of its own. DVC judges what has changed, runs the command and
locks what it reads and writes; here is decided only when a stage's turn has come, and with how many
threads. Which card it computes on it settles itself, with all others of this machine (cards.py).
"""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from stages.backends.shared import cards
from stages.commands.job_memory import planned_bytes, resident
from stages.commands.stale_stages import TAKE_LONG, long_after, stale_graph
from stages.errors import UserError
from stages.progress_lines import duration

LOCK = Path(".scratch/repro.lock")
MOST_JOBS = 4  # that `auto` begins: what runs beside it is a person's own work
SAID_SECONDS = 60  # between two lines about the whole
NAMED = re.compile(r"failed to reproduce '([^']+)'")
# What dvc says after every stage, and a reader knows after the first.
CHATTER = re.compile(
    r"(Updating|Generating) lock file|To (track|enable auto)|\t(git|dvc) |Use `dvc push`|> python"
)


@dataclass
class Job:
    """One call of dvc.   planned: bytes that its training takes."""

    stages: list[str]
    process: subprocess.Popen[str]
    planned: int = 0
    began: float = field(default_factory=time.monotonic)
    failed: set[str] = field(default_factory=set)
    listener: threading.Thread | None = None


def reproduce(targets: list[str], jobs: int) -> None:
    """Bring the targets, or all stages, up to date, `jobs` calls of dvc at a time.

    Raises UserError for a target that does not exist, and while another one is at work here.
    SystemExit where a stage failed (1) or a signal ended it (128 + its number); what runs beside a
    stage that fails goes on, and what depends on it does not begin.
    """
    with alone():
        graph = stale_graph(targets)
        if not graph:
            print("Data and pipelines are up to date.", flush=True)
            return
        Crew(graph, jobs).work()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{LOCK}: another `stages repro` is at work here (process {file.read().strip()}); "
                "wait for it, or stop it"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


class Crew:
    """The calls of dvc that are under way, and what is still to do."""

    def __init__(self, graph: dict[str, set[str]], jobs: int) -> None:
        self.graph, self.total, self.most = graph, len(graph), jobs
        self.began = time.monotonic()
        self.order = TopologicalSorter(graph)
        self.order.prepare()
        self.long_after = long_after(graph)
        self.ready: list[str] = []
        self.running: list[Job] = []
        self.seconds: dict[str, float] = {}
        self.done: set[str] = set()
        self.failed: set[str] = set()
        self.waits: set[str] = set()  # for memory or a card, which has been said
        self.signal = 0
        self.cards = list(cards.free_megabytes())
        # As it is now: a plan of memory sets what the one run needs, and another must not have it.
        self.environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        self.printing = threading.Lock()

    def work(self) -> None:
        before = {
            number: signal.signal(number, self._interrupt)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        said = time.monotonic()
        try:
            while self.order.is_active() or self.running:
                self.ready += self.order.get_ready()
                self.ready.sort(key=lambda name: -self.long_after[name])
                while not self.signal and len(self.running) < self.most and self._begin_next():
                    pass
                if not self.running:
                    break
                time.sleep(0.05)
                for job in [job for job in self.running if job.process.poll() is not None]:
                    self._end(job)
                if time.monotonic() - said > SAID_SECONDS:
                    said = time.monotonic()
                    self._say(self._state())
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self._summary()
        if self.signal:
            print("the same command goes on from here", flush=True)
            raise SystemExit(128 + self.signal)
        if self.failed:
            raise SystemExit(1)

    def _interrupt(self, number: int, _: Any) -> None:
        """Every job ends at its next step, with a checkpoint; at a second signal at once."""
        self.signal = number
        for job in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.process.pid, number)

    def _begin_next(self) -> bool:
        """Begin one more call of dvc; whether there was one to begin."""
        for name in self.ready:
            kind = name.partition("@")[0]
            if kind in TAKE_LONG:
                together = [name]
            else:  # in one call of dvc, which takes a second to start
                alike = [other for other in self.ready if other.partition("@")[0] == kind]
                together = alike[: -(-len(alike) // self.most)]
            planned = planned_bytes(name)
            if why := self._waits_for(planned, kind):
                if name not in self.waits:
                    self.waits.add(name)
                    self._say(f"{name} waits: {why}")
                continue
            self._begin(together, planned)
            return True
        return False

    def _waits_for(self, planned: int, kind: str) -> str:
        """Why a stage cannot begin beside those that run, or ""; alone it always can."""
        taking = sum(job.stages[0].partition("@")[0] in TAKE_LONG for job in self.running)
        if kind in TAKE_LONG and self.cards and taking >= len(self.cards):
            return f"every card is in use ({', '.join(self.cards)})"
        # What runs may not have taken yet what is planned for it.
        promised = sum(
            max(0, job.planned - resident(job.process.pid)) for job in self.running if job.planned
        )
        available = psutil.virtual_memory().available - promised
        if planned and self.running and planned > available:
            return f"{planned / 2**20:,.0f} MB planned, {max(0, available) / 2**20:,.0f} MB free"
        return ""

    def _begin(self, together: list[str], planned: int) -> None:
        beside = [name for job in self.running for name in job.stages] + self.ready
        longer = sum(name.partition("@")[0] in TAKE_LONG for name in beside)
        threads = max(1, cores() // min(self.most, max(1, longer)))
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", *together],
            env={"OMP_NUM_THREADS": str(threads)} | self.environment,  # unless the user has set it
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # signals reach it from here alone, once
        )
        job = Job(together, process, planned)
        self.ready = [name for name in self.ready if name not in together]
        self.running.append(job)
        if self.signal:  # it came while the process was being made
            os.killpg(process.pid, self.signal)
        job.listener = threading.Thread(target=self._listen, args=(job,), daemon=True)
        job.listener.start()

    def _listen(self, job: Job) -> None:
        """Print a job's lines with the stage they are of."""
        assert job.process.stdout is not None
        stage = job.stages[0]
        for line in job.process.stdout:
            if begins := re.match(r"Running stage '([^']+)'", line):
                stage = begins[1]
            job.failed |= set(NAMED.findall(line))
            if line.strip() and not CHATTER.match(line):
                self._say(line.rstrip(), stage)

    def _end(self, job: Job) -> None:
        self.running.remove(job)
        if job.listener:
            job.listener.join()  # a training may outlive its dvc until its checkpoint is written
        seconds = time.monotonic() - job.began
        self.seconds |= dict.fromkeys(job.stages, seconds / len(job.stages))
        if not job.process.returncode:
            self.done |= set(job.stages)
            self.order.done(*job.stages)
            return
        # A call ends with the first stage that fails.
        first = next((at for at, name in enumerate(job.stages) if name in job.failed), 0)
        self.done |= set(job.stages[:first])
        self.order.done(*job.stages[:first])
        self.failed.add(job.stages[first])
        if not self.signal:
            self.ready += job.stages[first + 1 :]
            self._say(f"{job.stages[first]} failed; what does not depend on it goes on")

    def _state(self) -> str:
        running = ", ".join(
            f"{job.stages[0]} for {duration(time.monotonic() - job.began)}" for job in self.running
        )
        begun = sum(len(job.stages) for job in self.running)
        waiting = self.total - len(self.done) - len(self.failed) - begun
        return f"{len(self.done)} of {self.total} stages done; {running}; {waiting} wait"

    def _say(self, line: str, stage: str = "") -> None:
        with self.printing:
            print(f"{stage or 'repro'} | {line}", flush=True)

    def _summary(self) -> None:
        """By kind of stage: how many, and the time of all of them, one after the other."""
        table = Table("stages", "number", "time together", "longest")
        kinds = sorted({name.partition("@")[0] for name in self.done}, key=self._first_of)
        for kind in kinds:
            alike = [name for name in self.done if name.partition("@")[0] == kind]
            longest = max(alike, key=lambda name: self.seconds[name])
            table.add_row(
                kind,
                f"{len(alike)}",
                duration(sum(self.seconds[name] for name in alike)),
                f"{longest}, {duration(self.seconds[longest])}",
            )
        for name in sorted(self.failed):
            state = "stopped" if self.signal else "failed"
            table.add_row(name, f"[red]{state}[/]", duration(self.seconds[name]), "")
        Console().print(table)
        begun = len(self.done) + len(self.failed)
        print(
            f"{len(self.done)} of {self.total} stages done in "
            f"{duration(time.monotonic() - self.began)}"
            + (f", {len(self.failed)} failed or stopped" if self.failed else "")
            + (f", {self.total - begun} not begun" if self.total > begun else ""),
            flush=True,
        )

    def _first_of(self, kind: str) -> int:
        """Where a kind of stage has its place in the graph's order."""
        return next(at for at, name in enumerate(self.graph) if name.partition("@")[0] == kind)


def cores() -> int:
    """Those that this process may use. OMP_NUM_THREADS, which stages.processes.cores() minds, says
    how many of them a stage has.
    """
    return len(psutil.Process().cpu_affinity()) if psutil.LINUX else psutil.cpu_count() or 1


def as_many(jobs: str) -> int:
    """`--jobs`: a number, or "auto" for one a card, or else one a core up to MOST_JOBS."""
    if jobs == "auto":
        return len(cards.free_megabytes()) or min(cores(), MOST_JOBS)
    if not re.fullmatch("[1-9][0-9]{0,3}", jobs):
        raise UserError(f"--jobs {jobs}: how many at once is a number from 1 on, or auto")
    return int(jobs)
