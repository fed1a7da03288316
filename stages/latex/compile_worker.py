"""Compiles one Typst document in a folder whose files it may read, and ends.

Run as a script with the folder and limits of seconds and MiB; the source comes on standard input.
It answers with a line: null, or the compiler's diagnostic. It imports no module of the project.
"""

import contextlib
import json
import sys
from typing import Any


def main(folder: str, seconds: int, memory_mb: int) -> None:
    import typst

    source: Any = sys.stdin.buffer.read()
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 2**20,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    answer = None
    try:
        typst.compile(source, root=folder, package_path=folder, package_cache_path=folder)
    except Exception as error:
        answer = str(getattr(error, "diagnostic", "") or error)
    # The file is named to show that this is data, not a message (see stages/imports.py).
    print(json.dumps(answer), file=sys.stdout, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
