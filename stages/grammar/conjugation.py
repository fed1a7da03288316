"""Japanese inflection: verbs, both kinds of adjective, and nouns with the copula.

For each meaning there is one polite and one plain form, so that a sentence has only one right
spelling: the polite negative of い-adjectives is くないです, that of な-adjectives and nouns is
じゃありません.
"""

from dataclasses import dataclass
from typing import Literal

VerbKind = Literal["五", "一", "サ", "カ"]
AdjectiveKind = Literal["い", "な"]
Use = Literal["finite", "te", "wish", "while", "attribute", "adverb"]

GODAN = {
    "う": ("わ", "い", "って", "った"),
    "く": ("か", "き", "いて", "いた"),
    "ぐ": ("が", "ぎ", "いで", "いだ"),
    "す": ("さ", "し", "して", "した"),
    "つ": ("た", "ち", "って", "った"),
    "ぬ": ("な", "に", "んで", "んだ"),
    "ぶ": ("ば", "び", "んで", "んだ"),
    "む": ("ま", "み", "んで", "んだ"),
    "る": ("ら", "り", "って", "った"),
}
"""Last kana of a godan verb -> what replaces it before ない, before ます, in the て-form and in the
past."""

MASU = {
    (False, False): "ます",
    (True, False): "ました",
    (False, True): "ません",
    (True, True): "ませんでした",
}
"""(past, negative) -> polite ending of a verb."""

COPULA = {
    (False, False): "だ",
    (True, False): "だった",
    (False, True): "じゃない",
    (True, True): "じゃなかった",
}
DESU = {
    (False, False): "です",
    (True, False): "でした",
    (False, True): "じゃありません",
    (True, True): "じゃありませんでした",
}


@dataclass(frozen=True, slots=True)
class Form:
    """The inflection of a word. polite, past and negative apply to a finite form or a wish."""

    use: Use = "finite"
    polite: bool = False
    past: bool = False
    negative: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """text: the dictionary form.

    kind: 五 (godan), 一 (ichidan), サ (する and its compounds), カ (来る).
    """

    text: str
    kind: VerbKind

    @property
    def root(self) -> str:
        """The part that all forms share: 飲 of 飲む, 食べ of 食べる, 勉強 of 勉強する."""
        return self.text[:-2] if self.kind == "サ" else self.text[:-1]

    @property
    def stem(self) -> str:
        """連用形, the stem before ます, たい and ながら."""
        return self.root + (
            "し" if self.kind == "サ" else GODAN[self.text[-1]][1] if self.kind == "五" else ""
        )

    @property
    def denied(self) -> str:
        """未然形, the stem before ない."""
        return self.root + (
            "し" if self.kind == "サ" else GODAN[self.text[-1]][0] if self.kind == "五" else ""
        )

    @property
    def te(self) -> str:
        if self.kind != "五":
            return self.stem + "て"
        return self.root + ("って" if self.text == "行く" else GODAN[self.text[-1]][2])

    @property
    def past(self) -> str:
        if self.kind != "五":
            return self.stem + "た"
        return self.root + ("った" if self.text == "行く" else GODAN[self.text[-1]][3])

    def inflect(self, form: Form) -> str:
        if form.use == "te":
            return self.te
        if form.use == "while":
            return self.stem + "ながら"
        if form.use == "wish":
            return Adjective(self.stem + "たい", "い").finite(form)
        if form.polite:
            return self.stem + MASU[form.past, form.negative]
        if form.negative:
            nai = "ない" if self.text == "ある" else self.denied + "ない"
            return nai[:-1] + "かった" if form.past else nai
        return self.past if form.past else self.text


@dataclass(frozen=True, slots=True)
class Adjective:
    """text: the dictionary form, 高い; of a な-adjective without な, 静か.

    kinds: the kinds of noun that it can describe.   praise: whether it is positive or negative, as
    contrasts such as "expensive, but good" need it; None for neither (赤い).
    """

    text: str
    kind: AdjectiveKind
    kinds: frozenset[str] = frozenset()
    praise: bool | None = None
    level: int = 1

    @property
    def root(self) -> str:
        """The part that all other forms share: 高 of 高い, よ of いい."""
        if self.text == "いい":
            return "よ"
        return self.text[:-1] if self.kind == "い" else self.text

    def inflect(self, form: Form) -> str:
        if form.use == "finite":
            return self.finite(form)
        if self.kind == "い":
            return {"te": self.root + "くて", "adverb": self.root + "く"}.get(form.use, self.text)
        return self.text + {"te": "で", "adverb": "に"}.get(form.use, "な")

    def finite(self, form: Form) -> str:
        if self.kind == "な":
            return copula(self.text, form)
        plain = {
            (False, False): self.text,
            (True, False): self.root + "かった",
            (False, True): self.root + "くない",
            (True, True): self.root + "くなかった",
        }[form.past, form.negative]
        return plain + "です" if form.polite else plain


@dataclass(frozen=True, slots=True)
class Noun:
    """kind: decides which adjectives fit.   counter: 冊 for books; "" if it is not counted."""

    text: str
    kind: str
    counter: str = ""
    level: int = 1

    def inflect(self, form: Form) -> str:
        return copula(self.text, form)


Word = Verb | Adjective | Noun


def copula(text: str, form: Form) -> str:
    return text + (DESU if form.polite else COPULA)[form.past, form.negative]
