"""Markdown that GitHub and GitLab draw alike, in which no text of the data is markup."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

MOST_CHARACTERS = 60
PLAIN = re.compile(r"[A-Za-z0-9 ,/()-]")
UNSEEN = ("Cc", "Cs", "Zl", "Zp", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
"""Unicode's kinds of characters that break a line, are no text, or turn the writing round."""


def code(text: str, longest: int = MOST_CHARACTERS) -> str:
    """Any text as <code>, in which neither forge looks for names, numbers of issues or links.

    A code span in backticks would not do: in a table `\\\\|` ends the cell within it, whatever is
    written for the backslash. Here each sign is a number, which means itself everywhere.
    """
    shown = text if len(text) <= longest else f"{text[:longest]}…"
    return f"<code>{''.join(map(_escaped, shown))}</code>"


def _escaped(character: str) -> str:
    kinds = (unicodedata.category(character), unicodedata.bidirectional(character))
    if any(kind in UNSEEN for kind in kinds):
        return "\ufffd"
    if character == "@":
        return "&#64;<!-- -->"  # else cmark-gfm finds addresses of mail when it has read numbers
    plain = not character.isascii() or PLAIN.fullmatch(character)
    return character if plain else f"&#{ord(character)};"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Of cells without a line's end or a `|`."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def folded(summary: str, body: str) -> str:
    """What is shown when its summary is clicked."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


LOOK = """---
config:
    xyChart:
        width: 640
        height: 280
        titleFontSize: 14
    themeVariables:
        xyChart:
            plotColorPalette: "#6ea8dc, #b3541e, #b3541e"
---"""
"""Colours that can be told on a light and on a dark page; the default's bars can hardly."""


def bars(title: str, names: Sequence[str], scores: Sequence[tuple[float, float, float]]) -> str:
    """Scores of 0 to 1 with their intervals as a picture that both forges draw from its text.

    A comment cannot have a file beside it, and neither forge shows a picture that is written into
    an address (`data:`).

    scores: (score, low, high) of each name.
    """
    listed = ", ".join(f'"{name}"' for name in names)
    score, low, high = (
        ", ".join(f"{value:.3f}" for value in values) for values in zip(*scores, strict=True)
    )
    return "\n".join(
        (
            "```mermaid",
            LOOK,
            "xychart-beta",
            f'    title "{title}"',
            f"    x-axis [{listed}]",
            '    y-axis "score" 0 --> 1',
            f"    bar [{score}]",
            f"    line [{low}]",
            f"    line [{high}]",
            "```",
        )
    )
