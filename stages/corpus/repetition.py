"""Repetition: a corpus's weight decides how often each of its rows is trained on.

A weight below 1 keeps a sample of the rows, such as for the replay of an earlier version.
"""

from collections.abc import Iterable, Iterator

from stages.files import digest
from stages.records import Row


def repeat_rows(rows: Iterable[Row], weight: float, seed: int) -> Iterator[Row]:
    """Each row, repeated: with weight 2.3 every row comes twice, and 30 % of the rows a third time.

    A hash of a row's id and the seed decides whether it is one of those 30 %, so that rows which
    are added later change nothing for the others.
    """
    times, fraction = divmod(weight, 1)
    for row in rows:
        # a digest has 64 bits
        once_more = fraction > 0 and digest(f"{seed}", row["id"]) / 2**64 < fraction
        for _ in range(int(times) + once_more):
            yield row
