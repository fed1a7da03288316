"""The parts of a formula, and how they are written in Typst so that it draws no more than LaTeX.

Typst enlarges brackets by itself, calls a name before a bracket as a function, divides at `/`,
makes `->` an arrow, splits a function's arguments at commas, and draws a space that stands beside
text or a bar. So brackets are escaped unless what they hold is low, and parts are separated by
spaces but for text and bars.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from stages.latex.formula_tokens import Unreadable
from stages.latex.math_symbols import STYLES

Kind = Literal[
    "letter", "greek", "digit", "symbol", "prime", "open", "close", "bar", "text", "space",
    "large", "tall", "break", "inner", "comma", "bin", "rel",
]  # fmt: skip

LOW: set[Kind] = {
    "letter",
    "greek",
    "digit",
    "symbol",
    "comma",
    "bin",
    "rel",
    "open",
    "close",
    "space",
}
"""What does not enlarge Typst's brackets around it. Scripts do."""

OVER = {
    "\\over": "frac({}, {})",
    "\\atop": "mat(delim: #none, {}; {})",
    "\\choose": "binom({}, {})",
    "\\brace": 'mat(delim: "{{", {}; {})',
    "\\brack": 'mat(delim: "[", {}; {})',
}

TEXTUAL = {
    "rm": "upright({})",
    "bf": "bold({})",
    "it": "italic({})",
    "sf": "sans({})",
    "tt": "mono({})",
}
"""Fonts in which letters side by side are a word."""

ESCAPED = {",": "\\,", ";": "\\;", ":": "\\:"}
"""What an argument of a function cannot have at its top."""


@dataclass(frozen=True)
class Atom:
    """One part.

    font: of a letter or digit.   below, above: scripts in Typst.   lines: of several aligned
    lines, as they are written where they are the whole formula.
    """

    typst: str
    kind: Kind
    font: str = ""
    bold: bool = False
    primes: int = 0
    below: str = ""
    above: str = ""
    lines: str = ""

    @property
    def is_scripted(self) -> bool:
        return bool(self.primes or self.below or self.above)

    @property
    def is_text(self) -> bool:
        return self.kind in ("text", "bar")


def written(atoms: Sequence[Atom], argument: bool = False, script: bool = False) -> str:
    """Atoms in Typst.

    argument: of a function, where commas are escaped.   script: of a script, where LaTeX leaves
    spaces out.
    """
    atoms = _words(atoms)
    plain = _plain_brackets(atoms)
    if not script:
        atoms, plain = _with_spaces(atoms, plain)
    parts: list[str] = []
    inside = 0
    for place, atom in enumerate(atoms):
        if place and not (atom.is_text or atoms[place - 1].is_text):
            parts.append(" ")
        text = atom.typst
        if atom.kind == "rel" and atom.is_scripted:
            text = f"scripts({ESCAPED.get(text, text)})"  # Typst would write them above and below
        if place in plain:
            inside += 1 if atom.kind == "open" else -1
            text = text.removeprefix("\\")
        elif argument and not inside:
            text = ESCAPED.get(text, text)
        parts.append(text + scripts(atom, atom.is_text))
    return "".join(parts) or ('""' if argument else "")


def _with_spaces(atoms: list[Atom], plain: set[int]) -> tuple[list[Atom], set[int]]:
    """With the spaces that LaTeX sets and Typst does not: around dots and what `\\left` and
    `\\right` hold, and beside signs that a space stands next to.
    """
    found: list[Atom] = []
    moved: set[int] = set()
    last = earlier = None  # the two atoms before, but for spaces
    for place, atom in enumerate(atoms):
        between = bool(found) and found[-1].kind == "space"
        if last and atom.kind != "space":
            pair = last.kind, atom.kind
            if (
                "inner" in pair
                and last.kind not in _NO_SPACE_AFTER
                and atom.kind not in _NO_SPACE_BEFORE
            ):
                found.append(THIN)
            elif between and atom.kind == "rel" and last.kind != "rel":
                found.append(THICK)
            elif between and atom.kind == "bin" and last.kind in _OPERANDS:
                found.append(MEDIUM)
        if last and atom.kind == "space" and last is found[-1]:
            if last.kind == "rel":
                found.append(THICK)
            elif last.kind == "comma":
                found.append(THIN)
            elif last.kind == "bin" and earlier and earlier.kind in _OPERANDS:
                found.append(MEDIUM)
        if place in plain:
            moved.add(len(found))
        found.append(atom)
        if atom.kind != "space":
            last, earlier = atom, last
    return found, moved


THIN, MEDIUM, THICK = (Atom(name, "space") for name in ("thin", "med", "thick"))
_NO_SPACE_AFTER = {"open", "bin", "rel", "large", "comma", "break"}
_NO_SPACE_BEFORE = {"close", "bin", "rel", "large", "break"}
_OPERANDS = {"letter", "greek", "digit", "symbol", "prime", "close", "text", "tall", "bar", "inner"}


def scripts(atom: Atom, closed: bool) -> str:
    """closed: each in brackets, so that what follows cannot become a part of it."""
    below, above = (
        f"{mark}{text}" if _is_token(text) and not closed else f"{mark}({text})" if text else ""
        for mark, text in (("_", atom.below), ("^", atom.above))
    )
    return "'" * atom.primes + below + above


def _is_token(text: str) -> bool:
    return text.isascii() and (text.isdecimal() or text.isalpha())


def _words(atoms: Sequence[Atom]) -> list[Atom]:
    """With letters of one font, and digits, put together, and each in its font."""
    found: list[Atom] = []
    for place, atom in enumerate(atoms):
        last = found[-1] if found else None
        if last and not last.is_scripted and _is_one_word(last, atom, atoms[place + 1 : place + 2]):
            found[-1] = replace(atom, typst=last.typst + atom.typst, kind=last.kind)
        else:
            found.append(atom)
    return [_in_font(atom) for atom in found]


def _is_one_word(one: Atom, other: Atom, after: Sequence[Atom]) -> bool:
    if (one.font, one.bold) != (other.font, other.bold):
        # A full stop has no font.
        return False
    if one.kind == "digit":
        if other.typst == ".":
            return (
                "." not in one.typst and bool(after) and after[0].kind == "digit"
                and not other.is_scripted
            )  # fmt: skip
        return other.kind == "digit"
    return one.font in TEXTUAL and one.kind == "letter" and other.kind in ("letter", "digit")


def _in_font(atom: Atom) -> Atom:
    text, kind = atom.typst, atom.kind
    if kind not in ("letter", "greek", "digit"):
        return atom
    if (
        kind == "letter"
        and len(text) > 1
        and atom.font in TEXTUAL
        and text.isascii()
        and text.isalnum()
    ):
        kind = "text"
        text = f'"{text}"'
        if atom.font != "rm":
            text = TEXTUAL[atom.font].format(text)
    elif kind == "letter" and atom.font == "bf":
        text = f"bold(upright({text}))"
    elif kind == "letter" and atom.font == "sf":
        text = f"sans(upright({text}))"
    elif kind == "letter" and atom.font == "it":
        text = f"italic({text})" if text[0].isupper() and len(text) > 1 else text
    elif atom.font in TEXTUAL:
        text = (
            text
            if kind == "digit" and atom.font in ("rm", "it")
            else TEXTUAL[atom.font].format(text)
        )
    elif atom.font not in ("", "normal"):
        text = f"{atom.font}({text})"
    if atom.bold and atom.font != "bf":
        text = f"bold({text})"
    return replace(atom, typst=text, kind=kind)


def _plain_brackets(atoms: Sequence[Atom]) -> set[int]:
    """The places of brackets that need no escape: a pair with nothing high or deep inside."""
    found: set[int] = set()
    waiting: list[int] = []
    high = -1  # the last place of what is not low
    for place, atom in enumerate(atoms):
        if atom.kind == "open":
            waiting.append(place)
        elif atom.kind == "close" and waiting:
            begin = waiting.pop()
            is_pair = atoms[begin].typst + atom.typst in ("\\(\\)", "\\[\\]")
            if is_pair and begin > high and not atoms[begin].is_scripted:
                found |= {begin, place}
        if atom.kind not in LOW or atom.is_scripted:
            high = place
    return found


def with_scripts(
    atoms: list[Atom], primes: int, below: list[Atom], above: list[Atom]
) -> list[Atom]:
    """Atoms with scripts: on the last one, or around all of a group that is high."""
    if not atoms or atoms[-1].kind == "space":
        atoms = [*atoms, Atom('""', "tall")]
    last = atoms[-1]
    if last.kind == "large" and primes:  # LaTeX sets it where the limits are
        primes, above = 0, [Atom("prime", "prime")] * primes + above
    flat = all(atom.kind in LOW and not atom.is_scripted for atom in atoms)
    if not last.is_scripted and last.kind != "break" and (flat or len(atoms) == 1):
        scripted = replace(
            last,
            primes=primes,
            below=written(below, script=True),
            above=written(above, script=True),
        )
        return [*atoms[:-1], scripted]
    above = [Atom("prime", "prime")] * primes + above
    places = "".join(
        f", {mark}: {written(script, argument=True, script=True)}"
        for mark, script in (("b", below), ("t", above))
        if script
    )
    return [Atom(f"attach({written(atoms, argument=True)}{places})", "tall")]


def grouped(atoms: list[Atom], follows: bool) -> list[Atom]:
    """The atoms of a group without scripts: a sign alone in braces has no space around it, nor has
    one that begins a group.
    """
    if atoms and not atoms[0].is_scripted:
        first = atoms[0]
        alone = len(atoms) == 1 and first.kind in ("comma", "bin", "rel")
        if alone or (follows and first.kind == "bin"):
            text = ESCAPED.get(first.typst, first.typst)
            return [Atom(f'class("normal", {text})', "tall"), *atoms[1:]]
    return atoms


def joined(lists: list[list[Atom]], marks: list[str]) -> list[Atom]:
    """The parts of a list between marks, which hold to its end: styles, and the one `\\over`."""
    over = [place for place, mark in enumerate(marks) if mark in OVER]
    if len(over) > 1:
        raise Unreadable("two \\over in one group")
    if over:
        cut = over[0] + 1
        first = written(joined(lists[:cut], marks[: cut - 1]), argument=True)
        second = written(joined(lists[cut:], marks[cut:]), argument=True)
        return [Atom(OVER[marks[over[0]]].format(first, second), "tall")]
    atoms = lists[-1]
    for before, mark in zip(lists[-2::-1], reversed(marks), strict=True):
        if any(atom.kind == "break" or atom.lines for atom in atoms):
            raise Unreadable("lines in a style")
        styled = Atom(f"{STYLES[mark[1:]]}({written(atoms, argument=True)})", "tall")
        atoms = [*before, styled] if atoms else before
    return atoms
