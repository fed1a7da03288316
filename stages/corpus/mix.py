"""How often an epoch has each row of a corpus: weights, replay of earlier versions, a part of a corpus."""

from collections.abc import Iterable, Iterator

from stages.corpus.clean import digest
from stages.records import Row


def repeated(rows: Iterable[Row], weight: float, seed: int) -> Iterator[Row]:
    """Each row as often as the weight's whole part says, and once more for a share of the rows as large as its fraction.

    Which rows those are is decided by their ids and the seed, so that rows added later change nothing for the others.
    """
    whole, fraction = divmod(weight, 1)
    for row in rows:
        for _ in range(int(whole) + (digest(f"{seed}", row["id"]) / 2**64 < fraction)):
            yield row
