"""Text, JSON and JSON lines on disk: read with the place of every fault, written whole or not at
all.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from stages.errors import UserError


def digest(*texts: str) -> int:
    """A 64-bit hash of the texts.

    In a million rows two collide with probability n^2 / 2^65 = 3e-8 (the birthday bound).
    """
    return int.from_bytes(hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest())


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, line) of a UTF-8 text file without its byte-order mark, one line in memory at a
    time; none of white space alone.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; write the corpus there or correct its `file` in params.yaml"
        )
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path} line {number}: not UTF-8 (byte {error.start + 1} of the line); "
                    f"convert the file, for example `iconv -f CP932 -t UTF-8`"
                ) from None
            if line.strip():
                yield number, line


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(line number, object) of a JSONL file; for a line that is no JSON object, (line number, what
    is wrong with it).
    """
    for number, line in read_lines(path):
        try:
            record = json.loads(line)
        except (
            ValueError,
            RecursionError,
        ) as error:  # a number of 4,300 digits, brackets nested past the stack
            yield number, f"not JSON: {error}"
            continue
        yield (
            number,
            record
            if isinstance(record, dict)
            else f"a JSON {type(record).__name__}; a record is an object",
        )


def read_json(path: Path) -> dict[str, Any]:
    """An object that someone else may have written. Raises UserError where the file holds none."""
    try:
        # a pipe would be waited for
        text = path.read_text(encoding="utf-8-sig") if path.is_file() else None
        record = None if text is None else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}; fetch it again, or write it anew") from None
    if text is None:
        raise UserError(f"{path}: no such file; fetch it again, or write it")
    if not isinstance(record, dict):
        raise UserError(f"{path}: no JSON object; fetch it again, or write it anew")
    return record


DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
PARTIAL = ".partial"  # what a kill leaves has this suffix, which .dvcignore keeps out of every hash


@contextmanager
def atomic_write(path: Path) -> Iterator[TextIO]:
    """A file that appears under its name only when the block has ended well.

    Raises UserError where the disk does not take it. Other errors of the block stay what they are.
    """
    require_writable(path.parent)
    try:
        half, descriptor = _held(path, os.O_RDWR | os.O_CREAT)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            try:
                file.truncate(0)
                yield file
                file.flush()
                os.fsync(descriptor)
                half.chmod(0o644)
                half.replace(path)
            except BaseException:
                half.unlink(missing_ok=True)
                raise
    except OSError as error:
        _tell_of_disk(path, error)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which has the name `path` only when the block has ended well.

    What is made in it has the rights that the user's other files have, whatever a library gave it.
    Raises UserError where something has that name, or where the disk does not take it.
    """
    require_writable(path.parent)
    half, descriptor = _held(path, os.O_RDONLY)
    try:
        for left in half.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield half
        mask = os.umask(0)
        os.umask(mask)
        for made in half.rglob("*"):
            made.chmod((0o777 if made.is_dir() else 0o666) & ~mask)
        half.chmod(0o777 & ~mask)
        if path.exists():
            raise UserError(f"{path}: there already; name a folder that is not, or remove it")
        half.replace(path)
    except BaseException as error:
        shutil.rmtree(half, ignore_errors=True)
        if isinstance(error, OSError):
            _tell_of_disk(path, error)
        raise
    finally:
        os.close(descriptor)


def _tell_of_disk(path: Path, error: OSError) -> None:
    """Raise UserError for an error of the disk; other errors are of what was to be written."""
    if error.errno in DISK_ERRORS or error.filename == str(_half(path)):
        raise UserError(
            f"{path}: not written ({error.strerror}); make room or correct its rights, then run "
            "again"
        ) from error


def _half(path: Path) -> Path:
    """What is written has one name until it is whole: what a kill leaves is the next one's to fill,
    and goes with it.
    """
    return path.with_name(f".{path.name}{PARTIAL}")


def _held(path: Path, flags: int) -> tuple[Path, int]:
    """The half of `path`, open, and ours alone until it is closed: another process that writes the
    same path is waited for.

    flags: with os.O_CREAT of a file, else of a folder.
    """
    half = _half(path)
    while True:
        with suppress(FileNotFoundError):
            if not flags & os.O_CREAT:
                half.mkdir(exist_ok=True)
            descriptor = os.open(half, flags, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), half.stat()):
                    return half, descriptor
            # The one that was waited for has given it its name, or removed it.
            os.close(descriptor)


def require_writable(*folders: Path) -> None:
    """Raise UserError for a folder that nothing can be written to: before hours of work, not
    after.
    """
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written to ({error.strerror}); correct its rights, then run "
                f"again"
            ) from None


def write_json(path: Path, value: Any) -> None:
    with atomic_write(path) as file:
        file.write(as_json(value))


def as_json(value: Any) -> str:
    """Sorted, indented JSON with a final newline: the same value gives the same bytes."""
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


_encoder = json.JSONEncoder(ensure_ascii=False)  # json.dumps would make one for each line


def as_line(record: Mapping[str, Any]) -> str:
    """A line of JSON."""
    return _encoder.encode(record) + "\n"


def write_lines(path: Path, records: Iterable[Any]) -> int:
    """One JSON object a line, dataclasses included; how many were written."""
    count = 0
    with atomic_write(path) as file:
        for record in records:
            file.write(as_line(record if isinstance(record, dict) else asdict(record)))
            count += 1
    return count
