"""A table of pandoc's JSON as Typst's, with the rules that most tables of LaTeX have."""

from typing import Any

from stages.latex.environments import plain, raw, raw_inline
from stages.latex.pandoc import Node

ALIGNMENTS = {
    "AlignLeft": "left",
    "AlignRight": "right",
    "AlignCenter": "center",
    "AlignDefault": "left",
}


def grid(columns: Any, head: Any, bodies: Any, foot: Any) -> list[Node]:
    """Rules above, below, and between the head and the rest: pandoc's JSON does not have the
    document's own.
    """
    alignments = ", ".join(ALIGNMENTS[alignment["t"]] for alignment, _ in columns)
    made: list[Node] = [
        raw(f"#table(columns: {len(columns)}, align: ({alignments},), stroke: none, table.hline(),")
    ]
    heads = head[1]
    if heads:
        made += [
            raw("table.header("),
            *(node for row in heads for node in _row(row)),
            raw("), table.hline(),"),
        ]
    for _, _, inner_heads, rows in bodies:
        made += [node for row in (*inner_heads, *rows) for node in _row(row)]
    made += [node for row in foot[1] for node in _row(row)]
    return [*made, raw("table.hline())")]


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
