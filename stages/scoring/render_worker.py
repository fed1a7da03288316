"""The worker of stages/scoring/render.py: compiles Typst sources and answers with fingerprints."""

import hashlib
import re
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any, Literal

from stages import confinement

Mode = Literal["math", "document"]
Wanted = Literal["fingerprint", "picture", "pixels"]
Matrix = tuple[float, float, float, float, float, float]

PAGES: dict[Mode, str] = {
    "math": "#set page(width: auto, height: auto, margin: 2pt)\n"
    '#math.equation(block: true, eval(sys.inputs.source, mode: "math"))',
    "document": "#set page(width: 12cm, height: auto, margin: 2pt)\n"
    '#eval(sys.inputs.source, mode: "markup")',
}
BLANK = b""
"""The fingerprint of a source that compiles and shows nothing."""

PIXELS_PER_INCH = 150
"""Of pages as PNG. An x is nine pixels high then."""

MEMORY_LIMIT_MB = 1024
"""The worker's address space. 9,000 formulas took at most 217 MB of it (36 MB resident)."""

UNKNOWN = "\U000f0000"
"""A private-use character, which no embedded font has: it is drawn like every missing glyph."""

IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


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


def work(root: str, timeout_seconds: float, wanted: Wanted) -> None:
    """Answers (mode, source) with the source's fingerprint, its picture or its pixels, as `wanted`
    says, in hexadecimal.
    """
    fingerprinter = Fingerprinter(root)
    answering = getattr(fingerprinter, wanted)
    # The first compilation opens files that cannot be opened any more once the worker is confined.
    fingerprinter.fingerprint("math", "x")

    def answer(request: tuple[Mode, str]) -> str:
        found: str = answering(*request).hex()
        return found

    confinement.answer_requests(answer, timeout_seconds, MEMORY_LIMIT_MB)


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

    def picture(self, mode: Mode, source: str) -> bytes:
        """A source's first page as SVG."""
        return self._pages(mode, source)[0]

    def pixels(self, mode: Mode, source: str) -> bytes:
        """A source's pages as PNG, one after another."""
        return b"".join(self._pages(mode, source, "png"))

    def _draws(self, character: str) -> bool:
        if character not in self._drawn:
            shape, unknown = (
                marks(self._pages("document", text)[0]) for text in (character, UNKNOWN)
            )
            self._drawn[character] = shape != unknown
        return self._drawn[character]

    def _pages(self, mode: Mode, source: str, format: Literal["svg", "png"] = "svg") -> list[bytes]:
        # With a fixed timestamp a source that prints the date looks the same every day.
        inputs = {"source": source}
        pages: Any = self._compiler.compile(
            PAGES[mode].encode(),
            sys_inputs=inputs,
            format=format,
            ppi=PIXELS_PER_INCH,
            timestamp=0,
        )
        return pages if isinstance(pages, list) else [pages]


if __name__ == "__main__":
    work(sys.argv[1], float(sys.argv[2]), sys.argv[3])  # type: ignore[arg-type]
