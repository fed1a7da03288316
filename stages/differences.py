"""What an answer has otherwise than its reference, as a reader wants it marked."""

from rapidfuzz.distance import Levenshtein

FEW_CHARACTERS = 2


def differences(reference: str, answer: str) -> list[tuple[int, int, int, int]]:
    """(from, to) in the reference and (from, to) in the answer, by code point, of each difference.

    A few equal characters between two differences are taken with them: a word in place of another
    is not shown by the letters that both have.
    """
    found = list[tuple[int, int, int, int]]()
    for step in Levenshtein.opcodes(reference, answer):
        if step.tag == "equal":
            continue
        own = (step.src_start, step.src_end, step.dest_start, step.dest_end)
        if found and own[0] - found[-1][1] <= FEW_CHARACTERS:
            start, _, begin, _ = found.pop()
            own = (start, own[1], begin, own[3])
        found.append(own)
    return found
