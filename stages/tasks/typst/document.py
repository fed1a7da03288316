r"""typst: a LaTeX document in pieces that a model can take, and what of it stays as it is.

A piece is a display formula or an environment alone, else a paragraph; a paragraph that is too long gives its sentences
and headings, and such a sentence the stretches between its formulas. Mathematics, environments, `\verb|…|` and comments
are never cut. The preamble, `\end{document}` and what follows, comments, verbatim environments and white space stay.

This is no TeX: it knows what opens and closes, not what a macro means. What is never closed goes on to the end of its
paragraph (mathematics, in which TeX allows no blank line) or of the document (environments).
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

READS, WRITES = ".tex", ".typ"

VERBATIM = re.compile(r"(?:[vV]erbatim|lstlisting|minted|comment|filecontents)\*?")
CLOSING = {"$": "$", "$$": "$$", r"\(": r"\)", r"\[": r"\]"}

TOKEN = re.compile(
    r"""
      (?P<comment> %[^\n]* )
    | \\(?P<edge>begin|end)\s*\{(?P<name>[^{}\n]*)\}
    | (?P<verb> \\verb\*?(?P<mark>[^\sA-Za-z*])[^\n]*?(?:(?P=mark)|(?=\n)|\Z) )
    | (?P<open> \$\$? | \\[(\[] )
    | (?P<blank> \n[^\S\n]*\n\s* )
    | (?P<brace> [{}] )
    | \\.
    """,
    re.VERBOSE | re.DOTALL,
)
"""Where text may stop being plain; the last line takes `\\%`, `\\$` and `\\\\` out of the way."""

SENTENCE = re.compile(r"(?P<stop>[.!?])[\"')\]’”]*(?=\s)|[。！？][」』）]*")
ABBREVIATION = re.compile(
    r"\b(?:e\.g|i\.e|cf|vs|resp|al|Figs?|Eqs?|Secs?|Thm|Ref|No|Dr|Prof|[A-Z])\Z"
)
"""What a full stop belongs to where it ends no sentence."""

HEADING = re.compile(
    r"^[^\S\n]*\\(?:part|chapter|(?:sub)*section|paragraph)\*?[\[{].*$", re.MULTILINE
)
MEANING = re.compile(r"[\w\\$]")
FORMULA, OTHER = "$", "x"
"""What stands in a masked paragraph for a formula, and for all else in which it may not be cut."""


class Chunk(NamedTuple):
    """A stretch of the document.   converted: whether a model answers it; else it stays byte for byte."""

    text: str
    converted: bool


def chunks(text: str, limit: int) -> list[Chunk]:
    """The document in order; joined, the chunks are the document again, whatever it is.

    limit: characters of a chunk, without the white space around it; what may not be cut can be longer. A converted chunk
    has no white space at its ends: that is a chunk of its own, which stays.
    """
    begin, end = _body(text)
    parts = [Chunk(text[:begin], False), *_pieces(text[begin:end], limit), Chunk(text[end:], False)]
    return [chunk for part in parts for chunk in _trimmed(part) if chunk.text]


def _body(text: str) -> tuple[int, int]:
    r"""From behind `\begin{document}` to before `\end{document}`; all of a text that has neither."""
    begin = position = 0
    while token := TOKEN.search(text, position):
        position = token.end()
        if token["name"] == "document":
            if token["edge"] == "end":
                return begin, token.start()
            begin = begin or position
        elif token["edge"] == "begin" and VERBATIM.fullmatch(token["name"]):
            position = _environment_end(text, token)
    return begin, len(text)


def _pieces(body: str, limit: int) -> Iterator[Chunk]:
    """What stands alone, and between it the paragraphs, divided where they are too long."""
    begin = position = 0
    masked = list(body)
    while token := TOKEN.search(body, position):
        start, (position, kind) = token.start(), _extent(body, token)
        if kind == "loose":
            continue
        if kind in ("kept", "alone"):
            for piece in _divided(body[begin:start], "".join(masked[begin:start]), limit):
                yield Chunk(piece, True)
            yield Chunk(body[start:position], kind == "alone")
            begin = position
        else:
            masked[start:position] = (FORMULA if kind == "formula" else OTHER) * (position - start)
    for piece in _divided(body[begin:], "".join(masked[begin:]), limit):
        yield Chunk(piece, True)


def _extent(
    text: str, token: re.Match[str]
) -> tuple[int, Literal["kept", "alone", "formula", "tied", "loose"]]:
    """Where what the token opens ends, and what becomes of it."""
    if token["comment"] or token["blank"]:
        return token.end(), "kept"
    if token["edge"] == "begin":
        return _environment_end(text, token), "kept" if VERBATIM.fullmatch(
            token["name"]
        ) else "alone"
    if token["open"]:
        return _formula_end(text, token), "alone" if token["open"] in ("$$", r"\[") else "formula"
    return token.end(), "loose" if token["brace"] else "tied"


def _environment_end(text: str, begin: re.Match[str]) -> int:
    r"""Behind the `\end` that belongs to a `\begin`; the text's end where there is none."""
    name, position, depth = begin["name"], begin.end(), 1
    if VERBATIM.fullmatch(name):
        closing = f"\\end{{{name}}}"
        found = text.find(closing, position)
        return len(text) if found < 0 else found + len(closing)
    while token := TOKEN.search(text, position):
        position = token.end()
        if token["name"] == name:
            depth += 1 if token["edge"] == "begin" else -1
            if not depth:
                return position
        elif token["edge"] == "begin" and VERBATIM.fullmatch(token["name"]):
            position = _environment_end(text, token)
    return len(text)


def _formula_end(text: str, opening: re.Match[str]) -> int:
    r"""Behind what closes a formula, or before the next blank line. `$` in braces is one of `\text{if $x$}`."""
    closing, depth = CLOSING[opening["open"]], 0
    for token in TOKEN.finditer(text, opening.end()):
        if token["blank"]:
            return token.start()
        if token["brace"]:
            depth += 1 if token["brace"] == "{" else -1
        elif closing == "$":
            if token["open"] in ("$", "$$") and depth <= 0:
                return token.start() + 1
        elif token[0] == closing and (depth <= 0 or closing != "$$"):
            return token.end()
    return len(text)


def _divided(text: str, masked: str, limit: int) -> Iterator[str]:
    """A paragraph whole, or its sentences, or what is between their formulas."""
    if len(text.strip()) <= limit:
        yield text
        return
    masked = _without_groups(masked)
    stops = {
        match.end()
        for match in SENTENCE.finditer(masked)
        if not (match["stop"] and _abbreviates(masked, match.start()))
    }
    for heading in HEADING.finditer(
        text
    ):  # a line break that the mask still shows is in no formula and in no group
        stops |= {
            place for place in heading.span() if "\n" in masked[max(0, place - 1) : place + 1]
        }
    for begin, end in pairwise(sorted(stops | {0, len(text)})):
        yield from _packed(text[begin:end], masked[begin:end], limit)


def _packed(text: str, masked: str, limit: int) -> Iterator[str]:
    """A sentence in as few pieces as the limit allows, cut beside its formulas and what is glued to them: `($x$),`."""
    if len(text.strip()) <= limit:
        yield text
        return
    glued = [match for match in re.finditer(r"[!-~]+", masked) if FORMULA in match[0]]
    cuts = sorted(
        {0, len(text), *(match.start() for match in glued), *(match.end() for match in glued)}
    )
    held = 0
    for cut, following in pairwise(cuts):
        if cut > held and len(text[held:following].strip()) > limit:
            yield text[held:cut]
            held = cut
    yield text[held:]


def _without_groups(masked: str) -> str:
    """With each group in braces masked as well: an argument of a command is not cut."""
    characters, opened = list(masked), []
    for place, character in enumerate(masked):
        if character == "{":
            opened.append(place)
        elif character == "}" and opened:
            begin = opened.pop()
            characters[begin : place + 1] = OTHER * (place + 1 - begin)
    return "".join(characters)


def _abbreviates(masked: str, stop: int) -> bool:
    return bool(ABBREVIATION.search(masked[max(0, stop - 8) : stop]))


def _trimmed(chunk: Chunk) -> Iterator[Chunk]:
    """What is converted without the white space around it; a lone full stop or bracket is left as it is."""
    if not chunk.converted or not MEANING.search(chunk.text):
        yield Chunk(chunk.text, False)
        return
    begin, end = len(chunk.text) - len(chunk.text.lstrip()), len(chunk.text.rstrip())
    yield Chunk(chunk.text[:begin], False)
    yield Chunk(chunk.text[begin:end], True)
    yield Chunk(chunk.text[end:], False)
