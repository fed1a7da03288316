"""Polish with its inflection: nouns of five genders in seven cases, adjectives and verbs that agree with them.

Nouns stand in a table with the forms that no rule gives (Saloni et al., Słownik gramatyczny języka polskiego, is the
authority for them); the other forms follow from those.
"""

import random
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Literal

Case = Literal["nom", "gen", "dat", "acc", "ins", "loc", "voc"]
Number = Literal["sg", "pl"]
CASES: tuple[Case, ...] = ("nom", "gen", "dat", "acc", "ins", "loc", "voc")
CASE_NAMES = {
    "nom": "mianownik", "gen": "dopełniacz", "dat": "celownik", "acc": "biernik", "ins": "narzędnik", "loc": "miejscownik",
    "voc": "wołacz",
}  # fmt: skip
NUMBER_NAMES = {"sg": "liczba pojedyncza", "pl": "liczba mnoga"}

# lemma, gender, and in the singular genitive, dative, instrumental, locative, vocative; in the plural nominative, genitive.
# Genders: m1 persons, m2 animals, m3 things, f, n.
NOUNS = """
student m1 studenta studentowi studentem studencie studencie studenci studentów
nauczyciel m1 nauczyciela nauczycielowi nauczycielem nauczycielu nauczycielu nauczyciele nauczycieli
lekarz m1 lekarza lekarzowi lekarzem lekarzu lekarzu lekarze lekarzy
sąsiad m1 sąsiada sąsiadowi sąsiadem sąsiedzie sąsiedzie sąsiedzi sąsiadów
kucharz m1 kucharza kucharzowi kucharzem kucharzu kucharzu kucharze kucharzy
aktor m1 aktora aktorowi aktorem aktorze aktorze aktorzy aktorów
malarz m1 malarza malarzowi malarzem malarzu malarzu malarze malarzy
kolega m1 kolegi koledze kolegą koledze kolego koledzy kolegów
kot m2 kota kotu kotem kocie kocie koty kotów
pies m2 psa psu psem psie psie psy psów
koń m2 konia koniowi koniem koniu koniu konie koni
ptak m2 ptaka ptakowi ptakiem ptaku ptaku ptaki ptaków
królik m2 królika królikowi królikiem króliku króliku króliki królików
stół m3 stołu stołowi stołem stole stole stoły stołów
dom m3 domu domowi domem domu domu domy domów
samochód m3 samochodu samochodowi samochodem samochodzie samochodzie samochody samochodów
list m3 listu listowi listem liście liście listy listów
obraz m3 obrazu obrazowi obrazem obrazie obrazie obrazy obrazów
chleb m3 chleba chlebowi chlebem chlebie chlebie chleby chlebów
ogród m3 ogrodu ogrodowi ogrodem ogrodzie ogrodzie ogrody ogrodów
las m3 lasu lasowi lasem lesie lesie lasy lasów
park m3 parku parkowi parkiem parku parku parki parków
sklep m3 sklepu sklepowi sklepem sklepie sklepie sklepy sklepów
ołówek m3 ołówka ołówkowi ołówkiem ołówku ołówku ołówki ołówków
nóż m3 noża nożowi nożem nożu nożu noże noży
zeszyt m3 zeszytu zeszytowi zeszytem zeszycie zeszycie zeszyty zeszytów
most m3 mostu mostowi mostem moście moście mosty mostów
książka f książki książce książką książce książko książki książek
gazeta f gazety gazecie gazetą gazecie gazeto gazety gazet
szkoła f szkoły szkole szkołą szkole szkoło szkoły szkół
kobieta f kobiety kobiecie kobietą kobiecie kobieto kobiety kobiet
siostra f siostry siostrze siostrą siostrze siostro siostry sióstr
ręka f ręki ręce ręką ręce ręko ręce rąk
noga f nogi nodze nogą nodze nogo nogi nóg
matka f matki matce matką matce matko matki matek
droga f drogi drodze drogą drodze drogo drogi dróg
zupa f zupy zupie zupą zupie zupo zupy zup
lampa f lampy lampie lampą lampie lampo lampy lamp
ulica f ulicy ulicy ulicą ulicy ulico ulice ulic
kuchnia f kuchni kuchni kuchnią kuchni kuchnio kuchnie kuchni
lekcja f lekcji lekcji lekcją lekcji lekcjo lekcje lekcji
łyżka f łyżki łyżce łyżką łyżce łyżko łyżki łyżek
okno n okna oknu oknem oknie okno okna okien
jabłko n jabłka jabłku jabłkiem jabłku jabłko jabłka jabłek
drzewo n drzewa drzewu drzewem drzewie drzewo drzewa drzew
miasto n miasta miastu miastem mieście miasto miasta miast
pióro n pióra pióru piórem piórze pióro pióra piór
krzesło n krzesła krzesłu krzesłem krześle krzesło krzesła krzeseł
pole n pola polu polem polu pole pola pól
zdjęcie n zdjęcia zdjęciu zdjęciem zdjęciu zdjęcie zdjęcia zdjęć
mieszkanie n mieszkania mieszkaniu mieszkaniem mieszkaniu mieszkanie mieszkania mieszkań
"""
INSTRUMENTAL_PLURAL = {"koń": "końmi"}  # where it is not the stem with -ami
ADJECTIVES = {  # masculine singular: nominative plural of men
    "nowy": "nowi", "stary": "starzy", "mały": "mali", "duży": "duzi", "młody": "młodzi", "dobry": "dobrzy", "biały": "biali",
    "czarny": "czarni", "czerwony": "czerwoni", "zielony": "zieloni", "piękny": "piękni", "ciekawy": "ciekawi",
    "wysoki": "wysocy", "drogi": "drodzy", "niski": "niscy", "krótki": "krótcy", "bogaty": "bogaci", "wesoły": "weseli",
    "zmęczony": "zmęczeni", "spokojny": "spokojni", "ładny": "ładni", "ostatni": "ostatni", "tani": "tani",
}  # fmt: skip


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
    """A pair of aspects: the imperfective in present and past, the perfective in future and past."""

    imperfective: str
    present: tuple[str, str]  # he, they
    past: tuple[str, str]  # he, men (imperfective)
    perfective: str
    future: tuple[str, str]  # he, they
    done: tuple[str, str]  # he, men (perfective)
    case: str  # of its object


# Imperfective, present of him and of them, past of him and of men; perfective, future and past likewise; case of the object.
VERB_TABLE = """
czytać czyta czytają czytał czytali przeczytać przeczyta przeczytają przeczytał przeczytali acc
pisać pisze piszą pisał pisali napisać napisze napiszą napisał napisali acc
kupować kupuje kupują kupował kupowali kupić kupi kupią kupił kupili acc
malować maluje malują malował malowali namalować namaluje namalują namalował namalowali acc
widzieć widzi widzą widział widzieli zobaczyć zobaczy zobaczą zobaczył zobaczyli acc
budować buduje budują budował budowali zbudować zbuduje zbudują zbudował zbudowali acc
gotować gotuje gotują gotował gotowali ugotować ugotuje ugotują ugotował ugotowali acc
szukać szuka szukają szukał szukali poszukać poszuka poszukają poszukał poszukali gen
pomagać pomaga pomagają pomagał pomagali pomóc pomoże pomogą pomógł pomogli dat
ufać ufa ufają ufał ufali zaufać zaufa zaufają zaufał zaufali dat
opiekować_się opiekuje_się opiekują_się opiekował_się opiekowali_się zaopiekować_się zaopiekuje_się zaopiekują_się \
zaopiekował_się zaopiekowali_się ins
"""


@cache
def verbs() -> tuple[Verb, ...]:
    words = [
        [word.replace("_", " ") for word in line.split()]
        for line in VERB_TABLE.strip().splitlines()
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
    """All forms of a noun from those that vary: the accusative follows from the gender, the rest of the plural from a stem."""
    feminine = lemma.endswith("a")
    if feminine:
        acc, stem = lemma[:-1] + "ę", lemma[:-1]
    else:
        acc = gen if gender in ("m1", "m2") else lemma
        # In -kiem and -giem the i is spelling alone (ptakiem, but ptakom); elsewhere it marks a soft stem (koniom).
        stem = ins[:-3] if ins.endswith(("kiem", "giem")) else ins[:-2]
    if gender == "n":
        stem = nom_pl[:-1]
    singular = (lemma, gen, dat, acc, ins, loc, voc)
    ins_pl = INSTRUMENTAL_PLURAL.get(lemma, stem + "ami")
    plural = (
        nom_pl,
        gen_pl,
        stem + "om",
        gen_pl if gender == "m1" else nom_pl,
        ins_pl,
        stem + "ach",
        nom_pl,
    )
    forms: dict[tuple[Case, Number], str] = {}
    for case, of_one, of_many in zip(CASES, singular, plural, strict=True):
        forms |= {(case, "sg"): of_one, (case, "pl"): of_many}
    return Noun(lemma, gender, forms)


def adjective(lemma: str, gender: str, case: Case, number: Number) -> str:
    """The form that agrees: nowego domu, nową książką, wysocy studenci, wysokie domy."""
    soft = lemma.endswith("i")
    stem = lemma if soft and lemma[-2] not in "kg" else lemma[:-1]
    velar = soft and lemma[-2] in "kg"
    y, e = (
        ("i", "ie") if velar else ("", "e") if soft else ("y", "e")
    )  # ostatni + ch, wysoki + ch, nowy + ch
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
        "gen": genitive, "dat": stem + e + "mu", "acc": accusative, "ins": instrumental, "loc": instrumental,
    }.get(case, nominative)  # fmt: skip


def past(masculine: str, men: str, gender: str, number: Number) -> str:
    """The past that agrees with its subject, from the forms of a man and of men: pisał, pisała, pisali, pisały."""
    masculine, reflexive = (
        masculine.removesuffix(" się"),
        " się" if masculine.endswith(" się") else "",
    )
    if number == "pl":
        stem = _feminine(masculine)
        return men if gender == "m1" else stem + "y" + reflexive
    if gender == "f":
        return _feminine(masculine) + "a" + reflexive
    return (_feminine(masculine) + "o" if gender == "n" else masculine) + reflexive


def _feminine(masculine: str) -> str:
    """The stem before -a, -o, -y: widział – widzia, pomógł – pomogł."""
    return masculine.replace("ógł", "ogł")


@dataclass(frozen=True)
class Phrase:
    """An adjective, perhaps, and a noun."""

    adjective: str
    noun: Noun

    def form(self, case: Case, number: Number) -> str:
        words = (
            [adjective(self.adjective, self.noun.gender, case, number)] if self.adjective else []
        )
        return " ".join([*words, self.noun.forms[case, number]])


PLACES = {"park": "w", "ogród": "w", "las": "w", "sklep": "w", "kuchnia": "w", "szkoła": "w", "miasto": "w", "dom": "w",
          "most": "na", "ulica": "na", "pole": "na", "lekcja": "na"}  # fmt: skip
OBJECTS = {
    "czytać": ("książka", "gazeta", "list"), "pisać": ("list", "książka"),
    "kupować": ("chleb", "obraz", "samochód", "książka", "gazeta", "lampa", "jabłko", "pióro", "stół", "krzesło", "zeszyt"),
    "malować": ("obraz", "kot", "drzewo", "dom", "most", "koń", "krzesło", "okno"),
    "widzieć": ("kot", "pies", "koń", "ptak", "królik", "kobieta", "student", "sąsiad", "drzewo", "samochód", "aktor"),
    "budować": ("dom", "most", "szkoła", "stół"), "gotować": ("zupa", "jabłko"),
    "szukać": ("kot", "pies", "książka", "ołówek", "nóż", "łyżka", "sklep", "pióro", "zeszyt", "droga"),
    "pomagać": ("kobieta", "matka", "siostra", "sąsiad", "kolega", "student", "nauczyciel", "lekarz"),
    "ufać": ("lekarz", "nauczyciel", "kolega", "siostra", "matka", "sąsiad", "pies"),
    "opiekować się": ("kot", "pies", "koń", "królik", "ogród", "siostra", "dom"),
}  # fmt: skip
PEOPLE = (
    "student",
    "nauczyciel",
    "lekarz",
    "sąsiad",
    "kucharz",
    "aktor",
    "malarz",
    "kolega",
    "kobieta",
    "siostra",
    "matka",
)


@dataclass(frozen=True)
class Sentence:
    """Who does what, where: with the numbers of subject and object, and a tense."""

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
    """Level 1: singular, present; level 2: both numbers and all tenses."""
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
    """The text without its diacritics, as typed on a foreign keyboard."""
    decomposed = unicodedata.normalize("NFD", text.replace("ł", "l").replace("Ł", "L"))
    return "".join(character for character in decomposed if not unicodedata.combining(character))
