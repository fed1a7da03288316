"""lm: demo texts: Japanese, Polish and English prose, LaTeX and Typst formulas, and conversations.

The conversations are three drills: repeat a random sequence; name LaTeX symbols in Typst; solve an
arithmetic problem step by step. They teach a small model what a question and its answer are, and to
copy. Without them a base of 0.9M parameters does not learn to copy: its loss stays on the plateau
before that ability emerges. All other tasks of this repository are copying with changes.
"""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from stages.corpus import split
from stages.grammar import arithmetic, japanese, mathematics, polish

Record = dict[str, Any]
Writer = Callable[[random.Random], str | Record]

# A sentence or formula of these texts could be the answer to a test row of another task. So these
# texts are drawn only from items that no task holds out. A larger share holds out the same items
# and more; 0.2 is twice the largest share that params.yaml uses.
VALID, TEST = 0.2, 0.2


def lines(rng: random.Random, rows: int, level: int) -> Iterator[str]:
    """JSON records with a text or a conversation.

    Level 1 is general; at level 2 a quarter of the texts are notes and leaflets of a clinic.
    """
    recite = partial(recitation, pieces=inventory(rng))
    general: tuple[tuple[str, Writer], ...] = (
        *(("recitation", recite),) * 9,
        *(("glossary", glossary),) * 5,
        *(("japanese", japanese_passage),) * 4,
        *(("polish", polish_passage),) * 4,
        *(("sums", sums),) * 5,
        *GENERAL,
    )
    kinds: Sequence[tuple[str, Writer]] = general if level == 1 else (*CLINICAL, *general)
    seen: set[str] = set()
    while len(seen) < rows:
        category, write = rng.choice(kinds)
        made = write(rng)
        line = json.dumps(
            (made if isinstance(made, dict) else {"text": made}) | {"category": category},
            ensure_ascii=False,
        )
        if line not in seen:
            seen.add(line)
            yield line


def open_to_all(key: str) -> bool:
    """Whether an item may be part of a training text: no version of any task holds it out."""
    return split.part(key, VALID, TEST) == "train"


def sentence(rng: random.Random) -> str:
    """A Japanese sentence that is no reference in a test set of gec."""
    while True:
        if open_to_all(text := japanese.sentence(rng, rng.choice((1, 1, 2))).text):
            return text


def formula(rng: random.Random, levels: Sequence[int] = (1, 2, 2, 3)) -> mathematics.Node:
    """A formula that is in no test set of typst."""
    while True:
        if open_to_all((node := mathematics.formula(rng, rng.choice(levels))).latex()):
            return node


def japanese_passage(rng: random.Random) -> str:
    return "".join(sentence(rng) for _ in range(rng.randint(1, 4)))


def polish_passage(rng: random.Random) -> str:
    return " ".join(polish_sentence(rng) for _ in range(rng.randint(1, 3)))


def polish_sentence(rng: random.Random) -> str:
    """A Polish sentence that is in no test set of polish, with or without its diacritics."""
    while True:
        text = polish.sentence(rng, rng.choice((1, 2))).text
        if open_to_all(text) and open_to_all(polish.plain(text)):
            return text


def sums(rng: random.Random) -> Record:
    """An arithmetic problem that is in no test set of reward, with its solution."""
    while True:
        made = arithmetic.solution(rng, rng.choice((1, 2)))
        if open_to_all(made.problem):
            return {
                "messages": [
                    {"role": "user", "content": made.problem},
                    {"role": "assistant", "content": made.text},
                ]
            }


def latex(rng: random.Random) -> str:
    return "\n".join(formula(rng).latex() for _ in range(rng.randint(1, 2)))


def typst(rng: random.Random) -> str:
    return "\n".join(formula(rng).typst() for _ in range(rng.randint(1, 2)))


def recitation(rng: random.Random, pieces: Sequence[str]) -> Record:
    """Pieces of all scripts in random order, to be repeated; sometimes without the spaces between.

    All pieces are equally likely, and there are many, so that only the sequence itself predicts its
    copy. With pieces cut from running text, or with the characters of one script, a model learned
    their frequencies and never to copy.
    """
    drawn = [rng.choice(("", " ")) + piece for piece in rng.choices(pieces, k=rng.randint(2, 18))]
    if rng.random() < 0.8:
        return said("Repeat:", "".join(drawn).strip(), "".join(drawn).strip())
    return said(
        "Repeat without spaces:", "".join(drawn).strip(), "".join(piece.strip() for piece in drawn)
    )


def glossary(rng: random.Random) -> Record:
    """LaTeX symbols, and their names in Typst."""
    drawn = rng.choices(SYMBOLS, k=rng.randint(2, 10))
    return said(
        "Name in Typst:",
        " ".join(node.latex() for node in drawn),
        " ".join(node.typst() for node in drawn),
    )


def said(request: str, given: str, answer: str) -> Record:
    return {
        "messages": [
            {"role": "user", "content": f"{request}\n{given}"},
            {"role": "assistant", "content": answer},
        ]
    }


def inventory(rng: random.Random) -> list[str]:
    """The pieces of recitations: Japanese characters, and words of English, Polish and formulas.

    Those of Japanese, Polish and formulas are collected from 1500 draws of each grammar.
    """
    found = {*NOUNS, *ADJECTIVES, *VERBS}
    for _ in range(1500):
        found |= set(sentence(rng)) | set(polish_sentence(rng).rstrip(".").split())
        node = formula(rng)
        found |= set(re.findall(r"\\?[A-Za-z]+|\S", node.latex() + " " + node.typst()))
    return sorted(found)


SYMBOLS = (
    mathematics.LETTERS
    + mathematics.DIGITS
    + 2
    * (
        mathematics.GREEK
        + mathematics.STYLED
        + mathematics.OPERATORS
        + mathematics.RELATIONS
        + mathematics.FUNCTIONS
    )
)
NOUNS = (
    "teacher",
    "student",
    "river",
    "garden",
    "letter",
    "window",
    "market",
    "bridge",
    "doctor",
    "song",
    "picture",
    "road",
    "kitchen",
    "lesson",
    "answer",
    "number",
)
ADJECTIVES = (
    "old",
    "small",
    "quiet",
    "long",
    "simple",
    "bright",
    "heavy",
    "new",
    "warm",
    "open",
    "useful",
    "narrow",
)
VERBS = {
    "reads": ("letter", "answer", "lesson", "number"),
    "crosses": ("river", "bridge", "road", "market"),
    "paints": ("window", "picture", "bridge", "garden"),
    "explains": ("lesson", "answer", "number", "picture"),
    "remembers": ("song", "letter", "road", "teacher"),
    "visits": ("market", "doctor", "garden", "student"),
}
TIMES = (
    "In the morning",
    "Every week",
    "At noon",
    "Before the lesson",
    "In summer",
    "After the rain",
)


def english_passage(rng: random.Random) -> str:
    return " ".join(english(rng) for _ in range(rng.randint(1, 4)))


def english(rng: random.Random) -> str:
    verb = rng.choice(tuple(VERBS))
    who, what = rng.choice(("teacher", "student", "doctor")), rng.choice(VERBS[verb])
    text = f"the {rng.choice(ADJECTIVES)} {who} {verb} the {rng.choice(ADJECTIVES)} {what}"
    if rng.random() < 0.5:
        return f"{rng.choice(TIMES)}, {text}."
    return f"{text[0].upper()}{text[1:]}."


SIGNS = {
    "fever": ("paracetamol", "rest and fluids"),
    "cough": ("a cough syrup", "steam"),
    "headache": ("ibuprofen", "a dark room"),
    "rash": ("an antihistamine", "a cool cloth"),
    "nausea": ("ginger tea", "small meals"),
    "back pain": ("a warm compress", "gentle exercise"),
}
PARTS = ("chest", "throat", "left knee", "right shoulder", "stomach", "lower back")
DOSES = ("once a day", "twice a day", "every six hours", "before meals", "at bedtime")


def note(rng: random.Random) -> str:
    sign = rng.choice(tuple(SIGNS))
    remedy = rng.choice(SIGNS[sign])
    return (
        f"The patient, aged {rng.randint(2, 89)}, reports {sign} for {rng.randint(2, 14)} days. "
        f"Examination of the {rng.choice(PARTS)} is "
        f"{rng.choice(('normal', 'painful', 'unremarkable'))}. "
        f"Temperature {rng.randint(364, 402) / 10} degrees. "
        f"Advice: {remedy}, {rng.choice(DOSES)}."
    )


def leaflet(rng: random.Random) -> str:
    sign = rng.choice(tuple(SIGNS))
    return (
        f"What helps against {sign}? {SIGNS[sign][0][0].upper()}{SIGNS[sign][0][1:]} "
        f"or {SIGNS[sign][1]}, {rng.choice(DOSES)}. "
        f"Call a doctor when {sign} lasts more than {rng.randint(2, 9)} days "
        f"or the {rng.choice(PARTS)} hurts."
    )


GENERAL: tuple[tuple[str, Writer], ...] = (
    ("latex", latex),
    ("typst", typst),
    ("english", english_passage),
)
CLINICAL: tuple[tuple[str, Writer], ...] = (*(("note", note),) * 6, *(("leaflet", leaflet),) * 4)
