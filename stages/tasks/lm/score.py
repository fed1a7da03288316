"""lm: bits per byte, which can be compared across tokenizers, and perplexities, which cannot."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.files import read_lines
from stages.records import Prediction, Row, target

STATISTICS = ("nats", "bytes", "tokens", "words")
LARGEST_EXPONENT = 50  # perplexities end at e^50 = 5e21: a long word could make exp overflow


def statistics(rows: list[Row], answers: list[Prediction]) -> NDArray[np.float64]:
    """(N, 4): cross-entropy in nats, UTF-8 bytes, tokens with the end token, and words.

    They are of the whole text, or of a conversation's answer.
    """
    return np.array(
        [
            (answer.nats, len(target(row).encode()), answer.tokens, len(target(row).split()))
            for row, answer in zip(rows, answers, strict=True)
        ],
        dtype=np.float64,
    ).reshape(-1, len(STATISTICS))


def headline(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 4) sums -> (...), 1 / (1 + bits per byte).

    This only turns bits per byte into a score between 0 and 1, of which more is better; reports
    should quote bits per byte.
    """
    return 1 / (1 + bits_per_byte(totals))


def bits_per_byte(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 4) sums -> (...), bits of cross-entropy for each byte; for empty texts, in all."""
    return totals[..., 0] / math.log(2) / np.maximum(totals[..., 1], 1)


def details(rows: list[Row], answers: list[Prediction]) -> dict[str, float]:
    """Bits per byte, perplexities, and how varied the continuations are.

    token_perplexity can be compared only between models with the same tokenizer. Continuations are
    of a share of the rows (`generation.answered_share`).
    """
    nats, _, tokens, words = totals = statistics(rows, answers).sum(axis=0)
    texts = [answer.answer.split() for answer in answers if answer.answer]
    return {
        "bits_per_byte": float(bits_per_byte(totals)),
        "token_perplexity": math.exp(min(nats / max(tokens, 1), LARGEST_EXPONENT)),
        "word_perplexity": math.exp(min(nats / max(words, 1), LARGEST_EXPONENT)),
        "distinct_1": distinct(texts, 1),
        "distinct_2": distinct(texts, 2),
        "repetition_rate": repetition(texts),
    }


def distinct(texts: list[list[str]], n: int) -> float:
    """distinct-n (Li et al. 2016): different n-grams of words in all texts, over all n-grams."""
    grams = [tuple(words[at : at + n]) for words in texts for at in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(texts: list[list[str]], n: int = 3) -> float:
    """Share of the texts in which some n-gram of words occurs three times or more."""
    looped = sum(
        max(
            Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1)).values(),
            default=0,
        )
        > 2
        for words in texts
    )
    return looped / len(texts) if texts else 0.0


def baseline(train: Path, rows: list[Row], base: Path) -> list[Prediction]:
    """A unigram model with the base's tokenizer, of the training rows' token frequencies.

    One is added to the count of each token. A document's end counts as one more token.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    counts = np.ones(tokenizer.get_vocab_size())
    documents = 0
    for _, line in read_lines(train):
        documents += 1
        np.add.at(
            counts, tokenizer.encode(target(json.loads(line)), add_special_tokens=False).ids, 1
        )
    end = -math.log(documents / (counts.sum() + documents))
    nats = -np.log(counts / (counts.sum() + documents))
    answers = []
    for row in rows:
        ids = tokenizer.encode(target(row), add_special_tokens=False).ids
        answers.append(Prediction(row["id"], "", "", float(nats[ids].sum()) + end, len(ids) + 1))
    return answers
