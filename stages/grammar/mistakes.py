"""Typical errors of learners in a Japanese sentence, where the sentence itself shows what is right.

Each planter gives all errors of one type that a sentence allows; its docstring has examples.
An error is left out if the sentence would be right in another reading: は for が, に for へ, a day
that may belong to another clause, 友達会う, in which either に or と could be missing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from stages.grammar.conjugation import DESU, GODAN, Adjective, Form, Noun, Verb
from stages.grammar.sentence import Segment, Sentence
from stages.grammar.vocabulary import ARU, IRU


@dataclass(frozen=True, slots=True)
class Slip:
    """An error: `wrong` in place of the segments start … stop - 1 of a sentence."""

    start: int
    stop: int
    wrong: str


def particles(sentence: Sentence) -> Iterator[Slip]:
    """本が読みます for 本を読みます."""
    for at, segment in enumerate(sentence.segments):
        if segment.role == "particle":
            yield from (Slip(at, at + 1, wrong) for wrong in segment.never)


def tenses(sentence: Sentence) -> Iterator[Slip]:
    """昨日、本を読みます; only in sentences without a further clause, which has its own tense."""
    roles = {segment.role for segment in sentence.segments}
    if roles & {"past", "future"} and not roles & {"clause", "inner"}:
        for at, word, form in _predicates(sentence):
            yield Slip(at, at + 1, word.inflect(replace(form, past=not form.past)))


def adjectives(sentence: Sentence) -> Iterator[Slip]:
    """高いでした, 高くの本, 静かい部屋."""
    for at, segment in enumerate(sentence.segments):
        if isinstance(segment.word, Adjective) and segment.form:
            for wrong in _misinflected(segment.word, segment.form, sentence.segments[at + 1]):
                yield Slip(at, at + 1, wrong)


def _misinflected(adjective: Adjective, form: Form, after: Segment) -> Iterator[str]:
    text, root, meaning = adjective.text, adjective.root, (form.past, form.negative)
    if adjective.kind == "い":
        if form.use == "attribute":
            yield from (text + "の", text + "な")
        elif form.use == "adverb":
            yield from (text + "に", text + "く")
            if isinstance(after.word, Verb):  # 楽しいテニスをする is right, 楽しい遊ぶ is not
                yield text
        elif form.use == "te":
            yield from (text + "で", text + "て", root + "くで")
        elif form.polite:
            yield from {
                (True, False): (text + "でした", text + "かったです"),
                (False, True): (text + "じゃないです", text + "くないです"),
                (True, True): (text + "じゃなかったです", text + "くなかったです"),
            }.get(meaning, ())
        else:
            yield from {
                (False, False): (text + "だ",),
                (True, False): (text + "だった", text + "かった"),
                (False, True): (text + "じゃない", text + "くない"),
                (True, True): (text + "じゃなかった", text + "くなかった"),
            }[meaning]
        return
    if text == "上手":  # 上手く and 上手い are words, read うまく and うまい
        if form.use == "adverb":
            yield text
        return
    if form.use == "attribute":
        if after.text == "ので、":
            yield from (text, text + "だ")
            return
        yield from (text + "い", text + "の")
        if text[-1] in "かい":  # 簡単料理 could be a compound, 静か部屋 could not
            yield text
    elif form.use == "adverb":
        yield from (text, text + "く")
    elif form.use == "te":
        yield from (text + "くて", text + "て")
    elif form.polite:
        yield from {
            (False, False): (text + "いです",),
            (True, False): (text + "かったです", text + "いでした"),
            (False, True): (text + "くありません",),
            (True, True): (text + "くありませんでした",),
        }[meaning]
    else:
        yield from {
            (False, False): (text + "い",) if after.text == "。" else (text, text + "い"),
            (True, False): (text + "かった",),
            (False, True): (text + "くない",),
            (True, True): (text + "くなかった",),
        }[meaning]


def verbs(sentence: Sentence) -> Iterator[Slip]:
    """飲むて, 食べるます, 書って, 帰ます."""
    happened = any(segment.role == "past" for segment in sentence.segments)
    for at, segment in enumerate(sentence.segments):
        if isinstance(segment.word, Verb) and segment.form:
            for wrong in _misconjugated(segment.word, segment.form, segment.text, happened):
                yield Slip(at, at + 1, wrong)


def _misconjugated(verb: Verb, form: Form, text: str, happened: bool) -> Iterator[str]:
    """Wrong forms of a verb in place of its right form `text`.

    happened: whether the sentence shows that the action is past. Otherwise 飲みた could also be
    飲みたい without its end, so that it has two corrections.
    """
    if form.use == "te" or (
        form.use == "finite" and form.past and not form.polite and not form.negative
    ):
        te, ends = form.use == "te", "て" if form.use == "te" else "た"
        yield verb.text + ends
        if verb in (ARU, IRU):  # あいた and いった are right forms of 開く and 行く
            return
        if verb.kind != "五":
            yield verb.root + ("しっ" if verb.kind == "サ" else "っ") + ends
        elif verb.text[-1] != "す":
            if te or happened:
                yield verb.stem + ends
            for _, _, with_te, with_ta in (GODAN["う"], GODAN["く"]):
                if (other := verb.root + (with_te if te else with_ta)) != text:
                    yield other
            if verb.text[-1] in "うる":
                yield verb.root + ends
    elif form.use == "finite" and form.negative and not form.polite:
        if verb == ARU:
            yield from (start + text for start in ("あら", "ある"))
            return
        yield from (
            wrong + text.removeprefix(verb.denied) for wrong in _stems(verb, verb.denied, "ら")
        )
    elif form.polite or form.use in ("wish", "while"):
        yield from (wrong + text.removeprefix(verb.stem) for wrong in _stems(verb, verb.stem, "り"))


def _stems(verb: Verb, right: str, godan: str) -> Iterator[str]:
    """Stems other than the right one.

    godan: the kana after the root of a 一 verb if it is inflected like a 五 verb.
    """
    if verb.kind == "五":
        yield from (stem for stem in (verb.text, verb.stem, verb.denied) if stem != right)
        if verb.text[-1] == "る":
            yield verb.root
    else:
        yield verb.text
        if verb.kind != "サ":
            yield verb.root + godan


def registers(sentence: Sentence) -> Iterator[Slip]:
    """行くです; plain after 先生、 or a polite clause; polite where only plain is right."""
    called = any(
        segment.role == "address"
        or (segment.role == "clause" and segment.form and segment.form.polite)
        for segment in sentence.segments
    )
    for at, word, form in _predicates(sentence):
        if not form.polite:
            continue
        plain = word.inflect(replace(form, polite=False))
        if called:
            yield Slip(at, at + 1, plain)
        if (
            not form.negative
            and form.use == "finite"
            and (isinstance(word, Verb) or plain.endswith("だ"))
        ):
            yield Slip(at, at + 1, plain + DESU[False, False])
    for at, segment in enumerate(sentence.segments):
        # ましたので is right, too; 静かな before a noun has no polite form.
        if (
            segment.role == "inner"
            and segment.word
            and segment.form
            and segment.form.use == "finite"
        ):
            wrong = segment.word.inflect(replace(segment.form, polite=True))
            if sentence.segments[at + 1].text != "ので、":
                yield Slip(at, at + 1, wrong)


def counters(sentence: Sentence) -> Iterator[Slip]:
    """三枚の本 for 三冊の本."""
    for at, segment in enumerate(sentence.segments):
        if segment.role == "counter" and isinstance(segment.word, Noun):
            wrong = "枚冊匹台本" if segment.text in "台匹人枚" else "枚冊匹台"
            for counter in wrong:
                if counter != segment.text and counter + segment.text not in ALSO_RIGHT:
                    yield Slip(at, at + 1, counter)


ALSO_RIGHT = ("枚通", "枚着", "匹羽")
"""(other counter + usual counter) where both are right: letters and clothes can be counted with 枚,
birds with 匹."""


def omissions(sentence: Sentence) -> Iterator[Slip]:
    """本読みます: without the particle just before the verb, or without に after the hour."""
    for at, segment in enumerate(sentence.segments):
        if segment.role != "particle" or not segment.never:
            continue
        after = sentence.segments[at + 1]
        predicate = (
            after.word is not None
            and after.role in PREDICATES
            and after.word.text not in TWO_PARTICLES
        )
        # 母が買った本 has a second correction, 母の買った本.
        of_a_noun = after.role == "inner" and segment.text == "が"
        if sentence.segments[at - 1].role == "hour" or (predicate and not of_a_noun):
            yield Slip(at, at + 1, "")


PREDICATES = ("te", "clause", "inner", "while", "predicate")
TWO_PARTICLES = frozenset(("会う", "相談する", "走る", "泳ぐ"))
"""Verbs that can have another particle too: 友達と会う, 公園を走る."""


def orders(sentence: Sentence) -> Iterator[Slip]:
    """食べますすしを, 車新しいを, をすし食べます."""
    segments = sentence.segments
    last = len(segments) - 1
    verb = (
        last - 2
        if segments[last - 2].role == "te" and segments[last - 1].role != "end"
        else last - 1
    )
    for at in range(1, last):
        noun, case = segments[at - 1], segments[at]
        if case.role != "particle" or noun.role not in ("noun", "hour"):
            continue
        if at > 1 and segments[at - 2].role == "attribute":
            yield Slip(at - 2, at, noun.text + segments[at - 2].text)
        if not case.never:
            continue
        if case.text in "をに":
            yield Slip(at - 1, at + 1, case.text + noun.text)
        if at + 1 == verb and not (at > 1 and segments[at - 2].text == "の"):
            start = at - 2 if at > 1 and segments[at - 2].role == "attribute" else at - 1
            if start == 0 or segments[start - 1].role != "inner":
                yield Slip(start, last, _text(segments[verb:last]) + _text(segments[start:verb]))


def existences(sentence: Sentence) -> Iterator[Slip]:
    """犬があります for 犬がいます."""
    for at, segment in enumerate(sentence.segments):
        if (
            segment.word in (ARU, IRU)
            and segment.form
            and sentence.segments[at - 1].role in ("particle", "counter")
        ):
            wrong = (IRU if segment.word == ARU else ARU).inflect(segment.form)
            if wrong != "いる":  # いる can also be 要る, to need
                yield Slip(at, at + 1, wrong)


PLANTERS: dict[str, Callable[[Sentence], Iterator[Slip]]] = {
    "Particle": particles,
    "Tense": tenses,
    "Adjective": adjectives,
    "Verb": verbs,
    "Politeness": registers,
    "Counter": counters,
    "Omission": omissions,
    "Order": orders,
    "Existence": existences,
}


def _predicates(sentence: Sentence) -> Iterator[tuple[int, Verb | Adjective | Noun, Form]]:
    """(index, word, form) of the last predicate, if it is inflected."""
    for at, segment in enumerate(sentence.segments):
        if segment.role == "predicate" and segment.word and segment.form:
            yield at, segment.word, segment.form


def _text(segments: tuple[Segment, ...]) -> str:
    return "".join(segment.text for segment in segments)
