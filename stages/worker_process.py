"""A process that answers requests, each within its time, and is replaced when it dies."""

import contextlib
import json
import os
import queue
import shlex
import subprocess
import threading
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import IO, Any

START_SECONDS = 60.0
"""The time limit for the worker's start; one that scores Typst takes 0.1 s on an idle machine."""


class Stopped(Enum):
    """In place of the answer to a request that its worker did not survive."""

    there = 0


class Worker:
    """A process that answers. It is started with the first request, and again after each one that
    it did not survive.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        """command: writes a line when it is ready, and then for each line, a list of requests in
        JSON, a line for each of them, its answer in JSON.   folder: where it runs.   environment:
        what it has beside that of this process.
        """
        self._command, self._folder, self._environment = command, folder, environment
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()
        self._is_ended = False

    def end(self) -> None:
        self._is_ended = True
        self._stop()

    def answers(self, requests: Sequence[Any], seconds: float) -> list[Any]:
        """The answers to requests, each within so many seconds."""
        found: list[Any] = []
        while len(found) < len(requests) and not self._is_ended:
            process = self._process
            if not process or process.poll() is not None:
                process = self._start()
            assert process.stdin is not None
            # The worker reads the whole line before it answers the first request.
            with contextlib.suppress(BrokenPipeError):  # it has just died
                process.stdin.write(json.dumps(requests[len(found) :]) + "\n")
                process.stdin.flush()
            for _ in requests[len(found) :]:
                line = self._line(seconds)
                if not line:
                    self._stop()
                    found.append(Stopped.there)
                    break
                found.append(json.loads(line))
        return found

    def _start(self) -> subprocess.Popen[str]:
        self._stop()
        # In a session of its own the worker gets no Ctrl-C: the parent does, and stops it.
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**os.environ, **self._environment},
            cwd=self._folder,
            start_new_session=True,
        )
        self._process, self._lines = process, queue.Queue()
        listener = threading.Thread(target=_listen, args=(process.stdout, self._lines), daemon=True)
        listener.start()
        if not self._line(START_SECONDS):
            self._stop()
            raise RuntimeError(f"{shlex.join(self._command)}: does not start: {self._fault()}")
        return process

    def _fault(self) -> str:
        """What the command says, when it is begun once more, before it ends."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                self._command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env={**os.environ, **self._environment},
                cwd=self._folder,
                timeout=START_SECONDS,
            )
            return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return f"no line within {START_SECONDS:.0f} seconds"

    def _line(self, seconds: float) -> str:
        """The worker's next line; "" if none comes in time, or if the worker has ended."""
        try:
            return self._lines.get(timeout=seconds)
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
