"""Typst sources -> what they look like, compiled in a worker process that can do no harm.

What a model writes is untrusted code. The package stops file access outside its root, `#while true {}` and endless
recursion by itself, but it fetches packages, and nested loops over `range(30000)` ran past ten seconds (typst 0.15). So
the worker has an empty root folder, no file descriptor left to open a file or a socket with, a memory limit, and a time
limit for each source, after which it is killed and another one started.

A source reaches the compiler as the argument of Typst's `eval`, never pasted between `$` signs: it cannot close the
formula that it stands in.
"""

import contextlib
import hashlib
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

Mode = Literal["math", "document"]
Matrix = tuple[float, float, float, float, float, float]

PAGES: dict[Mode, str] = {
    "math": "#set page(width: auto, height: auto, margin: 2pt)\n"
    '#math.equation(block: true, eval(sys.inputs.source, mode: "math"))',
    "document": '#set page(width: 12cm, height: auto, margin: 2pt)\n#eval(sys.inputs.source, mode: "markup")',
}
BLANK = b""
"""The picture of a source that compiles and shows nothing."""

MAX_SOURCE_CHARACTERS = 20_000
MEMORY_LIMIT_MB = 1024
"""Address space; 9,000 formulas left it at 217 MB at most (36 MB resident)."""

START_SECONDS = 60.0
"""For the worker to start, which takes 0.1 s on an idle machine."""

SOURCES_AT_ONCE = 64
"""In one request: waiting for each answer before the next question cost 3 ms where both cores were busy, this 1 ms."""

UNKNOWN = "\U000f0000"
"""A private character, which no embedded font draws: what any character without a glyph looks like."""

PACKAGE = re.compile(r"@(?:preview|local)\b")
IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


class Renderer:
    """A compiling worker, started at the first source and again after each one that it does not survive.

    timeout_seconds: what one source may take; about 1 ms is usual, so that a limit of seconds only ever meets loops.
    """

    def __init__(self, timeout_seconds: float = 3.0) -> None:
        self.timeout_seconds = timeout_seconds
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
        """For each source 16 bytes that stand for its picture, BLANK for an empty one, None where it does not compile.

        Equal bytes mean the same glyphs and lines at the same places of a page of the same size. Each different source
        is compiled once in the life of the renderer.
        """
        for source in sources:
            if not _admissible(source):
                self._known[source, mode] = None
        waiting = [source for source in dict.fromkeys(sources) if (source, mode) not in self._known]
        while waiting:
            pictures = self._compiled(waiting[:SOURCES_AT_ONCE], mode)
            self._known.update(
                {(source, mode): found for source, found in zip(waiting, pictures, strict=False)}
            )
            waiting = waiting[len(pictures) :]
        return [self._known[source, mode] for source in sources]

    def _compiled(self, sources: list[str], mode: Mode) -> list[bytes | None]:
        """The pictures of the first sources, up to and including one that the worker did not survive."""
        worker = self._worker if self._worker and self._worker.poll() is None else self._start()
        assert worker.stdin is not None
        worker.stdin.write(
            json.dumps([mode, sources]) + "\n"
        )  # one line: read whole before the first is compiled
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
        command = [sys.executable, "-P", __file__, self._root.name, str(self.timeout_seconds)]
        nowhere = "http://127.0.0.1:9"  # the discard port: where a package would be fetched through
        environment = {
            **os.environ,
            **dict.fromkeys(
                (
                    "HTTP_PROXY",
                    "HTTPS_PROXY",
                    "ALL_PROXY",
                    "http_proxy",
                    "https_proxy",
                    "all_proxy",
                ),
                nowhere,
            ),
            "NO_PROXY": "",
            "no_proxy": "",
            "RAYON_NUM_THREADS": "1",  # each thread takes address space, whose limit must not depend on the cores
            "MALLOC_ARENA_MAX": "2",
        }
        # A session of its own, so that Ctrl-C reaches the parent alone, which then closes the worker.
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
        """The worker's next line, or "" if it has none within the time or has ended."""
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
    """Passes a worker's lines on, and "" when it has ended: a queue can be waited on with a limit, a pipe cannot."""
    with lines:
        for line in lines:
            answers.put(line)
    answers.put("")


def _admissible(source: str) -> bool:
    """Whether a source is worth the worker's time: no package, no comment left open (which `eval` would let pass)."""
    return (
        len(source) <= MAX_SOURCE_CHARACTERS
        and not PACKAGE.search(source)
        and source.count("/*") <= source.count("*/")
    )


class Unfamiliar(ValueError):
    """Something in an SVG of which it is not known when two look alike."""


def marks(svg: bytes) -> list[tuple[Any, ...]]:
    """Every glyph and path of a page in painting order: its matrix on the page and how it is painted.

    Groups are dissolved, for equal pictures can be grouped differently (`1 "and" y` and `1" and "y`), and so are glyphs
    without an outline, the spaces. Glyph ids are hashes of outlines, the same in every process. Raises Unfamiliar for
    what is no formula and no text, such as images and clipped groups.
    """
    tree = ElementTree.fromstring(svg)
    spaces = {
        f"#{glyph.get('id')}"
        for glyph in tree.iter()
        if _tag(glyph) == "symbol" and _outline(glyph) == ""
    }
    found: list[tuple[Any, ...]] = []

    def walk(element: ElementTree.Element, outer: Matrix) -> None:
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        matrix = _times(outer, _matrix(attributes.pop("transform", "")))
        tag = _tag(element)
        if tag in ("use", "path"):
            place = (
                1.0,
                0.0,
                0.0,
                1.0,
                float(attributes.pop("x", 0)),
                float(attributes.pop("y", 0)),
            )
            if attributes.get("href") not in spaces:
                # A hundredth of a point is what Typst writes; sums of such figures differ beyond it.
                at = tuple(round(number, 2) + 0.0 for number in _times(matrix, place))
                found.append((tag, at, *sorted(attributes.items())))
        elif element is tree or (
            tag in ("g", "a") and attributes.keys() <= {"class", "href", "target"}
        ):
            for child in element:
                walk(child, matrix)
        elif tag != "defs":
            raise Unfamiliar(f"<{tag}> with {sorted(attributes)}")

    walk(tree, IDENTITY)
    return found


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _outline(glyph: ElementTree.Element) -> str:
    return "".join(path.get("d", "") for path in glyph).replace("M 0 0", "").strip(" m")


def _matrix(transform: str) -> Matrix:
    if not transform:
        return IDENTITY
    kind, _, inside = transform.rstrip(")").partition("(")
    numbers = [float(number) for number in re.split(r"[ ,]+", inside)]
    if kind == "translate":
        return (1.0, 0.0, 0.0, 1.0, numbers[0], numbers[1] if len(numbers) > 1 else 0.0)
    if kind != "matrix":
        raise Unfamiliar(f"transform {transform!r}")
    a, b, c, d, e, f = numbers
    return (a, b, c, d, e, f)


def _times(outer: Matrix, inner: Matrix) -> Matrix:
    """SVG's [a c e; b d f; 0 0 1] product: inner happens first."""
    a, b, c, d, e, f = outer
    p, q, r, s, x, y = inner
    return (
        a * p + c * q,
        b * p + d * q,
        a * r + c * s,
        b * r + d * s,
        a * x + c * y + e,
        b * x + d * y + f,
    )


def work(root: str, timeout_seconds: float) -> None:
    """The worker: says `"ready"`, then answers `[mode, sources]` with a line for each, hexadecimal or null."""
    press = Press(root)
    press.picture(
        "math", "x"
    )  # opens whatever the first compilation opens, before nothing can be opened
    _confine()
    print(
        '"ready"', file=sys.stdout, flush=True
    )  # the file is named: these lines are data, not told to anybody
    for line in sys.stdin:
        mode, sources = json.loads(line)
        for source in sources:
            _allow_cpu(timeout_seconds)
            answer = None
            with contextlib.suppress(Exception):
                answer = press.picture(mode, source).hex()
            print(json.dumps(answer), file=sys.stdout, flush=True)


class Press:
    """The compiler and what it knows of its fonts."""

    def __init__(self, root: str) -> None:
        import typst  # here, for only the worker holds the compiler

        # System fonts are left out, so that a picture is the same on every machine.
        self._compiler = typst.Compiler(
            root=root, ignore_system_fonts=True, package_path=root, package_cache_path=root
        )
        self._drawn: dict[str, bool] = {}

    def picture(self, mode: Mode, source: str) -> bytes:
        """16 bytes for what a source looks like, BLANK where it shows nothing; raises where it does not compile.

        Characters that the embedded fonts lack, Japanese for one, all look the same; they count by what they are.
        """
        svg = self._pages(mode, source)
        try:
            pages: list[Any] = [marks(page) for page in svg]
        except Unfamiliar:
            pages = svg  # alike only if they are the same byte for byte
        if all(len(page) <= 1 for page in pages):  # the first mark is the page's own white ground
            return BLANK
        lacking = "".join(
            character for character in source if character > "\u00ff" and not self._draws(character)
        )
        return hashlib.blake2b(repr((pages, lacking)).encode(), digest_size=16).digest()

    def _draws(self, character: str) -> bool:
        if character not in self._drawn:
            shape, unknown = (
                marks(self._pages("document", text)[0]) for text in (character, UNKNOWN)
            )
            self._drawn[character] = shape != unknown
        return self._drawn[character]

    def _pages(self, mode: Mode, source: str) -> list[bytes]:
        # timestamp: a source that prints today's date looks the same tomorrow.
        inputs = {"source": source}
        svg: Any = self._compiler.compile(
            PAGES[mode].encode(), sys_inputs=inputs, format="svg", timestamp=0
        )
        return svg if isinstance(svg, list) else [svg]


def _confine() -> None:
    """From here on the process can open nothing, write no file, and not outgrow MEMORY_LIMIT_MB (POSIX)."""
    try:
        import resource
    except ImportError:  # Windows has no such limits: the time limit and the empty root remain
        return
    memory = MEMORY_LIMIT_MB * 2**20
    for kind, limit in (("NOFILE", 3), ("FSIZE", 0), ("CORE", 0), ("AS", memory)):
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some
            resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (limit, limit))


def _allow_cpu(seconds: float) -> None:
    """CPU time for one more source: if the parent dies, its worker ends too, even inside a loop."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(
            resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 2, most)
        )


if __name__ == "__main__":
    work(sys.argv[1], float(sys.argv[2]))
