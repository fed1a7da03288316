"""M2, the form in which the shared tasks on correction publish sentences with their edits
(Dahlmeier & Ng 2012):

    S This are right .
    A 1 2|||Verb|||is||'s|||REQUIRED|||-NONE-|||0

A blank line, or the next sentence, ends a sentence's block. A line that begins with # is a comment.
`A -1 -1|||noop|||…` is an annotator who changes nothing. A correction may have alternatives,
divided by `||`.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.corpus import source_files
from stages.corpus.fields import Malformed

UNCORRECTED = {"noop", "UNK", "Um"}
"""Types of edits that change nothing, as where a sentence is unclear: Bryant's corr_from_m2.py
passes over the same."""
WITHOUT_SPACES = ("THAI", "LAO", "KHMER", "MYANMAR")


class Corrected(NamedTuple):
    """A sentence, its correction, and the type of the edits, "" where they are of several."""

    source: str
    target: str
    category: str


def blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, lines) of each sentence with its edits."""
    begin, block = 0, list[str]()
    for number, text in source_files.lines(path):
        if block and (not text.strip() or text.startswith("S ")):
            yield begin, block
            block = []
        if text.strip() and not text.startswith("#"):
            begin = begin if block else number
            block.append(text.rstrip("\r\n"))
    if block:
        yield begin, block


def corrections(block: Sequence[str]) -> list[Corrected]:
    """What the annotators of one sentence make of it, each result once.

    Where corrections have alternatives, the first reference takes the first of each, the second
    the second, or the last where there are fewer. Raises Malformed.
    """
    sentence, *edits = block
    if not (sentence + " ").startswith("S "):
        raise Malformed("a block begins with `S `, the sentence; its edits begin with `A `")
    tokens = sentence[2:].split()
    of_annotator = defaultdict[str, list[tuple[int, int, str, list[str]]]](list)
    for edit in edits:
        parts = edit.removeprefix("A ").split("|||")
        span = parts[0].split()
        if not edit.startswith("A ") or len(parts) < 6 or len(span) != 2:
            raise Malformed(f"'{edit[:40]}' is no edit of the M2 form")
        try:
            begin, end = int(span[0]), int(span[1])
        except ValueError:
            raise Malformed(f"'{parts[0]}' are no two positions") from None
        made = of_annotator[parts[-1]]
        if begin >= 0 and parts[1] not in UNCORRECTED:
            made.append((begin, end, parts[1], parts[2].split("||")))
    found = dict[str, Corrected]()
    for made in of_annotator.values() or [[]]:
        kinds = {kind for _, _, kind, _ in made}
        category = kinds.pop() if len(kinds) == 1 else ""
        for choice in range(max((len(texts) for *_, texts in made), default=1)):
            target = _edited(tokens, made, choice)
            found.setdefault(target, Corrected(joined(tokens), target, category))
    return list(found.values())


def _edited(tokens: list[str], made: list[tuple[int, int, str, list[str]]], choice: int) -> str:
    """The sentence with one alternative of each edit. Insertions at one place keep their order."""
    corrected, at = list[str](), 0
    for begin, end, _, texts in sorted(made, key=lambda edit: edit[:2]):
        if begin < at or end < begin or end > len(tokens):
            raise Malformed(f"the edit of {begin} to {end} overlaps another, or is outside")
        text = texts[min(choice, len(texts) - 1)].strip()
        corrected += [*tokens[at:begin], *(() if text == "-NONE-" else text.split())]
        at = end
    return joined([*corrected, *tokens[at:]])


def joined(tokens: Sequence[str]) -> str:
    """A sentence of its tokens: with a space between two, unless one of the characters that meet
    is of a script that writes none. Between two marks the letter before them decides.
    """
    text, letter = "", ""
    for token in tokens:
        meeting = [text[-1:], token[:1]]
        if not any(character.isalnum() for character in meeting):
            meeting.append(letter)
        text += token if not text or any(map(_is_without_spaces, meeting)) else f" {token}"
        letter = next((each for each in reversed(token) if each.isalnum()), letter)
    return text


def _is_without_spaces(character: str) -> bool:
    """Whether a character, or its mark, is of Chinese, Japanese, Thai, Lao, Khmer or Burmese."""
    name = unicodedata.name(character, "") if character else ""
    if name.startswith(WITHOUT_SPACES) or "KATAKANA" in name:
        return True
    is_wide = bool(name) and unicodedata.east_asian_width(character) in "WF"
    return is_wide and "HANGUL" not in name and unicodedata.category(character) != "So"  # emoji
