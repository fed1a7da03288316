"""Which rows are held out: decided by a hash of their content, never by their position or by what else is in the file."""

import hashlib
import unicodedata
from typing import Literal

Part = Literal["train", "valid", "test"]


def normalise(text: str) -> str:
    """The form that is hashed: NFKC, all white space removed, so that a reformatted copy lands in the same part."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def part(key: str, valid: float, test: float) -> Part:
    """The part that every row with this group key belongs to, in this and every other version.

    key: what must not be divided (the sentence, the formula, the document).   valid, test: shares of the hash space.
    """
    place = int.from_bytes(hashlib.blake2b(normalise(key).encode(), digest_size=8).digest()) / 2**64
    if place < test:
        return "test"
    return "valid" if place < test + valid else "train"
