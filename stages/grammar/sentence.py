"""Japanese sentences as segments with roles, and the parts that the grammar's patterns share."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from stages.grammar import vocabulary as words
from stages.grammar.conjugation import Form, Noun, Word

Role = Literal[
    "address",  # 先生、
    "past",  # 昨日、
    "future",  # 明日、
    "time",  # 毎日、
    "hour",  # 七時
    "noun",
    "particle",
    "determiner",  # この
    "attribute",  # 新しい, 静かな
    "number",  # 三
    "counter",  # 冊
    "adverb",
    "te",  # 読んで of 読んでいます, and of 読んで、
    "clause",  # a finite predicate before から or が: its register is the sentence's
    "inner",  # a predicate that must be plain
    "while",  # 聞きながら
    "predicate",  # the last predicate
    "request",  # ください
    "link",  # から、 ので、 と
    "end",
]


@dataclass(frozen=True, slots=True)
class Segment:
    """A word or a particle of a sentence.

    word, form: the word and its inflection, of which the text is the result; for a counter, the
    noun that is counted.   never: the particles that would be wrong in place of this one, whatever
    the speaker means.
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
DAY_ROLES: tuple[Literal["past", "future", "time"], ...] = (
    "past",
    "past",
    "future",
    "future",
    "time",
)


class Levelled(Protocol):
    @property
    def level(self) -> int: ...


Item = TypeVar("Item", bound=Levelled)


@dataclass(frozen=True, slots=True)
class Scene:
    """Properties of a whole sentence, and its first words.

    who: the topic, or "".   day: the day, or "".   habit: whether the day is like 毎日.
    opening: the segments of a form of address, the topic and the day.
    """

    polite: bool
    past: bool
    habit: bool
    who: str
    day: str
    opening: tuple[Segment, ...]

    def form(self, negative: bool = False) -> Form:
        return Form(polite=self.polite, past=self.past, negative=negative)

    def allows(self, action: words.Action) -> bool:
        return not (self.habit and action.verb.text in words.NOT_DAILY)


def scene_of(
    rng: random.Random,
    level: int,
    *,
    topic: float = 1.0,
    day: float = 0.6,
    people: tuple[str, ...] | None = None,
) -> Scene:
    """A scene with random register, tense and opening.

    topic: the probability of a topic such as 私は.   day: the probability of a day such as 昨日、.
    people: the possible topics.
    """
    polite, past, habit, when = rng.random() < 0.6, rng.random() < 0.5, False, ""
    begin: Segments = []
    who = rng.choice(people or words.PEOPLE[level]) if rng.random() < topic else ""
    if polite and rng.random() < 0.2:
        called = rng.choice([name for name in words.ADDRESSES[level] if name != who])
        begin.append(Segment(called + "、", "address"))
    about = [Segment(who, "noun"), particle("は")] if who else []
    if rng.random() < day:
        role = rng.choice(DAY_ROLES)
        past, habit, when = role == "past", role == "time", rng.choice(words.DAYS[role, level])
        comes = Segment(when + "、", role)
        about = [comes, *about] if rng.random() < 0.7 else [*about, comes]
    return Scene(polite, past, habit, who, when, (*begin, *about))


def spoken(word: Word, form: Form, role: Role) -> Segment:
    return Segment(word.inflect(form), role, word, form)


def particle(text: str, never: str = "") -> Segment:
    return Segment(text, "particle", never=never)


def pick(rng: random.Random, items: tuple[Item, ...], level: int) -> Item:
    """A random item that the level may use; at level 2 half of the draws are from its new items."""
    known = [item for item in items if item.level <= level]
    if level == 2 and rng.random() < 0.5:
        known = [item for item in known if item.level == 2] or known
    return rng.choice(known)


def described(rng: random.Random, noun: Noun, level: int, chance: float) -> Segments:
    """The noun, with an adjective before it at the given chance."""
    fitting = tuple(
        word
        for word in words.ADJECTIVES.values()
        if noun.kind in word.kinds and word.level <= level
    )
    if fitting and rng.random() < chance:
        return [
            spoken(pick(rng, fitting, level), Form("attribute"), "attribute"),
            Segment(noun.text, "noun", noun),
        ]
    return [Segment(noun.text, "noun", noun)]


def counted(rng: random.Random, noun: Noun) -> Segments:
    return [Segment(rng.choice(words.NUMBERS), "number"), Segment(noun.counter, "counter", noun)]


def manner(rng: random.Random, action: words.Action) -> Segments:
    if not action.manners:
        return []
    how = rng.choice(action.manners)
    return [
        Segment(how, "adverb") if isinstance(how, str) else spoken(how, Form("adverb"), "adverb")
    ]


def place(rng: random.Random, action: words.Action, places: tuple[str, ...]) -> Segments:
    """The place of an action, with で.

    After most verbs に and へ would be wrong; verbs in GOAL_POSSIBLE can also have a goal.
    """
    never = "" if action.verb.text in words.GOAL_POSSIBLE else "にへ"
    return [Segment(rng.choice(places), "noun"), particle("で", never)]


def action_of(
    rng: random.Random, level: int, fits: Callable[[words.Action], bool] = lambda _: True
) -> words.Action:
    return pick(rng, tuple(action for action in words.ACTIONS if fits(action)), level)


def arguments(
    rng: random.Random,
    action: words.Action,
    level: int,
    *,
    rich: float = 0.5,
    places: tuple[str, ...] = (),
) -> Segments:
    """The segments before the verb: place, manner, noun with its particle, number.

    rich: the probability of each optional part.   places: possible places in place of the action's.
    """
    parts: Segments = []
    if (where := places or action.places) and (places or rng.random() < rich):
        parts += place(rng, action, where)
    how = manner(rng, action) if rng.random() < rich / 2 or not (action.nouns or parts) else []
    parts += how
    if action.nouns:
        noun = rng.choice(action.nouns)
        case = particle(action.particle, action.never)
        if (
            action.verb.text in words.COUNTABLE_OBJECT
            and noun.counter
            and not how
            and rng.random() < 0.3
        ):
            number = counted(rng, noun)
            if rng.random() < 0.5:
                return [*parts, *number, particle("の"), Segment(noun.text, "noun", noun), case]
            return [*parts, *described(rng, noun, level, rich / 2), case, *number]
        parts += [*described(rng, noun, level, rich), case]
    return parts


def final_predicate(rng: random.Random, scene: Scene, verb: Word, deny: float = 0.2) -> Segment:
    """The sentence's last predicate.   deny: the probability that it is negative."""
    return spoken(verb, scene.form(negative=rng.random() < deny), "predicate")
