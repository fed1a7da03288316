"""gec: demo corpora of Japanese sentences with planted errors, in the marked form with three columns.

Level 1: simple sentences, one error each. Level 2: long sentences with new words, most with two errors; a share of its
rows is as at level 1, so that a model that continues on it does not forget. Some rows of both have no error.
Level 3: no errors, but sentences in 丁寧体 to be said in 普通体, and the reverse.
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
"""Share of level 2's own faulty sentences with two errors; the row has the type of the one further left."""

PATIENCE = 20_000
"""Draws in a row that bring no new source before the grammar is said to be exhausted."""

VALID, TEST = 0.1, 0.1
"""The shares held out by params.yaml."""


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
                    f"level {level} of the gec grammar ran out after {len(seen)} rows; ask for fewer"
                )
            continue
        misses = 0
        seen.add(source)
        yield f"{len(seen)}\t{marked(rng, drawn, slips)}\t{category}"


def draw(rng: random.Random, level: int) -> tuple[Sentence, list[Slip], str]:
    """A sentence, its errors from left to right, and the type of the first ("Correct" where there is none).

    The type is drawn before the sentence, so that rare ones are as frequent as the others.
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
    """A sentence in one register, all that tells the other one as slips, and to which of them it goes.

    Both sentences are on one side of the split: what a test set of corrections wants is given to no one as a source.
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
    """Whether a segment lies between them: two marks that touch would be one error of two types."""
    return one.stop < other.start or other.stop < one.start


def written(drawn: Sentence, slips: Sequence[Slip]) -> str:
    """The sentence as the learner writes it."""
    return "".join(wrong for _, wrong, _ in pieces(drawn, slips))


def marked(rng: random.Random, drawn: Sentence, slips: Sequence[Slip]) -> str:
    """The sentence with `<wrong>（right）` at each error; every fourth without one has a mark that changes nothing."""
    if not slips and rng.random() < 0.25:
        at = rng.randrange(len(drawn.segments) - 1)
        slips = [Slip(at, at + 1, drawn.segments[at].text)]
    text = ""
    for outside, wrong, right in pieces(drawn, slips):
        if outside:
            text += wrong
        else:
            (opens, closes), (begin, end) = (
                rng.choice(("<>", "<>", "＜＞")),
                rng.choice(("（）", "（）", "()")),
            )
            text += f"{opens}{wrong}{closes}{begin}{right}{end}"
    return text


def pieces(drawn: Sentence, slips: Sequence[Slip]) -> Iterator[tuple[bool, str, str]]:
    """(whether it lies outside all errors, as the learner writes it, as it should be) from left to right."""
    done = 0
    for slip in slips:
        before = Sentence(drawn.segments[done : slip.start]).text
        yield True, before, before
        yield False, slip.wrong, Sentence(drawn.segments[slip.start : slip.stop]).text
        done = slip.stop
    rest = Sentence(drawn.segments[done:]).text
    yield True, rest, rest
