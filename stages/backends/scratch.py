"""Where a training keeps its checkpoints: outside DVC's outputs, named by what is trained, held by one process at a time."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.records import UserError


def root() -> Path:
    """`.scratch` of the main repository: DVC_ROOT is that one in `dvc exp run --temp` and queue workers too."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".scratch"


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


@contextmanager
def held(name: str) -> Iterator[Path]:
    """The folder `.scratch/<name>`, ours alone inside the block; removed when the block ends well.

    Raises UserError while another process trains the same thing: SIGTERM to `dvc` alone leaves its trainer running,
    and the next `dvc repro` would start a second one on the same checkpoints.
    """
    folder = root() / name
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
