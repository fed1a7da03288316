"""Files of the user's own, which are more than outputs: links, devices, and rights that were
set.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stages.errors import UserError
from stages.files import atomic_write


def is_replaceable(path: Path) -> bool:
    """Whether a whole file can take its place: not that of a device or a pipe."""
    return path.parts[:2] != ("/", "dev") and (path.is_file() or not path.exists())


@contextmanager
def written(path: Path) -> Iterator[IO[str]]:
    """As `atomic_write`, but what a link leads to is written, and keeps its rights; a device or a
    pipe is written to. `-` is standard output.
    """
    if str(path) == "-":
        yield sys.stdout
        return
    if is_replaceable(path):
        path = path.resolve()
        mode = path.stat().st_mode & 0o777 if path.exists() else None
        with atomic_write(path) as file:
            yield file
        if mode is not None:
            path.chmod(mode)
        return
    try:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            yield file
    except OSError as error:
        raise UserError(f"{path}: not written ({error.strerror}); name another place") from None
