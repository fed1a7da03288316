"""Where a training keeps its checkpoints: outside DVC's outputs, named by what is trained, held by one process at a time."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stages.records import UserError, write_json
from stages.settings import Run

SEAL = "checksums.json"


def root() -> Path:
    """`.scratch` of the main repository: DVC_ROOT is that one in `dvc exp run --temp` and queue workers too."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".scratch"


def name(run: str, spec: Run) -> str:
    """The folder of a run's checkpoints: another one as soon as anything is different that it is trained on or with."""
    config, code = Path("build/config", f"{run}.json"), Path(__file__).parent
    rows = (Path("data/mixed", run, f"{part}.jsonl") for part in ("train", "valid"))
    return fingerprint(config, *rows, Path(spec.base), Path(spec.parent), code, code.with_name("text"))


def orphans(runs: dict[str, Run]) -> list[Path]:
    """Folders of checkpoints that no run would go on from, and that no process is writing to."""
    wanted = set()
    for run, spec in runs.items():
        with suppress(OSError):  # its inputs are not made yet: nothing can have been trained on them
            wanted.add(name(run, spec))
    locks = [lock for lock in root().glob("*/lock") if lock.parent.name not in wanted]
    return sorted(lock.parent for lock in locks if _is_free(lock))


def _is_free(lock: Path) -> bool:
    with lock.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def fingerprint(*paths: Path) -> str:
    """32 hex digits that stand for the bytes of these files and folders, and for nothing else (no times, no places)."""
    total = hashlib.md5(usedforsecurity=False)
    for path in paths:
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in files:
            total.update(f"{file.relative_to(path) if path.is_dir() else ''}\0{md5(file)}\n".encode())
    return total.hexdigest()


def md5(file: Path) -> str:
    """The MD5 that DVC writes for the same file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def seal(folder: Path) -> None:
    """Note the checksum of every file of a checkpoint, on the disk for certain."""
    files = sorted(file for file in folder.iterdir() if file.name != SEAL)
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    write_json(folder / SEAL, {file.name: md5(file) for file in files})


def is_intact(folder: Path) -> bool:
    """Whether a checkpoint was finished and has its bytes still."""
    try:
        sums = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        return all(md5(folder / name) == checksum for name, checksum in sums.items())
    except (OSError, ValueError):
        return False


@contextmanager
def held(label: str) -> Iterator[Path]:
    """The folder `.scratch/<label>`, ours alone inside the block; removed when the block ends well.

    Raises UserError while another process trains the same thing: SIGTERM to `dvc` alone leaves its trainer running,
    and the next `dvc repro` would start a second one on the same checkpoints.
    """
    folder = root() / label
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another process is training this run; wait for it, or stop it (`fuser {folder}/lock`)"
            ) from None
        yield folder
    shutil.rmtree(folder)
