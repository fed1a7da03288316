"""The CUDA devices of a machine, and which of them a process has to itself. The driver's own
program is asked, so that CUDA is not started for it.

Who has a card has locked a file that all users of the machine can lock, named by the card's UUID:
the system gives it back when the process ends, by `kill -9` too.
"""

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from stages.backends.shared.stopping import Interruption
from stages.errors import UserError
from stages.progress_lines import SECONDS, duration

QUERY = ["nvidia-smi", "--query-gpu=index,memory.free,uuid", "--format=csv,noheader,nounits"]
FOLDER = Path(tempfile.gettempdir())
POLL_SECONDS = 0.5

held: list[int] = []
"""Descriptors of this process's locks. A process that it begins has the cards with it, and after
it, when it is given them (`pass_fds`).
"""
_mine: list[str] = []  # the cards that have been chosen for this process


def free_megabytes() -> dict[str, int]:
    """{card: free memory in 2^20 bytes} of the cards that a process may use, named as
    CUDA_VISIBLE_DEVICES names them; 0 where the driver does not say, and where the user names them.
    """
    return _usable(_listed() if "CUDA_VISIBLE_DEVICES" not in os.environ else [])


def _usable(listed: Sequence[tuple[str, int, str]]) -> dict[str, int]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return {name: 0 for card in visible.split(",") if (name := card.strip()) not in ("", "-1")}
    return {index: free for index, free, _ in listed}


def choose_one() -> None:
    """Let this process see one card, unless it has been chosen: one that no training has, that with
    the most free memory, or the first of those that the user lets it see.

    No lock is kept, so that what a person waits for, or leaves open for days, keeps no training
    from its card. transformers would otherwise wrap a model into DataParallel, whose decoder the
    loss here does not find.
    """
    if not _mine and (wanted := _wanted()):
        with _locks(wanted, 1) as locked:
            _see([*locked, *wanted][:1], len(wanted))


def take(count: int = 1) -> list[str]:
    """Have so many cards to itself until this process ends, and let it see no other.

    Returns their names as in CUDA_VISIBLE_DEVICES, [] where there are none and one is wanted. To
    be called before CUDA starts; later calls return the same. Chosen as by `choose_one`, all at
    once or none, so that two processes that want several never wait for each other. While too few
    are free, it waits, and says every SECONDS who has them. Where CUDA_VISIBLE_DEVICES names no
    more than are wanted, these are used, whoever has them. Raises UserError where there are too
    few, SystemExit when the dvc that has begun this process has ended meanwhile.
    """
    if _mine or (not (wanted := _wanted()) and count == 1):
        return _mine
    if len(wanted) < count:
        raise UserError(
            f"{count} cards are wanted, and this process may use {len(wanted)} "
            f"({', '.join(wanted) or 'none'}); ask for fewer, or name more in CUDA_VISIBLE_DEVICES"
        )
    named = "CUDA_VISIBLE_DEVICES" in os.environ and len(wanted) == count
    stopping, began, said = Interruption(), time.monotonic(), 0.0
    while True:
        with _locks(wanted, count) as locked:
            others = wanted.keys() - locked.keys() if len(locked) < count else ()
            having = "; ".join(_holder(card, wanted[card]) for card in sorted(others))
            if named or not others:
                for descriptor in filter(None, locked.values()):
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                    held.append(descriptor)
                _see([*wanted] if named else [*locked], len(wanted))
                break
        if not said or time.monotonic() - said > SECONDS:
            what = "a card" if count == 1 else f"{count} cards"
            since = f", for {duration(time.monotonic() - began)} now" if said else ""
            print(
                f"waits for {what}{since}: {having}. To share instead of waiting: "
                f"CUDA_VISIBLE_DEVICES={','.join([*wanted][:count])}",
                flush=True,
            )
            said = time.monotonic()
        if stopping.has_come():
            raise SystemExit(stopping.exit_code)
        time.sleep(POLL_SECONDS)
    if named and having:
        print(f"shared, as CUDA_VISIBLE_DEVICES names it: {having}", flush=True)
    elif said or len(wanted) > count:
        print(f"computes on card {', '.join(_mine)}", flush=True)
    return _mine


def _listed() -> list[tuple[str, int, str]]:
    """(index, free memory in 2^20 bytes, UUID) of each card, as the driver's program says them."""
    if not shutil.which(QUERY[0]):
        return []
    found = []
    for line in subprocess.run(QUERY, capture_output=True, text=True).stdout.splitlines():
        index, free, uuid = [*(part.strip() for part in line.split(",")), "", ""][:3]
        if index.isdecimal():
            found.append((index, int(free) if free.isdecimal() else 0, uuid))
    return found


def _wanted() -> dict[str, Path]:
    """{card: the file that who has it has locked} of those that this process may use, the best
    first. Files are named by UUID: several machines may share their folder.
    """
    free = _usable(listed := _listed())
    files = {}
    for card in sorted(free, key=lambda card: -free[card]):
        # CUDA takes the beginning of a UUID too.
        uuids = (uuid for index, _, uuid in listed if card == index or uuid.startswith(card))
        files[card] = _file(next(filter(None, uuids), f"{platform.node()}-{card}"))
    return files


def _file(name: str) -> Path:
    return FOLDER / f"tsugiki-card-{name.replace('/', '-')}.lock"


def _see(cards: list[str], of: int) -> None:
    """Let this process see these of so many cards."""
    _mine.extend(cards)
    if len(cards) == of:
        return
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        # CUDA itself counts the fastest first, the driver's program by the bus.
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(cards)


@contextmanager
def _locks(wanted: dict[str, Path], most: int) -> Iterator[dict[str, int]]:
    """{card: descriptor of its lock} of the first so many that no other process has, 0 of one that
    a parent of this process has. Behind the block, those that are not in `held` are free again; it
    is entered by one process at a time.
    """
    gate, locked = _opened(_file("choosing")), dict[str, int]()
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)
        for card, path in wanted.items():
            if len(locked) < most:
                descriptor = _opened(path)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    locked[card] = descriptor
                except BlockingIOError:
                    os.close(descriptor)
                    if _pid(path) in (parent.pid for parent in psutil.Process().parents()):
                        locked[card] = 0
        yield locked
    finally:
        for descriptor in {gate, *locked.values()} - {0, *held}:
            os.close(descriptor)


def _opened(path: Path) -> int:
    """A descriptor of a file that every user can lock.

    Without O_CREAT where it is there: in a folder like /tmp, Linux refuses that for another's file.
    """
    try:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
            os.fchmod(descriptor, 0o666)
        except FileExistsError:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; it is locked by who has the card: make room or remove it, "
            "or set TMPDIR to a folder that all trainings of this machine can write to"
        ) from None
    return descriptor


def _pid(path: Path) -> int:
    """The process that has locked a card's file, 0 where that is not known."""
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def _holder(card: str, path: Path) -> str:
    """Who has a card: the process, its command, user and folder, as far as the system says them."""
    pid = _pid(path)
    try:
        known = psutil.Process(pid).as_dict(["cmdline", "username", "cwd"], ad_value="")
    except psutil.NoSuchProcess:
        return f"card {card} has one that process {pid} began, which has ended"
    python, *arguments = known["cmdline"] or [""]
    command = " ".join([Path(python).name, *arguments])[:80]
    about = ", ".join(filter(None, (command, known["username"], known["cwd"])))
    return f"card {card} has process {pid} ({''.join(filter(str.isprintable, about))})"
