"""A stage over several processes: begun here, each told its place by the variables of torchrun.

Not by torchrun: it gives a worker that it stops 30 seconds, too few for a large checkpoint, and in
place of the sentence with which a worker ended it prints a table and exits with 1.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.backends.shared import cards
from stages.backends.shared.place import STORE, Place, own_place
from stages.errors import UserError
from stages.processes import cores
from stages.settings import Launch

PORT = "29500"  # torchrun's
LEFT_ALONE = 75
"""Exit code of a worker that ended because another had: EX_TEMPFAIL of sysexits.h."""
GRACE_SECONDS = 5
"""For the others to end by themselves when one has failed."""


def processes_here(launch: Launch, device: str) -> int:
    """On each machine.   device: as in stages.settings."""
    if (size := own_place().size) > 1:  # begun already, and each sees its own card
        return size // launch.nodes
    return processes_asked(launch, device)


def processes_asked(launch: Launch, device: str) -> int:
    """On each machine, whatever has been begun."""
    if launch.processes == "auto":
        return max(1, len(usable_cards(device)))
    return launch.processes


def usable_cards(device: str) -> list[str]:
    """Those with the most free memory first; [] where nothing is computed on cards."""
    free = cards.free_megabytes()
    if free:
        from stages.backends.shared.devices import takes_cards  # imports PyTorch

        free = free if takes_cards(device) else {}
    return sorted(free, key=lambda card: -free[card])


def require_cards(launch: Launch, device: str) -> None:
    """Raises UserError where cards are used and there are fewer than processes."""
    found = len(usable_cards(device))
    if found and launch.processes != "auto" and launch.processes > found:
        raise UserError(
            f"launch.processes {launch.processes}: {found} cards can be used here; set auto, which "
            f"takes {found}, or device: cpu"
        )


def all_processes(launch: Launch, device: str) -> int:
    """On all machines, which have as many each."""
    return launch.nodes * processes_here(launch, device)


def is_spread(launch: Launch, device: str) -> bool:
    """Whether a stage with this section is to begin workers, and not one of them itself."""
    return own_place().size == 1 and all_processes(launch, device) > 1


@dataclass
class Worker:
    """said: what it wrote, but for the first one's, which is written where ours is."""

    place: Place
    process: subprocess.Popen[bytes]
    said: Path | None
    ended: float = 0.0  # a time of time.monotonic

    @property
    def name(self) -> str:
        return f"process {self.place.rank + 1} of {self.place.size}"


def run(arguments: Sequence[str], launch: Launch, device: str) -> None:
    """Begin `python ARGUMENTS` as so many workers as the section says, and wait for them.

    SystemExit unless all end well, with the code of the first one that failed, whose words are
    printed. Signals go on to the workers, each once.
    """
    require_cards(launch, device)
    count = processes_here(launch, device)
    node, store = meeting_place(launch)
    taken = cards.take(count) if usable_cards(device) else []
    shared = os.environ | {
        "WORLD_SIZE": f"{launch.nodes * count}",
        "LOCAL_WORLD_SIZE": f"{count}",
        "GROUP_RANK": f"{node}",
        "MASTER_ADDR": store.removeprefix("tcp://").rpartition(":")[0] or "localhost",
    }
    shared["OMP_NUM_THREADS"] = f"{max(1, cores() // count)}"
    if launch.nodes == 1 and sys.platform == "linux":  # else gloo asks for this host's own name
        shared.setdefault("GLOO_SOCKET_IFNAME", "lo")
    workers, signals = list[Worker](), list[int]()

    def hand_on(number: int, _: Any) -> None:
        signals.append(number)
        _send(workers, number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for local in range(count):
                at = Place(node * count + local, launch.nodes * count, node)
                environment = shared | {
                    STORE: store or f"{folder}/store",
                    "RANK": f"{at.rank}",
                    "LOCAL_RANK": "0" if taken else f"{local}",  # of the cards that it sees
                }
                if taken:
                    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
                    environment["CUDA_VISIBLE_DEVICES"] = taken[local]
                workers.append(_begin(arguments, at, environment, Path(folder, f"{local}.log")))
            if signals:  # it came while they were begun
                _send(workers, signals[-1])
            _wait(workers)
        finally:
            _send(workers, signal.SIGKILL)
            for worker in workers:
                worker.process.wait()
            for number, handler in before.items():
                signal.signal(number, handler)
        _tell(workers)


def _begin(arguments: Sequence[str], at: Place, environment: dict[str, str], log: Path) -> Worker:
    """log: of what it says, but for the first on a machine."""
    said = log if log.stem != "0" else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # see heed_interrupt
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            stdout=file if said else None,
            stderr=file if said else None,
            start_new_session=True,  # signals reach it from here alone, once
            pass_fds=cards.held,
        )
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Worker(at, process, said)


def heed_interrupt() -> None:
    """What a worker does first: from here on Ctrl-C ends it, where nothing else is done about it.
    Before, it waits for this, as Python would print a traceback of what it was importing.
    """
    if own_place().size > 1:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def meeting_place(launch: Launch) -> tuple[int, str]:
    """(this machine's number, where workers meet); "" where there is one machine.

    Read from the variables of torchrun, Slurm or SkyPilot. Raises UserError where none says.
    """
    if launch.nodes == 1:
        return 0, ""
    asked = os.environ
    number = next(
        (
            asked[name]
            for name in ("NODE_RANK", "SKYPILOT_NODE_RANK", "SLURM_NODEID")
            if name in asked
        ),
        "",
    )
    first = asked.get("MASTER_ADDR", "") or next(iter(node_names()), "")
    if not (number.isdecimal() and int(number) < launch.nodes and first):
        raise UserError(
            f"launch.nodes {launch.nodes}: which of these machines is this one? Give the same "
            f"command on each with NODE_RANK, 0 to {launch.nodes - 1}, and MASTER_ADDR, the "
            "address of number 0, in the environment; Slurm and SkyPilot set their own"
        )
    if not ((port := asked.get("MASTER_PORT", PORT)).isdecimal() and int(port) < 2**16):
        raise UserError(f"MASTER_PORT={port}: a port is a number below {2**16}, such as {PORT}")
    return int(number), f"tcp://{first}:{port}"


def node_names() -> list[str]:
    """Of the machines, as Slurm or SkyPilot names them; [] without them."""
    if listed := os.environ.get("SKYPILOT_NODE_IPS"):
        return listed.split()
    nodes = os.environ.get("SLURM_JOB_NODELIST")
    if nodes and shutil.which("scontrol"):
        return subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True
        ).stdout.split()
    return []


@contextmanager
def ended_together() -> Iterator[None]:
    """Inside, a worker whose exchange with the others breaks off says so in a line and ends; what
    ended them is told by the process that began them.
    """
    try:
        yield
    except RuntimeError as error:
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        # An exchange of a sharded tensor is waited for below torch/_ops.py and torch/_library.
        files = [file for file in files if "/torch/_" not in file]
        if own_place().size == 1 or not any("/torch/distributed/" in file for file in files[-3:]):
            raise
        what = str(error).strip().splitlines()[0]
        print(f"the exchange with the other processes broke off: {what}", file=sys.stderr)
        raise SystemExit(LEFT_ALONE) from None


def _send(workers: Sequence[Worker], number: int) -> None:
    for worker in workers:
        if worker.process.poll() is None:
            with suppress(ProcessLookupError):
                worker.process.send_signal(number)


def _wait(workers: Sequence[Worker]) -> None:
    """Until all have ended, or GRACE_SECONDS after one has failed in another way than by a signal
    that all have got.
    """
    while True:
        for worker in workers:
            if not worker.ended and worker.process.poll() is not None:
                worker.ended = time.monotonic()
        if all(worker.ended for worker in workers):
            return
        failed = [each.ended for each in workers if each.ended and _failed(each.process.returncode)]
        if failed and time.monotonic() > min(failed) + GRACE_SECONDS:
            return
        time.sleep(0.05)


def _failed(code: int) -> bool:
    """Not ended well, nor with a checkpoint at a signal."""
    return code != 0 and code - 128 not in (signal.SIGINT, signal.SIGTERM)


def _tell(workers: Sequence[Worker]) -> None:
    """SystemExit unless all ended well."""
    bad = [worker for worker in workers if worker.ended and worker.process.returncode]
    if not bad:
        return
    causes = [worker for worker in bad if worker.process.returncode != LEFT_ALONE] or bad
    cause = min(causes, key=lambda worker: worker.ended)
    code = cause.process.returncode
    if code < 0:
        kill = " (the system does so where memory runs out)" if -code == signal.SIGKILL else ""
        print(
            f"{cause.name} was ended by {signal.Signals(-code).name}{kill}, and the others with "
            "it; the same command goes on from the last checkpoint",
            file=sys.stderr,
        )
        raise SystemExit(128 - code)
    first = workers[0]
    if cause.said and not (first.said is None and first.process.returncode == code):
        said = cause.said.read_text(encoding="utf-8", errors="replace").strip()
        print(f"{cause.name}:\n{said}", file=sys.stderr)
    if code == LEFT_ALONE:
        print(
            "no process failed by itself: another machine has ended, or they cannot reach each "
            "other; see there, and give the same command again, which goes on from the last "
            "checkpoint",
            file=sys.stderr,
        )
    raise SystemExit(code)
