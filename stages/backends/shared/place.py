"""Which of the processes of one training this one is, as the environment tells it."""

import os
from dataclasses import dataclass

import psutil

STORE = "TSUGIKI_STORE"
"""Where workers meet: a file, or tcp://HOST:PORT of the first machine."""


@dataclass(frozen=True)
class Place:
    """A worker's place among all `size`, counted from 0.   node: its machine's."""

    rank: int = 0
    size: int = 1
    node: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and tells."""
        return self.rank == 0


def own_place() -> Place:
    """Of this process; alone where nobody has begun it as a worker."""
    asked = os.environ
    if STORE not in asked:
        return Place()
    return Place(int(asked["RANK"]), int(asked["WORLD_SIZE"]), int(asked["GROUP_RANK"]))


def launcher() -> psutil.Process | None:
    """Who began this process as a worker."""
    return psutil.Process().parent() if own_place().size > 1 else None
