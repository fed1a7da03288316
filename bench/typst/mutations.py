"""A formula in LaTeX, and the same with one thing changed that a reader sees at once."""

import random
import re
from collections.abc import Callable

TOKEN = re.compile(r"\\[a-zA-Z]+\*?|\\.|[{}^_&]|\s+|.", re.DOTALL)

SWAPS = {
    "operator": [
        ("+", "-"), ("-", "+"), ("=", "<"), ("<", ">"), (">", "<"), (r"\times", r"\cdot"),
        (r"\cdot", r"\times"), (r"\leq", r"\geq"), (r"\geq", r"\leq"), (r"\pm", r"\mp"),
        (r"\in", r"\subset"), (r"\to", "="), (r"\sum", r"\prod"), (r"\prod", r"\sum"),
        (r"\int", r"\sum"), (r"\cup", r"\cap"), (r"\partial", r"\nabla"),
    ],
    "digit": [(str(digit), str((digit + 3) % 10)) for digit in range(10)],
    "letter": [
        (letters[place], letters[(place + 3) % 26])
        for letters in ("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        for place in range(26)
    ],
    "greek": [
        (r"\alpha", r"\beta"), (r"\beta", r"\gamma"), (r"\gamma", r"\delta"), (r"\mu", r"\nu"),
        (r"\nu", r"\mu"), (r"\lambda", r"\pi"), (r"\phi", r"\theta"), (r"\sigma", r"\rho"),
        (r"\pi", r"\tau"), (r"\theta", r"\omega"), (r"\omega", r"\theta"), (r"\psi", r"\xi"),
    ],
    "accent": [
        (r"\hat", r"\bar"), (r"\bar", r"\hat"), (r"\tilde", r"\vec"), (r"\vec", r"\dot"),
        (r"\dot", r"\ddot"), (r"\ddot", r"\hat"), (r"\overline", r"\hat"),
    ],
}  # fmt: skip
"""What one token becomes, by kind."""

KINDS = (*SWAPS, "script dropped", "script turned", "fraction flipped", "sign dropped")


def mutated(latex: str, kind: str, rng: random.Random) -> str | None:
    """The formula with one change of a kind at a place drawn; None where it has no such place."""
    tokens = TOKEN.findall(latex)
    if kind in SWAPS:
        swaps = dict(SWAPS[kind])
        places = [place for place in _shown(tokens) if tokens[place] in swaps]
        return _changed(tokens, places, rng, lambda place: [swaps[tokens[place]]])
    if kind == "sign dropped":
        places = [place for place in _shown(tokens) if tokens[place] in "+-="]
        return _changed(tokens, places, rng, lambda place: [])
    if kind == "script turned":
        places = [
            place
            for place, token in enumerate(tokens)
            if token in "_^"
            and not _has_two(tokens, place)
            and "\\" not in "".join(tokens[:place])[-6:]
        ]
        return _changed(tokens, places, rng, lambda place: ["_" if tokens[place] == "^" else "^"])
    wanted = ("_", "^") if kind == "script dropped" else (r"\frac",)
    places = [place for place, token in enumerate(tokens) if token in wanted]
    if not places:
        return None
    place = rng.choice(places)
    first = _argument(tokens, place + 1)
    if kind == "script dropped":
        return "".join(tokens[:place] + tokens[first[1] :])
    second = _argument(tokens, first[1])
    one, other = tokens[slice(*first)], tokens[slice(*second)]
    if "".join(one).split() == "".join(other).split():
        return None
    return "".join([*tokens[: place + 1], " ", *other, " ", *one, *tokens[second[1] :]])


def _changed(
    tokens: list[str], places: list[int], rng: random.Random, becomes: Callable[[int], list[str]]
) -> str | None:
    if not places:
        return None
    place = rng.choice(places)
    return "".join(tokens[:place] + becomes(place) + tokens[place + 1 :])


def _shown(tokens: list[str]) -> list[int]:
    """Where tokens stand for themselves: not in the argument of a command that takes words."""
    places, hidden = [], 0
    for place, token in enumerate(tokens):
        if token in (
            r"\begin",
            r"\end",
            r"\hspace",
            r"\vspace",
            r"\label",
            r"\raisebox",
            r"\hskip",
        ):
            hidden = _argument(tokens, place + 1)[1]
        if place >= hidden:
            places.append(place)
    return places


def _has_two(tokens: list[str], place: int) -> bool:
    """Whether the base of a script has another one, which the turned one would be beside."""
    after = _argument(tokens, place + 1)[1]
    before = place - 1
    while before >= 0 and tokens[before].isspace():
        before -= 1
    if before >= 0 and tokens[before] == "}":
        depth = 0
        while before >= 0:
            depth += {"}": 1, "{": -1}.get(tokens[before], 0)
            if depth == 0:
                break
            before -= 1
    beside = [*tokens[after : after + 2], *tokens[max(0, before - 2) : max(0, before)]]
    return any(token in "_^'" for token in beside if token.strip())


def _argument(tokens: list[str], place: int) -> tuple[int, int]:
    """(begin, end) of the token or group at a place, white space before it left out."""
    while place < len(tokens) and tokens[place].isspace():
        place += 1
    depth = 0
    for end in range(place, len(tokens)):
        depth += {"{": 1, "}": -1}.get(tokens[end], 0)
        if depth <= 0:
            return place, end + 1
    return place, len(tokens)
