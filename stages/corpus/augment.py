"""Noise as a hasty hand makes it, in what is given to the model; what should come out stays clean."""

import random
from collections.abc import Iterator
from dataclasses import replace

from stages.records import Example, Message
from stages.settings import Augment


def copies(example: Example, augment: Augment) -> Iterator[Example]:
    """Noisy copies of an example; where the noise changes nothing, none. The example itself and the seed decide it all."""
    rng = random.Random(f"{augment.seed} {example.source} {example.target}")
    for _ in range(augment.copies):
        noisy = spoiled(example.source, augment.character_noise, rng)
        prompt = tuple(_with(message, example.source, noisy) for message in example.prompt)
        # A source that is spread over several turns stands in none of them whole: such a conversation stays as it is.
        if noisy != example.source and (prompt != example.prompt or not prompt):
            yield replace(example, source=noisy, prompt=prompt)


def spoiled(text: str, share: float, rng: random.Random) -> str:
    """Characters dropped, doubled, swapped with the next, or replaced by another of the same text; line breaks stay."""
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


def _with(message: Message, source: str, noisy: str) -> Message:
    return {"role": message["role"], "content": message["content"].replace(source, noisy)}
