"""What becomes of environments in a formula: matrices, cases, aligned lines."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from stages.latex.formula_atoms import Atom, written
from stages.latex.formula_tokens import Unreadable

if TYPE_CHECKING:
    from stages.latex.formula_rules import Reader

MATRICES = {
    "matrix": "#none",
    "pmatrix": '"("',
    "bmatrix": '"["',
    "Bmatrix": '"{"',
    "vmatrix": '"|"',
    "Vmatrix": '"‖"',
    "smallmatrix": "#none",
}
WHOLE = {"equation", "displaymath", "math", "subequations"}
ALIGNED = {"aligned", "align", "split", "alignedat", "alignat", "flalign", "eqnarray"}
GATHERED = {"gathered", "gather", "multline", "multlined"}
COLUMN_GAP = "column-gap: #1em"
"""Twice LaTeX's \\arraycolsep."""

Row = list[list[Atom]]


def environment(reader: "Reader") -> list[Atom]:
    name = "".join(reader.raw()).replace(" ", "")
    bare = name.removesuffix("*")
    if bare in WHOLE:
        atoms = reader.list_of()
        _end(reader, name)
        return atoms
    if bare in ("alignedat", "alignat"):
        reader.raw()
    reader.optional()  # where it stands beside the line
    columns = "".join(reader.raw()).replace(" ", "") if bare in ("array", "subarray") else ""
    reader.narrow += 1
    rows, rules = _rows(reader)
    reader.narrow -= 1
    _end(reader, name)
    if rules and bare != "array":
        raise Unreadable("a line in what is no array")
    atom = _drawn(bare, columns, rows, rules)
    if reader.narrow and bare != "smallmatrix":
        # Typst makes what stands in a cell or fraction smaller there, LaTeX does not.
        atom = replace(atom, typst=f"display({atom.typst})")
    if bare == "array":
        side = Atom("#h(0.5em)", "space")
        return [side, atom, side]
    return [atom]


def _drawn(bare: str, columns: str, rows: list[Row], rules: list[int]) -> Atom:
    if bare in MATRICES:
        cells = "; ".join(_row(row) for row in rows)
        matrix = f"mat(delim: {MATRICES[bare]}, {COLUMN_GAP}, {cells})"
        return Atom(f"script({matrix})" if bare == "smallmatrix" else matrix, "tall")
    if bare in ("array", "subarray"):
        return _array(columns, rows, rules)
    if bare in ("cases", "dcases", "rcases"):
        return _cases(bare, rows)
    if bare in ALIGNED or bare in GATHERED:
        return _lines(bare, rows)
    raise Unreadable(f"the environment {bare}")


def substack(reader: "Reader") -> list[Atom]:
    if not reader.takes("{"):
        raise Unreadable("an argument is missing")
    rows, _ = _rows(reader)
    if not reader.takes("}"):
        raise Unreadable("a brace is not closed")
    if any(len(row) > 1 for row in rows):
        raise Unreadable("columns in a script")
    return [Atom(" \\ ".join(_cell(row[0]) for row in rows), "tall")]


def _end(reader: "Reader", name: str) -> None:
    if not reader.takes("\\end") or "".join(reader.raw()).replace(" ", "") != name:
        raise Unreadable(f"\\begin{{{name}}} without its \\end")


def _rows(reader: "Reader") -> tuple[list[Row], list[int]]:
    """(rows of cells, before which rows a line is drawn)"""
    rows: list[Row] = [[]]
    rules: list[int] = []
    while True:
        while not rows[-1] and reader.peek() in ("\\hline", "\\noalign"):
            if reader.next() == "\\noalign":
                reader.raw()
            else:
                rules.append(len(rows) - 1)
        rows[-1].append(reader.list_of())
        if reader.takes("&"):
            continue
        if not (reader.takes("\\\\") or reader.takes("\\cr")):
            break
        reader.takes("*")
        gap = reader.optional()
        if gap is not None and not re.fullmatch(r"[-\d. a-z\\]*", "".join(gap)):
            raise Unreadable("a line that begins with a bracket")
        rows.append([])
    if len(rows) > 1 and not any(rows[-1]):
        rows.pop()
    return rows, rules


def _cell(atoms: Sequence[Atom], argument: bool = True) -> str:
    return written(atoms, argument) if atoms else ""


def _row(row: Row) -> str:
    """A row of a matrix; an empty cell at its end needs something, or it would not be there."""
    cells = [_cell(cell) for cell in row]
    if not cells[-1]:
        cells[-1] = '""'
    return ", ".join(cells)


def _array(columns: str, rows: list[Row], rules: list[int]) -> Atom:
    columns = re.sub(
        r"\*(\d)(\w)",
        lambda found: found[2] * int(found[1]),
        columns.replace("{", "").replace("}", ""),
    )
    columns = columns.replace("@", "")
    if not re.fullmatch(r"[lcr|]+", columns):
        raise Unreadable("columns of an unknown kind")
    letters = columns.replace("|", "")
    width = max(len(row) for row in rows)
    if width > len(letters):
        raise Unreadable("more cells than columns")
    before = {"l": "& ", "c": "", "r": ""}
    after = {"l": "", "c": "", "r": " &"}
    mixed = len(set(letters[:width])) > 1
    cells = []
    for row in rows:
        texts = [_cell(cell) for cell in row] + [""] * (width - len(row))
        if mixed:
            texts = [
                f"{before[how]}{text}{after[how]}"
                for how, text in zip(letters, texts, strict=False)
            ]
        texts[-1] = texts[-1] or '""'
        cells.append(", ".join(texts))
    options = ["delim: #none", COLUMN_GAP]
    if not mixed and letters[0] != "c":
        options.append(f"align: #{'left' if letters[0] == 'l' else 'right'}")
    lines = []
    vertical = [
        len(columns[:at].replace("|", "")) for at, sign in enumerate(columns) if sign == "|"
    ]
    for name, places, most in (("hline", rules, len(rows)), ("vline", vertical, width)):
        # At an edge, Typst draws none.
        inner = [place for place in dict.fromkeys(places) if 0 < place < most]
        if len(inner) < len(places):
            raise Unreadable("a line at a matrix's edge")
        if inner:
            lines.append(f"{name}: {inner[0] if len(inner) == 1 else (*inner,)}")
    if lines:
        options.append(f"augment: #({', '.join(lines)})")
    return Atom(f"mat({', '.join(options)}, {'; '.join(cells)})", "tall")


def _cases(name: str, rows: list[Row]) -> Atom:
    form = "display({})" if name == "dcases" else "{}"
    texts = []
    for row in rows:
        cells = [form.format(text) if (text := _cell(cell)) else "" for cell in row]
        texts.append(" & quad ".join(cells))
    reverse = "reverse: #true, " if name == "rcases" else ""
    return Atom(f"cases({reverse}{', '.join(texts)})", "tall")


def _lines(name: str, rows: list[Row]) -> Atom:
    """Lines that are aligned: as Typst's own lines where they are the whole formula, which is known
    later, else as a matrix.
    """
    if name == "eqnarray":
        if any(len(row) > 3 for row in rows):
            raise Unreadable("more cells than columns")
        # Typst aligns columns right and left by turns.
        whole = [_separated(row, ["&", "&&"]) for row in rows]
    else:
        whole = [_separated(row, ["&", "& quad"] * len(row)) for row in rows]
    cells = []
    width = max(len(row) for row in rows)
    for row in rows:
        texts = []
        for place, cell in enumerate(row):
            text = f"display({_spaced(cell) if place % 2 else ''}{_cell(cell)})" if cell else ""
            if name in ALIGNED:
                text = f"& {text}" if place % 2 else f"{text} &"
            texts.append(text)
        texts += [""] * (width - len(row))
        texts[-1] = texts[-1] or '""'
        cells.append(", ".join(texts))
    matrix = f"mat(delim: #none, column-gap: #0em, row-gap: #0.4em, {'; '.join(cells)})"
    return Atom(matrix, "tall", lines=" \\ ".join(whole))


def _separated(row: Row, signs: list[str]) -> str:
    parts = [_cell(row[0], False)]
    for sign, cell in zip(signs, row[1:], strict=False):
        parts += [sign, _cell(cell, False)]
    return " ".join(filter(None, parts))


def _spaced(cell: Sequence[Atom]) -> str:
    """The space before a cell that begins with a relation, which Typst leaves out."""
    return {"rel": "thick ", "bin": "med "}.get(cell[0].kind, "")
