"""What becomes of LaTeX's commands that have arguments."""

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from stages.latex import math_symbols as symbols
from stages.latex.formula_atoms import Atom, Kind, written
from stages.latex.formula_environments import environment, substack
from stages.latex.formula_text import length_of, text_atoms
from stages.latex.formula_tokens import Unreadable

if TYPE_CHECKING:
    from stages.latex.formula_rules import Reader


WIDE = {
    **dict.fromkeys(("hat", "tilde", "arrow"), re.compile(r"\b[MW]\b")),
    **dict.fromkeys(("caron", "breve"), re.compile(r"\b[mHKMNWX]\b")),
    "macron": re.compile("(?!)"),
}
"""Accents that Typst stretches, and the letters over which it does."""


def delimiter(sign: str) -> Atom:
    kind: Kind = "symbol"
    if sign in symbols.BARS:
        kind = "bar"
    elif sign in symbols.OPENING:
        kind = "open"
    elif sign in symbols.CLOSING:
        kind = "close"
    return Atom(sign, kind)


def _next_delimiter(reader: "Reader") -> str:
    token = reader.next()
    if token not in symbols.DELIMITERS:
        raise Unreadable(f"the delimiter {token!r}")
    return symbols.DELIMITERS[token]


def accent(reader: "Reader", name: str) -> Atom:
    atoms = reader.group()
    inside, function = written(atoms, argument=True), symbols.ACCENTS[name]
    options = ""
    is_one = len(atoms) == 1 and not atoms[0].is_scripted
    if name in symbols.STRETCHED:
        if is_one and function in ("hat", "tilde"):
            options = "size: #1.1em, "  # the least that LaTeX's \\widehat has
    elif inside in ("i", "j"):
        options = "dotless: #false, "
    elif function in WIDE and not (is_one and not WIDE[function].search(inside)):
        options = "size: #0pt, "
    return Atom(f"{function}({options}{inside})", "tall")


def classed(reader: "Reader", name: str) -> Atom:
    atoms = reader.group()
    if name == "relation" and len(atoms) == 1 and atoms[0].kind == "rel":
        return atoms[0]
    return Atom(f'class("{name}", {written(atoms, argument=True)})', "tall")


def sized(reader: "Reader", size: float) -> Atom:
    sign = _next_delimiter(reader)
    text = f"lr(size: #{size}em, {sign})" if sign else '""'
    return Atom(text, "bar" if sign in symbols.BARS else "tall")


def _left(reader: "Reader") -> list[Atom]:
    left = _next_delimiter(reader)
    inside: list[Atom] = []
    while True:
        inside += reader.list_of(until="\\middle")
        if not reader.takes("\\middle"):
            break
        inside.append(Atom(f"mid({_next_delimiter(reader)})", "bar"))
    if not reader.takes("\\right"):
        raise Unreadable("\\left without \\right")
    right = _next_delimiter(reader)
    if left + right in ("\\(\\)", "\\[\\]", "\\{\\}"):
        return [Atom(f"{left[1]}{written(inside)}{right[1]}", "inner")]
    between = ["" if each in symbols.BARS or not each else " " for each in (left, right)]
    text = f"{left}{between[0]}{written(inside, argument=True)}{between[1]}{right}"
    return [Atom(f"lr({text})", "inner")]


def _fraction(reader: "Reader", form: str = "frac({}, {})") -> list[Atom]:
    first = reader.argument()
    return [Atom(form.format(first, reader.argument()), "tall")]


def _root(reader: "Reader") -> list[Atom]:
    index = reader.optional()
    if index is None:
        return [Atom(f"sqrt({reader.argument()})", "tall")]
    power = written(reader.inner(index), argument=True)
    return [Atom(f"root({power}, {reader.argument()})", "tall")]


def _operator(reader: "Reader") -> list[Atom]:
    limits = reader.takes("*")
    atoms = reader.in_font("rm", False)
    name = "".join(atom.typst for atom in atoms)
    known = symbols.LIMIT_OPERATORS if limits else symbols.OPERATORS
    if name in known and all(atom.kind == "letter" for atom in atoms):
        return [Atom(name, "large")]
    option = "limits: #true, " if limits else ""
    return [Atom(f"op({option}{written(atoms, argument=True)})", "large")]


def _mathop(reader: "Reader") -> list[Atom]:
    atoms = reader.group()
    if len(atoms) == 1 and atoms[0].kind == "large":
        return atoms
    return [Atom(f"op(limits: #true, {written(atoms, argument=True)})", "large")]


def _stacked(reader: "Reader", mark: str, relation: bool = False) -> list[Atom]:
    script = reader.argument()
    atoms = reader.group()
    base = written(atoms, argument=True)
    text = f"attach(limits({base}), {mark}: {script})"
    if relation and not (len(atoms) == 1 and atoms[0].kind == "rel"):
        text = f'class("relation", {text})'
    return [Atom(text, "tall")]


def _brace(reader: "Reader", name: str, mark: str) -> list[Atom]:
    inside = reader.argument()
    note = f", {reader.argument()}" if reader.takes(mark) else ""
    return [Atom(f"{name}({inside}{note})", "tall")]


def _long_arrow(reader: "Reader", name: str) -> list[Atom]:
    below = reader.optional()
    under = written(reader.inner(below), argument=True) if below else ""
    over = reader.argument()
    under = f", b: {under}" if under else ""
    return [Atom(f"attach(limits(stretch({name})), t: {over}{under})", "tall")]


def _not(reader: "Reader") -> list[Atom]:
    atoms = reader.group()
    if len(atoms) != 1:
        raise Unreadable("\\not before several signs")
    text = atoms[0].typst
    return [Atom(symbols.NEGATED.get(text, f"cancel({text})"), "rel")]


def _skip_length(reader: "Reader") -> list[Atom]:
    reader.takes("*")
    return [Atom(f"#h({length_of(reader)})", "space")]


def _vertical(reader: "Reader") -> list[Atom]:
    reader.takes("*")
    length_of(reader)
    return []


def _phantom(reader: "Reader", box: str = "") -> list[Atom]:
    inside = f"hide($display({reader.argument()})$)"
    return [Atom(f"#box({box}{inside})" if box else f"#{inside}", "tall")]


def _boxed(reader: "Reader") -> list[Atom]:
    return [Atom(f"#box(stroke: 0.4pt, inset: 3pt, $display({reader.argument()})$)", "tall")]


def _modulo(reader: "Reader", word: str) -> list[Atom]:
    return [Atom(f"quad \\( {word}{reader.argument()} \\)", "tall")]


def _dropped(reader: "Reader") -> list[Atom]:
    if reader.peek() == "{":
        reader.raw()
    else:
        reader.next()
    return []


def _tag(reader: "Reader") -> list[Atom]:
    bare = reader.takes("*")
    atoms = text_atoms(reader, reader.raw(), "rm")
    if not bare:
        atoms = [Atom("\\(", "open"), *atoms, Atom("\\)", "close")]
    return [Atom("wide", "space"), *atoms]


def _text(reader: "Reader") -> list[Atom]:
    return text_atoms(reader, reader.raw(), "rm")


def _cancel(reader: "Reader", form: str) -> list[Atom]:
    return [Atom(form.format(reader.argument()), "tall")]


def _framed_text(reader: "Reader") -> list[Atom]:
    inside = written(text_atoms(reader, reader.raw(), "rm"), argument=True)
    return [Atom(f"#box(stroke: 0.4pt, inset: 3pt, ${inside}$)", "tall")]


def _mod(reader: "Reader") -> list[Atom]:
    return [Atom("wide", "space"), Atom('"mod"', "text"), Atom("med", "space")]


def _bmod(reader: "Reader") -> list[Atom]:
    return [Atom("mod", "large")]


def _itself(reader: "Reader") -> list[Atom]:
    return reader.group()


COMMANDS: dict[str, Callable[["Reader"], list[Atom]]] = {
    "begin": environment,
    "left": _left,
    "frac": _fraction,
    "dfrac": partial(_fraction, form="display(frac({}, {}))"),
    "tfrac": partial(_fraction, form="inline(frac({}, {}))"),
    "cfrac": partial(_fraction, form="display(frac({}, display({})))"),
    "binom": partial(_fraction, form="binom({}, {})"),
    "dbinom": partial(_fraction, form="display(binom({}, {}))"),
    "tbinom": partial(_fraction, form="inline(binom({}, {}))"),
    "sqrt": _root,
    "operatorname": _operator,
    "mathop": _mathop,
    "stackrel": partial(_stacked, mark="t", relation=True),
    "overset": partial(_stacked, mark="t"),
    "underset": partial(_stacked, mark="b"),
    "overbrace": partial(_brace, name="overbrace", mark="^"),
    "underbrace": partial(_brace, name="underbrace", mark="_"),
    "xrightarrow": partial(_long_arrow, name="arrow.r"),
    "xleftarrow": partial(_long_arrow, name="arrow.l"),
    "not": _not,
    "substack": substack,
    **dict.fromkeys(("hspace", "hskip", "kern", "mskip", "mkern", "mspace"), _skip_length),
    **dict.fromkeys(("vspace", "vskip"), _vertical),
    "phantom": _phantom,
    "hphantom": partial(_phantom, box="height: 0pt, "),
    "vphantom": partial(_phantom, box="width: 0pt, "),
    "boxed": _boxed,
    "fbox": _framed_text,
    "pmod": partial(_modulo, word='"mod" med '),
    "mod": _mod,
    "bmod": _bmod,
    "pod": partial(_modulo, word=""),
    **dict.fromkeys(("label",), _dropped),
    "tag": _tag,
    **dict.fromkeys(("mbox", "hbox", "makebox"), _text),
    "cancel": partial(_cancel, form="cancel({})"),
    "bcancel": partial(_cancel, form="cancel(inverted: #true, {})"),
    "xcancel": partial(_cancel, form="cancel(cross: #true, {})"),
    **dict.fromkeys(("ensuremath", "smash"), _itself),
}
