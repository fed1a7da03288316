r"""What begins and ends things in LaTeX: environments, formulas, comments, verbatim text.

This is not a TeX parser: it knows which commands open and close a group, but no macros. Mathematics
that is never closed ends with its paragraph, because TeX allows no blank line in it; an `\begin`
without an `\end`, or the other way round, opens nothing.

Other projects' parsers of LaTeX were tried for this: pylatexenc 2.11 took 11 s for a document of
1 MB and TexSoup 0.3.3 77 s, where this takes 0.8 s; both end with a RecursionError at 20,000
opening braces. What stands in each block is read by pandoc, which is a kept parser.
"""

import re
from typing import Literal, NamedTuple

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


class Extent(NamedTuple):
    """Where something is, and what.

    blank: a blank line.   comment: to the end of its line.   whole: what is never cut, such as a
    formula or verbatim text.   open, close: of a group in braces or an environment; pair: the index
    of its other end among the extents.
    """

    start: int
    end: int
    kind: Literal["blank", "comment", "whole", "open", "close"]
    name: str = ""
    pair: int = -1


def extents(text: str) -> list[Extent]:
    """All of a text's, in order; braces and environments without another end are left out."""
    found: list[Extent] = []
    open_at: list[int] = []
    named: dict[str, int] = {}
    position = 0
    while token := TOKEN.search(text, position):
        start, position = token.span()
        if token["blank"] or token["comment"]:
            found.append(Extent(start, position, "blank" if token["blank"] else "comment"))
        elif token["edge"] == "begin" and VERBATIM.fullmatch(token["name"]):
            position = _verbatim_end(text, token)
            found.append(Extent(start, position, "whole", token["name"]))
        elif token["open"]:
            position = _formula_end(text, token)
            found.append(Extent(start, position, "whole", token["open"]))
        elif token["address"] or token["verb"] or token["unread"]:
            found.append(Extent(start, position, "whole"))
        elif (name := token["name"] if token["edge"] else token["brace"]) is None:
            continue
        elif token["edge"] == "begin" or name == "{":
            open_at.append(len(found))
            named[name] = named.get(name, 0) + 1
            found.append(Extent(start, position, "open", name))
        else:
            name = "{" if name == "}" else name
            # A brace is never closed outside the environment in which it was opened.
            reaches = named.get(name) and (name != "{" or found[open_at[-1]].name == "{")
            while reaches:
                begin = open_at.pop()
                named[found[begin].name] -= 1
                if found[begin].name == name:
                    found.append(Extent(start, position, "close", name, begin))
                    found[begin] = found[begin]._replace(pair=len(found) - 1)
                    break
    lone = [0] * (len(found) + 1)
    for index, each in enumerate(found):
        lone[index + 1] = lone[index] + (each.kind == "open" and each.pair < 0)
    return [
        each._replace(pair=each.pair - lone[each.pair]) if each.pair >= 0 else each
        for each in found
        if each.kind != "open" or each.pair >= 0
    ]


def _verbatim_end(text: str, begin: re.Match[str]) -> int:
    r"""The position after the `\end` of a verbatim environment; the text's end if there is none."""
    closing = f"\\end{{{begin['name']}}}"
    found = text.find(closing, begin.end())
    return len(text) if found < 0 else found + len(closing)


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
