r"""A LaTeX document -> a Typst document that compiles, with what stays LaTeX shown as such.

Read by pandoc, block by block; formulas by whom stages/latex/formulas.py believes; each block is
compiled alone, and all of them together at the end. What does not compile is replaced by its LaTeX.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stages.latex import compiling, definitions, template
from stages.latex.blocks import divided
from stages.latex.elements import Elements
from stages.latex.environments import Environments
from stages.latex.filling import Filling
from stages.latex.formulas import Formulas
from stages.latex.images import Images
from stages.latex.pandoc import Pandoc
from stages.latex.pieces import Found, Left
from stages.latex.reading import BATCH_BLOCKS, Piece, Reading, batches
from stages.latex.source import Source
from stages.latex.titles import given, title_nodes
from stages.scoring.render import MAX_SOURCE_CHARACTERS, Renderer

TOGETHER_CHARACTERS = 4_000
"""Typst of blocks that are compiled together at first: each alone took ten times as long. Where
they do not compile, each is compiled alone."""

MAX_REPAIRS = 40
LATEX = re.compile(r"\\[A-Za-z]+|\\[(\[]|\$[^$\n]+\$")
UNCOMPILED = "what was made of this does not compile"


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
    conversion.reading.read()
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
        plain = not classes and not LATEX.search(source.text)
        if plain:
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
        self.reading = Reading(
            self.pieces, self.pandoc, self.found, self.elements, self.defined.macros, plain
        )

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
        together = batches(range(len(asked)), lengths, BATCH_BLOCKS, TOGETHER_CHARACTERS)
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
            if self._forgets(compiling.missing_label(diagnostic)):
                continue
            line = compiling.line_of(diagnostic)
            at = max((at for at, start in enumerate(starts) if line and start <= line), default=-1)
            piece = self.pieces[at] if at >= 0 else None
            if not piece or piece.typst is None:
                self._leave_failing()
                starts, text = self._assembled()
                break
            reason = diagnostic.partition("\n")[0].removeprefix("error: ")
            piece.typst, piece.why = None, f"{UNCOMPILED} ({reason})"
        else:
            self._leave_failing()
            starts, text = self._assembled()
        return Converted(text, self.pieces, self.found, self.filling, self.notes)

    def _forgets(self, name: str) -> bool:
        """Whether a label was known that no block has: what refers to it shows question marks."""
        known = [latex for latex, label in self.found.labels.items() if label.name == name]
        for latex in known:
            del self.found.labels[latex]
        return bool(known)

    def _leave_failing(self) -> None:
        """Where no block can be named as the one that fails: halves are tried."""
        known = [(piece, piece.typst) for piece in self.pieces if piece.typst is not None]
        for piece, _ in known:
            piece.typst = None

        def add(part: list[tuple[Piece, str]]) -> None:
            for piece, typst in part:
                piece.typst = typst
            if not part or compiling.compiles(self._assembled()[1], self.into):
                return
            for piece, _ in part:
                piece.typst, piece.why = None, UNCOMPILED
            if len(part) > 1:
                half = len(part) // 2
                add(part[:half])
                add(part[half:])

        add(known)

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
