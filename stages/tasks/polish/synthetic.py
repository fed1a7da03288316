"""polish: demo corpora of short tasks in Polish: questions on a sentence, inflection, diacritics, register.

Level 1: singular and present tense. Level 2: both numbers, all tenses and aspects, and the register of an address; a share of
its rows is as at level 1, so that a model that continues on it does not forget. Marks such as <question> are tokens of their
own where the task adds them (`added_tokens`).
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from stages.grammar import polish

SIMPLE = 0.4
"""Share of level 2's rows that are drawn as at level 1."""

Task = tuple[str, str, str]  # instruction, input, answer

OBJECTS_ASKED = {
    "acc": ("Kogo", "Co"),
    "gen": ("Kogo", "Czego"),
    "dat": ("Komu", "Czemu"),
    "ins": ("Kim", "Czym"),
}
VERBS_OF_REQUESTS = (
    ("podać", "książkę gazetę łyżkę nóż ołówek pióro chleb zeszyt"), ("pokazać", "drogę obraz dom zdjęcie sklep list"),
    ("kupić", "chleb gazetę jabłko zeszyt lampę"), ("przeczytać", "list książkę gazetę lekcję"),
    ("otworzyć", "okno list sklep zeszyt"), ("znaleźć", "nóż kota psa ołówek książkę łyżkę"),
)  # fmt: skip


def lines(rng: random.Random, rows: int, level: int) -> Iterator[str]:
    """JSON objects in three forms, each with its category; no input with the same instruction twice."""
    kinds: dict[str, Callable[[random.Random, int], Task]] = {
        "question": question, "inflection": inflection, "diacritics": diacritics,
    }  # fmt: skip
    seen: set[tuple[str, str]] = set()
    while len(seen) < rows:
        at = 1 if level == 1 or rng.random() < SIMPLE else level
        category, make = rng.choice(
            list((kinds | {"register": register}).items() if at > 1 else kinds.items())
        )
        instruction, given, answer = make(rng, at)
        if (instruction, given) not in seen:
            seen.add((instruction, given))
            yield json.dumps(
                _form(rng, instruction, given, answer) | {"category": category}, ensure_ascii=False
            )


def question(rng: random.Random, level: int) -> Task:
    """A sentence, and a question on its subject, object or place."""
    drawn = polish.sentence(rng, level)
    person = drawn.object.noun.gender in ("m1", "m2") or drawn.object.noun.lemma in polish.PEOPLE
    asked = OBJECTS_ASKED[drawn.verb.case][0 if person else 1]
    predicate = drawn.predicate
    questions = [
        (f"{asked} {predicate} {drawn.who}?", drawn.what),
        (f"Gdzie {predicate} {drawn.who}?", drawn.where),
    ]
    if (
        drawn.subject_number == "sg" and drawn.subject.noun.gender == "m1"
    ):  # `kto` takes the masculine singular
        questions.append((f"Kto {predicate} {drawn.what}?", polish.capital(drawn.who)))
    wanted, answer = rng.choice(questions)
    return f"<question>{wanted}</question>", drawn.text, answer


def inflection(rng: random.Random, level: int) -> Task:
    """An adjective and a noun, or a noun alone, in a case and a number."""
    of = polish.phrase(rng, rng.choice(polish.nouns()))
    case, number = rng.choice(polish.CASES[1:6]), "sg" if level == 1 else rng.choice(("sg", "pl"))
    tags = f"{polish.CASE_NAMES[case]}, {polish.NUMBER_NAMES[number]}"
    return "Odmień.", f"{of.form('nom', 'sg')}: {tags}", of.form(case, number)  # type: ignore[arg-type]


def diacritics(rng: random.Random, level: int) -> Task:
    """A sentence as a foreign keyboard writes it, and as it should be."""
    text = polish.sentence(rng, level).text
    return "Dodaj polskie znaki.", polish.plain(text), text


def register(rng: random.Random, level: int) -> Task:
    """A request to a friend as one to a stranger, or the reverse."""
    verb, things = rng.choice(VERBS_OF_REQUESTS)
    thing, adverb = (
        rng.choice(things.split()),
        rng.choice(("", "jutro ", "teraz ", "dzisiaj ", "szybko ", "jeszcze raz ")),
    )
    whom = rng.choice(("mi", "nam", "koledze", "siostrze", "matce", "sąsiadowi"))
    title, mark = rng.choice((("Pan", "pana"), ("Pani", "pani"), ("Państwo", "państwa")))
    friends = title == "Państwo"
    informal = f"Czy {'możecie' if friends else 'możesz'} {adverb}{verb} {whom} {thing}?"
    formal = f"Czy {'mogą' if friends else 'może'} {title} {adverb}{verb} {whom} {thing}?"
    if rng.random() < 0.5:
        return f"<formal>Napisz do {mark}.</formal>", informal, formal
    return (
        "<informal>Napisz do kolegów.</informal>"
        if friends
        else "<informal>Napisz do kolegi.</informal>",
        formal,
        informal,
    )


def _form(rng: random.Random, instruction: str, given: str, answer: str) -> dict[str, Any]:
    """One of the three published forms, all of which give the same conversation."""
    asked = {"role": "user", "content": f"{instruction}\n{given}"}
    match rng.randrange(4):
        case 0:
            return {"messages": [asked, {"role": "assistant", "content": answer}]}
        case 1:
            return {"prompt": [asked], "completion": [{"role": "assistant", "content": answer}]}
        case _:
            return {"instruction": instruction, "input": given, "output": answer}
