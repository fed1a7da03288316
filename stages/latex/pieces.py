"""What is found in a document while it is read, and stands as a mark in the Typst until all is
known: formulas, references, and LaTeX that nothing converts.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

OPEN, CLOSE = "\ue000", "\ue001"
MARKED = re.compile(f"{OPEN}([a-z]+)([0-9]+){CLOSE}")

Kind = str


@dataclass
class Formula:
    """latex: macro-expanded, without its environment's name.   display: whether on a line of its
    own.   block: the index of the block that it stands in.
    """

    latex: str
    display: bool
    block: int
    typst: str | None = None
    by: str = ""


@dataclass
class Left:
    """LaTeX that stays LaTeX.   why: in the words of a comment."""

    latex: str
    why: str
    block: int
    inline: bool


@dataclass
class Reference:
    r"""command: `ref`, `eqref`, … as LaTeX names it.   labels: what it refers to."""

    command: str
    labels: list[str]


@dataclass
class Label:
    """name: as Typst spells it.   kind: of what it names: "heading", "equation", "figure", "table",
    a theorem's title, or "line" of an equation of several; its number then is the equation's plus
    `offset`.   shown: what a reference shows instead of a number.
    """

    name: str
    kind: str
    block: int
    shown: str = ""


@dataclass
class Found:
    """All of a document's. A piece is named in the Typst by `mark`."""

    formulas: list[Formula] = field(default_factory=list)
    lefts: list[Left] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    labels: dict[str, Label] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def formula(self, latex: str, display: bool, block: int) -> str:
        self.formulas.append(Formula(latex, display, block))
        return _mark("formula", len(self.formulas) - 1)

    def left(self, latex: str, why: str, block: int, inline: bool) -> str:
        self.lefts.append(Left(latex, why, block, inline))
        return _mark("left", len(self.lefts) - 1)

    def reference(self, command: str, labels: list[str]) -> str:
        self.references.append(Reference(command, labels))
        return _mark("reference", len(self.references) - 1)

    def label(self, latex: str, kind: str, block: int, shown: str = "") -> str:
        """Typst's name for a label; "" where the document has it already."""
        latex = latex.strip()
        if not latex or latex in self.labels:
            return ""
        name = re.sub(r"[^\w:.-]+", "-", latex).strip(":.-") or "label"
        if not name[0].isalnum():
            name = f"label-{name}"
        while name in self.names:
            name += "-2"
        self.names.add(name)
        self.labels[latex] = Label(name, kind, block, shown)
        return name


def _mark(kind: str, index: int) -> str:
    return f"{OPEN}{kind}{index}{CLOSE}"


def filled(text: str, write: Mapping[str, Callable[[int, str], str]]) -> str:
    """The text with each mark replaced by what its kind writes, given its index and the text that
    follows it.
    """
    return MARKED.sub(
        lambda mark: write[mark[1]](int(mark[2]), text[mark.end() : mark.end() + 2]), text
    )


def marks(text: str, kind: str) -> list[int]:
    return [int(mark[2]) for mark in MARKED.finditer(text) if mark[1] == kind]


def string(text: str) -> str:
    """As a string of Typst's."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def raw_block(text: str, language: str = "latex") -> str:
    """As raw text between more backticks than it has."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def comment(text: str) -> str:
    """As comments of Typst's, a line each, which `*/` and line separators do not end."""
    return "\n".join(
        f"// {line}".rstrip() for line in re.split(r"[\n\r\x0b\x0c\x85\u2028\u2029]", text)
    )
