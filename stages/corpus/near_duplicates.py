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
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashDeduplicator

from stages.corpus.clean import Report
from stages.corpus.duplicates import isin_sorted
from stages.corpus.examples import Described
from stages.progress_lines import ProgressLines

B = TypeVar("B")
S = TypeVar("S", bound=Described)

# Of a similarity s, n hashes give an estimate with the standard error sqrt(s (1 - s) / n): with 128
# hashes it is 0.04 at s = 0.8.
SIGNATURE_HASHES, SEED = 128, 42
NGRAM = 5  # characters
LEAST_RECALL = 0.9  # the least share of pairs at the threshold that must have an equal band
# The texts hashed in one call: at most so many, and about so many characters in all, because an
# n-gram takes 70 bytes.
BATCH_EXAMPLES, BATCH_CHARACTERS = 1_000, 2**20
LOOKUP_BLOCK_KEYS = 2**16  # keys that are looked up in one call


def drop_near_duplicates(
    examples: Iterable[S], threshold: float, report: Report, folder: Path
) -> Iterator[S]:
    """The examples, in their order, without those that resemble an example that was kept before.

    threshold: the Jaccard similarity, of the sets of character 5-grams of source and target, from
    which two examples are near-duplicates.   report: counts the dropped ones.   folder: for
    temporary files with all examples and, for each, eight bytes a band.
    """
    bands = fewest_bands(threshold)
    keyed = ((batch, band_keys(batch, bands)) for batch in batched(examples))
    return drop_from_blocks(keyed, list, threshold, report, folder)


def drop_from_blocks(
    blocks: Iterable[tuple[B, NDArray[np.uint64] | None]],
    unpacked: Callable[[B], list[S]],
    threshold: float,
    report: Report,
    folder: Path,
) -> Iterator[S]:
    """As drop_near_duplicates, of examples in blocks with their band_keys: a block waits on the
    disk as it is, and what is `unpacked` of it is looked at once.
    """
    bands = fewest_bands(threshold)
    with ExitStack() as stack:
        waiting, *keys = (stack.enter_context(TemporaryFile(dir=folder)) for _ in range(1 + bands))
        count = 0
        for block, of_block in blocks:
            assert of_block is not None
            pickle.dump(block, waiting, pickle.HIGHEST_PROTOCOL)
            for file, column in zip(keys, of_block.T, strict=True):
                file.write(column.tobytes())
            count += len(of_block)
        if not count:
            return
        last = last_partners(keys, count)

        waiting.seek(0)
        index = RMinHashDeduplicator(
            threshold, SIGNATURE_HASHES, use_lsh=True, num_bands=bands, seed=SEED
        )
        expiring: list[tuple[int, int]] = []  # a heap: (last partner, row) of each indexed row
        first = 0
        lines = stack.enter_context(ProgressLines("near-duplicates", count, "examples"))
        while first < count:
            batch = unpacked(pickle.load(waiting))
            candidates = [at for at in range(len(batch)) if last[first + at] >= 0]
            entries = zip(candidates, ngrams([batch[at] for at in candidates]), strict=True)
            new = index.add_pairs([(str(first + at), its_ngrams) for at, its_ngrams in entries])
            dropped = {at for at, is_new in zip(candidates, new, strict=True) if not is_new}
            for at, example in enumerate(batch):
                if at in dropped:
                    report.drop("near-duplicate")
                else:
                    yield example
            for at in dropped.symmetric_difference(candidates):
                heapq.heappush(expiring, (last[first + at], first + at))
            first += len(batch)
            lines.advance(len(batch))
            while expiring and expiring[0][0] < first:
                index.remove(str(heapq.heappop(expiring)[1]))


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


def batched(examples: Iterable[S]) -> Iterator[list[S]]:
    """Lists of BATCH_EXAMPLES examples, or of fewer that have BATCH_CHARACTERS together."""
    batch, characters = list[S](), 0
    for example in examples:
        batch.append(example)
        characters += len(example.source) + len(example.target)
        if len(batch) == BATCH_EXAMPLES or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def ngrams(examples: Sequence[Described]) -> list[list[str]]:
    """The character n-grams of each example's source and target; of a shorter text, the text."""
    texts = [f"{example.source}\n{example.target}" for example in examples]
    return [
        [text[at : at + NGRAM] for at in range(max(1, len(text) - NGRAM + 1))] for text in texts
    ]


def band_keys(examples: Sequence[Described], bands: int) -> NDArray[np.uint64]:
    """(N, bands), 64-bit keys of the bands of N signatures: equal bands have equal keys.

    Different bands have equal keys with probability 2^-63; their rows are then compared, and found
    different. A key is the sum, modulo 2^64, of the band's hashes times random odd numbers.
    """
    signatures = np.array(
        RMinHash.digests_from_token_sets(ngrams(examples), SIGNATURE_HASHES, SEED), dtype=np.uint64
    )
    hashes = SIGNATURE_HASHES // bands
    odd = np.random.default_rng(SEED).integers(2**63, size=hashes, dtype=np.uint64) * 2 + 1
    banded = signatures.reshape(len(examples), bands, hashes)
    keys: NDArray[np.uint64] = (banded * odd).sum(axis=2)
    return keys


def last_partners(keys: Sequence[IO[bytes]], count: int) -> NDArray[np.int64]:
    """(count,): for each row, the last row that has a key in common with it.

    That is the row itself if no later one has. A row that shares no key has -1.
    keys: for each band, a file with the keys of all rows.   count: the number of rows.
    """
    last = np.full(count, -1)
    for file in keys:
        file.seek(0)
        row_keys = np.fromfile(file, dtype=np.uint64)
        ordered = np.sort(row_keys)
        shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        del ordered
        rows = np.concatenate(
            [
                at + np.flatnonzero(isin_sorted(row_keys[at : at + LOOKUP_BLOCK_KEYS], shared))
                for at in range(0, count, LOOKUP_BLOCK_KEYS)
            ]
        )
        groups = np.searchsorted(shared, row_keys[rows])
        ends = np.zeros(len(shared), dtype=np.int64)
        np.maximum.at(ends, groups, rows)
        last[rows] = np.maximum(last[rows], ends[groups])
    return last
