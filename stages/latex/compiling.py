"""Whether a whole Typst document compiles, and where not; found out in a process with limits.

Its parts were compiled before by stages/scoring/render.py, whose workers can open nothing. This one
can read the images of the document's folder, and those alone: Typst opens no file outside its root.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from stages.confined_workers import NO_NETWORK
from stages.latex import compile_worker

MEMORY_MB = 6144
SECONDS, SECONDS_A_MEGABYTE = 60.0, 240.0
"""1.6 MB of paragraphs with formulas took 88 s on one core."""

MISSING = re.compile(r"label `<([^<>]*)>` does not exist")
PLACE = re.compile(r"__typst_py_bytes__\.typ:(\d+):")


class Unfinished(Exception):
    """The compiler was stopped, in a sentence."""


def compiles(text: str, folder: Path) -> bool:
    try:
        return problem(text, folder) is None
    except Unfinished:
        return False


def problem(text: str, folder: Path) -> str | None:
    """None where the document compiles; else the compiler's diagnostic.

    Raises Unfinished where it takes more time or memory than it may.
    """
    seconds = SECONDS + SECONDS_A_MEGABYTE * len(text) / 2**20
    command = [sys.executable, "-P", compile_worker.__file__, str(folder.resolve())]
    try:
        ran = subprocess.run(
            [*command, f"{seconds * 2:.0f}", str(MEMORY_MB)],
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            env={**os.environ, **NO_NETWORK},
            start_new_session=True,
        )
        answer = json.loads(ran.stdout)
    except subprocess.TimeoutExpired:
        raise Unfinished(f"the whole takes more than {seconds:.0f} s to compile") from None
    except ValueError:
        raise Unfinished(
            f"the whole takes more than {MEMORY_MB / 1024:.0f} GiB to compile, or ends the compiler"
        ) from None
    return None if answer is None else str(answer)


def line_of(diagnostic: str) -> int | None:
    """The first line of the document that a diagnostic names, from 1."""
    found = PLACE.search(diagnostic)
    return int(found[1]) if found else None


def missing_label(diagnostic: str) -> str:
    """The label that the document refers to and has not; "" where that is not what is wrong."""
    found = MISSING.search(diagnostic)
    return found[1] if found else ""
