"""gec: demo corpora of Japanese sentences with planted errors, in the marked form of three columns.

Level 1 has simple sentences with one error each. Level 2 has long sentences with new words, most of
them with two errors; a share of its rows is drawn as at level 1, so that a model whose training
continues on level 2 does not forget level 1. Some rows of both levels have no error. Level 3 has no
errors: its polite sentences (丁寧体) become plain ones (普通体), and the reverse.
"""

import random
from collections.abc import Iterator, Sequence

from stages.corpus import split
from stages.errors import UserError
from stages.grammar.japanese import restyled, sentence
from stages.grammar.mistakes import PLANTERS, Slip
from stages.grammar.sentence import Sentence

HEADER = "ID\tMarked_Text\tError_Type"
CLEAN = 0.15
"""Share of the rows without an error."""

SIMPLE = 0.4
"""Share of level 2's rows that are drawn as at level 1."""

TWICE = 0.75
"""Share of level 2's sentences with errors that have two; the row has the type of the left one."""

PATIENCE = 20_000
"""So many draws without a new source, one after another, mean that the grammar is exhausted."""

VALID, TEST = 0.1, 0.1
"""The shares that params.yaml holds out for validation and test."""


def lines(rng: random.Random, rows: int, level: int) -> Iterator[str]:
    """The header, and `rows` lines with different sources."""
    yield HEADER
    seen: set[str] = set()
    misses = 0
    while len(seen) < rows:
        drawn, slips, category = draw(rng, level) if level < 3 else style(rng)
        source = written(drawn, slips)
        if source in seen:
            misses += 1
            if misses == PATIENCE:
                raise UserError(
                    f"level {level} of the gec grammar ran out after {len(seen)} rows; "
                    "ask for fewer"
                )
            continue
        misses = 0
        seen.add(source)
        yield f"{len(seen)}\t{marked(rng, drawn, slips)}\t{category}"


def draw(rng: random.Random, level: int) -> tuple[Sentence, list[Slip], str]:
    """(sentence, its errors from left to right, the type of the first; "Correct" without errors).

    The error type is drawn before the sentence, so that every type is equally frequent, also those
    that few sentences offer.
    """
    if level > 1 and rng.random() < SIMPLE:
        level = 1
    if rng.random() < CLEAN:
        return sentence(rng, level), [], "Correct"
    wanted, twice = rng.choice(tuple(PLANTERS)), level > 1 and rng.random() < TWICE
    while True:
        drawn = sentence(rng, level)
        if not (first := list(PLANTERS[wanted](drawn))):
            continue
        planted = {wanted: rng.choice(first)}
        if twice:
            others = {
                kind: slips
                for kind, planter in PLANTERS.items()
                if kind != wanted
                and (slips := [slip for slip in planter(drawn) if _apart(slip, planted[wanted])])
            }
            if not others:
                continue
            kind = rng.choice(tuple(others))
            planted[kind] = rng.choice(others[kind])
        ordered = sorted(planted, key=lambda kind: planted[kind].start)
        return drawn, [planted[kind] for kind in ordered], ordered[0]


def style(rng: random.Random) -> tuple[Sentence, list[Slip], str]:
    """(sentence, the segments that differ in the other register as slips, category).

    The sentence with its slips is the source; the sentence itself is the target, and the category
    names its register. Both sentences are in the same part of the split, so that no reference of a
    test set is the source of a training row.
    """
    while True:
        drawn = sentence(rng, rng.choice((1, 2)))
        if (other := restyled(drawn)) is None or _part(drawn) != _part(other):
            continue
        pairs = enumerate(zip(drawn.segments, other.segments, strict=True))
        slips = [
            Slip(at, at + 1, said.text) for at, (wanted, said) in pairs if said.text != wanted.text
        ]
        polite = drawn.segments[-2].form
        return drawn, slips, "ToPolite" if polite and polite.polite else "ToPlain"


def _part(drawn: Sentence) -> split.Part:
    return split.part(drawn.text, VALID, TEST)


def _apart(one: Slip, other: Slip) -> bool:
    """Whether a segment lies between two slips: adjacent marks would be one error of two types."""
    return one.stop < other.start or other.stop < one.start


def written(drawn: Sentence, slips: Sequence[Slip]) -> str:
    """The sentence with its errors, as the learner writes it."""
    return "".join(wrong for _, wrong, _ in pieces(drawn, slips))


def marked(rng: random.Random, drawn: Sentence, slips: Sequence[Slip]) -> str:
    """The sentence with `<wrong>（right）` at each error.

    Of the sentences without an error every fourth has a mark that changes nothing.
    """
    if not slips and rng.random() < 0.25:
        at = rng.randrange(len(drawn.segments) - 1)
        slips = [Slip(at, at + 1, drawn.segments[at].text)]
    text = ""
    for outside, wrong, right in pieces(drawn, slips):
        if outside:
            text += wrong
        else:
            opens, closes = rng.choice(("<>", "<>", "＜＞"))
            begin, end = rng.choice(("（）", "（）", "()"))
            text += f"{opens}{wrong}{closes}{begin}{right}{end}"
    return text


def pieces(drawn: Sentence, slips: Sequence[Slip]) -> Iterator[tuple[bool, str, str]]:
    """(whether it is outside all errors, its text as written, its text corrected), in order."""
    done = 0
    for slip in slips:
        before = Sentence(drawn.segments[done : slip.start]).text
        yield True, before, before
        yield False, slip.wrong, Sentence(drawn.segments[slip.start : slip.stop]).text
        done = slip.stop
    rest = Sentence(drawn.segments[done:]).text
    yield True, rest, rest
