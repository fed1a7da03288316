"""Measures of corrections: edits in common with the reference, F-beta, GLEU, and loops.

The units are characters, not words: Japanese is written without spaces, and a score should not
depend on a word segmenter.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

GLEU_ORDER = 4  # the longest n-grams
Floats = NDArray[np.float64]
LOOP = re.compile(r"(..{1,19}?)\1{2}|(.)\2{4}", re.DOTALL)  # see loops()


@dataclass(frozen=True, slots=True)
class Edit:
    """The source's characters start … end - 1 are replaced.

    An insertion has start == end; a deletion has the replacement "".
    """

    start: int
    end: int
    replacement: str


def edits(source: str, corrected: str) -> tuple[Edit, ...]:
    """The edits of a shortest character alignment (Levenshtein 1966), from left to right.

    Changes without an unchanged character between them are one edit: 高いでした → 高かった is the
    edit いでし → かっ, not a substitution and a deletion. Among equally short alignments the same
    one is always chosen.
    """
    found: list[Edit] = []
    for step in Levenshtein.opcodes(source, corrected):
        if step.tag == "equal":
            continue
        replacement = corrected[step.dest_start : step.dest_end]
        if found and found[-1].end == step.src_start:
            last = found.pop()
            found.append(Edit(last.start, step.src_end, last.replacement + replacement))
        else:
            found.append(Edit(step.src_start, step.src_end, replacement))
    return tuple(found)


def counts(source: str, hypothesis: str, reference: str) -> tuple[int, int, int]:
    """(true positives, false positives, false negatives) of the hypothesis's edits.

    A true positive is an edit whose span and replacement are the same in hypothesis and reference
    (M2: Dahlmeier & Ng 2012, section 3; ERRANT: Bryant et al. 2017). M2 looks for the alignment
    that favours the hypothesis; here hypothesis and reference are each aligned with the source
    alone.
    """
    made, wanted = set(edits(source, hypothesis)), set(edits(source, reference))
    right = len(made & wanted)
    return right, len(made) - right, len(wanted) - right


def f_beta(right: Floats, spurious: Floats, missed: Floats, beta: float = 0.5) -> Floats:
    """F-beta from sums of true positives, false positives and false negatives.

    right, spurious, missed: arrays of one shape, or scalars. The result has that shape.

        F = (1 + beta^2) TP / ((1 + beta^2) TP + beta^2 FN + FP)

    beta 0.5 weighs precision twice as much as recall, because a wrong correction is worse than a
    missing one (CoNLL-2014: Ng et al. 2014, section 4). F is 1 where all three counts are 0.
    """
    square = beta * beta
    weight = (1 + square) * right
    return _ratio(weight, weight + square * missed + spurious)


def precision(right: Floats, spurious: Floats) -> Floats:
    """Share of the answers' edits that are right; 1 where they have none."""
    return _ratio(right, right + spurious)


def recall(right: Floats, missed: Floats) -> Floats:
    """Share of the references' edits that the answers have; 1 where the references have none."""
    return _ratio(right, right + missed)


def _ratio(part: Floats, whole: Floats) -> Floats:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    ratio: Floats = np.divide(part, whole, out=np.ones_like(whole), where=whole > 0)
    return ratio


def gleu(sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """GLEU of a corpus, of characters, with one reference for each source.

    Napoles et al. 2015, in the form without tuning that they published in 2016. It is BLEU against
    the reference, of 1- to 4-grams, with a penalty for n-grams that the hypothesis kept from the
    source
    and the reference did not:

        p_n = sum_C [ min(C, R) - max(0, min(C, S) - min(C, R)) ] / sum_C C

    with C, R, S the counts of an n-gram in hypothesis, reference and source. The numerator of a
    sentence is 0 where it would be negative, as in the authors' implementation. Orders for which no
    hypothesis is long enough are left out.
    """
    agreed, made = np.zeros(GLEU_ORDER), np.zeros(GLEU_ORDER)
    for source, hypothesis, reference in zip(sources, hypotheses, references, strict=True):
        for order in range(GLEU_ORDER):
            ours, theirs, given = (
                _ngrams(text, order + 1) for text in (hypothesis, reference, source)
            )
            kept = sum(
                max(0, min(count, given[gram]) - min(count, theirs[gram]))
                for gram, count in ours.items()
            )
            agreed[order] += max(0, (ours & theirs).total() - kept)
            made[order] += ours.total()
    used = made > 0
    if not used.any() or not agreed[used].all():
        return float(not used.any() and not any(references))
    length, wanted = sum(map(len, hypotheses)), sum(map(len, references))
    brevity = min(1.0, float(np.exp(1 - wanted / length)))
    return brevity * float(np.exp(np.log(agreed[used] / made[used]).mean()))


def _ngrams(text: str, order: int) -> Counter[str]:
    return Counter(text[at : at + order] for at in range(len(text) - order + 1))


def loops(text: str) -> bool:
    """Whether 2 to 20 characters occur three times in a row, or one character five times."""
    return LOOP.search(text) is not None


def repetition_rate(sources: Sequence[str], answers: Sequence[str]) -> float:
    """Share of the answers that loop while their source does not; 0 without answers."""
    looped = [
        loops(answer) and not loops(source) for source, answer in zip(sources, answers, strict=True)
    ]
    return sum(looped) / len(looped) if looped else 0.0
