"""Which rows are held out: a hash of their content decides, not their position or other rows."""

import hashlib
import unicodedata
from typing import Literal

Part = Literal["train", "valid", "test"]


def normalise(text: str) -> str:
    """The text in NFKC, without white space: a reformatted copy gets the same hash and part."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def part(key: str, valid: float, test: float) -> Part:
    """The part to which every row with this group key belongs, in every version of the corpus.

    key: the unit that must not be in two parts, such as a sentence, a formula or a document.
    valid, test: the shares of rows that are held out, as shares of the hash's 64-bit range.
    """
    place = int.from_bytes(hashlib.blake2b(normalise(key).encode(), digest_size=8).digest()) / 2**64
    if place < test:
        return "test"
    return "valid" if place < test + valid else "train"
