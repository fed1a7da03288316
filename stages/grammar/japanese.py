"""Correct Japanese sentences as rows of segments with roles, drawn by a small grammar.

Level 1 has simple sentences; level 2 has more words, て-chains, reasons, contrasts, relative clauses and quotations. Rules
that make a sentence's register and tense tell from the sentence itself:
- a day calls for its tense (昨日 … ました, 明日 … ます, 毎日 … ます); without one the tense is free;
- after 先生、 or another form of address everything is polite (丁寧体);
- after a polite clause (…ましたから、 …ですが、) the main clause is polite too;
- what modifies a noun, and what stands before 前に, 後で, ので and と思う, is plain (普通体).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from stages.grammar import vocabulary as words
from stages.grammar.conjugation import Adjective, Form, Noun, Verb, Word

LONGEST = {1: 24, 2: 34}
"""Characters that a sentence of each level has at most."""

Role = Literal[
    "address",  # 先生、
    "past", "future", "time",  # 昨日、 明日、 毎日、
    "hour",  # 七時
    "noun",
    "particle",
    "determiner",  # この
    "attribute",  # 新しい, 静かな
    "number", "counter",  # 三 冊
    "adverb",
    "te",  # 読んで of 読んでいます, and of 読んで、
    "clause",  # a finite predicate before から or が、: its register is the sentence's
    "inner",  # a predicate that must be plain
    "while",  # 聞きながら
    "predicate",  # the last predicate
    "request",  # ください
    "link",  # から、 ので、 と思います
    "end",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Segment:
    """A word or a particle of a sentence.

    word and form: what the text is inflected from (the noun, for a counter).   never: particles that are wrong in this
    one's place whatever the speaker means.
    """

    text: str
    role: Role
    word: Word | None = None
    form: Form | None = None
    never: str = ""


@dataclass(frozen=True, slots=True)
class Sentence:
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)


Segments = list[Segment]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Frame:
    """What holds for a sentence as a whole, and the words in front of it."""

    level: int
    polite: bool
    past: bool
    habit: bool
    speaker: bool
    opening: tuple[Segment, ...]

    def finite(self, negative: bool = False) -> Form:
        return Form(polite=self.polite, past=self.past, negative=negative)

    @property
    def plain(self) -> Form:
        return Form(past=self.past)


def sentence(rng: random.Random, level: int) -> Sentence:
    """A sentence of this level (1 or 2), no longer than LONGEST[level]."""
    while True:
        drawn = Sentence((*rng.choice(PATTERNS[level])(rng, level), Segment("。", "end")))
        if len(drawn.text) <= LONGEST[level]:
            return drawn


# Parts


def spoken(word: Word, form: Form, role: Role) -> Segment:
    return Segment(word.inflect(form), role, word, form)


def particle(text: str, never: str = "") -> Segment:
    return Segment(text, "particle", never=never)


def pick(rng: random.Random, items: "tuple[Item, ...]", level: int) -> Item:
    """One that the level may use; at level 2 every other draw is among what is new there."""
    known = [item for item in items if getattr(item, "level", 1) <= level]
    if level == 2 and rng.random() < 0.5:
        known = [item for item in known if getattr(item, "level", 1) == 2] or known
    return rng.choice(known)


def frame(rng: random.Random, level: int, *, topic: bool | None = True, day: bool = True, wish: bool = False) -> Frame:
    """Register, tense and opening.   topic: with 私は, by chance if None.   wish: only the speaker can be the topic."""
    polite, past, habit = rng.random() < 0.6, rng.random() < 0.5, False
    before: Segments = []
    after: Segments = []
    who = rng.choice(words.SPEAKERS if wish else words.PEOPLE[level])
    if polite and rng.random() < 0.2:
        before.append(Segment(rng.choice(("先生、", "部長、", "お客様、")[: level + 1]), "address"))
        who = who if who not in ("先生", "友達") else "私"
    if day and rng.random() < 0.6:
        role: Literal["past", "future", "time"] = rng.choice(("past", "past", "future", "future", "time"))
        past, habit = role == "past", role == "time"
        (before if rng.random() < 0.7 else after).append(
            Segment(rng.choice(words.DAYS[role, level]) + "、", role)
        )
    said = after or topic or (topic is None and rng.random() < 0.6)
    opening = [*before, *([Segment(who, "noun"), particle("は")] if said else []), *after]
    return Frame(level, polite, past, habit, who in words.SPEAKERS, tuple(opening))


def described(rng: random.Random, noun: Noun, level: int, chance: float) -> Segments:
    """The noun, perhaps with an adjective before it."""
    fitting = tuple(word for word in words.ADJECTIVES.values() if noun.kind in word.kinds and word.level <= level)
    if fitting and rng.random() < chance:
        return [spoken(pick(rng, fitting, level), Form("attribute"), "attribute"), Segment(noun.text, "noun", noun)]
    return [Segment(noun.text, "noun", noun)]


def counted(rng: random.Random, noun: Noun) -> Segments:
    return [Segment(rng.choice(words.NUMBERS), "number"), Segment(noun.counter, "counter", noun)]


def manner(rng: random.Random, action: words.Frame) -> Segments:
    if not action.manners:
        return []
    how = rng.choice(action.manners)
    return [Segment(how, "adverb") if isinstance(how, str) else spoken(how, Form("adverb"), "adverb")]


def place(rng: random.Random, places: tuple[str, ...]) -> Segments:
    return [Segment(rng.choice(places), "noun"), particle("で", "にへ")]


def action_of(rng: random.Random, level: int, fits: Callable[[words.Frame], bool] = lambda _: True) -> words.Frame:
    return pick(rng, tuple(action for action in words.ACTIONS if fits(action)), level)


def arguments(
    rng: random.Random, action: words.Frame, level: int, *, rich: float = 0.5, places: tuple[str, ...] | None = None
) -> Segments:
    """What stands before the verb: place, manner, noun with its particle, number.

    rich: how likely each of the optional ones is.   places: instead of the action's own.
    """
    parts: Segments = []
    if (where := places or action.places) and (places or rng.random() < rich):
        parts += place(rng, where)
    how = manner(rng, action) if rng.random() < rich / 2 or not (action.nouns or parts) else []
    parts += how
    if action.nouns:
        noun = rng.choice(action.nouns)
        case = particle(action.particle, action.never)
        if action.particle == "を" and noun.counter and not how and rng.random() < 0.3:
            number = counted(rng, noun)
            if rng.random() < 0.5:
                return [*parts, *number, particle("の"), Segment(noun.text, "noun", noun), case]
            return [*parts, *described(rng, noun, level, rich / 2), case, *number]
        parts += [*described(rng, noun, level, rich), case]
    return parts


def has_number(parts: Segments) -> bool:
    return any(segment.role == "counter" for segment in parts)


def told(rng: random.Random, scene: Frame, verb: Word, deny: float = 0.2) -> Segment:
    """The last predicate."""
    return spoken(verb, scene.finite(negative=rng.random() < deny), "predicate")


# Level 1


def doing(rng: random.Random, level: int) -> Segments:
    """私は図書館で古い本を読みます。"""
    scene = frame(rng, level, topic=None)
    action = action_of(rng, level)
    parts = arguments(rng, action, level, rich=0.4 if level == 1 else 0.7)
    modified = has_number(parts) or any(segment.role == "adverb" for segment in parts)
    return [*scene.opening, *parts, told(rng, scene, action.verb, 0.0 if modified else 0.2)]


def going(rng: random.Random, level: int) -> Segments:
    """友達は七時にバスで学校に行きます。"""
    scene = frame(rng, level, topic=None)
    parts: Segments = []
    day = next((segment.text[:-1] for segment in scene.opening if segment.role in ("past", "future", "time")), "")
    if rng.random() < 0.4 and day not in words.LONG_AGO:
        parts += [Segment(rng.choice(words.HOURS[level]), "hour"), particle("に", "をで")]
    motion = pick(rng, words.MOTIONS, level)
    goal = rng.choice(motion.goals)
    if rng.random() < 0.4:
        means = words.FAR_MEANS if goal in words.FAR else words.MEANS
        parts += [Segment(rng.choice(means), "noun"), particle("で", "にを")]
    parts += [Segment(goal, "noun"), particle("に", "をで"), told(rng, scene, motion.verb)]
    return [*scene.opening, *parts]


def rising(rng: random.Random, level: int) -> Segments:
    """姉は七時半に起きました。"""
    scene = frame(rng, level, topic=None, day=rng.random() < 0.3)
    day = next((segment.text[:-1] for segment in scene.opening if segment.role in ("past", "future", "time")), "")
    if day in words.LONG_AGO:
        return rising(rng, level)
    verb = rng.choice((Verb("起きる", "一"), Verb("寝る", "一"), Verb("出かける", "一"), Verb("帰る", "五")))
    hour = [Segment(rng.choice(words.HOURS[level]), "hour"), particle("に", "をで")]
    return [*scene.opening, *hour, told(rng, scene, verb, 0.1)]


def giving(rng: random.Random, level: int) -> Segments:
    """私は友達に手紙を書きました。"""
    scene = frame(rng, level, topic=None)
    verb, nouns, _ = rng.choice([gift for gift in words.GIFTS if gift[2] <= level])
    who = next((segment.text for segment in scene.opening if segment.role == "noun"), "")
    whom = rng.choice([name for name in words.RECEIVERS if name != who])
    thing = described(rng, rng.choice(nouns), level, 0.3)
    return [*scene.opening, Segment(whom, "noun"), particle("に", "を"), *thing, particle("を", "が"), told(rng, scene, verb)]


def existing(rng: random.Random, level: int) -> Segments:
    """机の上に本が三冊あります。"""
    scene = frame(rng, level, topic=False, day=False)
    kind = rng.choice(("thing", "being"))
    spot = rng.choice(words.SPOTS[kind] if level == 1 or rng.random() < 0.5 else words.FAR_SPOTS[kind])
    verb = words.BE[kind]
    noun = pick(rng, words.HERE[kind], level)
    number = counted(rng, noun) if noun.counter and rng.random() < 0.5 else []
    thing = [*described(rng, noun, level, 0.4), particle("が", "をで")]
    where = [Segment(spot, "noun"), particle("に", "でを")]
    return [*scene.opening, *where, *thing, *number, told(rng, scene, verb, 0.0 if number else 0.3)]


def being(rng: random.Random, level: int) -> Segments:
    """この本はとても面白いです。"""
    scene = frame(rng, level, topic=False, day=False)
    adjective, noun = said_of(rng, level)
    subject = [Segment(rng.choice(("この", "その", "あの")), "determiner"), Segment(noun.text, "noun", noun), particle("は")]
    degree = [Segment(rng.choice(("とても", "少し", "本当に")[: level + 1]), "adverb")] if rng.random() < 0.3 else []
    return [*scene.opening, *subject, *degree, told(rng, scene, adjective, 0.0 if degree else 0.3)]


def said_of(rng: random.Random, level: int, praise: bool | None = None) -> tuple[Adjective, Noun]:
    """An adjective and a noun that it suits.   praise: only adjectives that speak for the thing, or against it."""
    fitting = (word for word in words.ADJECTIVES.values() if word.kinds != {"adverb"} and praise in (None, word.praise))
    adjective = pick(rng, tuple(fitting), level)
    nouns = tuple(noun for noun in words.NOUNS.values() if noun.kind in adjective.kinds and noun.kind != "family")
    return adjective, pick(rng, nouns, level)


def weather(rng: random.Random, level: int) -> Segments:
    """昨日は寒かったです。"""
    scene = frame(rng, level, topic=False, day=False)
    role: Literal["past", "future"] = rng.choice(("past", "future"))
    day = Segment(rng.choice(words.DAYS[role, level]), role)
    where = place(rng, words.REGIONS) if rng.random() < 0.3 else []
    where = [Segment(where[0].text, "noun"), particle("は")] if where else []
    degree = [Segment(rng.choice(("とても", "少し")), "adverb")] if rng.random() < 0.4 else []
    form = Form(polite=scene.polite, past=role == "past", negative=not degree and rng.random() < 0.3)
    begin = [day, Segment("、", "link"), *where] if where else [day, particle("は")]
    return [*scene.opening, *begin, *degree, spoken(rng.choice(words.WEATHER[level]), form, "predicate")]


def liking(rng: random.Random, level: int) -> Segments:
    """私は音楽が好きです。"""
    scene = frame(rng, level, day=False)
    word, nouns, _ = rng.choice([feeling for feeling in words.FEELINGS if feeling[2] <= level])
    if scene.speaker and word.text in ("上手", "得意"):
        return liking(rng, level)
    degree = [Segment(rng.choice(("とても", "少し", "本当に")[: level + 1]), "adverb")] if rng.random() < 0.3 else []
    what = [Segment(rng.choice(nouns), "noun"), particle("が", "をに")]
    form = Form(polite=scene.polite, negative=not degree and rng.random() < 0.3)
    return [*scene.opening, *degree, *what, spoken(word, form, "predicate")]


def wishing(rng: random.Random, level: int) -> Segments:
    """私は新しい車を買いたいです。"""
    scene = frame(rng, level, topic=None, day=False, wish=True)
    action = action_of(rng, level)
    form = Form("wish", scene.polite, scene.past, rng.random() < 0.2)
    parts = arguments(rng, action, level, rich=0.4)
    parts = [segment if segment.role != "particle" else particle(segment.text, segment.never.replace("が", "")) for segment in parts]
    return [*scene.opening, *parts, spoken(action.verb, form, "predicate")]


def going_on(rng: random.Random, level: int) -> Segments:
    """母は今、台所で料理を作っています。"""
    scene = frame(rng, level, day=False)
    action = action_of(rng, level, lambda action: action.verb.text in words.DURATIVE)
    parts = [Segment("今、", "time"), *arguments(rng, action, level, rich=0.4)]
    form = Form(polite=scene.polite)
    return [*scene.opening, *parts, spoken(action.verb, Form("te"), "te"), spoken(words.BE["being"], form, "predicate")]


def asking(rng: random.Random, level: int) -> Segments:
    """静かに本を読んでください。"""
    action = action_of(rng, level, lambda action: action.verb.text not in ("忘れる", "卒業する"))
    opening = [Segment("先生、", "address")] if rng.random() < 0.1 else []
    parts = arguments(rng, action, level, rich=0.5)
    return [*opening, *parts, spoken(action.verb, Form("te"), "te"), Segment("ください", "request")]


def working(rng: random.Random, level: int) -> Segments:
    """姉は医者です。"""
    scene = frame(rng, level, day=False)
    who = scene.opening[-2].text if scene.opening else ""
    job = pick(rng, tuple(noun for noun in words.NOUNS.values() if noun.kind == "job"), level)
    if who in ("先生", "先輩", "社長", "店長", "留学生", "友達"):
        return working(rng, level)
    return [*scene.opening, *described(rng, job, level, 0.3), told(rng, scene, job, 0.3)]


# Level 2


def chain(rng: random.Random, level: int) -> Segments:
    """昨日、早く起きて、図書館で本を読みました。"""
    scene = frame(rng, level, topic=None)
    first = action_of(rng, level)
    second = action_of(rng, level, lambda action: action.verb.text != first.verb.text and bool(action.nouns))
    return [
        *scene.opening,
        *arguments(rng, first, level, rich=0.3),
        spoken(first.verb, Form("te"), "te"),
        Segment("、", "link"),
        *arguments(rng, second, level, rich=0.3),
        told(rng, scene, second.verb, 0.0),
    ]


def because(rng: random.Random, level: int) -> Segments:
    """雨が降りましたから、家で本を読みました。"""
    scene = frame(rng, level, topic=False)
    reason = rng.choice(words.REASONS)
    opening = list(scene.opening)
    if reason.past and opening and opening[-1].role in ("future", "time"):
        opening.pop()
    past = reason.past or scene.past
    subject = [Segment(reason.subject, "noun"), particle("が", "を")] if reason.subject else []
    action = action_of(rng, level, lambda action: action.verb.text in reason.verbs and (not reason.place or bool(action.places)))
    if rng.random() < 0.6:
        why = [spoken(reason.word, Form(polite=scene.polite, past=past), "clause"), Segment("から、", "link")]
    else:
        why = [*so(reason.word, past), Segment("ので、", "link")]
    then = arguments(rng, action, level, rich=0.3, places=reason.place or None)
    return [*opening, *subject, *why, *then, told(rng, scene, action.verb, 0.0)]


def so(word: Verb | Adjective, past: bool) -> Segments:
    """The plain form before ので: 静かな, not 静かだ."""
    if isinstance(word, Adjective) and word.kind == "な" and not past:
        return [spoken(word, Form("attribute"), "inner")]
    return [spoken(word, Form(past=past), "inner")]


def contrast(rng: random.Random, level: int) -> Segments:
    """この店は狭いですが、とても安いです。"""
    scene = frame(rng, level, topic=False, day=False)
    good = rng.random() < 0.5
    first, noun = said_of(rng, level, good)
    others = tuple(
        word for word in words.ADJECTIVES.values() if word.praise is (not good) and noun.kind in word.kinds and not opposite(first, word)
    )
    if not others:
        return contrast(rng, level)
    second = pick(rng, others, level)
    which = [Segment(rng.choice(("この", "その", "あの")), "determiner"), *described(rng, noun, level, 0.0), particle("は")]
    form = scene.finite()
    return [
        *scene.opening,
        *which,
        spoken(first, form, "clause"),
        Segment("が、" if scene.polite else "けど、", "link"),
        spoken(second, form, "predicate"),
    ]


def opposite(one: Adjective, other: Adjective) -> bool:
    return any({one.text, other.text} <= set(pair) for pair in words.OPPOSITES)


def both(rng: random.Random, level: int) -> Segments:
    """あの部屋は広くて静かです。"""
    scene = frame(rng, level, topic=False, day=False)
    first, noun = said_of(rng, level, good := rng.random() < 0.7)
    others = tuple(word for word in words.ADJECTIVES.values() if word.praise is good and noun.kind in word.kinds and word != first)
    if not others:
        return both(rng, level)
    which = [Segment(rng.choice(("この", "その", "あの")), "determiner"), Segment(noun.text, "noun", noun), particle("は")]
    second = told(rng, scene, pick(rng, others, level), 0.0)
    return [*scene.opening, *which, spoken(first, Form("te"), "te"), second]


def related(rng: random.Random, level: int) -> Segments:
    """友達が書いた手紙を読みました。"""
    scene = frame(rng, level, topic=None)
    made, used = rng.choice(words.MADE_AND_USED)
    making = action_of(rng, level, lambda action: action.verb.text == made)
    using = action_of(rng, level, lambda action: action.verb.text == used)
    nouns = tuple(noun for noun in making.nouns if noun in using.nouns)
    if not nouns:
        return related(rng, level)
    who = rng.choice([name for name in words.RELATIVES if all(name != segment.text for segment in scene.opening)])
    where = place(rng, making.places) if making.places and rng.random() < 0.3 else []
    clause = [Segment(who, "noun"), particle("が", "を"), *where, spoken(making.verb, Form(past=True), "inner")]
    thing = [Segment(rng.choice(nouns).text, "noun"), particle(using.particle, using.never)]
    return [*scene.opening, *clause, *thing, told(rng, scene, using.verb, 0.1)]


def judged(rng: random.Random, level: int) -> Segments:
    """店で買った靴はとても丈夫です。"""
    scene = frame(rng, level, topic=False, day=False)
    action = action_of(rng, level, lambda action: action.particle == "を" and bool(action.places))
    noun = rng.choice(action.nouns)
    fitting = tuple(word for word in words.ADJECTIVES.values() if noun.kind in word.kinds and word.level <= level)
    if not fitting:
        return judged(rng, level)
    who = [Segment(rng.choice(words.RELATIVES), "noun"), particle("が", "を")] if rng.random() < 0.5 else []
    clause = [*who, *place(rng, action.places), spoken(action.verb, Form(past=True), "inner")]
    degree = [Segment(rng.choice(("とても", "少し", "本当に")), "adverb")] if rng.random() < 0.3 else []
    said = told(rng, scene, pick(rng, fitting, level), 0.0 if degree else 0.2)
    return [*scene.opening, *clause, Segment(noun.text, "noun", noun), particle("は"), *degree, said]


def before_or_after(rng: random.Random, level: int) -> Segments:
    """寝る前に、本を読みます。 宿題をした後で、テレビを見ます。"""
    scene = frame(rng, level, topic=None)
    first = action_of(rng, level)
    second = action_of(rng, level, lambda action: action.verb.text != first.verb.text and bool(action.nouns))
    earlier = rng.random() < 0.5
    begin = [*arguments(rng, first, level, rich=0.0), spoken(first.verb, Form(past=not earlier), "inner")]
    when = Segment("前に、" if earlier else "後で、", "link")
    then = [*arguments(rng, second, level, rich=0.3), told(rng, scene, second.verb, 0.0)]
    return [*scene.opening, *begin, when, *then]


def thinking(rng: random.Random, level: int) -> Segments:
    """この町は静かだと思います。"""
    scene = frame(rng, level, topic=False, day=False)
    adjective, noun = said_of(rng, level)
    which = [Segment(rng.choice(("この", "その", "あの")), "determiner"), Segment(noun.text, "noun", noun), particle("は")]
    quoted = spoken(adjective, Form(past=rng.random() < 0.2, negative=rng.random() < 0.2), "inner")
    think = spoken(Verb("思う", "五"), Form(polite=scene.polite), "predicate")
    return [*scene.opening, *which, quoted, Segment("と", "link"), think]


def together(rng: random.Random, level: int) -> Segments:
    """音楽を聞きながら、部屋を片付けます。"""
    scene = frame(rng, level, topic=None)
    first, second = rng.choice(words.SIDE_BY_SIDE)
    aside = action_of(rng, level, lambda action: action.verb.text == first)
    main = action_of(rng, level, lambda action: action.verb.text == second)
    begin = [*arguments(rng, aside, level, rich=0.0), spoken(aside.verb, Form("while"), "while"), Segment("、", "link")]
    return [*scene.opening, *begin, *arguments(rng, main, level, rich=0.4), told(rng, scene, main.verb, 0.0)]


Pattern = Callable[[random.Random, int], Segments]
SIMPLE: tuple[Pattern, ...] = (
    *(doing,) * 6, *(going,) * 2, rising, giving, *(existing,) * 2, *(being,) * 2, weather, liking, wishing, going_on, asking, working,
)  # fmt: skip
LONG: tuple[Pattern, ...] = (
    *(chain,) * 3, *(because,) * 4, *(contrast,) * 2, *(both,) * 2, *(related,) * 2, judged, *(before_or_after,) * 2,
    thinking, *(together,) * 2, *(doing,) * 4, going, existing, giving, being,
)  # fmt: skip
PATTERNS = {1: SIMPLE, 2: LONG}
