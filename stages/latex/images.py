"""What a document names of the files beside it: its images, and its bibliography."""

import re
from dataclasses import dataclass
from pathlib import Path

from stages.latex import compiling
from stages.latex.pieces import string

SUFFIXES = (".pdf", ".png", ".jpg", ".jpeg", ".svg", ".gif", ".webp")
LENGTH = re.compile(r"([\d.]+)\s*(pt|cm|mm|in|em|%)\Z")
BIBLIOGRAPHY = re.compile(
    r"^[^%\n]*\\(?:bibliography|addbibresource)\s*(?:\[[^\]]*\])?\{([^{}]*)\}", re.MULTILINE
)
STYLE = re.compile(r"\\bibliographystyle\{([^{}]*)\}")
ENTRY = re.compile(
    r"^\s*@(?!comment|string|preamble)\w+\s*[{(]\s*([^\s,{}]+)\s*,", re.MULTILINE | re.IGNORECASE
)
STYLES = {
    "alpha": "alphanumeric", "apalike": "apa", "apa": "apa", "plainnat": "chicago-author-date",
    "abbrvnat": "chicago-author-date", "unsrtnat": "ieee",
    "acm": "association-for-computing-machinery", "chicago": "chicago-author-date",
    "agsm": "harvard-cite-them-right", "apsrev": "american-physics-society", "nature": "nature",
    "elsarticle-harv": "elsevier-harvard", "vancouver": "vancouver", "plain": "springer-basic",
    "abbrv": "springer-basic", "siam": "springer-basic",
}  # fmt: skip
"""LaTeX's styles, and Typst's that are like them; others are numbered in order of citation."""


@dataclass(frozen=True)
class Bibliography:
    typst: str
    keys: frozenset[str]


class Images:
    """folder: of the document.   into: of the Typst document.   notes: are added to."""

    def __init__(self, folder: Path, into: Path, notes: list[str]) -> None:
        self.folder, self.into, self.notes = folder.resolve(), into.resolve(), notes
        self.known: dict[str, tuple[str, str]] = {}

    def typst(self, path: str, size: dict[str, str], inline: bool) -> str:
        """Typst for an image, or for a box with its name where it cannot be shown."""
        if path not in self.known:
            self.known[path] = self._found(path)
            if problem := self.known[path][1]:
                self.notes.append(
                    f"\\includegraphics{{{path}}}: {problem}; a box with its name stands there"
                )
        shown, problem = self.known[path]
        options = "".join(
            f", {side}: {length[1]}{length[2]}"
            for side in ("width", "height")
            if (length := LENGTH.match(size.get(side, "")))
        )
        if problem:
            return f"#no-image({string(path)}{options})"
        return f"#box(image({string(shown)}{options}))"

    def _found(self, path: str) -> tuple[str, str]:
        """(the path from the Typst document, "") or ("", why it cannot be shown)."""
        try:
            given = (self.folder / path).resolve()
            if not given.is_relative_to(self.folder):
                return "", f"outside the document's folder {self.folder.name}/"
            names = [given, *(given.with_name(given.name + suffix) for suffix in SUFFIXES)]
            file = next((each for each in names if each.is_file()), None)
        except (OSError, ValueError, RuntimeError):
            file = None
        if not file:
            return "", "no such file beside the document"
        if not file.resolve().is_relative_to(self.into):
            return "", f"not below the Typst document's folder {self.into.name}/"
        if file.suffix.lower() not in SUFFIXES:
            return "", f"Typst reads no {file.suffix or 'such'} files"
        shown = file.resolve().relative_to(self.into).as_posix()
        if not compiling.compiles(f"#image({string(shown)})", self.into):
            return "", "Typst cannot read it"
        return shown, ""

    def bibliography(self, body: str) -> Bibliography | None:
        """The BibTeX files that the document names, where Typst reads them."""
        named = BIBLIOGRAPHY.search(body)
        if not named:
            return None
        files, keys = [], set()
        for name in named[1].split(","):
            name = name.strip()
            try:
                file = (self.folder / name).resolve()
                file = file if file.suffix == ".bib" else file.with_name(file.name + ".bib")
                if not (
                    file.is_file()
                    and file.is_relative_to(self.folder)
                    and file.is_relative_to(self.into)
                ):
                    self.notes.append(
                        f"{name}: no such file beside the document; its citations show their keys"
                    )
                    continue
                text = file.read_text(encoding="utf-8", errors="replace")
            except (OSError, ValueError):
                continue
            files.append(string(file.relative_to(self.into).as_posix()))
            keys |= set(ENTRY.findall(text))
        style = STYLE.search(body)
        named_style = string(STYLES.get(style[1] if style else "", "ieee"))
        options = f"title: [References], style: {named_style}"
        typst = f"#bibliography(({', '.join(files)},), {options})"
        if not files:
            return None
        if not compiling.compiles(typst, self.into):
            self.notes.append(f"{named[1]}: Typst cannot read it; citations show their keys")
            return None
        return Bibliography(typst, frozenset(keys))
