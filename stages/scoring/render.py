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
    "document": "#set page(width: 12cm, height: auto, margin: 2pt)\n"
    '#eval(sys.inputs.source, mode: "markup")',
}
BLANK = b""
"""The fingerprint of a source that compiles and shows nothing."""

MAX_SOURCE_CHARACTERS = 20_000
MEMORY_LIMIT_MB = 1024
"""The worker's address space. 9,000 formulas took at most 217 MB of it (36 MB resident)."""

START_SECONDS = 60.0
"""The time limit for the worker's start, which takes 0.1 s on an idle machine."""

SOURCES_AT_ONCE = 64
"""Sources in one request. A request for each source took 3 ms a source on two busy cores; this
takes 1 ms."""

UNKNOWN = "\U000f0000"
"""A private-use character, which no embedded font has: it is drawn like every missing glyph."""

PACKAGE = re.compile(r"@(?:preview|local)\b")
IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


class Renderer:
    """A worker process that compiles; used as a context manager, which stops it.

    It is started with the first source, and again after each source that it did not survive.
    timeout_seconds: the time limit of one source. A source usually takes 1 ms, so that a limit of
    seconds stops only loops.
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
        """For each source a fingerprint of its picture: 16 bytes; BLANK if it shows nothing.

        None for a source that does not compile. Equal fingerprints mean the same glyphs and lines
        at the same places of pages of the same size. A renderer compiles each different source
        once.
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
        command = [sys.executable, "-P", __file__, self._root.name, str(self.timeout_seconds)]
        # Packages would be fetched through a proxy at the discard port, where nothing answers.
        nowhere = "http://127.0.0.1:9"
        proxies = [f"{protocol}_PROXY" for protocol in ("HTTP", "HTTPS", "ALL")]
        environment = {
            **os.environ,
            **dict.fromkeys((*proxies, *(proxy.lower() for proxy in proxies)), nowhere),
            "NO_PROXY": "",
            "no_proxy": "",
            # Each thread takes address space; MEMORY_LIMIT_MB must suffice with any number of
            # cores.
            "RAYON_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",
        }
        # With a session of its own the worker does not get Ctrl-C; the parent gets it and stops
        # the worker.
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


class UnsupportedSvg(ValueError):
    """An SVG has an element or a transform that `marks` cannot compare."""


def marks(svg: bytes) -> list[tuple[Any, ...]]:
    """Every glyph and path of a page, in painting order: its matrix on the page and its attributes.

    Groups are flattened, because equal pictures can be grouped differently (`1 "and" y` and
    `1" and "y`). Glyphs without an outline, such as spaces, are left out. Glyph ids are hashes of
    outlines, which are the same in every process. Raises UnsupportedSvg for anything that is not
    text or a formula, such as images and clipped groups.
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
            x, y = float(attributes.pop("x", 0)), float(attributes.pop("y", 0))
            place = (1.0, 0.0, 0.0, 1.0, x, y)
            if attributes.get("href") not in spaces:
                # Typst writes hundredths of a point; sums of them differ in further digits. Adding
                # 0.0 makes -0.0 into 0.0.
                at = tuple(round(number, 2) + 0.0 for number in _times(matrix, place))
                found.append((tag, at, *sorted(attributes.items())))
        elif element is tree or (
            tag in ("g", "a") and attributes.keys() <= {"class", "href", "target"}
        ):
            for child in element:
                walk(child, matrix)
        elif tag != "defs":
            raise UnsupportedSvg(f"<{tag}> with {sorted(attributes)}")

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
        raise UnsupportedSvg(f"transform {transform!r}")
    a, b, c, d, e, f = numbers
    return (a, b, c, d, e, f)


def _times(outer: Matrix, inner: Matrix) -> Matrix:
    """The product of two SVG matrices [a c e; b d f; 0 0 1]: `inner` is applied first."""
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
    """The worker's main loop.

    It writes `"ready"`, then answers each line `[mode, sources]` with a line for each source: its
    fingerprint in hexadecimal, or null.
    """
    fingerprinter = Fingerprinter(root)
    # The first compilation opens files that cannot be opened any more once the worker is confined.
    fingerprinter.fingerprint("math", "x")
    _confine()
    # The file is named to show that these lines are data, not messages (see stages/imports.py).
    print('"ready"', file=sys.stdout, flush=True)
    for line in sys.stdin:
        mode, sources = json.loads(line)
        for source in sources:
            _allow_cpu(timeout_seconds)
            answer = None
            with contextlib.suppress(Exception):
                answer = fingerprinter.fingerprint(mode, source).hex()
            print(json.dumps(answer), file=sys.stdout, flush=True)


class Fingerprinter:
    """The compiler, and a cache of which characters its fonts can draw."""

    def __init__(self, root: str) -> None:
        import typst  # imported here, because only the worker needs the compiler

        # System fonts are ignored, so that a picture is the same on every machine.
        self._compiler = typst.Compiler(
            root=root, ignore_system_fonts=True, package_path=root, package_cache_path=root
        )
        self._drawn: dict[str, bool] = {}

    def fingerprint(self, mode: Mode, source: str) -> bytes:
        """16 bytes for the picture of a source; BLANK if it shows nothing.

        Raises an exception of the typst package where the source does not compile. Characters that
        the embedded fonts lack, such as Japanese, all look the same; therefore the fingerprint
        includes these characters themselves.
        """
        svg = self._pages(mode, source)
        try:
            pages: list[Any] = [marks(page) for page in svg]
        except UnsupportedSvg:
            pages = svg  # such pictures are equal only if their SVGs are equal byte for byte
        if all(len(page) <= 1 for page in pages):  # the first mark is the page's background
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
        # With a fixed timestamp a source that prints the date looks the same every day.
        inputs = {"source": source}
        svg: Any = self._compiler.compile(
            PAGES[mode].encode(), sys_inputs=inputs, format="svg", timestamp=0
        )
        return svg if isinstance(svg, list) else [svg]


def _confine() -> None:
    """Limit this process: it can open nothing, write no file, and not exceed MEMORY_LIMIT_MB
    (POSIX).

    On Windows, which has no such limits, the time limit and the empty root folder remain.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    memory = MEMORY_LIMIT_MB * 2**20
    for kind, limit in (("NOFILE", 3), ("FSIZE", 0), ("CORE", 0), ("AS", memory)):
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some limits
            resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (limit, limit))


def _allow_cpu(seconds: float) -> None:
    """Raise the limit of CPU time for one more source.

    A worker whose parent has died then ends too, even if the source is an endless loop.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(
            resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 2, most)
        )


if __name__ == "__main__":
    work(sys.argv[1], float(sys.argv[2]))
