"""Where a training keeps its checkpoints: outside DVC's outputs, named by what is trained, held by
one process at a time.
"""

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from stages.backends.shared.fingerprint import fingerprint, md5
from stages.entries import Run
from stages.errors import UserError
from stages.files import write_json
from stages.stage_config import CONFIG

SEAL = "checksums.json"
WAIT_SECONDS = 60


def root() -> Path:
    """`.scratch` of the main repository: DVC_ROOT is that one in `dvc exp run --temp` and queue
    workers too.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / ".scratch"


def folder_name(run: str, spec: Run) -> str:
    """The folder of a run's checkpoints: another one as soon as anything is different that it is
    trained on or with.
    """
    config = CONFIG / "train" / f"{run}.json"  # its code too
    rows = (Path("data/mixed", run, f"{part}.jsonl") for part in ("train", "valid"))
    return fingerprint(config, *rows, Path(spec.base), Path(spec.parent))


def orphans(runs: dict[str, Run]) -> list[Path]:
    """Folders of checkpoints that no run would go on from, and that no process is writing to."""
    wanted = set()
    for run, spec in runs.items():
        # its inputs are not here: not made yet, or not checked out
        with suppress(OSError):
            wanted.add(folder_name(run, spec))
    locks = [lock for lock in root().glob("*/lock") if lock.parent.name not in wanted]
    return sorted(lock.parent for lock in locks if _is_free(lock))


def _is_free(lock: Path) -> bool:
    with lock.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def discard(folder: Path) -> bool:
    """Remove a training's checkpoints; whether no process was writing to them."""
    if (lock := _locked(folder)) is None:
        return False
    with lock:
        _remove_locked(folder)
    return True


def seal(folder: Path) -> None:
    """Note the checksum of every file of a checkpoint, on the disk for certain."""
    files = sorted(file for file in folder.iterdir() if file.name != SEAL)
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    write_json(folder / SEAL, {file.name: md5(file) for file in files})


def remove(folder: Path) -> None:
    """A checkpoint that is no longer needed: its seal first, so that half of it is never taken for
    a whole.
    """
    (folder / SEAL).unlink(missing_ok=True)
    shutil.rmtree(folder)


def is_intact(folder: Path) -> bool:
    """Whether a checkpoint was finished and has its bytes still."""
    try:
        sums = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        return all(md5(folder / name) == checksum for name, checksum in sums.items())
    except (OSError, ValueError):
        return False


def latest(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files, and those of the best one that it names, are as they were
    written.
    """
    for path in sorted(
        folder.glob("checkpoint-*"), key=lambda path: -int(path.name.rsplit("-")[-1])
    ):
        if is_intact(path):
            best = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))[
                "best_model_checkpoint"
            ]
            if best is None or is_intact(folder / Path(best).name):
                return path
        say(f"{path}: incomplete or damaged; the checkpoint before it is used")
        remove(path)
    return None


@contextmanager
def locked_folder(label: str) -> Iterator[Path]:
    """The folder `.scratch/<label>`, ours alone inside the block; removed when the block ends well.

    Raises UserError while another process trains the same thing: a `dvc` that is killed leaves its
    trainer running, and the next `dvc repro` would start a second one on the same checkpoints. Such
    a trainer stops at its next step, so that it is waited for first.
    """
    folder = root() / label
    lock = _locked(folder)
    if lock is None:
        print(
            f"{folder}: another process is still training this run; waiting for it to stop",
            flush=True,
        )
        until = time.monotonic() + WAIT_SECONDS
        while lock is None and time.monotonic() < until:
            time.sleep(0.5)
            lock = _locked(folder)
    if lock is None:
        raise UserError(
            f"{folder}: another process is training this run; wait for it, or stop it (`fuser "
            f"{folder}/lock`)"
        )
    with lock:
        yield folder
        _remove_locked(folder)


def _remove_locked(folder: Path) -> None:
    """Under another name first, in one instant: who waits for the lock makes the folder anew."""
    shutil.rmtree(folder.rename(tempfile.mkdtemp(dir=folder.parent)))


def _locked(folder: Path) -> IO[str] | None:
    """The folder's lock file, held, or None while another process holds it."""
    with suppress(FileNotFoundError):  # its holder has just removed it
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # else its holder has just removed it
            if os.path.samestat(os.fstat(lock.fileno()), (folder / "lock").stat()):
                return lock
        lock.close()
    return None
