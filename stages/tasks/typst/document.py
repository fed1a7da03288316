r"""typst: a LaTeX document, divided into pieces that a model converts and pieces that are kept.

A piece to convert is a display formula, an environment, or a paragraph of text. A paragraph that is
too long is cut into its sentences and headings; a sentence that is too long is cut beside its
formulas. Mathematics, environments, `\verb|…|`, addresses and comments are never cut. These are
kept unchanged: definitions, what stands behind `\iffalse`, the preamble, `\end{document}` and
what follows it, comments, verbatim environments and
white space.

This is not a TeX parser: it knows which commands open and close a group, but no macros. Mathematics
that is never closed ends with its paragraph, because TeX allows no blank line in it; an environment
that is never closed ends with the document.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

READS, WRITES = (".tex", ".latex", ".ltx"), ".typ"

VERBATIM = re.compile(r"(?:[vV]erbatim|lstlisting|minted|comment|filecontents)\*?")
CLOSING = {"$": "$", "$$": "$$", r"\(": r"\)", r"\[": r"\]"}

TOKEN = re.compile(
    r"""
      (?P<comment> %[^\n]* )
    | \\(?P<edge>begin|end)\s*\{(?P<name>[^{}\n]*)\}
    | (?P<unread> \\iffalse(?![A-Za-z]).*?(?:\\fi(?![A-Za-z])|\Z)
        | \\(?:(?:re)?newcommand|providecommand)\*?\s*(?:\{\s*\\[A-Za-z@]+\s*\}|\\[A-Za-z@]+)
          (?:\[[^\]\n]*\])*\s*\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\} )
    | (?P<address> \\(?:url|nolinkurl|path|href|lstinline(?:\[[^\]\n]*\])?)\s*\{[^{}\n]*\}
        | \\mintinline(?:\[[^\]\n]*\])?\{[^{}\n]*\}\{[^{}\n]*\} )
    | (?P<verb> \\(?:verb\*?|lstinline(?:\[[^\]\n]*\])?|mintinline(?:\[[^\]\n]*\])?\{[^{}\n]*\})
        (?P<mark>[^\sA-Za-z*{\[])[^\n]*?(?:(?P=mark)|(?=\n)|\Z) )
    | (?P<open> \$\$? | \\[(\[] )
    | (?P<blank> \n[^\S\n]*\n\s* )
    | (?P<brace> [{}] )
    | \\.
    """,
    re.VERBOSE | re.DOTALL,
)
"""What may begin or end something other than plain text. The last line matches `\\%`, `\\$` and
`\\\\`, so that they are not taken for a comment, a formula or another command."""

SENTENCE = re.compile(r"(?P<stop>[.!?])[\"')\]’”]*(?=\s)|[。！？][」』）]*")
ABBREVIATION = re.compile(
    r"\b(?:e\.g|i\.e|cf|vs|resp|al|Figs?|Eqs?|Secs?|Thm|Ref|No|Dr|Prof|[A-Z])\Z"
)
"""An abbreviation: the full stop after it does not end a sentence."""

HEADING = re.compile(
    r"^[^\S\n]*\\(?:part|chapter|(?:sub)*section|paragraph)\*?[\[{].*$", re.MULTILINE
)
MEANING = re.compile(r"[\w\\$]")
FORMULA, OTHER = "$", "x"
"""In a masked paragraph: for each character of a formula, and of all else that is not cut."""


class Chunk(NamedTuple):
    """A piece of the document.   converted: whether a model converts it; otherwise it is kept."""

    text: str
    converted: bool


def chunks(text: str, limit: int) -> list[Chunk]:
    """The pieces of the document, in order; joined, they are the document, whatever it contains.

    limit: the most characters of a chunk, unless it cannot be cut. A converted chunk has no white
    space at its ends: that white space is a chunk of its own, which is kept.
    """
    begin, end = _body(text)
    parts = [Chunk(text[:begin], False), *_pieces(text[begin:end], limit), Chunk(text[end:], False)]
    return [chunk for part in parts for chunk in _trimmed(part) if chunk.text]


def _body(text: str) -> tuple[int, int]:
    r"""(begin, end) of what is between `\begin{document}` and `\end{document}`.

    Where one of them is missing, the body begins or ends with the text.
    """
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
    """The body's environments, display formulas and comments, and the paragraphs between them.

    Paragraphs are divided where they are too long.
    """
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
    """(the end of what the token opens, its kind).

    kept: ends a paragraph and is not converted.   alone: ends a paragraph and is converted by
    itself.
    formula: part of a paragraph, cut only beside it.   tied: part of a paragraph, never cut at.
    loose: a brace, which needs no mask.
    """
    if token["comment"] or token["blank"] or token["unread"]:
        return token.end(), "kept"
    if token["edge"] == "begin":
        verbatim = VERBATIM.fullmatch(token["name"])
        return _environment_end(text, token), "kept" if verbatim else "alone"
    if token["open"]:
        return _formula_end(text, token), "alone" if token["open"] in ("$$", r"\[") else "formula"
    return token.end(), "loose" if token["brace"] else "tied"


def _environment_end(text: str, begin: re.Match[str]) -> int:
    r"""The position after the `\end` of a `\begin`; the text's end if there is none."""
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
    r"""The position after the formula's closing token, or of the next blank line.

    A `$` inside braces does not close a formula: it is one of `\text{if $x$}`.
    """
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
    """A paragraph as a whole; if it is too long, its sentences, which may be cut again.

    masked: the paragraph with its formulas replaced by FORMULA, and other uncuttable parts by
    OTHER.
    """
    if len(text.strip()) <= limit:
        yield text
        return
    masked = _without_groups(masked)
    stops = {
        match.end()
        for match in SENTENCE.finditer(masked)
        if not (match["stop"] and _abbreviates(masked, match.start()))
    }
    # A line break that is not masked is in no formula and in no group.
    for heading in HEADING.finditer(text):
        stops |= {
            place for place in heading.span() if "\n" in masked[max(0, place - 1) : place + 1]
        }
    for begin, end in pairwise(sorted(stops | {0, len(text)})):
        yield from _packed(text[begin:end], masked[begin:end], limit)


def _packed(text: str, masked: str, limit: int) -> Iterator[str]:
    """A sentence in as few pieces as the limit allows, cut beside its formulas.

    Characters that touch a formula stay with it, such as those of `($x$),`.
    """
    if len(text.strip()) <= limit:
        yield text
        return
    glued = [match for match in re.finditer(r"[!-~]+", masked) if FORMULA in match[0]]
    cuts = sorted(
        {0, len(text), *(match.start() for match in glued), *(match.end() for match in glued)}
    )
    start = 0
    for cut, following in pairwise(cuts):
        if cut > start and len(text[start:following].strip()) > limit:
            yield text[start:cut]
            start = cut
    yield text[start:]


def _without_groups(masked: str) -> str:
    """The masked text with each group in braces masked too: a command's argument is not cut."""
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
    """A chunk, with the white space at its ends as chunks of their own.

    A chunk without a letter, digit, command or formula, such as a full stop, is not converted.
    """
    if not chunk.converted or not MEANING.search(chunk.text):
        yield Chunk(chunk.text, False)
        return
    begin, end = len(chunk.text) - len(chunk.text.lstrip()), len(chunk.text.rstrip())
    yield Chunk(chunk.text[:begin], False)
    yield Chunk(chunk.text[begin:end], True)
    yield Chunk(chunk.text[end:], False)
