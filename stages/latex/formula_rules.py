r"""LaTeX formulas -> Typst by rules of our own, so that it is drawn as LaTeX draws it.

What is not known gives None, since another converter may know it: `typst_of` guesses nothing. Of
what Typst does by itself and LaTeX does not, stages/latex/formula_atoms.py tells.
"""

import unicodedata
from dataclasses import replace

from stages.latex import math_symbols as symbols
from stages.latex.formula_atoms import OVER, Atom, Kind, grouped, joined, with_scripts, written
from stages.latex.formula_commands import COMMANDS, accent, classed, delimiter, sized
from stages.latex.formula_text import text_atoms
from stages.latex.formula_tokens import Unreadable, closing, tokens_of

MAX_CHARACTERS = 20_000
MAX_DEPTH = 40
"""Of braces in each other. Each takes six of the 1,000 frames that Python allows."""

MAX_STYLES = 40
"""Of a group: each holds to the group's end, so that they are written into each other."""

ENDS = {"}", "&", "\\\\", "\\cr", "\\end", "\\right"}
KINDS: tuple[tuple[dict[str, str], Kind], ...] = (
    (symbols.ORDINARY, "symbol"),
    (symbols.SLANTED_GREEK, "symbol"),
    (symbols.INNER, "inner"),
    (symbols.BINARY, "bin"),
    (symbols.RELATION, "rel"),
    (symbols.LARGE, "large"),
)


def typst_of(latex: str) -> str | None:
    """The Typst of a formula, without dollar signs; None where something is not known.

    Never raises; takes time that grows as the formula does.
    """
    if len(latex) > MAX_CHARACTERS or "\0" in latex:
        return None
    try:
        reader = Reader(tokens_of(latex))
        atoms = reader.list_of(top=True)
        if reader.peek():
            return None
    except Unreadable:
        return None
    if atoms and atoms[0].lines and all(each.kind in ("comma", "symbol") for each in atoms[1:]):
        atoms[0] = replace(atoms[0], typst=atoms[0].lines, kind="symbol")
    return written(atoms) or None


class Reader:
    """Reads tokens into atoms, and remembers the font that is set."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.place, self.depth = tokens, 0, 0
        self.font, self.bold = "", False
        self.narrow = 0  # in how many commands' arguments and cells: their matrices are smaller

    def peek(self) -> str:
        """The next token, after white space; "" at the end."""
        while self.place < len(self.tokens) and self.tokens[self.place] == " ":
            self.place += 1
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.place += 1
        return token

    def takes(self, token: str) -> bool:
        """Whether the next token is this one, which is read then."""
        if self.peek() == token:
            self.place += 1
            return True
        return False

    def list_of(self, top: bool = False, until: str = "") -> list[Atom]:
        """The atoms up to what ends a group, which is not read. Font switches hold until there."""
        font, bold = self.font, self.bold
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("braces in too many others")
        lists: list[list[Atom]] = [[]]
        marks: list[str] = []
        while (token := self.peek()) and token != until:
            if token in ENDS:
                if not (top and token in ("&", "\\\\", "\\cr")):
                    break
                self.place += 1
                lists[-1].append(Atom("&" if token == "&" else "\\", "break"))
            elif token in OVER or token[1:] in symbols.STYLES:
                self.place += 1
                marks.append(token)
                if len(marks) > MAX_STYLES:
                    raise Unreadable("too many styles in one group")
                lists.append([])
            elif token[1:] in symbols.SWITCHES and token[0] == "\\":
                self.place += 1
                self.font, self.bold = symbols.SWITCHES[token[1:]], False
            else:
                self._scripted(lists[-1])
        self.depth -= 1
        self.font, self.bold = font, bold
        return joined(lists, marks)

    def group(self) -> list[Atom]:
        """What the next braces hold, or the next part: a command's argument."""
        token = self.peek()
        if token == "{":
            self.place += 1
            atoms = self.list_of()
            if not self.takes("}"):
                raise Unreadable("a brace is not closed")
            return atoms
        if not token or token in ENDS or token in ("^", "_"):
            raise Unreadable("an argument is missing")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("commands in too many others")
        atoms = self._nucleus()
        self.depth -= 1
        return atoms

    def argument(self) -> str:
        self.narrow += 1
        text = written(self.group(), argument=True)
        self.narrow -= 1
        return text

    def optional(self) -> list[str] | None:
        """The tokens between brackets; None where there are none."""
        if self.peek() != "[":
            return None
        depth = 0
        for place in range(self.place, len(self.tokens)):
            token = self.tokens[place]
            depth += (token == "{") - (token == "}")
            if token == "]" and not depth:
                found = self.tokens[self.place + 1 : place]
                self.place = place + 1
                return found
        raise Unreadable("a bracket is not closed")

    def raw(self) -> list[str]:
        """The tokens between braces."""
        if self.peek() != "{":
            raise Unreadable("an argument is missing")
        end = closing(self.tokens, self.place)
        found = self.tokens[self.place + 1 : end]
        self.place = end + 1
        return found

    def inner(self, tokens: list[str]) -> list[Atom]:
        """Atoms of other tokens, in the font that is set."""
        other = Reader(tokens)
        other.font, other.bold, other.depth = self.font, self.bold, self.depth
        other.narrow = self.narrow
        atoms = other.list_of()
        if other.peek():
            raise Unreadable("a brace too many")
        return atoms

    def _scripted(self, before: list[Atom]) -> None:
        """Reads a part with its scripts and adds it."""
        in_braces = self.peek() == "{"
        atoms = [] if self.peek() in ("^", "_", "'") else self._nucleus()
        primes, below, above = 0, None, None
        while True:
            token = self.peek()
            if token == "'":
                self.place += 1
                primes += 1
            elif token == "_" and below is None:
                self.place += 1
                below = self._script()
            elif token == "^" and above is None:
                self.place += 1
                above = self._script()
            elif token in ("\\limits", "\\nolimits") and atoms:
                self.place += 1
                function = "limits" if token == "\\limits" else "scripts"
                atoms[-1] = replace(atoms[-1], typst=f"{function}({atoms[-1].typst})")
            elif token in ("_", "^"):
                raise Unreadable("two scripts at one place")
            else:
                break
        while above and above[0].kind == "prime" and not above[0].is_scripted:
            primes, above = primes + 1, above[1:]
        if primes or below or above:
            before += with_scripts(atoms, primes, below or [], above or [])
        elif in_braces:
            before += grouped(atoms, bool(before))
        else:
            before += atoms

    def _script(self) -> list[Atom]:
        self.narrow += 1
        atoms = self.group()
        self.narrow -= 1
        return atoms

    def _nucleus(self) -> list[Atom]:
        token = self.peek()
        if token == "{":
            return self.group()
        self.place += 1
        if token[0] == "\\" and len(token) > 1:
            return self._command(token[1:])
        return [self._character(token)]

    def _character(self, token: str) -> Atom:
        if token.isascii() and token.isalpha():
            return Atom(token, "letter", self.font, self.bold)
        if token.isascii() and token.isdecimal():
            return Atom(token, "digit", self.font, self.bold)
        if token in symbols.DELIMITERS and token not in "./<>":
            return delimiter(symbols.DELIMITERS[token])
        if token in ",;":
            return Atom(token, "comma")
        if token == "~":
            return Atom("space", "space")
        if token in "+-*":
            return Atom(token, "bin")
        if token in "<>=:":
            return Atom(token, "rel")
        if token in ".!?":
            return Atom(token, "symbol")
        if token in "/@":
            return Atom(f"\\{token}", "symbol")
        category = unicodedata.category(token)
        if not token.isascii() and category[0] in "LNSP" and token not in "√∛∜":
            if category in ("Ps", "Pe"):
                return Atom(f"\\{token}", "open" if category == "Ps" else "close")
            return Atom(token, "symbol" if category[0] == "L" else "tall")
        raise Unreadable(f"the character {token!r}")

    def _command(self, name: str) -> list[Atom]:
        for table, kind in KINDS:
            if name in table:
                return [Atom(table[name], kind)]
        if name in symbols.GREEK:
            return [Atom(symbols.GREEK[name], "greek", "", self.bold)]
        if name in symbols.CAPITAL_GREEK:
            font = self.font if self.font in ("bf", "it") else ""
            return [Atom(symbols.CAPITAL_GREEK[name], "greek", font, self.bold)]
        if name == "prime":
            return [Atom("prime", "prime")]
        if name in symbols.SPACES:
            return [Atom(symbols.SPACES[name], "space")]
        if name in symbols.OPERATORS or name in symbols.LIMIT_OPERATORS:
            return [Atom(name, "large")]
        if f"\\{name}" in symbols.DELIMITERS:
            return [delimiter(symbols.DELIMITERS[f"\\{name}"])]
        if name in symbols.NOTHING:
            return []
        if name in symbols.FONTS:
            if name.startswith("text") or name == "emph":
                return text_atoms(self, self.raw(), symbols.FONTS[name])
            return self.in_font(symbols.FONTS[name], False)
        if name in ("boldsymbol", "bm", "pmb"):
            return self.in_font(self.font, True)
        if name in symbols.ACCENTS:
            return [accent(self, name)]
        if name in symbols.CLASSES:
            return [classed(self, symbols.CLASSES[name])]
        if name.rstrip("lrm") in symbols.SIZES:
            return [sized(self, symbols.SIZES[name.rstrip("lrm")])]
        method = COMMANDS.get(name)
        if method is None:
            raise Unreadable(f"the command \\{name}")
        return method(self)

    def in_font(self, font: str, bold: bool) -> list[Atom]:
        before = self.font, self.bold
        self.font, self.bold = font, bold
        atoms = self.group()
        self.font, self.bold = before
        return atoms
