r"""What `\maketitle` shows."""

import re

from stages.latex.definitions import arguments
from stages.latex.environments import plain, raw_inline, tex_inline
from stages.latex.pandoc import Node
from stages.latex.template import Layout

TODAY = "TsugikiToday"
TODAY_TYPST = '#datetime.today().display("[month repr:long] [day padding:none], [year]");'


def title_nodes(text: str, look: Layout) -> list[Node]:
    """The title, its authors and date; [] where a document has no title."""
    title, date = given(text, "title"), given(text, "date")
    authors = [
        each.strip()
        for each in re.split(
            r"\\and(?![A-Za-z])|\\And(?![A-Za-z])|\\AND(?![A-Za-z])", given(text, "author") or ""
        )
    ]
    if title is None:
        return []
    inlines: list[Node] = [
        raw_inline("#title-page(["),
        tex_inline(_noted(title)),
        raw_inline("], authors: ("),
    ]
    for author in filter(None, authors):
        inlines += [raw_inline("["), tex_inline(_noted(author)), raw_inline("], ")]
    shown = r"\today" if date is None else date
    inlines += [raw_inline("), date: ["), tex_inline(_noted(shown)), raw_inline("])")]
    return [plain(inlines)]


def _noted(latex: str) -> str:
    return re.sub(r"\\thanks(?![A-Za-z])", r"\\footnote", latex)


def given(text: str, command: str) -> str | None:
    for match in re.finditer(rf"^[^%\n]*?\\{command}(?![A-Za-z])", text, re.MULTILINE):
        if found := arguments(text, match.end(), "om"):
            return found[0][1]
    return None
