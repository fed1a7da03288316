"""Correct Japanese sentences, drawn by a small grammar.

Level 1 has simple sentences; level 2 has more words, て-chains, reasons, contrasts, relative
clauses and quotations. The docstring of a pattern is an example of its sentences.

A sentence itself shows which register and tense it must have:
- a day determines the tense: 昨日 … ました, 明日 … ます, 毎日 … ます; without a day it is free;
- after 先生、 or another form of address every predicate is polite (丁寧体);
- after a polite clause (…ましたから、 …ですが、) the main clause is polite too;
- a predicate that modifies a noun, or stands before 前に, 後で, ので or と思う, is plain (普通体).

The file is long because it is one grammar, whose patterns are made of each other.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from stages.grammar import vocabulary as words
from stages.grammar.conjugation import Adjective, Form, Noun, Verb
from stages.grammar.sentence import (
    Role,
    Scene,
    Segment,
    Segments,
    Sentence,
    action_of,
    arguments,
    counted,
    described,
    final_predicate,
    particle,
    pick,
    place,
    scene_of,
    spoken,
)

LONGEST = {1: 24, 2: 34}
"""The most characters of a sentence, by level."""

BUT = ("が、", "けど、")
"""The conjunction "but" after a polite clause, and after a plain one."""


def sentence(rng: random.Random, level: int) -> Sentence:
    """A random sentence of this level (1 or 2), no longer than LONGEST[level]."""
    while True:
        drawn = Sentence((*rng.choice(PATTERNS[level])(rng, level), Segment("。", "end")))
        if len(drawn.text) <= LONGEST[level]:
            return drawn


def restyled(drawn: Sentence) -> Sentence | None:
    """The same sentence in the other register (丁寧体 or 普通体), if it exists in both.

    None after a form of address, which requires 丁寧体, and for a request, whose plain form has no
    predicate.
    """
    if {segment.role for segment in drawn.segments} & {"address", "request"}:
        return None
    return Sentence(tuple(_restyled(segment) for segment in drawn.segments))


def _restyled(segment: Segment) -> Segment:
    if segment.text in BUT:
        return replace(segment, text=next(other for other in BUT if other != segment.text))
    if segment.role not in ("clause", "predicate") or segment.word is None or segment.form is None:
        return segment
    return spoken(segment.word, replace(segment.form, polite=not segment.form.polite), segment.role)


# Level 1


def doing(rng: random.Random, level: int) -> Segments:
    """私は図書館で古い本を読みます。"""
    scene = scene_of(rng, level, topic=0.7)
    action = action_of(rng, level, scene.allows)
    parts = arguments(rng, action, level, rich=0.4 if level == 1 else 0.7)
    modified = any(segment.role in ("counter", "adverb") for segment in parts)
    return [
        *scene.opening,
        *parts,
        final_predicate(rng, scene, action.verb, deny=0.0 if modified else 0.2),
    ]


def going(rng: random.Random, level: int) -> Segments:
    """友達は七時にバスで学校に行きます。"""
    scene = scene_of(rng, level, topic=0.7)
    motion = pick(rng, words.MOTIONS, level)
    goal = rng.choice(motion.goals)
    at = hour(rng, level) if rng.random() < 0.4 and scene.day not in words.LONG_SPANS else []
    means: Segments = []
    if rng.random() < 0.4:
        vehicle = rng.choice(words.FAR_MEANS if goal in words.FAR else words.MEANS)
        means = [Segment(vehicle, "noun"), particle("で", "にを")]
    return [
        *scene.opening,
        *at,
        *means,
        Segment(goal, "noun"),
        particle("に", "をで"),
        final_predicate(rng, scene, motion.verb),
    ]


def hour(rng: random.Random, level: int) -> Segments:
    return [Segment(rng.choice(words.HOURS[level]), "hour"), particle("に", "をで")]


def rising(rng: random.Random, level: int) -> Segments:
    """姉は七時に起きました。"""
    scene = scene_of(rng, level, topic=0.7, day=0.3)
    if scene.day in words.LONG_SPANS:
        return rising(rng, level)
    return [
        *scene.opening,
        *hour(rng, level),
        final_predicate(rng, scene, rng.choice(words.BY_THE_CLOCK), deny=0.1),
    ]


def giving(rng: random.Random, level: int) -> Segments:
    """私は友達に手紙を書きました。"""
    scene = scene_of(rng, level, topic=0.7)
    gift = pick(rng, words.GIFTS, level)
    whom = rng.choice([name for name in words.RECEIVERS if name != scene.who])
    thing = described(rng, rng.choice(gift.nouns), level, 0.3)
    to, what = particle("に", "を"), particle("を", "が")
    return [
        *scene.opening,
        Segment(whom, "noun"),
        to,
        *thing,
        what,
        final_predicate(rng, scene, gift.verb),
    ]


def existing(rng: random.Random, level: int) -> Segments:
    """机の上に本が三冊あります。"""
    scene = scene_of(rng, level, topic=0.0, day=0.0)
    thing = pick(rng, words.THINGS, level)
    number = counted(rng, thing.noun) if rng.random() < 0.5 else []
    what = [*described(rng, thing.noun, level, 0.4), particle("が", "をで")]
    where = [Segment(rng.choice(words.SPOTS[thing.verb, level]), "noun"), particle("に", "でを")]
    return [
        *scene.opening,
        *where,
        *what,
        *number,
        final_predicate(rng, scene, thing.verb, deny=0.0 if number else 0.3),
    ]


def being(rng: random.Random, level: int) -> Segments:
    """この本はとても面白いです。"""
    scene = scene_of(rng, level, topic=0.0, day=0.0)
    adjective, noun = said_of(rng, level)
    much = degree(rng, level)
    return [
        *scene.opening,
        *this(rng, noun),
        *much,
        final_predicate(rng, scene, adjective, deny=0.0 if much else 0.3),
    ]


def said_of(rng: random.Random, level: int, praise: bool | None = None) -> tuple[Adjective, Noun]:
    """An adjective and a noun that it can describe.

    praise: whether the adjective must be positive or negative; None = either, or neither.
    """
    fits = (
        word
        for word in words.ADJECTIVES.values()
        if word.kinds - {"adverb"} and praise in (None, word.praise)
    )
    adjective = pick(rng, tuple(fits), level)
    nouns = tuple(
        noun
        for noun in words.NOUNS.values()
        if noun.kind in adjective.kinds and noun.kind != "family"
    )
    return adjective, pick(rng, nouns, level)


def this(rng: random.Random, noun: Noun) -> Segments:
    which = Segment(rng.choice(("この", "その", "あの")), "determiner")
    return [which, Segment(noun.text, "noun", noun), particle("は")]


def degree(rng: random.Random, level: int) -> Segments:
    return [Segment(rng.choice(words.DEGREES[level]), "adverb")] if rng.random() < 0.3 else []


def weather(rng: random.Random, level: int) -> Segments:
    """昨日は寒かったです。 明日、東京はとても暑い。"""
    scene = scene_of(rng, level, topic=0.0, day=0.0)
    role: Role = rng.choice(("past", "future"))
    day = Segment(rng.choice(words.DAYS[role, level]), role)
    much = degree(rng, level)
    form = Form(polite=scene.polite, past=role == "past", negative=not much and rng.random() < 0.3)
    where = (
        [Segment("、", "link"), Segment(rng.choice(words.REGIONS), "noun")]
        if rng.random() < 0.3
        else []
    )
    said = spoken(rng.choice(words.WEATHER[level]), form, "predicate")
    return [*scene.opening, day, *where, particle("は"), *much, said]


def liking(rng: random.Random, level: int) -> Segments:
    """私は音楽が好きです。"""
    feeling = pick(rng, words.FEELINGS, level)
    others = tuple(name for name in words.PEOPLE[level] if name not in words.SPEAKERS)
    scene = scene_of(rng, level, day=0.0, people=others if feeling.of_others else None)
    much = (
        [Segment("よく" if isinstance(feeling.word, Verb) else "とても", "adverb")]
        if rng.random() < 0.3
        else []
    )
    what = [Segment(rng.choice(feeling.nouns), "noun"), particle("が", "をに")]
    form = Form(polite=scene.polite, negative=not much and rng.random() < 0.3)
    return [*scene.opening, *much, *what, spoken(feeling.word, form, "predicate")]


def wishing(rng: random.Random, level: int) -> Segments:
    """私は新しい車を買いたいです。"""
    scene = scene_of(rng, level, topic=0.7, day=0.0, people=words.SPEAKERS)
    action = action_of(rng, level)
    parts = arguments(rng, action, level, rich=0.4)
    # Before たい the particle が is as right as を.
    parts = [replace(segment, never=segment.never.replace("が", "")) for segment in parts]
    form = Form("wish", scene.polite, scene.past, negative=rng.random() < 0.2)
    return [*scene.opening, *parts, spoken(action.verb, form, "predicate")]


def going_on(rng: random.Random, level: int) -> Segments:
    """母は今、台所で料理を作っています。"""
    scene = scene_of(rng, level, day=0.0)
    action = action_of(rng, level, lambda action: action.verb.text in words.DURATIVE)
    parts = [Segment("今、", "time"), *arguments(rng, action, level, rich=0.4)]
    doing_it = spoken(action.verb, Form("te"), "te")
    return [
        *scene.opening,
        *parts,
        doing_it,
        spoken(words.IRU, Form(polite=scene.polite), "predicate"),
    ]


def asking(rng: random.Random, level: int) -> Segments:
    """静かに本を読んでください。"""
    action = action_of(rng, level)
    return [
        *arguments(rng, action, level),
        spoken(action.verb, Form("te"), "te"),
        Segment("ください", "request"),
    ]


def working(rng: random.Random, level: int) -> Segments:
    """姉は親切な医者です。"""
    scene = scene_of(rng, level, day=0.0, people=words.RELATIVES)
    job = pick(rng, tuple(noun for noun in words.NOUNS.values() if noun.kind == "job"), level)
    return [
        *scene.opening,
        *described(rng, job, level, 0.3)[:-1],
        final_predicate(rng, scene, job, deny=0.3),
    ]


# Level 2


def chain(rng: random.Random, level: int) -> Segments:
    """昨日、早く起きて、図書館で本を読みました。"""
    scene = scene_of(rng, level, topic=0.6)
    first, second = two_actions(rng, level, scene)
    begin = [
        *arguments(rng, first, level, rich=0.3),
        spoken(first.verb, Form("te"), "te"),
        Segment("、", "link"),
    ]
    return [
        *scene.opening,
        *begin,
        *arguments(rng, second, level, rich=0.3),
        final_predicate(rng, scene, second.verb, deny=0.0),
    ]


def two_actions(rng: random.Random, level: int, scene: Scene) -> tuple[words.Action, words.Action]:
    first = action_of(rng, level, scene.allows)
    return first, action_of(
        rng,
        level,
        lambda other: bool(other.nouns) and other.verb != first.verb and scene.allows(other),
    )


def because(rng: random.Random, level: int) -> Segments:
    """雨が降りましたから、家で本を読みました。"""
    reason = rng.choice(words.REASONS)
    scene = scene_of(rng, level, topic=0.0)
    if reason.past and scene.day and not scene.past:
        return because(rng, level)
    past = bool(reason.past or scene.past)
    word = reason.word
    if rng.random() < 0.6:
        why = [
            spoken(word, Form(polite=scene.polite, past=past), "clause"),
            Segment("から、", "link"),
        ]
    elif isinstance(word, Adjective) and word.kind == "な" and not past:
        why = [spoken(word, Form("attribute"), "inner"), Segment("ので、", "link")]
    else:
        why = [spoken(word, Form(past=past), "inner"), Segment("ので、", "link")]
    subject = [Segment(reason.subject, "noun"), particle("が", "を")] if reason.subject else []
    action = action_of(
        rng,
        level,
        lambda one: one.verb.text in reason.verbs and bool(one.places or not reason.places),
    )
    then = arguments(rng, action, level, rich=0.3, places=reason.places)
    return [
        *scene.opening,
        *subject,
        *why,
        *then,
        final_predicate(rng, scene, action.verb, deny=0.0),
    ]


def contrast(rng: random.Random, level: int) -> Segments:
    """この店は狭いですが、安いです。"""
    scene = scene_of(rng, level, topic=0.0, day=0.0)
    first, noun = said_of(rng, level, praise := rng.random() < 0.5)
    second = beside(rng, level, first, noun, not praise)
    if second is None:
        return contrast(rng, level)
    but = Segment(BUT[0] if scene.polite else BUT[1], "link")
    form = scene.form()
    return [
        *scene.opening,
        *this(rng, noun),
        spoken(first, form, "clause"),
        but,
        spoken(second, form, "predicate"),
    ]


def both(rng: random.Random, level: int) -> Segments:
    """あの部屋は広くて静かです。"""
    scene = scene_of(rng, level, topic=0.0, day=0.0)
    first, noun = said_of(rng, level, praise := rng.random() < 0.7)
    second = beside(rng, level, first, noun, praise)
    if second is None:
        return both(rng, level)
    return [
        *scene.opening,
        *this(rng, noun),
        spoken(first, Form("te"), "te"),
        final_predicate(rng, scene, second, deny=0.0),
    ]


def beside(
    rng: random.Random, level: int, first: Adjective, noun: Noun, praise: bool
) -> Adjective | None:
    """A second adjective that can describe the same noun; None where there is none."""
    fitting = tuple(
        word
        for word in words.ADJECTIVES.values()
        if noun.kind in word.kinds and word.praise is praise and not words.incompatible(first, word)
    )
    return pick(rng, fitting, level) if fitting else None


def relative_clause_object(rng: random.Random, level: int) -> Segments:
    """友達が書いた手紙を読みました。"""
    scene = scene_of(rng, level, topic=0.6)
    making, using, noun = rng.choice(words.MADE_AND_USED)
    who = rng.choice([name for name in words.RELATIVES if name != scene.who])
    where = place(rng, making, making.places) if making.places and rng.random() < 0.3 else []
    clause = [
        Segment(who, "noun"),
        maker(making),
        *where,
        spoken(making.verb, Form(past=True), "inner"),
    ]
    thing = [Segment(noun.text, "noun", noun), particle(using.particle, using.never)]
    return [*scene.opening, *clause, *thing, final_predicate(rng, scene, using.verb, deny=0.1)]


def maker(making: words.Action) -> Segment:
    """が after the one who made something; with some verbs を is right too: 母を撮った写真."""
    return particle("が", "を" if making.verb.text in ("作る", "買う", "借りる") else "")


def relative_clause_subject(rng: random.Random, level: int) -> Segments:
    """母が店で買った靴はとても丈夫です。"""
    scene = scene_of(rng, level, topic=0.0, day=0.0)
    making, _, noun = rng.choice(words.MADE_AND_USED)
    fitting = tuple(word for word in words.ADJECTIVES.values() if noun.kind in word.kinds)
    if not fitting:
        return relative_clause_subject(rng, level)
    who = [Segment(rng.choice(words.RELATIVES), "noun"), maker(making)]
    where = place(rng, making, making.places) if making.places and rng.random() < 0.5 else []
    much = degree(rng, level)
    said = final_predicate(rng, scene, pick(rng, fitting, level), deny=0.0 if much else 0.2)
    made = spoken(making.verb, Form(past=True), "inner")
    return [
        *scene.opening,
        *who,
        *where,
        made,
        Segment(noun.text, "noun", noun),
        particle("は"),
        *much,
        said,
    ]


def before_or_after(rng: random.Random, level: int) -> Segments:
    """寝る前に、本を読みます。 宿題をした後で、テレビを見ます。"""
    scene = scene_of(rng, level, topic=0.6)
    first, second = two_actions(rng, level, scene)
    after = rng.random() < 0.5
    begin = [*arguments(rng, first, level, rich=0.0), spoken(first.verb, Form(past=after), "inner")]
    then = [
        *arguments(rng, second, level, rich=0.3),
        final_predicate(rng, scene, second.verb, deny=0.0),
    ]
    return [*scene.opening, *begin, Segment("後で、" if after else "前に、", "link"), *then]


def thinking(rng: random.Random, level: int) -> Segments:
    """この町は静かだと思います。"""
    scene = scene_of(rng, level, topic=0.0, day=0.0)
    adjective, noun = said_of(rng, level)
    quoted = spoken(adjective, Form(past=rng.random() < 0.2, negative=rng.random() < 0.2), "inner")
    think = spoken(Verb("思う", "五"), Form(polite=scene.polite), "predicate")
    return [*scene.opening, *this(rng, noun), quoted, Segment("と", "link"), think]


def together(rng: random.Random, level: int) -> Segments:
    """音楽を聞きながら、部屋を片付けます。"""
    scene = scene_of(rng, level, topic=0.6)
    aside, main = rng.choice(words.SIDE_BY_SIDE)
    begin = [
        *arguments(rng, aside, level, rich=0.0),
        spoken(aside.verb, Form("while"), "while"),
        Segment("、", "link"),
    ]
    return [
        *scene.opening,
        *begin,
        *arguments(rng, main, level, rich=0.4),
        final_predicate(rng, scene, main.verb, deny=0.0),
    ]


# How often each pattern stands here is how often it is drawn, in relation to the others.
Pattern = Callable[[random.Random, int], Segments]
SIMPLE: tuple[Pattern, ...] = (
    *(doing,) * 6, *(going,) * 2, rising, giving, *(existing,) * 2, *(being,) * 2, weather, liking,
    wishing, going_on, asking, working,
)  # fmt: skip
LONG: tuple[Pattern, ...] = (
    *(chain,) * 3, *(because,) * 4, *(contrast,) * 2, *(both,) * 2, *(relative_clause_object,) * 2,
    relative_clause_subject, *(before_or_after,) * 2, thinking, *(together,) * 2, *(doing,) * 4,
    going, existing, giving, being,
)  # fmt: skip
PATTERNS = {1: SIMPLE, 2: LONG}
