r"""A displayed formula of LaTeX, divided into its lines and cells, as Typst's equation.

LaTeX numbers each line of an `align`, Typst an equation; what the lines' numbers are is kept by
`numbered-lines` of stages/latex/template.py.
"""

import re
from dataclasses import dataclass
from itertools import accumulate

from stages.latex.definitions import argument
from stages.latex.pieces import Found, string

LINES = ("align", "alignat", "flalign", "eqnarray", "gather", "multline", "IEEEeqnarray", "dmath")
ENVIRONMENT = re.compile(
    r"\s*(?P<before>(?:\\label\{[^{}]*\}\s*)*)\\begin\{(?P<name>[A-Za-z]+)(?P<star>\*?)\}"
    r"(?P<inner>.*)\\end\{(?P=name)(?P=star)\}\s*\Z",
    re.DOTALL,
)
PART = re.compile(
    r"\\(?:begin|end)\s*\{[^{}]*\}|\\\\\*?(?:\s*\[[^\]\n]*\])?|\\left(?![A-Za-z])"
    r"|\\right(?![A-Za-z])|\\.|[{}&]|%[^\n]*",
    re.DOTALL,
)
LABEL = re.compile(r"\\label\s*\{([^{}]*)\}")
TAG = re.compile(r"\\tag\*?\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
NUMBERLESS = re.compile(r"\\(?:nonumber|notag)(?![A-Za-z])\s*")
SPLIT = re.compile(
    r"\s*\\begin\{(?:split|aligned)\}(?:\[[a-z]\])?(.*)\\end\{(?:split|aligned)\}([.,;\s]*)\Z",
    re.DOTALL,
)

ROOM = re.compile(r"\\\\\*?\s*\[[\d.\s]*(?:ex|em|pt|mm|cm|in|\\[a-z]+)\]")
BRACES = re.compile(r"\{\{((?:[^{}\\]|\\.)*)\}\}", re.DOTALL)
MARKUP = re.compile(r"[${}\\]")


@dataclass
class Line:
    """cells: the formula, divided at its `&`.   numbered, tag: what stands at its right."""

    cells: list[str]
    labels: list[str]
    numbered: bool
    tag: str


def typst(latex: str, found: Found, block: int) -> str:
    """The equation on lines of its own, with marks for its formulas; its labels are noted."""
    environment = ENVIRONMENT.match(latex)
    name = environment["name"] if environment else ""
    inner = environment["inner"] if environment else latex
    outer = LABEL.findall(environment["before"]) if environment else []
    unnumbered = not environment or environment["star"] or name in ("displaymath", "math")
    numbered = not unnumbered
    if environment and name not in (*LINES, "equation", "displaymath", "math"):
        inner, numbered = latex, False  # such as a matrix by itself
    if name in ("alignat", "IEEEeqnarray") and (given := argument(inner, 0)):
        inner = inner[given[1] :]
    lines = _lines(inner, name, numbered)
    if not lines:
        return ""
    lines[0].labels += outer
    body = " \\\n  ".join(
        " & ".join(found.formula(cell, True, block) if cell else "" for cell in line.cells)
        for line in lines
    )
    body = f"\n  {body}\n" if len(lines) > 1 or name in LINES else f" {body} "
    return _numbered(f"${body}$", lines, found, block)


def _lines(inner: str, name: str, numbered: bool) -> list[Line]:
    several = name in LINES
    if name in ("equation", "", "displaymath") and (split := SPLIT.match(inner)):
        inner, rows = split[1] + split[2], True
    else:
        rows = several
    lines = []
    for row in cells(inner) if rows else [[inner]]:
        whole = "&".join(row)
        tag = TAG.search(whole)
        lines.append(
            Line(
                [_bare(cell) for cell in _columns(row, name)],
                LABEL.findall(whole),
                numbered and several and not NUMBERLESS.search(whole) and not tag,
                tag[1] if tag else "",
            )
        )
    while lines and not any((*lines[-1].cells, *lines[-1].labels, lines[-1].tag)):
        lines.pop()  # a last line break
    if (lines and numbered and not several) or (name == "multline" and numbered):
        # One number for all lines, unless one of them says otherwise.
        plain = not any(line.tag for line in lines) and not NUMBERLESS.search(inner)
        labels = [label for line in lines for label in line.labels]
        for line in lines:
            line.numbered, line.labels = False, []
        lines[-1].numbered, lines[-1].labels = plain, labels
    return lines


def _columns(cells: list[str], name: str) -> list[str]:
    """An `eqnarray` has three columns, its sign of relation in the middle one."""
    if name in ("eqnarray", "IEEEeqnarray") and len(cells) >= 3:
        return [cells[0], f"{cells[1].strip()} {' '.join(cells[2:]).strip()}"]
    return cells


def _bare(cell: str) -> str:
    return bare(NUMBERLESS.sub("", TAG.sub("", LABEL.sub("", cell))).strip().removeprefix("{}"))


def bare(formula: str) -> str:
    """A formula without what no converter needs: room between lines, and the braces around all of
    an argument that the expansion of macros leaves.
    """
    formula = ROOM.sub(r"\\\\ ", formula)
    return BRACES.sub(r"{\1}", formula).strip()


def cells(text: str) -> list[list[str]]:
    """A formula's lines, divided at `&`, where these stand in no group."""
    lines: list[list[str]] = [[]]
    depth = at = 0
    for part in PART.finditer(text):
        piece = part[0]
        if piece == "{" or piece.startswith(r"\begin") or piece == r"\left":
            depth += 1
        elif piece == "}" or piece.startswith(r"\end") or piece == r"\right":
            depth -= 1
        elif depth <= 0 and (piece == "&" or piece.startswith("\\\\")):
            lines[-1].append(text[at : part.start()])
            at = part.end()
            if piece != "&":
                lines.append([])
    lines[-1].append(text[at:])
    return lines


def _numbered(equation: str, lines: list[Line], found: Found, block: int) -> str:
    """The equation with its lines' numbers and labels."""
    numbers = [line.numbered for line in lines]
    if tags := [line for line in lines if line.tag]:
        shown = " ".join(f"({MARKUP.sub('', line.tag)})" for line in tags)
        return f"#tagged({string(shown)})[{equation}{_named(tags, found, block, shown)}]"
    if not any(numbers):
        return f"#unnumbered[{_anchors(lines, found, block, 0)}{equation}]"
    before = list(accumulate(numbers, initial=0))
    first = numbers.index(True)
    label = _named([lines[first]], found, block)
    if sum(numbers) == 1 and numbers[-1]:
        return f"{equation}{label}"
    anchors = "".join(
        _anchors([line], found, block, before[at]) for at, line in enumerate(lines) if at != first
    )
    flags = ", ".join("true" if each else "false" for each in numbers)
    return f"#numbered-lines(({flags},))[{equation}{label}{anchors}]"


def _anchors(lines: list[Line], found: Found, block: int, offset: int) -> str:
    anchors = ""
    for line in lines:
        for each in line.labels:
            if name := found.label(each, "line", block):
                anchors += f"#metadata((line: {offset})) <{name}>"
    return anchors


def _named(lines: list[Line], found: Found, block: int, shown: str = "") -> str:
    """The first label of the lines that is new, as it stands behind an equation."""
    names = (found.label(each, "equation", block, shown) for line in lines for each in line.labels)
    name = next(filter(None, names), "")
    return f" <{name}>" if name else ""
