"""Typst sources -> fingerprints of their pictures, compiled in confined worker processes.

What a model writes is untrusted code. The typst package itself stops file access outside its root,
`#while true {}` and endless recursion; but it fetches packages from the network, and nested loops
over `range(30000)` took more than ten seconds (typst 0.15). What stages/confined_workers.py
promises holds for each source: an empty root folder, no other file or socket, limits of memory and
of time.

A source reaches the compiler as the argument of Typst's `eval`. It is never pasted between `$`
signs, so that it cannot close the formula around it.
"""

import re
from collections.abc import Sequence

from stages.confined_workers import PATIENCE, ConfinedWorkers
from stages.scoring import render_worker
from stages.scoring.render_worker import Mode, Wanted
from stages.worker_process import Stopped

MAX_SOURCE_CHARACTERS = 20_000

PACKAGE = re.compile(r"@(?:preview|local)\b")

Known = dict[tuple[str, Mode], bytes | None]
"""Pictures by source and mode."""


class Renderer:
    """Worker processes that compile side by side; used as a context manager, which stops them.

    timeout_seconds: the time limit of one source. A source usually takes 1 ms, so that a limit of
    seconds stops only loops.   wanted: what is answered with: fingerprints, or the first page as
    SVG, or all pages as PNG, one after another.   known: what was compiled before, which is added
    to.   patience: as of ConfinedWorkers.

    `stopped` has the sources, by mode, that were stopped by their time limit.
    """

    def __init__(
        self,
        timeout_seconds: float = 3.0,
        wanted: Wanted = "fingerprint",
        known: Known | None = None,
        patience: int = PATIENCE,
    ) -> None:
        self._known: Known = {} if known is None else known
        self.stopped = set[tuple[str, Mode]]()
        self._workers = ConfinedWorkers(
            render_worker.__name__, wanted, timeout_seconds=timeout_seconds, patience=patience
        )

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.__exit__()

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
        requests = [(mode, source) for source in waiting]
        pictures = self._workers.answers(requests, "rendering", "sources")
        for source, picture in zip(waiting, pictures, strict=True):
            if picture is Stopped.there:
                self.stopped.add((source, mode))
            self._known[source, mode] = bytes.fromhex(picture) if isinstance(picture, str) else None
        return [self._known[source, mode] for source in sources]


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
