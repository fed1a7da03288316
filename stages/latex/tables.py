"""A table of pandoc's JSON as Typst's, with the rules of its LaTeX, which the JSON lacks."""

import re
from dataclasses import dataclass
from typing import Any

from stages.latex import equations
from stages.latex.definitions import argument
from stages.latex.environments import plain, raw, raw_inline
from stages.latex.pandoc import Node

ALIGNMENTS = {
    "AlignLeft": "left",
    "AlignRight": "right",
    "AlignCenter": "center",
    "AlignDefault": "left",
}
TABULAR = re.compile(
    r"\\begin\{(?P<name>tabular[xy]?\*?|longtable)\}(?P<inner>.*?)\\end\{(?P=name)\}", re.DOTALL
)
COLUMN = re.compile(r"[@!><]\{(?:[^{}]|\{[^{}]*\})*\}|[pmb]\{[^{}]*\}")
RULE = re.compile(r"\s*\\(?:hline|(?:top|mid|bottom)rule)(?![A-Za-z])")


@dataclass(frozen=True)
class Rules:
    """columns: before which, from 0, a line stands; so many as there are: behind the last.
    rows: the same.   size: (rows, columns).
    """

    columns: list[int]
    rows: list[int]
    size: tuple[int, int]


def rules(latex: str) -> list[Rules]:
    """Of each table of a block of LaTeX, in order."""
    found = []
    for match in TABULAR.finditer(latex):
        inner = match["inner"]
        if match["name"].rstrip("*") != match["name"] or match["name"] in ("tabularx", "tabulary"):
            width = argument(inner, 0)
            inner = inner[width[1] :] if width else inner
        place = argument(inner, 0, "[]")
        form = argument(inner, place[1] if place else 0)
        if not form:
            continue
        letters = COLUMN.sub(lambda found: "p" if found[0][0] in "pmb" else "", form[0])
        columns: list[int] = []
        count = 0
        for letter in letters:
            if letter == "|" and columns[-1:] != [count]:
                columns.append(count)
            count += letter.isalpha()
        rows: list[int] = []
        number = 0
        lines = equations.cells(inner[form[1] :])
        for line in lines:
            while rule := RULE.match(line[0]):
                if rows[-1:] != [number]:
                    rows.append(number)
                line[0] = line[0][rule.end() :]
            number += bool("".join(line).strip()) or len(line) > 1
        found.append(Rules(columns, rows, (number, count)))
    return found


def grid(columns: Any, head: Any, bodies: Any, foot: Any, known: list[Rules]) -> list[Node]:
    """The table; its rules are the first known of one of its size, which is taken out."""
    rows = [(row, len(head[1]) == 1) for row in head[1]]
    for _, _, inner_heads, inner in bodies:
        rows += [(row, False) for row in (*inner_heads, *inner)]
    rows += [(row, False) for row in foot[1]]
    size = len(rows), len(columns)
    own = next((each for each in known if each.size == size), Rules([], [0, len(rows)], size))
    if own in known:
        known.remove(own)
    alignments = ", ".join(ALIGNMENTS[alignment["t"]] for alignment, _ in columns)
    opening = f"#table(columns: {len(columns)}, align: ({alignments},), stroke: none,"
    made: list[Node] = [raw(opening + "".join(f" table.vline(x: {at})," for at in own.columns))]
    for at, (row, heading) in enumerate(rows):
        if at in own.rows:
            made.append(raw(f"table.hline(y: {at}),"))
        cells = _row(row)
        made += [raw("table.header("), *cells, raw("),")] if heading and not at else cells
    if len(rows) in own.rows:
        made.append(raw(f"table.hline(y: {len(rows)}),"))
    return [*made, raw(")")]


def _row(row: Any) -> list[Node]:
    made: list[Node] = []
    for _, alignment, rows, columns, blocks in row[1]:
        options = []
        if columns > 1:
            options.append(f"colspan: {columns}")
        if rows > 1:
            options.append(f"rowspan: {rows}")
        if alignment["t"] != "AlignDefault":
            options.append(f"align: {ALIGNMENTS[alignment['t']]}")
        opening = f"table.cell({', '.join(options)})[" if options else "["
        if len(blocks) == 1 and blocks[0]["t"] in ("Plain", "Para"):
            made.append(plain([raw_inline(opening), *blocks[0]["c"], raw_inline("],")]))
        else:
            made += [raw(opening), *blocks, raw("],")]
    return made
