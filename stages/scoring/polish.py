"""Measures of Polish text: whether it is Polish, and whether its diacritics are there."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

MARKED = re.compile("[ąćęłńóśźżĄĆĘŁŃÓŚŹŻ]")
BARE = str.maketrans("ąćęłńóśźżĄĆĘŁŃÓŚŹŻ", "acelnoszzACELNOSZZ")
LANGUAGES = ["pl", "cs", "sk", "de", "en", "fr", "es", "it", "uk", "ru", "ja"]
JUDGED_WORDS = 4


def diacritics_kept(texts: Sequence[str], references: Sequence[str]) -> float | None:
    """Of the references' words with diacritics that stand in the text in any spelling, the share with exactly these letters.

    None where no such word stands in any text.
    """
    found = kept = 0
    for text, reference in zip(texts, references, strict=True):
        words = re.findall(r"\w+", text.lower())
        bare = [word.translate(BARE) for word in words]
        for word in re.findall(r"\w+", reference.lower()):
            if MARKED.search(word) and word.translate(BARE) in bare:
                found += 1
                kept += word in words
    return kept / found if found else None


def polish_share(texts: Sequence[str]) -> float | None:
    """The share that langid.py's model (Lui and Baldwin 2012) takes for Polish among texts of four words or more.

    Of 1,000 sentences of the demo grammar cut to four words it takes all for Polish, of two words 97 %, of single phrases 90 %:
    shorter answers would be judged by their length. None where no text is long enough.
    """
    long = [text for text in texts if len(text.split()) >= JUDGED_WORDS]
    return (
        sum(_identifier().classify(text)[0] == "pl" for text in long) / len(long) if long else None
    )


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(LANGUAGES)
    return identifier
