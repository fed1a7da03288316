r"""A LaTeX formula as tokens, with its own `\newcommand` and `\def` expanded.

pylatexenc 2.11, a kept parser, was tried: it ends with a RecursionError at deep braces, and knows
neither `\over` nor `\rm`, which change what stands before or after them.
"""

import re

MAX_TOKENS = 100_000
"""Of a formula whose macros are expanded."""

TOKEN = re.compile(r"%[^\n]*(?:\n\s*)?|\\[A-Za-z]+|\\.|\s+|.", re.DOTALL)
SHORT = {"\\sp": "^", "\\sb": "_", "\\bgroup": "{", "\\egroup": "}"}
DEFINING = {"\\newcommand", "\\renewcommand", "\\providecommand", "\\def", "\\DeclareMathOperator"}


class Unreadable(Exception):
    """A formula has something that the rules do not know."""


def tokens_of(latex: str) -> list[str]:
    """Commands, characters, and " " for white space; without comments.

    Raises Unreadable for macros that do not end.
    """
    found = [
        " " if token.isspace() else SHORT.get(token, token)
        for token in TOKEN.findall(latex)
        if not token.startswith("%")
    ]
    return found if DEFINING.isdisjoint(found) else _expanded(found)


def closing(tokens: list[str], start: int) -> int:
    """The place of the brace that closes the one at `start`. Raises Unreadable if there is none."""
    depth = 0
    for place in range(start, len(tokens)):
        depth += (tokens[place] == "{") - (tokens[place] == "}")
        if not depth:
            return place
    raise Unreadable("a brace is not closed")


def _expanded(tokens: list[str]) -> list[str]:
    macros: dict[str, tuple[int, list[str] | None, list[str]]] = {}
    waiting, done, steps = tokens[::-1], [], 0
    while waiting:
        steps += 1
        if steps + len(waiting) > MAX_TOKENS:
            raise Unreadable("macros that do not end")
        token = waiting.pop()
        if token in DEFINING:
            name, macro = _definition(token, waiting)
            if token != "\\providecommand" or name not in macros:
                macros[name] = macro
        elif token in macros:
            count, default, body = macros[token]
            arguments = []
            if default is not None:
                arguments.append(_optional(waiting) or default)
            while len(arguments) < count:
                arguments.append(_argument(waiting))
            steps += len(body)
            waiting += _filled(body, arguments)[::-1]
        else:
            done.append(token)
    return done


def _definition(
    command: str, waiting: list[str]
) -> tuple[str, tuple[int, list[str] | None, list[str]]]:
    _skip(waiting, "*")
    name = [token for token in _argument(waiting) if token != " "]
    if len(name) != 1 or not name[0].startswith("\\"):
        raise Unreadable("a definition of no command")
    if command == "\\DeclareMathOperator":
        return name[0], (0, None, ["\\operatorname", "{", *_argument(waiting), "}"])
    count, default = 0, None
    if command == "\\def":
        while waiting and waiting[-1] != "{":
            token = waiting.pop()
            if token == "#" and waiting and waiting[-1] == str(count + 1):
                count += 1
                waiting.pop()
            elif token != " ":
                raise Unreadable("a definition with delimited arguments")
    elif (given := _optional(waiting)) is not None:
        if len(given) != 1 or not given[0].isdecimal():
            raise Unreadable("a definition with no number of arguments")
        count = int(given[0])
        default = _optional(waiting)
    return name[0], (count, default, _argument(waiting))


def _filled(body: list[str], arguments: list[list[str]]) -> list[str]:
    filled: list[str] = []
    place = 0
    while place < len(body):
        if body[place] == "#" and place + 1 < len(body) and body[place + 1].isdecimal():
            number = int(body[place + 1])
            if not 1 <= number <= len(arguments):
                raise Unreadable("an argument that is not there")
            filled += arguments[number - 1]
            if len(filled) > MAX_TOKENS:
                raise Unreadable("macros that do not end")
            place += 2
        else:
            filled.append(body[place])
            place += 1
    return filled


def _argument(waiting: list[str]) -> list[str]:
    """What comes next: the inside of braces, or one token. It is taken off the list's end."""
    _skip(waiting)
    if not waiting:
        raise Unreadable("an argument is missing")
    if waiting[-1] != "{":
        return [waiting.pop()]
    return _until_closed(waiting, "{", "}")


def _optional(waiting: list[str]) -> list[str] | None:
    _skip(waiting)
    return _until_closed(waiting, "[", "]") if waiting and waiting[-1] == "[" else None


def _until_closed(waiting: list[str], opening: str, end: str) -> list[str]:
    depth = 0
    found: list[str] = []
    while waiting:
        token = waiting.pop()
        depth += (token == opening) - (token == end)
        if not depth:
            return found[1:]
        found.append(token)
    raise Unreadable("a brace is not closed")


def _skip(waiting: list[str], also: str = " ") -> None:
    while waiting and waiting[-1] in (" ", also):
        waiting.pop()
