"""A document's blocks as Typst with marks for what is not known yet: read by pandoc, changed by our
own rules, written by pandoc.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.latex.blocks import Block, finer
from stages.latex.elements import MAX_ROUNDS, Elements
from stages.latex.environments import raw, raw_inline, renamed
from stages.latex.pandoc import Node, Pandoc
from stages.latex.pieces import Found, comment
from stages.latex.titles import TODAY, TODAY_TYPST
from stages.progress_lines import ProgressLines

BATCH_BLOCKS, BATCH_CHARACTERS = 120, 100_000
"""Blocks given to pandoc at once."""

UNREAD = "pandoc cannot read this"


@dataclass
class Piece:
    """A block of the document.   typst: with marks; None where it stays LaTeX, and `why`."""

    block: Block
    place: str
    typst: str | None = None
    why: str = ""
    final: str = ""


class Reading:
    """plain: whether blocks are text without LaTeX.   macros: what the document defines."""

    def __init__(
        self,
        pieces: list[Piece],
        pandoc: Pandoc,
        found: Found,
        elements: Elements,
        macros: list[str],
        plain: bool,
    ) -> None:
        self.pieces, self.pandoc, self.found, self.elements = pieces, pandoc, found, elements
        self.defined, self.plain = macros, plain

    def read(self) -> None:
        """Each block's Typst with marks."""
        self._define()
        text = [at for at, piece in enumerate(self.pieces) if not piece.block.comment]
        with ProgressLines("reading", len(text), "blocks") as lines:
            elements: dict[int, list[Node]] = {}
            for batch in batches(text, [len(piece.block.text) for piece in self.pieces]):
                latex = [renamed(self.pieces[at].block.text) for at in batch]
                read = (
                    [_words(each) for each in latex]
                    if self.plain
                    else self.pandoc.read(latex, self.macros)
                )
                for at, block, found in zip(batch, latex, read, strict=True):
                    elements[at] = found if found is not None else self._read_finer(at, block)
                lines.advance(len(batch))
        for at, found in elements.items():
            self.elements.begin(at, renamed(self.pieces[at].block.text))
            elements[at] = self.elements.walked(found)
        self._read_waiting()
        for batch in batches(text, [len(piece.block.text) for piece in self.pieces]):
            written = self.pandoc.write([_spliced(elements[at]) for at in batch])
            for at, typst in zip(batch, written, strict=True):
                self.pieces[at].typst = typst and typst.replace(TODAY, TODAY_TYPST)
                self.pieces[at].why = "" if typst is not None else UNREAD
        self._show_bibliography_once()
        for piece in self.pieces:
            if piece.block.comment:
                piece.typst = comment(
                    "\n".join(
                        each.strip().lstrip("%").strip() for each in piece.block.text.split("\n")
                    )
                )

    def _show_bibliography_once(self) -> None:
        """Typst has no citation without a bibliography, and no two of them."""
        bibliography = self.elements.bibliography
        if not bibliography:
            return
        places = [piece for piece in self.pieces if bibliography in (piece.typst or "")]
        for piece in places[1:]:
            piece.typst = (piece.typst or "").replace(bibliography, "")
        shown = [piece for piece in self.pieces if piece.typst is not None]
        if not places and shown:
            shown[-1].typst = f"{shown[-1].typst}\n\n{bibliography}"

    def _define(self) -> None:
        """The macros that pandoc can read."""
        macros = [f"\\newcommand{{\\today}}{{{TODAY}}}", *self.defined]
        if self.pandoc.read([""], "\n".join(macros)) == [None]:
            read = self.pandoc.read(macros, "")
            macros = [macro for macro, found in zip(macros, read, strict=True) if found is not None]
        self.macros = "\n".join(macros)

    def _read_finer(self, at: int, latex: str) -> list[Node]:
        """What can be read of a block that cannot be read as a whole; the rest as it is."""
        parts = finer(Block(latex, 0)) or [Block(latex, 0)]
        read = self.pandoc.read([part.text for part in parts], self.macros)
        made: list[Node] = []
        for part, found in zip(parts, read, strict=True):
            if found is None and self.defined:
                found = self.pandoc.read([part.text], "")[0]
            made += (
                found if found is not None else [raw(self.found.left(part.text, UNREAD, at, False))]
            )
        return made

    def _read_waiting(self) -> None:
        """What stands in environments and commands that our own rules convert, round by round."""
        for left in reversed(range(MAX_ROUNDS)):
            waiting, self.elements.waiting = self.elements.waiting, []
            if not waiting:
                return
            latex = [node["tex"] for node, _ in waiting]
            numbers = list(range(len(latex)))
            for batch in batches(numbers, list(map(len, latex))):
                read = (
                    self.pandoc.read([latex[each] for each in batch], self.macros)
                    if left
                    else [None] * len(batch)
                )
                for each, found in zip(batch, read, strict=True):
                    node, block = waiting[each]
                    self._fill(node, found, latex[each], block)

    def _fill(self, node: Node, found: list[Node] | None, latex: str, block: int) -> None:
        self.elements.begin(block, latex)
        inline = node["t"] == "Span"
        if found is None:
            mark = self.found.left(latex, UNREAD, block, inline)
            node["c"][1] = [raw_inline(mark) if inline else raw(mark)]
            return
        if inline:
            found = [each for element in found for each in _inlines(element)]
        node["c"][1] = self.elements.walked(found)


def _words(text: str) -> list[Node]:
    """Plain text as a paragraph."""
    inlines: list[Node] = []
    for line in text.split("\n"):
        for word in line.split():
            inlines += [{"t": "Str", "c": word}, {"t": "Space"}]
        inlines[-1:] = [{"t": "SoftBreak"}]
    return [{"t": "Para", "c": inlines[:-1]}]


def _inlines(element: Node) -> list[Node]:
    """What a block shows, as part of a line."""
    if element["t"] in ("Para", "Plain"):
        return [*element["c"]]
    if element["t"] == "RawBlock":
        return [{"t": "RawInline", "c": element["c"]}]
    if element["t"] in ("Div", "BlockQuote"):
        content: Any = element["c"][1] if element["t"] == "Div" else element["c"]
        return [each for inner in content for each in _inlines(inner)]
    if element["t"] == "Header":
        return [*element["c"][2]]
    return []


def _spliced(elements: Any) -> Any:
    """Elements without the `Div` and `Span` in which waiting LaTeX stood."""
    if isinstance(elements, dict):
        return {key: _spliced(value) for key, value in elements.items() if key != "tex"}
    if not isinstance(elements, list):
        return elements
    made: list[Any] = []
    for element in elements:
        if isinstance(element, dict) and "tex" in element:
            made += _spliced(element["c"][1])
        else:
            made.append(_spliced(element))
    return made


def batches(
    numbers: Sequence[int],
    lengths: Sequence[int],
    most: int = BATCH_BLOCKS,
    characters: int = BATCH_CHARACTERS,
) -> list[list[int]]:
    """Numbers in order, at most so many together, of lengths that come to so many characters."""
    found: list[list[int]] = []
    together = 0
    for number in numbers:
        if not found or len(found[-1]) >= most or together + lengths[number] > characters:
            found.append([])
            together = 0
        found[-1].append(number)
        together += lengths[number]
    return found
