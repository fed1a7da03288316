"""polish: demo corpora of short tasks: questions on a sentence, inflection, diacritics, register.

Level 1 has the singular and the present tense. Level 2 has both numbers, all tenses and aspects,
and formal and informal address; a share of its rows is drawn as at level 1, so that a model whose
training continues on level 2 does not forget level 1. Marks such as <question> become single tokens
where a run's settings list them (`added_tokens`).
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from stages.grammar import polish
from stages.grammar.polish_vocabulary import PEOPLE

SIMPLE = 0.4
"""Share of level 2's rows that are drawn as at level 1."""

Task = tuple[str, str, str]  # instruction, input, answer

OBJECT_INTERROGATIVES = {
    "acc": ("Kogo", "Co"),
    "gen": ("Kogo", "Czego"),
    "dat": ("Komu", "Czemu"),
    "ins": ("Kim", "Czym"),
}
VERBS_OF_REQUESTS = (
    ("podać", "książkę gazetę łyżkę nóż ołówek pióro chleb zeszyt"),
    ("pokazać", "drogę obraz dom zdjęcie sklep list"),
    ("kupić", "chleb gazetę jabłko zeszyt lampę"),
    ("przeczytać", "list książkę gazetę lekcję"),
    ("otworzyć", "okno list sklep zeszyt"),
    ("znaleźć", "nóż kota psa ołówek książkę łyżkę"),
)  # fmt: skip


def lines(rng: random.Random, rows: int, level: int) -> Iterator[str]:
    """JSON records in three forms, with a category; no two are equal in instruction and input."""
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
    """A sentence with a question on its subject, object or place, and the answer."""
    drawn = polish.sentence(rng, level)
    person = drawn.object.noun.gender in ("m1", "m2") or drawn.object.noun.lemma in PEOPLE
    interrogative = OBJECT_INTERROGATIVES[drawn.verb.case][0 if person else 1]
    predicate = drawn.predicate
    questions = [
        (f"{interrogative} {predicate} {drawn.who}?", drawn.what),
        (f"Gdzie {predicate} {drawn.who}?", drawn.where),
    ]
    # `kto` takes a verb in the masculine singular.
    if drawn.subject_number == "sg" and drawn.subject.noun.gender == "m1":
        questions.append((f"Kto {predicate} {drawn.what}?", polish.capital(drawn.who)))
    wanted, answer = rng.choice(questions)
    return f"<question>{wanted}</question>", drawn.text, answer


def inflection(rng: random.Random, level: int) -> Task:
    """A noun, perhaps with an adjective, to be put into a case and a number."""
    noun_phrase = polish.phrase(rng, rng.choice(polish.nouns()))
    case, number = rng.choice(polish.CASES[1:6]), "sg" if level == 1 else rng.choice(("sg", "pl"))
    tags = f"{polish.CASE_NAMES[case]}, {polish.NUMBER_NAMES[number]}"
    return "Odmień.", f"{noun_phrase.form('nom', 'sg')}: {tags}", noun_phrase.form(case, number)  # type: ignore[arg-type]


def diacritics(rng: random.Random, level: int) -> Task:
    """A sentence without diacritics, as typed on a foreign keyboard, and the sentence with them."""
    text = polish.sentence(rng, level).text
    return "Dodaj polskie znaki.", polish.plain(text), text


def register(rng: random.Random, level: int) -> Task:
    """A request in informal address to be put into formal address, or the reverse."""
    verb, things = rng.choice(VERBS_OF_REQUESTS)
    thing = rng.choice(things.split())
    adverb = rng.choice(("", "jutro ", "teraz ", "dzisiaj ", "szybko ", "jeszcze raz "))
    whom = rng.choice(("mi", "nam", "koledze", "siostrze", "matce", "sąsiadowi"))
    title, mark = rng.choice((("Pan", "pana"), ("Pani", "pani"), ("Państwo", "państwa")))
    friends = title == "Państwo"
    informal = f"Czy {'możecie' if friends else 'możesz'} {adverb}{verb} {whom} {thing}?"
    formal = f"Czy {'mogą' if friends else 'może'} {title} {adverb}{verb} {whom} {thing}?"
    if rng.random() < 0.5:
        return f"<formal>Napisz do {mark}.</formal>", informal, formal
    recipients = "kolegów" if friends else "kolegi"
    return f"<informal>Napisz do {recipients}.</informal>", formal, informal


def _form(rng: random.Random, instruction: str, given: str, answer: str) -> dict[str, Any]:
    """One of the three published forms; all of them stand for the same conversation."""
    user = {"role": "user", "content": f"{instruction}\n{given}"}
    match rng.randrange(4):
        case 0:
            return {"messages": [user, {"role": "assistant", "content": answer}]}
        case 1:
            return {"prompt": [user], "completion": [{"role": "assistant", "content": answer}]}
        case _:
            return {"instruction": instruction, "input": given, "output": answer}
