"""lm: bits per byte, which compares across tokenizers, and perplexities, which do not."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.files import read_lines
from stages.records import Prediction, Row, target

STATISTICS = ("nats", "bytes", "tokens", "words")


def statistics(rows: list[Row], answers: list[Prediction]) -> NDArray[np.float64]:
    """(N, 4): summed nats of the text (of a conversation's answer), its UTF-8 bytes, its tokens with its end, its words."""
    return np.array(
        [
            (answer.nats, len(target(row).encode()), answer.tokens, len(target(row).split()))
            for row, answer in zip(rows, answers, strict=True)
        ],
        dtype=np.float64,
    ).reshape(-1, len(STATISTICS))


def headline(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + bits per byte): (..., 4) -> (...). It makes the figure a score between 0 and 1; quote bits per byte."""
    return 1 / (1 + bits_per_byte(totals))


def bits_per_byte(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 4) -> (...); a text of no bytes costs nothing."""
    return totals[..., 0] / math.log(2) / np.maximum(totals[..., 1], 1)


def details(rows: list[Row], answers: list[Prediction]) -> dict[str, float]:
    """Bits per byte; perplexity by token (this tokenizer's only) and by word; how varied the continuations are."""
    nats, _, tokens, words = totals = statistics(rows, answers).sum(axis=0)
    texts = [answer.answer.split() for answer in answers]
    return {
        "bits_per_byte": float(bits_per_byte(totals)),
        "token_perplexity": math.exp(min(nats / max(tokens, 1), 50)),
        "word_perplexity": math.exp(min(nats / max(words, 1), 50)),
        "distinct_1": distinct(texts, 1),
        "distinct_2": distinct(texts, 2),
        "repetition_rate": repetition(texts),
    }


def distinct(texts: list[list[str]], n: int) -> float:
    """Share of n-grams that differ from one another over all texts (Li et al. 2016)."""
    grams = [tuple(words[at : at + n]) for words in texts for at in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(texts: list[list[str]], n: int = 3) -> float:
    """Share of texts in which some n-gram of words comes three times or more."""
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
    """A unigram model with the same tokenizer: token frequencies of the training split, one added to each count."""
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
