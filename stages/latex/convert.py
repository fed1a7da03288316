r"""A LaTeX document -> a Typst document that compiles, with what stays LaTeX shown as such.

Read by pandoc, block by block; formulas by whom stages/latex/formulas.py believes; each block is
compiled alone, and all of them together at the end. What does not compile is replaced by its LaTeX.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.latex import compiling, definitions, template
from stages.latex.blocks import Block, divided, finer
from stages.latex.elements import MAX_ROUNDS, Elements
from stages.latex.environments import Environments, raw, raw_inline, renamed
from stages.latex.filling import Filling
from stages.latex.formulas import Formulas
from stages.latex.images import Images
from stages.latex.pandoc import Node, Pandoc
from stages.latex.pieces import Found, Left, comment
from stages.latex.source import Source
from stages.latex.titles import TODAY, TODAY_TYPST, given, title_nodes
from stages.progress_lines import ProgressLines
from stages.scoring.render import MAX_SOURCE_CHARACTERS, Renderer

BATCH_BLOCKS, BATCH_CHARACTERS = 120, 100_000
"""Blocks given to pandoc at once."""

TOGETHER_CHARACTERS = 4_000
"""Typst of blocks that are compiled together at first: each alone took ten times as long. Where
they do not compile, each is compiled alone."""

MAX_REPAIRS = 40
LATEX = re.compile(r"\\[A-Za-z]+|\\[(\[]|\$[^$\n]+\$")
UNREAD = "pandoc cannot read this"
UNCOMPILED = "what was made of this does not compile"


@dataclass
class Piece:
    """A block of the document.   typst: with marks; None where it stays LaTeX, and `why`."""

    block: Block
    place: str
    typst: str | None = None
    why: str = ""
    final: str = ""


@dataclass
class Converted:
    """text: the Typst document.   notes: what is not as in the original, a sentence each."""

    text: str
    pieces: list[Piece]
    found: Found
    filling: Filling
    notes: list[str]


def converted(
    source: Source, folder: Path, into: Path, formulas: Callable[[Pandoc], Formulas]
) -> Converted:
    """The document, which compiles in the folder `into`.

    folder: of the document, whose images are shown where they are below `into`.   formulas: who
    converts them.
    """
    conversion = _Conversion(source, folder, into)
    conversion.read()
    conversion.convert_formulas(formulas(conversion.pandoc))
    conversion.check_alone()
    return conversion.whole()


class _Conversion:
    def __init__(self, source: Source, folder: Path, into: Path) -> None:
        self.source, self.into = source, into
        self.pandoc, self.found = Pandoc(), Found()
        parts = divided(source.text)
        self.look = template.layout(parts.preamble)
        body = source.text[len(parts.preamble) :]
        self.defined = definitions.of(source.text)
        self.notes = list(source.notes)
        classes = len(template.CLASS.findall(source.text))
        if classes > 1:
            self.notes.append(
                f"\\documentclass: {classes} of them; what is between the first "
                "\\begin{document} and its end is converted, as LaTeX does"
            )
        self.plain = not classes and not LATEX.search(source.text)
        if self.plain:
            self.notes.append("no LaTeX in it: converted as plain text")
        self.images = Images(folder, into, self.notes)
        self.environments = Environments(
            self.defined.theorems,
            self.found,
            address=given(source.text, "address") or "",
            signature=given(source.text, "signature") or "",
        )
        bibliography = self.images.bibliography(body)
        self.keys = bibliography.keys if bibliography else frozenset[str]()
        self.found.names |= set(self.keys)
        self.elements = Elements(
            self.found,
            self.environments,
            self.images.typst,
            bibliography.typst if bibliography else "",
        )
        self.elements.title = title_nodes(source.text, self.look)
        self.pieces = [Piece(block, source.place(block.start)) for block in parts.blocks]
        # A block alone with a \\section is below a chapter too.
        self.pandoc.top = "\\chapter{T}" if self.look.chapters or "\\chapter" in body else ""

    def read(self) -> None:
        """Each block's Typst with marks."""
        self._define()
        text = [at for at, piece in enumerate(self.pieces) if not piece.block.comment]
        with ProgressLines("reading", len(text), "blocks") as lines:
            elements: dict[int, list[Node]] = {}
            for batch in _batches(text, [len(piece.block.text) for piece in self.pieces]):
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
        for batch in _batches(text, [len(piece.block.text) for piece in self.pieces]):
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
        macros = [f"\\newcommand{{\\today}}{{{TODAY}}}", *self.defined.macros]
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
            if found is None and self.defined.macros:
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
            for batch in _batches(numbers, list(map(len, latex))):
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

    def convert_formulas(self, formulas: Formulas) -> None:
        known = formulas.converted([each.latex for each in self.found.formulas])
        for formula in self.found.formulas:
            if answer := known.get(formula.latex):
                formula.typst, formula.by = answer

    def check_alone(self) -> None:
        """Replace the blocks that do not compile by their LaTeX."""
        self.filling = Filling(
            self.found,
            self.keys,
            self.elements.bibliography,
            self.environments.cited,
            self.environments.anchors,
        )
        asked = [
            piece for piece in self.pieces if piece.typst is not None and not piece.block.comment
        ]
        lengths = [len(piece.typst or "") for piece in asked]
        together = _batches(range(len(asked)), lengths, BATCH_BLOCKS, TOGETHER_CHARACTERS)
        with Renderer() as renderer:
            groups = [[asked[at] for at in batch] for batch in together]
            suspects = [
                piece
                for group, picture in zip(groups, self._rendered(renderer, groups), strict=True)
                if picture is None
                for piece in group
            ]
            alone = self._rendered(renderer, [[piece] for piece in suspects])
        for piece, picture in zip(suspects, alone, strict=True):
            if picture is None and len(piece.typst or "") < MAX_SOURCE_CHARACTERS // 2:
                piece.typst, piece.why = None, UNCOMPILED

    def _rendered(self, renderer: Renderer, groups: list[list[Piece]]) -> list[bytes | None]:
        sources = [
            self.filling.alone("\n\n".join(piece.typst or "" for piece in group))
            for group in groups
        ]
        return renderer.render(sources, "document")

    def whole(self) -> Converted:
        """The document, with what keeps it from compiling replaced by its LaTeX."""
        for _ in range(MAX_REPAIRS):
            starts, text = self._assembled()
            try:
                diagnostic = compiling.problem(text, self.into)
            except compiling.Unfinished as unfinished:
                self.notes.append(f"{unfinished}; each of its blocks was compiled alone")
                break
            if diagnostic is None:
                break
            line = compiling.line_of(diagnostic)
            at = max((at for at, start in enumerate(starts) if line and start <= line), default=-1)
            piece = self.pieces[at] if at >= 0 else None
            if not piece or piece.typst is None:
                self._leave_all(diagnostic)
                starts, text = self._assembled()
                break
            reason = diagnostic.partition("\n")[0].removeprefix("error: ")
            piece.typst, piece.why = None, f"{UNCOMPILED} ({reason})"
        else:
            self._leave_all("too many")
            starts, text = self._assembled()
        return Converted(text, self.pieces, self.found, self.filling, self.notes)

    def _leave_all(self, diagnostic: str) -> None:
        """Where no block can be named as the one that fails: halves are tried."""
        kept = [piece for piece in self.pieces if piece.typst is not None]
        self._leave_failing(kept)

    def _leave_failing(self, pieces: list[Piece]) -> None:
        others = {id(piece): piece.typst for piece in self.pieces}
        for piece in self.pieces:
            piece.typst = None

        def add(part: list[Piece]) -> None:
            for piece in part:
                piece.typst = others[id(piece)]
            if compiling.compiles(self._assembled()[1], self.into):
                return
            for piece in part:
                piece.typst = None
            if len(part) == 1:
                part[0].why = UNCOMPILED
                return
            half = len(part) // 2
            add(part[:half])
            add(part[half:])

        if pieces:
            add(pieces)

    def _assembled(self) -> tuple[list[int], str]:
        """(the first line of each block, the document)."""
        places = {at: piece.place for at, piece in enumerate(self.pieces)}
        gone = {at for at, piece in enumerate(self.pieces) if piece.typst is None}
        for at, piece in enumerate(self.pieces):
            if piece.typst is not None:
                piece.final = self.filling.final(piece.typst, gone, places)
                continue
            left = Left(piece.block.text, piece.why, at, False)
            self.found.lefts.append(left)
            piece.final = self.filling.final(
                f"\ue000left{len(self.found.lefts) - 1}\ue001", gone, places
            )
            self.found.lefts.pop()
        body = "\n\n".join(piece.final for piece in self.pieces)
        preamble = template.preamble(self.look, body, self.defined.theorems.values())
        line = preamble.count("\n") + 2
        starts = []
        for piece in self.pieces:
            starts.append(line)
            line += piece.final.count("\n") + 2
        return starts, f"{preamble}\n{body}\n"


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


def _batches(
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
