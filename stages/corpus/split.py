"""Which rows are held out: a hash of their content decides, not their position or other rows."""

import hashlib
import re
import unicodedata
from typing import Literal

from stages.entries import Corpus, Split

Part = Literal["train", "valid", "test"]


# What Unicode calls default-ignorable: no mark and no room where it is shown.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)


def as_seen(text: str) -> str:
    """The same for texts that a reader cannot tell apart: in NFC, without invisible characters."""
    return text if text.isascii() else unicodedata.normalize("NFC", INVISIBLE.sub("", text))


def normalise(text: str) -> str:
    """The text as it is seen, in NFKC and without white space: a reformatted copy gets the same
    hash and part.
    """
    return "".join(unicodedata.normalize("NFKC", as_seen(text)).split())


def part_of(corpus: Corpus, key: str, shares: Split) -> Part:
    """The part of a corpus's row: that of its group key, if the corpus is not all of one part."""
    if corpus.test_only or corpus.valid_only:
        return "test" if corpus.test_only else "valid"
    return part(key, shares.valid, shares.test)


def part(key: str, valid: float, test: float) -> Part:
    """The part to which every row with this group key belongs, in every version of the corpus.

    key: the unit that must not be in two parts, such as a sentence, a formula or a document.
    valid, test: the shares of rows that are held out, as shares of the hash's 64-bit range.
    """
    place = int.from_bytes(hashlib.blake2b(normalise(key).encode(), digest_size=8).digest()) / 2**64
    if place < test:
        return "test"
    return "valid" if place < test + valid else "train"
