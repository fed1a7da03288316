r"""pandoc's JSON of a block -> JSON that its Typst writer writes as we want it.

Formulas and references become marks (stages/latex/pieces.py); what pandoc left as LaTeX is
converted by stages/latex/environments.py and commands.py, or becomes the mark of a piece that
stays LaTeX.
"""

from collections.abc import Callable
from typing import Any

from stages.latex import commands, equations, tables
from stages.latex.environments import Environments, plain, raw, raw_inline
from stages.latex.pandoc import Node
from stages.latex.pieces import Found

MAX_ROUNDS = 8
"""How deep environments that pandoc leaves stand in one another."""

NO_TITLE = "no rule converts this"


class Elements:
    """Walks elements of one block after another; what LaTeX they still have is noted in `waiting`
    as a node that is filled in later.

    image: Typst for an image's path and size.   bibliography: Typst for the document's own.
    """

    def __init__(
        self,
        found: Found,
        environments: Environments,
        image: Callable[[str, dict[str, str], bool], str],
        bibliography: str,
    ) -> None:
        self.found, self.environments, self.image = found, environments, image
        self.bibliography = bibliography
        self.title: list[Node] = []
        self.block = 0
        self.rules: list[tables.Rules] = []
        self.captions_below = False
        self.waiting: list[tuple[Node, int]] = []

    def begin(self, block: int, latex: str) -> None:
        """What is walked next is of this LaTeX, in the block of this index."""
        self.block, self.rules = block, tables.rules(latex)
        self.captions_below = latex.rfind(r"\caption") > latex.find(r"\end{tab") >= 0

    def walked(self, elements: Any) -> Any:
        """A list of elements, or whatever else there is in their content."""
        if isinstance(elements, list):
            made: list[Any] = []
            for element in elements:
                if isinstance(element, dict) and "t" in element:
                    made += self._element(element)
                else:
                    made.append(self.walked(element))
            return made
        if isinstance(elements, dict):
            return {key: self.walked(value) for key, value in elements.items()}
        return elements

    def _element(self, element: Node) -> list[Node]:
        kind = element["t"]
        handler = getattr(self, f"_of_{kind.lower()}", None)
        if handler:
            made: list[Node] = handler(element)
            return made
        if "c" in element:
            return [{**element, "c": self.walked(element["c"])}]
        return [element]

    def _of_tex(self, element: Node) -> list[Node]:
        node: Node = {"t": "Div", "c": [["", [], []], []], "tex": element["c"]}
        self.waiting.append((node, self.block))
        return [node]

    def _of_texinline(self, element: Node) -> list[Node]:
        node: Node = {"t": "Span", "c": [["", [], []], []], "tex": element["c"]}
        self.waiting.append((node, self.block))
        return [node]

    def _of_math(self, element: Node) -> list[Node]:
        kind, latex = element["c"]
        if kind["t"] == "InlineMath":
            bare = equations.bare(latex)
            return [raw_inline(f"${self.found.formula(bare, False, self.block)}$")] if bare else []
        typst = equations.typst(latex, self.found, self.block)
        return [raw_inline(typst)] if typst else []

    def _of_rawinline(self, element: Node) -> list[Node]:
        return self._raw(element, inline=True)

    def _of_rawblock(self, element: Node) -> list[Node]:
        return self._raw(element, inline=False)

    def _raw(self, element: Node, inline: bool) -> list[Node]:
        form, latex = element["c"]
        if form == "typst":
            return [element]
        if latex.strip() in (r"\maketitle", r"\titlepage"):
            made: list[Node] | None = self.title
        elif latex.lstrip().startswith(r"\begin"):
            made = self.environments.nodes(latex, self.block)
        else:
            made = commands.nodes(latex, self.found, self.block, self.bibliography)
            if made and not inline:
                made = [plain(made)]
        if made is not None:
            walked: list[Node] = self.walked(made)
            return walked
        mark = self.found.left(latex.strip(), NO_TITLE, self.block, inline)
        return [raw_inline(mark) if inline else raw(mark)]

    def _of_cite(self, element: Node) -> list[Node]:
        citations, shown = element["c"]
        latex = next((each["c"][1] for each in shown if each["t"] == "RawInline"), "")
        command = latex.lstrip("\\").partition("{")[0].partition("[")[0].strip().rstrip("*")
        if not citations:
            return []
        labels = [each["citationId"] for each in citations]
        made = [raw_inline(self.found.reference(f"cite:{command or 'cite'}", labels))]
        suffix = self.walked(citations[-1]["citationSuffix"])
        if suffix:
            made = [*made[:1], raw_inline("\ue002"), *suffix, raw_inline("\ue003")]
        return made

    def _of_header(self, element: Node) -> list[Node]:
        level, (label, classes, keys), title = element["c"]
        name = self.found.label(label, "heading", self.block) if label else ""
        return [{"t": "Header", "c": [level, [name, classes, keys], self.walked(title)]}]

    def _of_image(self, element: Node) -> list[Node]:
        (_, _, keys), _, (path, _) = element["c"]
        return [raw_inline(self.image(path, dict(keys), True))]

    def _of_figure(self, element: Node) -> list[Node]:
        (label, _, _), (_, caption), content = element["c"]
        inner = self.walked(content)
        name = self.found.label(label, "figure", self.block) if label else ""
        titled = [
            inline
            for block in caption
            for inline in block.get("c", [])
            if block["t"] in ("Plain", "Para")
        ]
        head = [raw_inline("#figure("), *self._caption(titled), raw_inline("kind: image)[")]
        return [plain(head), *inner, raw(f"] <{name}>" if name else "]")]

    def _caption(self, titled: list[Node], place: str = "") -> list[Node]:
        if not titled:
            return []
        opening = f"caption: figure.caption({place})[" if place else "caption: ["
        return [raw_inline(opening), *self.walked(titled), raw_inline("], ")]

    def _of_div(self, element: Node) -> list[Node]:
        (label, classes, keys), content = element["c"]
        if len(content) == 1 and content[0]["t"] == "Table":
            return self._table(content[0], label)
        inner = self.walked(content)
        if "center" in classes:
            return [raw("#align(center)["), *inner, raw("]")]
        if {"minipage", "singlespace", "frame"} & set(classes) or not (classes or label or keys):
            return list(inner)
        if "proof" in classes:
            inner = _without_proof_signs(inner)
            if inner and inner[-1]["t"] == "Para":  # so that the square stands in its last line
                inner[-1] = {**inner[-1], "t": "Plain"}
            return [raw("#proof["), *inner, raw("]")]
        name = self.found.label(label, "block", self.block) if label else ""
        return [{"t": "Div", "c": [[name, [], []], inner]}]

    def _of_table(self, element: Node) -> list[Node]:
        return self._table(element, element["c"][0][0])

    def _table(self, element: Node, label: str) -> list[Node]:
        _, (_, caption), columns, head, bodies, foot = element["c"]
        titled = [
            inline
            for block in caption
            for inline in block.get("c", [])
            if block["t"] in ("Plain", "Para")
        ]
        name = self.found.label(label, "table", self.block) if label else ""
        grid = tables.grid(columns, head, bodies, foot, self.rules)
        made: list[Node] = self.walked(grid)
        if not titled and not name:
            return [raw("#align(center)["), *made, raw("]")]
        place = "position: bottom, " if self.captions_below else ""
        opening = plain(
            [raw_inline("#figure("), *self._caption(titled, place), raw_inline("kind: table)[")]
        )
        return [opening, *made, raw(f"] <{name}>" if name else "]")]


def _without_proof_signs(elements: list[Node]) -> list[Node]:
    """A proof without pandoc's own "Proof." and its square, which the template draws."""
    made = list(elements)
    if made and made[0]["t"] == "Para" and made[0]["c"] and made[0]["c"][0]["t"] == "Emph":
        first = made[0]["c"][0]["c"]
        if first and first[0] == {"t": "Str", "c": "Proof."}:
            rest = made[0]["c"][1:]
            made[0] = {"t": "Para", "c": rest[1:] if rest and rest[0]["t"] == "Space" else rest}
    if (
        made
        and made[-1]["t"] == "Para"
        and made[-1]["c"]
        and made[-1]["c"][-1] == {"t": "Str", "c": "\xa0◻"}
    ):
        made[-1] = {"t": "Para", "c": made[-1]["c"][:-1]}
    return made
