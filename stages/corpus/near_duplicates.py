"""Near-duplicates by MinHash (Broder 1997), in memory that hardly grows with the corpus: the bands are compared on the disk.

An index of all signatures would take 1.3 KB a row. Here a first pass writes the hash of each band of each signature to a file;
sorted, they show which rows share a band with a later one. A second pass has only those compared, each as long as it has such a
row to come. Which rows are dropped is what one index of all would say.
"""

import heapq
import pickle
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashDeduplicator

from stages.corpus.clean import Report, contained
from stages.records import Example

HASHES, SEED, GRAM = (
    128,
    42,
    5,
)  # of a signature; estimated similarities have a standard error of 0.04 at 0.8
FOUND = 0.9  # the least share of pairs at the threshold that have a band in common
TOGETHER, CHARACTERS = (
    1_000,
    2**20,
)  # texts that are hashed in one call, and about how long they are in all: 70 bytes a gram
BLOCK = 2**16  # keys that are looked up in one call


def drop_near_duplicates(
    examples: Iterable[Example], threshold: float, report: Report, folder: Path
) -> Iterator[Example]:
    """The first of each group of examples that differ little, in their order.

    threshold: Jaccard similarity of the character 5-grams of source and target.   folder: where the examples wait
    on the disk, with eight bytes a band for each.
    """
    bands = bands_for(threshold)
    with ExitStack() as stack:
        waiting, *keys = (stack.enter_context(TemporaryFile(dir=folder)) for _ in range(1 + bands))
        count = 0
        for together in batched(examples):
            pickle.dump(together, waiting)
            for file, column in zip(keys, band_keys(together, bands).T, strict=True):
                file.write(column.tobytes())
            count += len(together)
        if not count:
            return
        last = last_partners(keys, count)

        waiting.seek(0)
        index = RMinHashDeduplicator(threshold, HASHES, use_lsh=True, num_bands=bands, seed=SEED)
        leaving: list[tuple[int, int]] = []  # (last partner, row) of the rows in the index, a heap
        first = 0
        while first < count:
            together = pickle.load(waiting)
            asked = [at for at in range(len(together)) if last[first + at] >= 0]
            entries = zip(asked, grams([together[at] for at in asked]), strict=True)
            new = index.add_pairs([(str(first + at), of_one) for at, of_one in entries])
            dropped = {at for at, is_new in zip(asked, new, strict=True) if not is_new}
            for at, example in enumerate(together):
                if at in dropped:
                    report.drop("near-duplicate")
                else:
                    yield example
            for at in dropped.symmetric_difference(asked):
                heapq.heappush(leaving, (last[first + at], first + at))
            first += len(together)
            while leaving and leaving[0][0] < first:
                index.remove(str(heapq.heappop(leaving)[1]))


def bands_for(threshold: float) -> int:
    """The fewest bands, of equally many hashes, in which a pair at the threshold is found in 9 of 10 cases.

    Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4.2: 1 - (1 - s^r)^b.
    """
    return next(
        bands
        for bands in (8, 16, 32, 64, 128)
        if bands == 128 or 1 - (1 - threshold ** (HASHES // bands)) ** bands >= FOUND
    )


def batched(examples: Iterable[Example]) -> Iterator[list[Example]]:
    together, characters = list[Example](), 0
    for example in examples:
        together.append(example)
        characters += len(example.source) + len(example.target)
        if len(together) == TOGETHER or characters >= CHARACTERS:
            yield together
            together, characters = [], 0
    if together:
        yield together


def grams(examples: Sequence[Example]) -> list[list[str]]:
    texts = [f"{example.source}\n{example.target}" for example in examples]
    return [[text[at : at + GRAM] for at in range(max(1, len(text) - GRAM + 1))] for text in texts]


def band_keys(examples: Sequence[Example], bands: int) -> NDArray[np.uint64]:
    """(rows, bands): equal bands have equal keys. One other pair in 2^63 has too: it is compared, and found different."""
    signatures = np.array(
        RMinHash.digests_from_token_sets(grams(examples), HASHES, SEED), dtype=np.uint64
    )
    multipliers = (
        np.random.default_rng(SEED).integers(2**63, size=HASHES // bands, dtype=np.uint64) * 2 + 1
    )
    keys: NDArray[np.uint64] = (signatures.reshape(len(examples), bands, -1) * multipliers).sum(
        axis=2
    )  # modulo 2^64
    return keys


def last_partners(keys: Sequence[IO[bytes]], count: int) -> NDArray[np.int64]:
    """(rows,): for each row the last one that has a key in common with it, itself included; -1 for a row that is alone."""
    last = np.full(count, -1)
    for file in keys:
        file.seek(0)
        of_rows = np.fromfile(file, dtype=np.uint64)
        ordered = np.sort(of_rows)
        shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        del ordered
        rows = np.concatenate(
            [
                at + np.flatnonzero(contained(of_rows[at : at + BLOCK], shared))
                for at in range(0, count, BLOCK)
            ]
        )
        groups = np.searchsorted(shared, of_rows[rows])
        ends = np.zeros(len(shared), dtype=np.int64)
        np.maximum.at(ends, groups, rows)
        last[rows] = np.maximum(last[rows], ends[groups])
    return last
