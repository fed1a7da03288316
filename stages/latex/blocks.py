r"""A document divided into its preamble and the blocks of its body.

A block is an environment, a comment that stands alone, or what is between these, headings and blank
lines; what is in an environment or a group is never divided. A block that cannot be read is divided
again, at its environments and headings.
"""

import re
from bisect import bisect_right
from itertools import pairwise
from typing import NamedTuple

from stages.latex.tokens import Extent, extents

HEADING = re.compile(r"^[^\S\n]*\\(?:part|chapter|(?:sub)*section)\*?\s*[\[{]", re.MULTILINE)
INLINE = {
    "equation", "equation*", "align", "align*", "gather", "gather*", "multline", "multline*",
    "eqnarray", "eqnarray*", "alignat", "alignat*", "flalign", "flalign*", "displaymath", "math",
    "array", "tabular", "minipage", "tikzpicture", "picture", "subequations", "split", "dmath",
    "IEEEeqnarray",
}  # fmt: skip
"""Environments that may stand in a paragraph. The others end it, as they do in the reader."""

BEGIN = re.compile(r"\\begin\s*\{document\}")
END = re.compile(r"\\end\s*\{document\}")


class Block(NamedTuple):
    """text: the LaTeX.   start: its position in the document.   comment: nothing but comments."""

    text: str
    start: int
    comment: bool = False


class Parts(NamedTuple):
    """preamble: "" where a text has no `\\begin{document}`, which is then all body."""

    preamble: str
    blocks: list[Block]


def divided(text: str) -> Parts:
    """The blocks, in order; what is between them is white space."""
    found = extents(text)
    begin, end = _body(text, found)
    inside = [each for each in found if begin <= each.start and each.end <= end]
    cuts, depth, last = [begin], 0, begin
    covered: list[tuple[int, int]] = []
    for each in inside:
        depth += (each.kind == "open") - (each.kind == "close")
        if each.kind == "whole" or (each.kind == "open" and depth == 1):
            closing = found[each.pair] if each.kind == "open" else each
            covered.append((each.start, closing.end))
            if each.kind == "open" and each.name != "{" and each.name not in INLINE:
                cuts += each.start, closing.end
        if depth:
            continue
        # A comment between lines of one paragraph stays in it: TeX ends no paragraph there.
        if each.kind == "blank" or (each.kind == "comment" and not text[last : each.start].strip()):
            cuts += each.start, each.end
            last = each.end
    starts = [start for start, _ in covered]
    for heading in HEADING.finditer(text, begin, end):
        at = bisect_right(starts, heading.start()) - 1
        if at < 0 or covered[at][1] <= heading.start():
            cuts.append(heading.start())
    preamble = text[:begin]
    if opening := BEGIN.search(preamble, max(0, begin - 40)):
        preamble = preamble[: opening.start()]
    return Parts(preamble, _cut(text, begin, end, cuts))


def finer(block: Block) -> list[Block]:
    """The block's environments, headings and what is between them; [] where it is one of those."""
    cuts: list[int] = []
    depth = 0
    for each in extents(block.text):
        depth += (each.kind == "open") - (each.kind == "close")
        outermost = depth == (each.kind == "open") and each.name != "{"
        if outermost and each.kind in ("open", "close"):
            cuts.append(each.start if each.kind == "open" else each.end)
        elif not depth and each.kind == "blank":
            cuts += each.start, each.end
    for heading in HEADING.finditer(block.text):
        line_end = block.text.find("\n", heading.end())
        cuts += heading.start(), len(block.text) if line_end < 0 else line_end
    found = _cut(block.text, 0, len(block.text), cuts)
    if len(found) < 2:
        return []
    return [each._replace(start=block.start + each.start) for each in found]


def _body(text: str, found: list[Extent]) -> tuple[int, int]:
    r"""(begin, end) of what is between `\begin{document}` and `\end{document}`.

    Where one of them is missing, the body begins or ends with the text.
    """
    for each in found:
        if each.name == "document" and each.kind == "open":
            return each.end, found[each.pair].start
    taken = [each for each in found if each.kind in ("whole", "comment")]
    starts = [each.start for each in taken]

    def free(match: re.Match[str]) -> bool:
        at = bisect_right(starts, match.start()) - 1
        return at < 0 or taken[at].end <= match.start()

    opening = next(filter(free, BEGIN.finditer(text)), None)
    begin = opening.end() if opening else 0
    closing = next(filter(free, END.finditer(text, begin)), None)
    return begin, closing.start() if closing else len(text)


def _cut(text: str, begin: int, end: int, cuts: list[int]) -> list[Block]:
    places = sorted({begin, end, *(cut for cut in cuts if begin < cut < end)})
    blocks = []
    for start, stop in pairwise(places):
        part = text[start:stop]
        if stripped := part.strip():
            at = start + len(part) - len(part.lstrip())
            lines = stripped.split("\n")
            last = len(lines)
            while last and lines[last - 1].lstrip().startswith("%"):
                last -= 1
            before, after = "\n".join(lines[:last]), "\n".join(lines[last:])
            if before:
                blocks.append(Block(before, at))
            if after:  # a comment at the end of a paragraph stands alone
                blocks.append(Block(after, at + len(stripped) - len(after), True))
    return blocks
