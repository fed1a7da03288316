"""Near-duplicates by MinHash with locality-sensitive hashing (Broder 1997), in little memory.

A signature is divided into bands; two rows are compared only if they have an equal band. An index
of all signatures would take 1.3 KB a row, so the work is done in two passes. The first pass writes
a key of each band of each signature to files on the disk, and finds for each row the last row with
which it shares a key. The second pass puts only rows with such a partner into an index, and removes
each once its last partner has been compared. One index of all would drop the same rows.
"""

import heapq
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import compress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashDeduplicator

from stages.corpus.clean import Report
from stages.corpus.examples import Example
from stages.progress_lines import ProgressLines

B = TypeVar("B")
T = TypeVar("T")

# Of a similarity s, n hashes give an estimate with the standard error sqrt(s (1 - s) / n): with 128
# hashes it is 0.04 at s = 0.8.
SIGNATURE_HASHES, SEED = 128, 42
NGRAM = 5  # characters
PLACES = [slice(at, at + NGRAM) for at in range(2**12)]
"""Of the first n-grams of a text: to make them for each text took a fifth of the time."""
LEAST_RECALL = 0.9  # the least share of pairs at the threshold that must have an equal band
# The texts hashed in one call: at most so many, and about so many characters in all, because an
# n-gram takes 70 bytes.
BATCH_EXAMPLES, BATCH_CHARACTERS = 1_000, 2**20


def drop_near_duplicates(
    examples: Iterable[Example], threshold: float, report: Report, folder: Path
) -> Iterator[Example]:
    """The examples, in their order, without those that resemble an example that was kept before.

    threshold: the Jaccard similarity, of the sets of character 5-grams of source and target, from
    which two examples are near-duplicates.   report: counts the dropped ones.   folder: for
    temporary files with all examples and, for each, eight bytes a band.
    """
    bands = fewest_bands(threshold)
    keyed = ((batch, band_keys(texts(batch), bands)) for batch in batched(examples))
    for batch, kept in kept_of_blocks(keyed, texts, threshold, report, folder):
        yield from compress(batch, kept)


def kept_of_blocks(
    blocks: Iterable[tuple[B, NDArray[np.uint64] | None]],
    texts_of: Callable[[B], Sequence[str]],
    threshold: float,
    report: Report,
    folder: Path,
) -> Iterator[tuple[B, NDArray[np.bool_]]]:
    """As drop_near_duplicates, of texts in blocks with their band_keys: each block, which waits on
    the disk as it is, and (N,) whether each of its texts is kept.
    """
    bands = fewest_bands(threshold)
    with ExitStack() as stack:
        waiting, *keys = (stack.enter_context(TemporaryFile(dir=folder)) for _ in range(1 + bands))
        sizes = []
        for block, its_keys in blocks:
            assert its_keys is not None
            pickle.dump(block, waiting, pickle.HIGHEST_PROTOCOL)
            for file, column in zip(keys, its_keys.T, strict=True):
                file.write(column.tobytes())
            sizes.append(len(its_keys))
        if not sizes:
            return
        last = last_partners(keys, sum(sizes))

        waiting.seek(0)
        index = RMinHashDeduplicator(
            threshold, SIGNATURE_HASHES, use_lsh=True, num_bands=bands, seed=SEED
        )
        expiring: list[tuple[int, int]] = []  # a heap: (last partner, row) of each indexed row
        first = 0
        lines = stack.enter_context(ProgressLines("near-duplicates", len(last), "examples"))
        for size in sizes:
            block = pickle.load(waiting)
            partnered = np.flatnonzero(last[first : first + size] >= 0).tolist()
            is_kept = np.ones(size, np.bool_)
            if partnered:
                compared = texts_of(block)
                grams = ngrams([compared[at] for at in partnered])
                pairs = zip(partnered, grams, strict=True)
                is_kept[partnered] = index.add_pairs([(str(first + at), its) for at, its in pairs])
            for at in partnered:
                if is_kept[at]:
                    heapq.heappush(expiring, (last[first + at], first + at))
                else:
                    report.drop("near-duplicate")
            first += size
            lines.advance(size)
            while expiring and expiring[0][0] < first:
                index.remove(str(heapq.heappop(expiring)[1]))
            yield block, is_kept


def fewest_bands(threshold: float) -> int:
    """The fewest bands with which LEAST_RECALL of the pairs at the threshold have an equal band.

    With b bands of r hashes, two rows of similarity s have an equal band with probability
    1 - (1 - s^r)^b (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4.2).
    """
    return next(
        bands
        for bands in (8, 16, 32, 64, 128)
        if bands == 128
        or 1 - (1 - threshold ** (SIGNATURE_HASHES // bands)) ** bands >= LEAST_RECALL
    )


def batched(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Lists of BATCH_EXAMPLES examples, or of fewer that have BATCH_CHARACTERS together."""
    return _together(examples, lambda example: len(example.source) + len(example.target))


def _together(items: Iterable[T], characters_of: Callable[[T], int]) -> Iterator[list[T]]:
    batch, characters = list[T](), 0
    for item in items:
        batch.append(item)
        characters += characters_of(item)
        if len(batch) == BATCH_EXAMPLES or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def texts(examples: Sequence[Example]) -> list[str]:
    """What is compared of each example."""
    return [f"{example.source}\n{example.target}" for example in examples]


def ngrams(compared: Sequence[str]) -> list[list[str]]:
    """The character n-grams of each text; of a shorter text, the text."""
    counts = [max(1, len(text) - NGRAM + 1) for text in compared]
    return [
        [text[place] for place in PLACES[:count]]
        if count <= len(PLACES)
        else [text[at : at + NGRAM] for at in range(count)]
        for text, count in zip(compared, counts, strict=True)
    ]


def band_keys(compared: Sequence[str], bands: int) -> NDArray[np.uint64]:
    """(N, bands), 64-bit keys of the bands of N texts' signatures: equal bands have equal keys.

    Different bands have equal keys with probability 2^-63; their rows are then compared, and found
    different. A key is the sum, modulo 2^64, of the band's hashes times random odd numbers.
    """
    hashes = SIGNATURE_HASHES // bands
    odd = np.random.default_rng(SEED).integers(2**63, size=hashes, dtype=np.uint64) * 2 + 1
    keys = [np.empty((0, bands), np.uint64)]
    for batch in _together(compared, len):
        signatures = RMinHash.digests_from_token_sets(ngrams(batch), SIGNATURE_HASHES, SEED)
        banded = np.array(signatures, dtype=np.uint64).reshape(len(batch), bands, hashes)
        keys.append((banded * odd).sum(axis=2))
    return np.concatenate(keys)


def last_partners(keys: Sequence[IO[bytes]], count: int) -> NDArray[np.int64]:
    """(count,): for each row, the last row that has a key in common with it.

    That is the row itself if no later one has. A row that shares no key has -1.
    keys: for each band, a file with the keys of all rows.   count: the number of rows.
    """
    last = np.full(count, -1)
    for file in keys:
        file.seek(0)
        row_keys = np.fromfile(file, dtype=np.uint64)
        order = np.argsort(row_keys)
        row_keys = row_keys[order]
        begins = np.append(True, row_keys[1:] != row_keys[:-1])  # of rows with one key
        del row_keys
        shared = ~(begins & np.append(begins[1:], True))
        rows, groups = order[shared], np.flatnonzero(begins[shared])
        del order
        if len(rows):
            ends = np.maximum.reduceat(rows, groups)
            sizes = np.diff(groups, append=len(rows))
            last[rows] = np.maximum(last[rows], np.repeat(ends, sizes))
    return last
