"""Sides of a workload in turn, A B A B ..., each turn in a process of its own: what it did, its
seconds and its peak memory."""

import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


@dataclass
class Work:
    """What a side reports of its turn.

    done: examples, tokens or rows, by which the seconds are divided.   seconds: of the `timed` part
    alone, without imports. same: what must be alike between the sides for their times to be
    comparable, by name.   shares: of what the machine can do, by name.   peak_mb: of a device; 0 =
    of the process and those it waited for, in 2^20 bytes."""

    done: float = 0.0
    seconds: float = 0.0
    peak_mb: float = 0.0
    same: dict[str, float] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.seconds += time.monotonic() - begun


Side = Callable[[Path], Work]


@dataclass(frozen=True)
class Workload:
    """sides: ours first.   unit: of what is done.   goals: the least ratio to a side that is
    wanted, and the most memory.

    tolerance: how far what must be alike may differ, relative.   make: writes the inputs, from
    seeds, into the folder."""

    title: str
    unit: str
    make: Callable[[Path], None]
    sides: dict[str, Side]
    goals: dict[str, float]
    memory_goal: float = 0.0
    tolerance: dict[str, float] = field(default_factory=dict)
    needs_cuda: bool = False


@dataclass(frozen=True)
class Turn:
    side: str
    rate: float
    peak_mb: float
    same: dict[str, float]
    shares: dict[str, float] = field(default_factory=dict)


def first_rows(source: Path, target: Path, rows: int) -> None:
    with source.open(encoding="utf-8") as lines, target.open("w", encoding="utf-8") as file:
        file.writelines(itertools.islice(lines, rows))


def take(side: Side, folder: Path) -> str:
    """One turn, in this process; a line of JSON."""
    work = side(folder)
    unit = 1024 if sys.platform == "linux" else 1024**2  # of ru_maxrss, per MiB
    resident = (
        max(
            resource.getrusage(of).ru_maxrss
            for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        / unit
    )
    turn = {
        "rate": work.done / work.seconds,
        "peak_mb": work.peak_mb or resident,
        "same": work.same,
        "shares": work.shares,
    }
    return json.dumps(turn)


def in_turn(name: str, workload: Workload, folder: Path, turns: int) -> list[Turn]:
    """Raises SystemExit with the last lines of what fails."""
    process(name, folder, "--make")
    found = []
    for turn in range(1, turns + 1):
        for side in workload.sides:
            told = process(name, folder, "--side", side)
            found.append(Turn(side, **json.loads(told.strip().splitlines()[-1])))
            print(
                f"{name}  turn {turn} of {turns}  {side:32} {found[-1].rate:12,.1f} "
                f"{workload.unit}/s",
                flush=True,
            )
    return found


def process(name: str, folder: Path, *what: str) -> str:
    """What a part of a workload prints, in a process of its own: its peak memory begins with that
    of this one, which therefore loads nothing large."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", name, *what, "--folder", str(folder)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        part = what[-1].removeprefix("--")
        raise SystemExit(
            f"{name}, {part}: exit code "
            f"{done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return done.stdout


def section(name: str, workload: Workload, turns: list[Turn]) -> str:
    """A workload's part of the results, as Markdown."""
    ours, *others = workload.sides
    by_side = {side: [turn for turn in turns if turn.side == side] for side in workload.sides}
    rates = {side: [turn.rate for turn in by_side[side]] for side in by_side}
    peaks = {side: median(turn.peak_mb for turn in by_side[side]) for side in by_side}
    lines = [
        f"## {name}: {workload.title}",
        "",
        f"| | {workload.unit}/s, median (range) | ours is | peak memory, MB | ours takes |",
    ]
    lines += ["|---|---|---|---|---|"]
    for side, values in rates.items():
        ratio = median(mine / theirs for mine, theirs in zip(rates[ours], values, strict=True))
        share = peaks[ours] / peaks[side]
        beside = ["", ""] if side == ours else [f"{ratio:.2f} × as fast", f"{share:.0%}"]
        digits = 1 if median(values) >= 10 else 3
        spread = (
            f"{median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"
        )
        lines.append(f"| {side} | {spread} | {beside[0]} | {peaks[side]:,.0f} | {beside[1]} |")
    lines += ["", *checks(workload, by_side)]
    for what in by_side[ours][0].shares:
        listed = [
            f"{side} {median(turn.shares[what] for turn in taken):.1%}"
            for side, taken in by_side.items()
        ]
        lines.append(f"- {what}: {', '.join(listed)}")
    lines.append("")
    for side in others:
        ratio = median(mine / theirs for mine, theirs in zip(rates[ours], rates[side], strict=True))
        if goal := workload.goals.get(side):
            lines.append(
                f"- {'Reached' if ratio >= goal else 'Not reached'}: {goal:.3g} × {side} "
                f"({ratio:.2f})."
            )
    if workload.memory_goal:
        share = peaks[ours] / peaks[others[0]]
        reached = "Reached" if share <= workload.memory_goal else "Not reached"
        lines.append(
            f"- {reached}: at most {workload.memory_goal:.0%} of the memory of {others[0]} "
            f"({share:.0%})."
        )
    return "\n".join(lines) + "\n"


def checks(workload: Workload, by_side: dict[str, list[Turn]]) -> list[str]:
    """Whether the sides did the same work, a sentence for each thing that must be alike."""
    ours, *others = by_side
    found = []
    for what in by_side[ours][0].same:
        values = {
            side: median(turn.same[what] for turn in by_side[side] if what in turn.same)
            for side in by_side
            if what in by_side[side][0].same
        }
        allowed = workload.tolerance.get(what, 0.0)
        apart = [
            side
            for side in others
            if side in values and abs(values[side] - values[ours]) > allowed * abs(values[ours])
        ]
        listed = ", ".join(f"{side} {value:,.6g}" for side, value in values.items())
        found.append(
            f"- {what}: {listed}"
            + (f". **Not the same work: {', '.join(apart)}**" if apart else "")
        )
    return found
