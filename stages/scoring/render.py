"""Typst sources -> fingerprints of their pictures, compiled in a confined worker process.

What a model writes is untrusted code. The typst package itself stops file access outside its root,
`#while true {}` and endless recursion; but it fetches packages from the network, and nested loops
over `range(30000)` took more than ten seconds (typst 0.15). So the worker has an empty root folder,
cannot open another file or socket, and has a memory limit. It also has a time limit for each
source, after which it is killed and another one is started; a shorter one where many sources take
long, so that answers that loop do not take hours together.

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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import IO

from stages.processes import cores
from stages.progress_lines import ProgressLines
from stages.scoring import render_worker
from stages.scoring.render_worker import Mode, Wanted

MAX_SOURCE_CHARACTERS = 20_000

START_SECONDS = 60.0
"""The time limit for the worker's start, which takes 0.1 s on an idle machine."""

SOURCES_AT_ONCE = 64
"""Sources in one request. A request for each source took 3 ms a source on two busy cores; this
takes 1 ms."""

HASTY_SECONDS, PATIENCE = 0.3, 40
"""What a source is given at first, and how many of those that take longer are given all their time:
a model that writes loops costs 0.4 s an answer then, shared by the cores."""

PACKAGE = re.compile(r"@(?:preview|local)\b")

Known = dict[tuple[str, Mode], bytes | None]
"""Pictures by source and mode."""


class Renderer:
    """Worker processes that compile side by side; used as a context manager, which stops them.

    timeout_seconds: the time limit of one source. A source usually takes 1 ms, so that a limit of
    seconds stops only loops.   wanted: what is answered with: fingerprints, or the first page as
    SVG, or all pages as PNG, one after another.   known: what was compiled before, which is added
    to.
    """

    def __init__(
        self,
        timeout_seconds: float = 3.0,
        wanted: Wanted = "fingerprint",
        known: Known | None = None,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._known: Known = {} if known is None else known
        self._patience = PATIENCE
        self._root = tempfile.TemporaryDirectory(prefix="typst-root-")
        Path(self._root.name).chmod(0o500)
        self._workers = [_Worker(self._root.name, timeout_seconds, wanted) for _ in range(cores())]

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
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
        hasty = min(self.timeout_seconds, HASTY_SECONDS)
        with ProgressLines("rendering", len(waiting), "sources") as lines:
            at_once = max(1, min(SOURCES_AT_ONCE, len(waiting) // (2 * len(self._workers))))
            stopped = self._compile(waiting, mode, hasty, at_once, lines.advance)
            # By their order among the sources, not by which was stopped first.
            again = stopped[: self._patience] if hasty < self.timeout_seconds else []
            self._patience -= len(again)
            self._compile(again, mode, self.timeout_seconds, 1, lambda count: None)
        return [self._known[source, mode] for source in sources]

    def _compile(
        self,
        sources: list[str],
        mode: Mode,
        seconds: float,
        at_once: int,
        advance: Callable[[int], None],
    ) -> list[str]:
        """Compile sources, each within so many seconds; those that were stopped, in their order."""
        free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            free.put(worker)

        def compiled(part: list[str]) -> list[bytes | Stopped | None]:
            worker = free.get()
            try:
                return worker.compiled(part, mode, seconds)
            finally:
                free.put(worker)

        stopped = []
        parts = [sources[at : at + at_once] for at in range(0, len(sources), at_once)]
        with ThreadPoolExecutor(len(self._workers)) as threads:
            try:
                for part, found in zip(parts, threads.map(compiled, parts), strict=True):
                    for source, picture in zip(part, found, strict=True):
                        if picture is Stopped.there:
                            stopped.append(source)
                        self._known[source, mode] = None if picture is Stopped.there else picture
                    advance(len(part))
            except BaseException:  # what waits is not begun, and what runs ends with its worker
                threads.shutdown(wait=False, cancel_futures=True)
                for worker in self._workers:
                    worker.end()
                raise
        return stopped


class Stopped(Enum):
    """In place of the picture of a source that its worker did not survive."""

    there = 0


class _Worker:
    """A process that compiles. It is started with the first source, and again after each source
    that it did not survive.
    """

    def __init__(self, root: str, timeout_seconds: float, wanted: Wanted) -> None:
        """timeout_seconds: the most that a source may be given."""
        self._root, self._timeout_seconds, self._wanted = root, timeout_seconds, wanted
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self._is_ended = False

    def end(self) -> None:
        self._is_ended = True
        self._stop()

    def compiled(
        self, sources: list[str], mode: Mode, seconds: float
    ) -> list[bytes | Stopped | None]:
        """The pictures of sources, each within so many seconds."""
        found: list[bytes | Stopped | None] = []
        while len(found) < len(sources) and not self._is_ended:
            process = self._process
            if not process or process.poll() is not None:
                process = self._start()
            assert process.stdin is not None
            # The worker reads the whole line before it compiles the first source.
            process.stdin.write(json.dumps([mode, sources[len(found) :]]) + "\n")
            process.stdin.flush()
            for _ in sources[len(found) :]:
                answer = self._answer(seconds)
                if not answer:
                    self._stop()
                    found.append(Stopped.there)
                    break
                picture = json.loads(answer)
                found.append(None if picture is None else bytes.fromhex(picture))
        return found

    def _start(self) -> subprocess.Popen[str]:
        self._stop()
        command = [
            sys.executable,
            "-P",
            render_worker.__file__,
            self._root,
            str(self._timeout_seconds),
            self._wanted,
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
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=environment,
            cwd=self._root,
            start_new_session=True,
        )
        self._process, self._answers = process, queue.Queue()
        listener = threading.Thread(
            target=_listen, args=(process.stdout, self._answers), daemon=True
        )
        listener.start()
        if not self._answer(START_SECONDS):
            self._stop()
            raise RuntimeError(
                f"the Typst worker does not start; `{' '.join(command[:3])} . 3` shows why"
            )
        return process

    def _answer(self, seconds: float) -> str:
        """The worker's next line; "" if none comes in time, or if the worker has ended."""
        try:
            return self._answers.get(timeout=seconds)
        except queue.Empty:
            return ""

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


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
