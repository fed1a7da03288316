"""Polish inflection: nouns in seven cases, and adjectives and verbs that agree with them.

polish_vocabulary.py has the forms that no rule gives; the other forms are derived from them.
"""

import random
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Literal

from stages.grammar.polish_vocabulary import (
    ADJECTIVES,
    INSTRUMENTAL_PLURAL,
    NOUNS,
    OBJECTS,
    PEOPLE,
    PLACES,
    VERBS,
)

Case = Literal["nom", "gen", "dat", "acc", "ins", "loc", "voc"]
Number = Literal["sg", "pl"]
CASES: tuple[Case, ...] = ("nom", "gen", "dat", "acc", "ins", "loc", "voc")
CASE_NAMES = {
    "nom": "mianownik", "gen": "dopełniacz", "dat": "celownik", "acc": "biernik",
    "ins": "narzędnik", "loc": "miejscownik", "voc": "wołacz",
}  # fmt: skip
NUMBER_NAMES = {"sg": "liczba pojedyncza", "pl": "liczba mnoga"}


@dataclass(frozen=True)
class Noun:
    """A noun with its fourteen forms."""

    lemma: str
    gender: str
    forms: dict[tuple[Case, Number], str]

    def __hash__(self) -> int:
        return hash(self.lemma)


@dataclass(frozen=True)
class Verb:
    """A pair of aspects: an imperfective in present and past, a perfective in future and past.

    Each tense has a singular and a plural form, in the third person; the past forms are masculine.
    """

    imperfective: str
    present: tuple[str, str]
    past: tuple[str, str]  # of the imperfective
    perfective: str
    future: tuple[str, str]
    done: tuple[str, str]  # the past of the perfective
    case: str  # of the object


@cache
def verbs() -> tuple[Verb, ...]:
    words = [
        [word.replace("_", " ") for word in line.split()] for line in VERBS.strip().splitlines()
    ]
    return tuple(
        Verb(a, (b, c), (d, e), f, (g, h), (i, j), case)
        for a, b, c, d, e, f, g, h, i, j, case in words
    )


@cache
def nouns() -> tuple[Noun, ...]:
    return tuple(noun(*line.split()) for line in NOUNS.strip().splitlines())


def noun(
    lemma: str,
    gender: str,
    gen: str,
    dat: str,
    ins: str,
    loc: str,
    voc: str,
    nom_pl: str,
    gen_pl: str,
) -> Noun:
    """A noun with all its forms, from those that no rule gives.

    The accusatives follow from the gender, the other plural forms from a stem.
    """
    feminine = lemma.endswith("a")
    if feminine:
        acc, stem = lemma[:-1] + "ę", lemma[:-1]
    else:
        acc = gen if gender in ("m1", "m2") else lemma
        # The i of -kiem and -giem is not part of the stem (ptakiem, ptakom); an i after another
        # consonant marks a soft stem and is part of it (koniem, koniom).
        stem = ins[:-3] if ins.endswith(("kiem", "giem")) else ins[:-2]
    if gender == "n":
        stem = nom_pl[:-1]
    singular = (lemma, gen, dat, acc, ins, loc, voc)
    ins_pl = INSTRUMENTAL_PLURAL.get(lemma, stem + "ami")
    acc_pl = gen_pl if gender == "m1" else nom_pl
    plural = (nom_pl, gen_pl, stem + "om", acc_pl, ins_pl, stem + "ach", nom_pl)
    numbers: tuple[tuple[Number, tuple[str, ...]], ...] = (("sg", singular), ("pl", plural))
    return Noun(
        lemma,
        gender,
        {
            (case, number): form
            for number, forms in numbers
            for case, form in zip(CASES, forms, strict=True)
        },
    )


def adjective(lemma: str, gender: str, case: Case, number: Number) -> str:
    """The form of an adjective that agrees with a noun: nowego domu, nową książką."""
    soft = lemma.endswith("i")
    stem = lemma if soft and lemma[-2] not in "kg" else lemma[:-1]
    velar = soft and lemma[-2] in "kg"
    # The vowels of the endings: wysok-i-ch, wysok-ie; ostatni-ch, ostatni-e; now-y-ch, now-e.
    y, e = ("i", "ie") if velar else ("", "e") if soft else ("y", "e")
    if number == "pl":
        personal = gender == "m1"
        nominative = ADJECTIVES[lemma] if personal else stem + e
        oblique = stem + y + "ch"
        accusative = oblique if personal else nominative
        return {
            "gen": oblique,
            "loc": oblique,
            "dat": stem + y + "m",
            "ins": stem + y + "mi",
            "acc": accusative,
        }.get(case, nominative)
    if gender == "f":
        return {"nom": stem + "a", "voc": stem + "a", "acc": stem + "ą", "ins": stem + "ą"}.get(
            case, stem + e + "j"
        )
    nominative = stem + e if gender == "n" else lemma
    genitive = stem + e + "go"
    accusative = genitive if gender in ("m1", "m2") else nominative
    instrumental = stem + y + "m"
    return {
        "gen": genitive, "dat": stem + e + "mu", "acc": accusative, "ins": instrumental,
        "loc": instrumental,
    }.get(case, nominative)  # fmt: skip


def past(masculine: str, men: str, gender: str, number: Number) -> str:
    """The past form that agrees with a subject: pisał, pisała, pisało, pisali, pisały.

    masculine: the singular of a masculine subject.   men: the plural of masculine persons.
    """
    reflexive = " się" if masculine.endswith(" się") else ""
    masculine = masculine.removesuffix(" się")
    if number == "pl":
        stem = _feminine(masculine)
        return men if gender == "m1" else stem + "y" + reflexive
    if gender == "f":
        return _feminine(masculine) + "a" + reflexive
    return (_feminine(masculine) + "o" if gender == "n" else masculine) + reflexive


def _feminine(masculine: str) -> str:
    """The form to which -a, -o and -y are added: widział of widział, pomogł of pomógł."""
    return masculine.replace("ógł", "ogł")


@dataclass(frozen=True)
class Phrase:
    """A noun with an adjective, or with none ("")."""

    adjective: str
    noun: Noun

    def form(self, case: Case, number: Number) -> str:
        words = (
            [adjective(self.adjective, self.noun.gender, case, number)] if self.adjective else []
        )
        return " ".join([*words, self.noun.forms[case, number]])


@dataclass(frozen=True)
class Sentence:
    """A subject with its verb, an object and a place.

    tense: "past" is the imperfective's past, "done" the perfective's.
    """

    subject: Phrase
    subject_number: Number
    verb: Verb
    tense: Literal["present", "past", "done", "future"]
    object: Phrase
    object_number: Number
    place: Noun

    @property
    def predicate(self) -> str:
        at = 0 if self.subject_number == "sg" else 1
        if self.tense in ("past", "done"):
            forms = self.verb.past if self.tense == "past" else self.verb.done
            return past(*forms, self.subject.noun.gender, self.subject_number)
        return (self.verb.present if self.tense == "present" else self.verb.future)[at]

    @property
    def where(self) -> str:
        return f"{PLACES[self.place.lemma]} {self.place.forms['loc', 'sg']}"

    @property
    def what(self) -> str:
        return self.object.form(self.verb.case, self.object_number)  # type: ignore[arg-type]

    @property
    def who(self) -> str:
        return self.subject.form("nom", self.subject_number)

    @property
    def text(self) -> str:
        return capital(f"{self.who} {self.predicate} {self.what} {self.where}.")


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def by_lemma(lemma: str) -> Noun:
    return next(noun for noun in nouns() if noun.lemma == lemma)


def sentence(rng: random.Random, level: int) -> Sentence:
    """A random sentence: at level 1 singular and present, at level 2 of any number and tense."""
    numbers: tuple[Number, ...] = ("sg",) if level == 1 else ("sg", "pl")
    tense = "present" if level == 1 else rng.choice(("present", "past", "done", "future"))
    verb = rng.choice(verbs())
    return Sentence(
        phrase(rng, by_lemma(rng.choice(PEOPLE))),
        rng.choice(numbers),
        verb,
        tense,  # type: ignore[arg-type]
        phrase(rng, by_lemma(rng.choice(OBJECTS[verb.imperfective]))),
        rng.choice(numbers),
        by_lemma(rng.choice(tuple(PLACES))),
    )


def phrase(rng: random.Random, noun: Noun) -> Phrase:
    return Phrase(rng.choice(tuple(ADJECTIVES)) if rng.random() < 0.6 else "", noun)


def plain(text: str) -> str:
    """The text without diacritics, as typed on a foreign keyboard."""
    decomposed = unicodedata.normalize("NFD", text.replace("ł", "l").replace("Ł", "L"))
    return "".join(character for character in decomposed if not unicodedata.combining(character))
