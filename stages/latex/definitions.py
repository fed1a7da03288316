r"""What a document defines: macros, environments, theorems; and the arguments of commands.

Macros are handed to pandoc, which expands them. The forms that it does not know are written as
`\newcommand` first.
"""

import re
from dataclasses import dataclass

DEFINING = re.compile(
    r"\\(?P<how>newcommand|renewcommand|providecommand|DeclareRobustCommand|DeclareMathOperator"
    r"|newenvironment|renewenvironment|NewDocumentCommand|RenewDocumentCommand"
    r"|ProvideDocumentCommand|DeclareDocumentCommand|DeclarePairedDelimiter|newtheorem"
    r"|def|gdef|edef|xdef|let)(?![A-Za-z@])(?P<star>\*?)"
)
COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%[^\n]*")
MAX_ARGUMENT = 20_000  # characters: a brace that is never closed ends nothing after that


@dataclass(frozen=True)
class Theorem:
    """counter: the environment that it is numbered with.   within: "section", or "".
    numbered: whether it is.   style: of amsthm, "plain", "definition" or "remark".
    """

    title: str
    counter: str
    within: str = ""
    numbered: bool = True
    style: str = "plain"


@dataclass(frozen=True)
class Definitions:
    """macros: LaTeX for pandoc.   theorems: by environment."""

    macros: list[str]
    theorems: dict[str, Theorem]


def argument(text: str, position: int, brackets: str = "{}") -> tuple[str, int] | None:
    """(the argument in braces or brackets at the position, behind white space; its end)."""
    while position < len(text) and text[position] in " \t\n":
        position += 1
    opening = brackets[0]
    if position >= len(text) or text[position] != opening:
        return None
    depth, at = 0, position
    limit = min(len(text), position + MAX_ARGUMENT)
    while at < limit:
        character = text[at]
        if character == "\\":
            at += 2
            continue
        depth += (character == "{") - (character == "}")
        if opening == "[" and character == "]" and depth == 0:
            return text[position + 1 : at], at + 1
        if opening == "{" and character == "}" and depth == 0:
            return text[position + 1 : at], at + 1
        at += 1
    return None


def arguments(text: str, position: int, form: str) -> tuple[list[str], int] | None:
    """(arguments, end): form has `m` for each in braces, `o` for each in brackets, which may be
    missing ("" then).
    """
    found = []
    for kind in form:
        given = argument(text, position, "{}" if kind == "m" else "[]")
        if not given:
            if kind == "m":
                return None
            found.append("")
            continue
        found.append(given[0])
        position = given[1]
    return found, position


def of(text: str) -> Definitions:
    """Those of a text, in order; what cannot be read as one is left out."""
    text = COMMENT.sub(r"\1%", text)
    macros: list[str] = []
    theorems: dict[str, Theorem] = {}
    style = "plain"
    position = 0
    for match in re.compile(rf"{DEFINING.pattern}|\\theoremstyle\s*\{{(?P<style>\w+)\}}").finditer(
        text
    ):
        if match["style"]:
            style = match["style"]
            continue
        if match.start() < position:
            continue  # inside another definition
        end = match.end()
        if match["how"] == "newtheorem":
            if found := arguments(text, end, "momo"):
                name, shared, title, within = found[0]
                within = "section" if within in ("section", "chapter", "subsection") else ""
                if shared in theorems:
                    within = theorems[shared].within
                    shared = theorems[shared].counter
                theorems[name] = Theorem(title, shared or name, within, not match["star"], style)
                position = found[1]
            continue
        if written := _macro(text, match, end):
            macros.append(written[0])
            position = written[1]
    return Definitions(macros, theorems)


def _macro(text: str, match: re.Match[str], end: int) -> tuple[str, int] | None:
    """(the definition for pandoc, its end)."""
    how = match["how"]
    if how in ("def", "gdef", "edef", "xdef"):
        head = re.compile(r"\s*\\(?:[A-Za-z@]+|.)((?:\[?#\d\]?)*)\s*").match(text, end)
        body = argument(text, head.end()) if head else None
        if not head or not body:
            return None
        return f"\\def{text[end : head.end()].strip()}{{{body[0]}}}", body[1]
    if how == "let":
        let = re.compile(r"\s*\\[A-Za-z@]+\s*=?\s*\\(?:[A-Za-z@]+|.)").match(text, end)
        return (text[match.start() : let.end()], let.end()) if let else None
    name = re.compile(r"\s*(?:\{\s*(\\?[A-Za-z@*]+|\\.)\s*\}|(\\[A-Za-z@]+|\\.))").match(text, end)
    if not name:
        return None
    called, end = name[1] or name[2], name.end()
    if how == "DeclarePairedDelimiter":
        if found := arguments(text, end, "mm"):
            (left, right), end = found
            return f"\\newcommand{{{called}}}[1]{{\\left{left} #1 \\right{right}}}", end
        return None
    if how.endswith("DocumentCommand"):
        return _of_xparse(text, called, end)
    environment = how.endswith("environment")
    found = arguments(
        text, end, "m" if how == "DeclareMathOperator" else "oomm" if environment else "oom"
    )
    if not found:
        return None
    start, end = match.start(), found[1]
    written = text[start:end]
    if how == "DeclareRobustCommand":
        written = written.replace("\\DeclareRobustCommand", "\\newcommand", 1)
    return written, end


def _of_xparse(text: str, called: str, end: int) -> tuple[str, int] | None:
    found = arguments(text, end, "mm")
    if not found:
        return None
    (form, body), end = found
    simple = re.fullmatch(r"\s*(?:O\{([^{}]*)\}\s*)?((?:m\s*)*)", form)
    if not simple:
        return None
    optional = simple[1] is not None
    count = simple[2].count("m") + optional
    heads = (f"[{count}]" if count else "") + (f"[{simple[1]}]" if optional else "")
    return f"\\newcommand{{{called}}}{heads}{{{body}}}", end
