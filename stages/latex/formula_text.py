"""Text in a formula, and lengths."""

import re
import unicodedata
from typing import TYPE_CHECKING

from stages.latex import math_symbols as symbols
from stages.latex.formula_atoms import TEXTUAL, Atom
from stages.latex.formula_tokens import Unreadable, closing

if TYPE_CHECKING:
    from stages.latex.formula_rules import Reader

COMBINING = dict(zip("'`^\"~cv", "\u0301\u0300\u0302\u0308\u0303\u0327\u030c", strict=True))
CHARACTERS = {
    **{f"\\{sign}": sign for sign in "#$%&_{} "},
    "~": "\u00a0", "\\,": "\u2009", "\\quad": "\u2003", "\\ss": "ß", "\\ae": "æ", "\\o": "ø",
    "\\ldots": "…", "\\dots": "…", "\\-": "", "\\/": "", "\\S": "§", "\\aa": "å",
}  # fmt: skip
LIGATURES = (("---", "—"), ("--", "–"), ("``", "“"), ("''", "”"), ("`", "‘"), ("'", "’"))

LENGTH = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+))(pt|cm|mm|in|em|ex|mu|bp|pc)")
UNITS = {"ex": (0.43, "em"), "mu": (1 / 18, "em"), "bp": (1.004, "pt"), "pc": (12, "pt")}


def text_atoms(reader: "Reader", tokens: list[str], font: str) -> list[Atom]:
    r"""What the tokens of \text and its like draw, with the formulas in it."""
    reader.depth += 1
    if reader.depth > 40:
        raise Unreadable("text in too much other text")
    atoms: list[Atom] = []
    text = ""
    place = 0

    def put() -> None:
        nonlocal text
        if text:
            for old, new in LIGATURES:
                text = text.replace(old, new)
            quoted = re.sub(r'(["\\])', r"\\\1", unicodedata.normalize("NFC", text))
            typst = f'"{quoted}"'
            atoms.append(Atom(typst if font == "rm" else TEXTUAL[font].format(typst), "text"))
        text = ""

    while place < len(tokens):
        token = tokens[place]
        place += 1
        if token in ("$", "\\("):
            ending = "$" if token == "$" else "\\)"
            try:
                end = tokens.index(ending, place)
            except ValueError:
                raise Unreadable("a formula in a text does not end") from None
            put()
            before, reader.font = reader.font, ""
            atoms += reader.inner(tokens[place:end])
            reader.font = before
            place = end + 1
        elif token == "{":
            end = closing(tokens, place - 1)
            put()
            atoms += text_atoms(reader, tokens[place:end], font)
            place = end + 1
        elif token in CHARACTERS:
            text += CHARACTERS[token]
            while token[1:].isalpha() and place < len(tokens) and tokens[place] == " ":
                place += 1
        elif token[1:] in symbols.FONTS and symbols.FONTS[token[1:]] in TEXTUAL:
            while place < len(tokens) and tokens[place] == " ":
                place += 1
            if place >= len(tokens) or tokens[place] != "{":
                raise Unreadable("an argument is missing")
            end = closing(tokens, place)
            put()
            atoms += text_atoms(reader, tokens[place + 1 : end], symbols.FONTS[token[1:]])
            place = end + 1
        elif token[1:] in symbols.SWITCHES and symbols.SWITCHES[token[1:]] in TEXTUAL:
            put()
            font = symbols.SWITCHES[token[1:]]
            while place < len(tokens) and tokens[place] == " ":
                place += 1
        elif token[0] == "\\" and token[1:] in COMBINING:
            rest = [each for each in tokens[place : place + 4] if each not in ("{", " ")]
            if not rest or not rest[0].isalpha():
                raise Unreadable("an accent over no letter")
            braced = place < len(tokens) and tokens[place] == "{"
            place = tokens.index(rest[0], place) + 1
            if braced:
                if place >= len(tokens) or tokens[place] != "}":
                    raise Unreadable("an accent over several letters")
                place += 1
            text += rest[0] + COMBINING[token[1:]]
        elif token[0] == "\\" or token in "}^_#&" or (ord(token) < 32 and token != " "):
            raise Unreadable(f"{token} in a text")
        else:
            text += token
    put()
    reader.depth -= 1
    return atoms


def length_of(reader: "Reader") -> str:
    """A length in Typst, of the next tokens."""
    if reader.peek() == "{":
        text = "".join(reader.raw())
    else:
        start, text = reader.place, ""
        while (token := reader.peek()) and len(text) < 20 and not LENGTH.fullmatch(text):
            if not re.fullmatch(r"[-+.\da-z]", token):
                break
            text += reader.next()
        if not text:
            reader.place = start
    found = LENGTH.fullmatch(re.sub(r"\s", "", text))
    if not found:
        raise Unreadable(f"the length {text[:20]!r}")
    times, unit = UNITS.get(found[2], (1, found[2]))
    return f"{float(found[1]) * times:.4g}{unit}"
