r"""Environments that pandoc leaves as LaTeX, such as theorems, as nodes of its JSON.

What stands in them is a node {"t": "Tex", "c": LaTeX}, which is read in the next round.
"""

import re
from dataclasses import dataclass, field

from stages.latex import algorithms, definitions
from stages.latex.definitions import Theorem, argument
from stages.latex.pandoc import Node
from stages.latex.pieces import Found, string
from stages.latex.tokens import extents

RENAMED = {
    "letter": "tsugikiletter",
    "abstract": "tsugikiabstract", "table*": "table", "figure*": "figure", "sidewaystable": "table",
    "sidewaysfigure": "figure", "SCfigure": "figure", "equation+": "equation",
}  # fmt: skip
"""Environments that pandoc would keep apart, or know by another name."""

PLAIN = {
    "small", "footnotesize", "scriptsize", "tiny", "large", "Large", "normalsize", "singlespace",
    "doublespace", "onehalfspace", "spacing", "adjustbox", "landscape", "subequations", "samepage",
    "sloppypar", "titlepage", "subappendices", "appendices", "frontmatter", "mainmatter",
    "refsection", "raggedright", "threeparttable", "CJK", "CJK*", "otherlanguage", "onecolumn",
    "group", "document", "multicols", "paracol", "columns", "column", "block", "keywords",
    "IEEEkeywords", "acknowledgments", "acknowledgements", "tabbing", "center", "wrapfigure",
    "wraptable", "frame", "letter", "varwidth",
}  # fmt: skip
"""Environments whose content is shown as it is, without their arguments."""

SIDES = {"flushright": "right", "flushleft": "left", "center": "center", "raggedleft": "right"}
BEGIN = re.compile(r"\s*\\begin\s*\{(?P<name>[^{}]*)\}")
BIBLIOGRAPHY = re.compile(r"\\bibliography\s*\{[^{}]*\}")
PARTIAL_RULE = re.compile(r"\\(?:cline|cmidrule)(?:\s*\([lr]*\))?\s*\{[-\d]+\}")
"""pandoc 3.9 shows the columns of these as text."""

BIBITEM = re.compile(r"\\bibitem(?![A-Za-z])")


@dataclass
class Environments:
    """What a document's environments need to know of it.

    cited: the text of a citation, by key.   address, signature: of who writes a letter.
    """

    theorems: dict[str, Theorem]
    found: Found
    cited: dict[str, str] = field(default_factory=dict)
    anchors: dict[str, str] = field(default_factory=dict)
    address: str = ""
    signature: str = ""

    def nodes(self, latex: str, block: int) -> list[Node] | None:
        """None for an environment that stays LaTeX."""
        begin = BEGIN.match(latex)
        if not begin:
            return None
        name, end = begin["name"], latex.rfind(r"\end")
        inner = latex[begin.end() : end if end >= 0 else len(latex)]
        if theorem := self.theorems.get(name):
            return self._theorem(theorem, inner, block)
        if name == "tsugikiabstract":
            return [raw("#abstract["), tex(inner), raw("]")]
        if name == "thebibliography":
            return self._bibliography(inner, block)
        if name in ("algorithm", "algorithm*", "algorithm2e"):
            return self._algorithm(inner, block)
        if name in ("algorithmic", "algorithmic*"):
            return algorithms.nodes(inner)
        if name == "frame":
            return self._frame(inner)
        if name == "tsugikiletter":
            return self._letter(inner)
        if name in ("block", "alertblock", "exampleblock") and (title := argument(inner, 0)):
            head = plain([raw_inline("#strong["), tex_inline(title[0]), raw_inline("]")])
            return [head, tex(inner[title[1] :])]
        if name in SIDES:
            return [raw(f"#align({SIDES[name]})["), tex(inner), raw("]")]
        if name in PLAIN or (name.endswith("*") and name[:-1] in PLAIN):
            return [tex(_without_arguments(inner))]
        return None

    def _theorem(self, theorem: Theorem, inner: str, block: int) -> list[Node]:
        called = argument(inner, 0, "[]")
        inner = inner[called[1] :] if called else inner
        label, inner = labelled(inner)
        name = self.found.label(label, theorem.title, block) if label else ""
        options = "" if theorem.numbered else ", numbered: false"
        if theorem.style != "plain":
            options += ", italic: false"
        opening = f"#theorem({string(theorem.counter)}, {string(theorem.title)}{options}"
        head: list[Node] = [raw(f"{opening})[")]
        if called and called[0].strip():
            head = [
                plain([raw_inline(f"{opening}, name: ["), tex_inline(called[0]), raw_inline("])[")])
            ]
        return [*head, tex(inner), raw(f"] <{name}>" if name else "]")]

    def _algorithm(self, inner: str, block: int) -> list[Node]:
        given = argument(inner, 0, "[]")
        inner = inner[given[1] :] if given else inner
        caption, inner = _taken(inner, "caption")
        label, inner = labelled(inner)
        name = self.found.label(label, "Algorithm", block) if label else ""
        return [
            plain([raw_inline("#algorithm(["), tex_inline(caption), raw_inline("])[")]),
            *([tex(inner)] if r"\begin" in inner else algorithms.nodes(inner)),
            raw(f"] <{name}>" if name else "]"),
        ]

    def _bibliography(self, inner: str, block: int) -> list[Node]:
        given = argument(inner, 0)
        inner = inner[given[1] :] if given else inner
        made: list[Node] = [raw("#references[")]
        items = BIBITEM.split(inner)[1:]
        for number, item in enumerate(items, 1):
            shown = argument(item, 0, "[]")
            key = argument(item, shown[1] if shown else 0)
            if not key:
                continue
            text = re.sub(r"\\newblock(?![A-Za-z])", " ", item[key[1] :])
            label = shown[0].strip() if shown else str(number)
            self.cited[key[0].strip()] = re.sub(r"[{}\\]", "", label)
            anchor = self.found.label(f"cite:{key[0]}", "reference", block)
            self.anchors[key[0].strip()] = anchor
            made += [raw(f"#reference({string(re.sub(r'[{}]', '', label))})["), tex(text)]
            made += [raw(f"] <{anchor}>" if anchor else "]")]
        return [*made, raw("]")]

    def _frame(self, inner: str) -> list[Node]:
        """A slide of beamer's: its title, what is on it, and a page break."""
        while given := argument(inner, 0, "[]"):
            inner = inner[given[1] :]
        title = ""
        if given := argument(inner, 0):
            title, inner = given[0], inner[given[1] :]
        named, inner = _taken(inner, "frametitle")
        head = plain([raw_inline("#slide(["), tex_inline(title or named), raw_inline("])[")])
        inner = inner.replace(r"\titlepage", r"\maketitle")
        return [head, tex(inner), raw("]")]

    def _letter(self, inner: str) -> list[Node]:
        """Its sender and date at the right, to whom it goes, and who signs it."""
        to = argument(inner, 0)
        closing, inner = _taken(inner[to[1] :] if to else inner, "closing")
        opening, inner = _taken(inner, "opening")
        signed = rf"{closing}\\[2em]\\{self.signature}" if self.signature else closing
        return [
            raw("#align(right)["), tex(rf"{self.address}\\\today"), raw("]"),
            *[tex(each) for each in (to[0] if to else "", opening, inner, signed)],
        ]  # fmt: skip


def labelled(latex: str) -> tuple[str, str]:
    r"""(the first `\label`, the rest)."""
    return _taken(latex, "label")


def _taken(latex: str, command: str) -> tuple[str, str]:
    """(the argument of the first of a command, the text without it)."""
    match = re.compile(rf"\\{command}\*?(?![A-Za-z])").search(latex)
    if match and (given := definitions.arguments(latex, match.end(), "om")):
        return given[0][1], latex[: match.start()] + latex[given[1] :]
    return "", latex


def _without_arguments(inner: str) -> str:
    position = 0
    while given := argument(inner, position, "[]") or argument(inner, position):
        position = given[1]
    return inner[position:]


def renamed(text: str) -> str:
    """A block with those of its environments that pandoc would keep apart under other names."""
    text = BIBLIOGRAPHY.sub(r"\\printbibliography", _frames(text))
    text = PARTIAL_RULE.sub(r"\\hline ", text)
    if not any(name in text for name in RENAMED):
        return text
    made, at = [], 0
    for each in extents(text):
        if each.kind in ("open", "close") and each.name in RENAMED:
            edge = "begin" if each.kind == "open" else "end"
            made.append(f"{text[at : each.start]}\\{edge}{{{RENAMED[each.name]}}}")
            at = each.end
    return "".join(made) + text[at:]


def _frames(text: str) -> str:
    r"""A block with beamer's `\frame{…}` as an environment."""
    made, at = [], 0
    for match in re.finditer(r"\\frame(?=\s*\{)", text):
        if match.start() >= at and (given := argument(text, match.end())):
            made.append(f"{text[at : match.start()]}\\begin{{frame}}{{}}{given[0]}\\end{{frame}}")
            at = given[1]
    return "".join(made) + text[at:]


def raw(typst: str) -> Node:
    return {"t": "RawBlock", "c": ["typst", typst]}


def raw_inline(typst: str) -> Node:
    return {"t": "RawInline", "c": ["typst", typst]}


def plain(inlines: list[Node]) -> Node:
    return {"t": "Plain", "c": inlines}


def tex(latex: str) -> Node:
    return {"t": "Tex", "c": latex}


def tex_inline(latex: str) -> Node:
    return {"t": "TexInline", "c": latex}
