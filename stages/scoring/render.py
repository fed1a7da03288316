"""Typst sources -> fingerprints of their pictures, compiled in a confined worker process.

What a model writes is untrusted code. The typst package itself stops file access outside its root,
`#while true {}` and endless recursion; but it fetches packages from the network, and nested loops
over `range(30000)` took more than ten seconds (typst 0.15). So the worker has an empty root folder,
cannot open another file or socket, and has a memory limit. It also has a time limit for each
source, after which it is killed and another one is started.

A source reaches the compiler as the argument of Typst's `eval`. It is never pasted between `$`
signs, so that it cannot close the formula around it.
"""

import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from stages.progress_lines import ProgressLines
from stages.scoring import render_worker
from stages.scoring.render_worker import Mode

MAX_SOURCE_CHARACTERS = 20_000

START_SECONDS = 60.0
"""The time limit for the worker's start, which takes 0.1 s on an idle machine."""

SOURCES_AT_ONCE = 64
"""Sources in one request. A request for each source took 3 ms a source on two busy cores; this
takes 1 ms."""

PACKAGE = re.compile(r"@(?:preview|local)\b")


class Renderer:
    """A worker process that compiles; used as a context manager, which stops it.

    It is started with the first source, and again after each source that it did not survive.
    timeout_seconds: the time limit of one source. A source usually takes 1 ms, so that a limit of
    seconds stops only loops.   pictures: answer with the first page as SVG, not with fingerprints.
    """

    def __init__(self, timeout_seconds: float = 3.0, pictures: bool = False) -> None:
        self.timeout_seconds, self.pictures = timeout_seconds, pictures
        self._known: dict[tuple[str, Mode], bytes | None] = {}
        self._worker: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self._root = tempfile.TemporaryDirectory(prefix="typst-root-")
        Path(self._root.name).chmod(0o500)

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        Path(self._root.name).chmod(0o700)
        self._root.cleanup()

    def render(self, sources: Sequence[str], mode: Mode) -> list[bytes | None]:
        """For each source a fingerprint of its picture: 16 bytes; b"" if it shows nothing.

        None for a source that does not compile. Equal fingerprints mean the same glyphs and lines
        at the same places of pages of the same size. A renderer compiles each different source
        once.
        """
        for source in sources:
            if not _admissible(source):
                self._known[source, mode] = None
        waiting = [source for source in dict.fromkeys(sources) if (source, mode) not in self._known]
        with ProgressLines("rendering", len(waiting), "sources") as lines:
            while waiting:
                pictures = self._compiled(waiting[:SOURCES_AT_ONCE], mode)
                found = zip(waiting, pictures, strict=False)
                self._known.update({(source, mode): picture for source, picture in found})
                waiting = waiting[len(pictures) :]
                lines.advance(len(pictures))
        return [self._known[source, mode] for source in sources]

    def _compiled(self, sources: list[str], mode: Mode) -> list[bytes | None]:
        """The fingerprints of the sources, up to the first that the worker did not survive.

        That one's is None; the sources after it are still to be compiled.
        """
        worker = self._worker if self._worker and self._worker.poll() is None else self._start()
        assert worker.stdin is not None
        # The worker reads the whole line before it compiles the first source.
        worker.stdin.write(json.dumps([mode, sources]) + "\n")
        worker.stdin.flush()
        pictures: list[bytes | None] = []
        for _ in sources:
            answer = self._answer(self.timeout_seconds)
            if not answer:
                self._stop()
                return [*pictures, None]
            found = json.loads(answer)
            pictures.append(None if found is None else bytes.fromhex(found))
        return pictures

    def _start(self) -> subprocess.Popen[str]:
        self._stop()
        command = [
            sys.executable,
            "-P",
            render_worker.__file__,
            self._root.name,
            str(self.timeout_seconds),
            "picture" if self.pictures else "fingerprint",
        ]
        # Packages would be fetched through a proxy at the discard port, where nothing answers.
        nowhere = "http://127.0.0.1:9"
        proxies = [f"{protocol}_PROXY" for protocol in ("HTTP", "HTTPS", "ALL")]
        environment = {
            **os.environ,
            **dict.fromkeys((*proxies, *(proxy.lower() for proxy in proxies)), nowhere),
            "NO_PROXY": "",
            "no_proxy": "",
            # Each thread takes address space: with one, the limit does not depend on the cores.
            "RAYON_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",
        }
        # In a session of its own the worker gets no Ctrl-C: the parent does, and stops it.
        self._worker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=environment,
            cwd=self._root.name,
            start_new_session=True,
        )
        self._answers = queue.Queue()
        threading.Thread(
            target=_listen, args=(self._worker.stdout, self._answers), daemon=True
        ).start()
        if not self._answer(START_SECONDS):
            self._stop()
            raise RuntimeError(
                f"the Typst worker does not start; `{' '.join(command[:3])} . 3` shows why"
            )
        return self._worker

    def _answer(self, seconds: float) -> str:
        """The worker's next line; "" if none comes in time, or if the worker has ended."""
        try:
            return self._answers.get(timeout=seconds)
        except queue.Empty:
            return ""

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait()
            assert self._worker.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._worker.stdin.close()
            self._worker = None


def _listen(lines: IO[str], answers: "queue.Queue[str]") -> None:
    """Put a worker's lines into a queue, and "" when it has ended.

    A queue can be read with a time limit; a pipe cannot.
    """
    with lines:
        for line in lines:
            answers.put(line)
    answers.put("")


def _admissible(source: str) -> bool:
    """Whether a source is compiled at all.

    It is not if it is too long, imports a package, or leaves a comment open, which `eval` would
    accept.
    """
    return (
        len(source) <= MAX_SOURCE_CHARACTERS
        and not PACKAGE.search(source)
        and source.count("/*") <= source.count("*/")
    )
