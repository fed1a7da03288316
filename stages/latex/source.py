r"""A LaTeX document's file as text, with the files that it inputs from beside it.

Nothing that a document says is run: `\write18` and the like are text like any other.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from stages.errors import UserError
from stages.latex.tokens import VERBATIM

MAX_BYTES = 32 * 2**20
MAX_INPUTS, MAX_DEPTH = 200, 12
MAX_TOLD = 20  # notes of one kind: a document may miss thousands of files

ENCODINGS = {
    "utf8": "utf-8", "utf8x": "utf-8", "latin1": "cp1252", "ansinew": "cp1252", "cp1252": "cp1252",
    "latin2": "iso8859-2", "latin3": "iso8859-3", "latin4": "iso8859-4", "latin5": "iso8859-9",
    "latin9": "iso8859-15", "latin10": "iso8859-16", "cp1250": "cp1250", "cp1251": "cp1251",
    "cp1257": "cp1257", "koi8-r": "koi8-r", "koi8-u": "koi8-u", "cp437": "cp437", "cp850": "cp850",
    "cp852": "cp852", "cp866": "cp866", "applemac": "mac-roman", "macce": "mac-latin2",
    "ascii": "cp1252", "sjis": "cp932", "euc": "euc-jp", "euc-jp": "euc-jp", "gbk": "gbk",
}  # fmt: skip
"""LaTeX's names of encodings (inputenc, and Japanese sources' first line), and Python's."""

INPUTENC = re.compile(rb"^[^%\n]*\\usepackage\s*\[\s*([\w-]+)\s*\]\s*\{inputenc\}", re.MULTILINE)
CODING = re.compile(rb"\A[^\n]*(?:coding|encoding)\s*[:=]\s*([\w-]+)")
JAPANESE = re.compile(
    rb"\\document(?:class|style)[^{}\n]*\{[a-z]*j(?:s|t|lreq)?[a-z]*(?:article|book|report)"
)
INPUT = re.compile(
    r"(?P<skip>\\[\\%]|%[^\n]*|\\begin\{(?P<name>" + VERBATIM.pattern + r")\}.*?\\end\{(?P=name)\})"
    r"|\\(?:input|include|subfile)(?:\s*\{(?P<file>[^{}\n]*)\}|\s+(?P<bare>[\w./-]+))",
    re.DOTALL,
)
CONTROL = dict.fromkeys(
    [
        *(code for code in range(32) if code not in (9, 10, 13)),
        0x7F,
        *range(0xE000, 0xE010),
        0xFFFE,
        0xFFFF,
    ]
)
"""Characters that no document means, and those that mark formulas in ours."""


@dataclass
class Source:
    """notes: what the reader of the result must know, a sentence each.   places: (position,
    file, first line there, its start in its file) of each part of the text, in order.
    """

    text: str
    notes: list[str] = field(default_factory=list)
    places: list[tuple[int, str, int]] = field(default_factory=list)

    @cached_property
    def line_ends(self) -> list[int]:
        return [match.start() for match in re.finditer("\n", self.text)]

    def place(self, position: int) -> str:
        """FILE line N of what stands at the position of the text."""
        at = bisect_right(self.places, position, key=lambda place: place[0]) - 1
        start, file, line = self.places[max(at, 0)]
        return f"{file} line {line + self._line(position) - self._line(start)}"

    def _line(self, position: int) -> int:
        return bisect_left(self.line_ends, position)


def read(path: Path) -> Source:
    """Raises UserError for a file that is absent, empty, or larger than MAX_BYTES."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; correct its name, or give `-` for standard input")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise UserError(
            f"{path}: {size / 2**20:,.0f} MiB, more than the {MAX_BYTES / 2**20:.0f} MiB that are "
            "read of a document; divide it"
        )
    source = Source("")
    reader = _Reader(path.parent.resolve(), source)
    source.text = "".join(reader.parts(path.resolve(), path.name, reader.decoded(path)))
    if not source.text.strip():
        raise UserError(f"{path}: no text to convert in it; write some, or name another file")
    return source


class _Reader:
    def __init__(self, folder: Path, source: Source) -> None:
        self.folder, self.source = folder, source
        self.inputs = self.length = 0
        self.open: list[Path] = []
        self.told: dict[str, int] = {}

    def tell(self, kind: str, note: str) -> None:
        self.told[kind] = self.told.get(kind, 0) + 1
        if self.told[kind] <= MAX_TOLD:
            self.source.notes.append(note)

    def decoded(self, path: Path) -> str:
        """By its byte-order mark, as UTF-8, or in the encoding that it names; else as cp1252."""
        raw = path.read_bytes()
        text = None
        for mark, encoding in (
            (b"\xff\xfe", "utf-16"),
            (b"\xfe\xff", "utf-16"),
            (b"", "utf-8-sig"),
        ):
            if text is None and raw.startswith(mark):
                try:
                    text = raw.decode(encoding)
                except UnicodeDecodeError as error:
                    line = 1 + raw.count(b"\n", 0, error.start)
        if text is None:
            named = INPUTENC.search(raw[:100_000]) or CODING.search(raw[:1000])
            name = named[1].decode("ascii", "replace").lower() if named else ""
            encoding = ENCODINGS.get(name, "")
            if not encoding or encoding == "utf-8":
                encoding = _japanese(raw) if JAPANESE.search(raw[:10_000]) else "cp1252"
            text = raw.decode(encoding, "replace")
            says = f"names the encoding `{name}`" if name else "names no encoding"
            self.tell(
                "encoding",
                f"{path.name} line {line}: not UTF-8, and {says}; read as {encoding}. Where "
                "letters are wrong, convert the file, for example `iconv -f CP932 -t UTF-8`",
            )
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        cleaned = text.translate(CONTROL).encode("utf-8", "ignore").decode("utf-8")
        if removed := len(text) - len(cleaned):
            self.tell("control", f"{path.name}: control characters left out: {removed:,}")
        return cleaned

    def parts(self, path: Path, name: str, text: str) -> Iterator[str]:
        """The text with what it inputs in place."""
        self.open.append(path)
        at = 0
        self._begin(name, 1)
        for match in INPUT.finditer(text):
            if match["skip"]:
                continue
            file = (match["file"] or match["bare"] or "").strip().strip('"')
            line = 1 + text.count("\n", 0, match.start())
            found, problem = self._found(file)
            if problem:
                self.tell("input", f"{name} line {line}: {match[0]}: {problem}; left as it is")
                continue
            assert found
            yield self._counted(text[at : match.start()])
            inner = self.decoded(found)
            if r"\begin{document}" in inner:  # a file of the package `subfiles`
                inner = inner.partition(r"\begin{document}")[2].partition(r"\end{document}")[0]
            yield from self.parts(found, str(found.relative_to(self.folder)), inner)
            at = match.end()
            self._begin(name, line + match[0].count("\n"))
        yield self._counted(text[at:])
        self.open.pop()

    def _begin(self, name: str, line: int) -> None:
        self.source.places.append((self.length, name, line))

    def _counted(self, part: str) -> str:
        self.length += len(part)
        return part

    def _found(self, file: str) -> tuple[Path | None, str]:
        """(the file, ""), or (None, why there is none)."""
        try:
            for candidate in (self.folder / file, self.folder / f"{file}.tex"):
                resolved = candidate.resolve()
                if not resolved.is_relative_to(self.folder):
                    return None, f"outside the document's folder {self.folder.name}/"
                if not resolved.is_file():
                    continue
                if resolved in self.open or len(self.open) >= MAX_DEPTH:
                    return None, "inputs itself, or files one in another too deeply"
                self.inputs += 1
                if self.inputs > MAX_INPUTS or self.length + resolved.stat().st_size > MAX_BYTES:
                    return None, f"more than {MAX_INPUTS} files, or {MAX_BYTES / 2**20:.0f} MiB"
                return resolved, ""
        except (OSError, ValueError, RuntimeError):
            pass
        return None, "no such file beside the document"


def _japanese(raw: bytes) -> str:
    for encoding in ("iso2022-jp", "euc-jp", "cp932"):
        try:
            raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return "cp932"
