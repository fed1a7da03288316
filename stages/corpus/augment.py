"""Augmentation: copies of examples with typing errors in their source; the target stays clean."""

import random
from collections.abc import Iterator
from dataclasses import replace

from stages.corpus.examples import Example
from stages.entries import Augment
from stages.records import Message


def copies(example: Example, augment: Augment) -> Iterator[Example]:
    """Noisy copies of an example; a copy in which the noise changed nothing is left out.

    The noise depends only on the example and the seed, not on the other rows of a corpus.
    """
    rng = random.Random(f"{augment.seed} {example.source} {example.target}")
    for _ in range(augment.copies):
        noisy = add_noise(example.source, augment.character_noise, rng)
        prompt = tuple(
            _replace_source(message, example.source, noisy) for message in example.prompt
        )
        # A source that is spread over several turns is not found whole in any of them: such a
        # conversation is not copied.
        if noisy != example.source and (prompt != example.prompt or not prompt):
            yield replace(example, source=noisy, prompt=prompt)


def add_noise(text: str, share: float, rng: random.Random) -> str:
    """The text with a share of its characters changed; line breaks stay.

    A character is dropped, doubled, swapped with the next one, or replaced by another of the text.
    """
    characters, done = list(text), []
    while characters:
        character = characters.pop(0)
        if character == "\n" or rng.random() >= share:
            done.append(character)
            continue
        match rng.randrange(4):
            case 0:
                pass
            case 1:
                done += [character, character]
            case 2 if characters and characters[0] != "\n":
                done.append(characters.pop(0))
                characters.insert(0, character)
            case _:
                done.append(rng.choice(text.replace("\n", "") or character))
    return "".join(done)


def _replace_source(message: Message, source: str, noisy: str) -> Message:
    return {**message, "content": message["content"].replace(source, noisy)}
