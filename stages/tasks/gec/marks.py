"""Sentences whose errors and corrections are marked with brackets, in one column or in two."""

import re
from collections.abc import Sequence

from stages.corpus.fields import Malformed

EITHER = "the marked form has 3, the paired form marks both"
MARK = re.compile(r"[<＜]([^<>＜＞]*)[>＞][(（]([^()（）]*)[)）]")
WRONG = re.compile(r"[<＜]([^<>＜＞]*)[>＞]")
RIGHT = re.compile(r"[(（]([^()（）]*)[)）]")
ANY = re.compile("[<>＜＞()（）]")
OF_MARK = re.compile(r"[>＞]|[<＜][^\W\d_]")
"""An angle bracket that a mark may have lost its other one of, as `<3` and `a < b` have not."""
OWN = (
    "where the brackets are the sentences' own, put a first line `source<TAB>target` before them, "
    "or write them as .jsonl"
)


def marked(text: str) -> tuple[str, str]:
    """(source, target) of a sentence of the marked form. Raises Malformed."""
    parts = MARK.split(text)  # outside, wrong, right, outside, …, outside
    outsides, wrongs, rights = parts[::3], parts[1::3], parts[2::3]
    _check_angles("".join(outsides))
    _check_rounds("".join(outsides))
    _check_marks(wrongs, rights)
    if not wrongs and text and text.isascii():
        raise Malformed(
            f"no mark and no Japanese in '{text}'; a header reads ID, Marked_Text, Error_Type"
        )
    return _woven(outsides, wrongs), _woven(outsides, rights)


def paired(left: str, right: str) -> tuple[str, str]:
    """(source, target) of a line of the paired form. Brackets that both sides of a line without
    marks have, such as smileys, are the sentences' own. Raises Malformed.

    left: the sentence with its errors in angle brackets.   right: the sentence with their
    corrections in round brackets.
    """
    if MARK.search(left) and not RIGHT.search(right):
        raise Malformed(f"2 columns; {EITHER}")
    parts = WRONG.split(left)  # outside, wrong, outside, …, outside
    outsides, wrongs = parts[::2], parts[1::2]
    if wrongs or ANY.findall(left) != ANY.findall(right) or OF_MARK.search(left):
        try:
            _check_angles("".join(outsides))
            if found := WRONG.search(right):
                raise Malformed(
                    f"'{found[0]}' in the second column, where corrections stand in round brackets"
                )
            _check_angles(right)
            _check_rounds(right)
        except Malformed as fault:
            has_marks = wrongs or WRONG.search(right) or RIGHT.search(right)
            raise Malformed(str(fault) if has_marks else f"{fault}; {OWN}") from None
    if not wrongs:
        if left.isdecimal():  # an id, before a sentence whose error type is missing
            raise Malformed(f"2 columns; {EITHER}")
        return left, right  # the plain form
    match = re.fullmatch(RIGHT.pattern.join(re.escape(outside) for outside in outsides), right)
    if match is None:
        others = RIGHT.split(right)[::2]
        if len(others) != len(outsides):
            raise Malformed(
                f"{len(wrongs)} marked in the first column, "
                f"{len(others) - 1} corrected in the second"
            )
        one, other = next(pair for pair in zip(outsides, others, strict=True) if pair[0] != pair[1])
        raise Malformed(f"the columns differ outside the marks: '{one}' and '{other}'")
    _check_marks(wrongs, match.groups())
    return _woven(outsides, wrongs), _woven(outsides, match.groups())


def _woven(outsides: Sequence[str], insides: Sequence[str]) -> str:
    return "".join(
        outside + inside for outside, inside in zip(outsides, (*insides, ""), strict=True)
    )


def _check_angles(outside: str) -> None:
    """Raise Malformed for angle brackets outside complete marks."""
    if found := WRONG.search(outside):
        rest = outside[found.end() :]
        if not rest.startswith(("(", "（")):
            raise Malformed(f"no correction in round brackets after '{found[0]}'")
        if re.search("[)）]", rest):
            raise Malformed(f"brackets inside the correction of '{found[0]}'")
        raise Malformed(f"'{rest[0]}' is never closed")
    if found := re.search("[<＜]", outside):
        raise Malformed(f"'{found[0]}' is never closed")
    if found := re.search("[>＞]", outside):
        raise Malformed(f"'{found[0]}' without a '<' before it")


def _check_rounds(text: str) -> None:
    """Raise Malformed unless every round bracket that opens is closed, and the reverse."""
    opened: list[str] = []
    for character in text:
        if character in "(（":
            opened.append(character)
        elif character in ")）":
            if not opened:
                raise Malformed(f"'{character}' without a '(' before it")
            opened.pop()
    if opened:
        raise Malformed(f"'{opened[-1]}' is never closed")


def _check_marks(wrongs: Sequence[str], rights: Sequence[str]) -> None:
    if any(not wrong and not right for wrong, right in zip(wrongs, rights, strict=True)):
        raise Malformed("a mark with nothing in it")
