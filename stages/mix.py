"""mix: a run's own corpus, replayed and mixed ones -> data/mixed/RUN: training rows free of
anything that is held out.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages import command_line, stage_config
from stages.corpus import clean, duplicates, repetition
from stages.errors import UserError
from stages.files import write_lines
from stages.records import Row, RowFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEEDED = {
    "train": "nothing is learned",
    "valid": "the best weights cannot be chosen",
    "test": "nothing is scored",
}


def main(run: str) -> None:
    config = stage_config.load("mix", run)
    task, seed, shares = config["task"], config["seed"], config["shares"]
    folder = Path("data/prepared", task, "test")
    # By name: a clone that has fetched some of them has to be told.
    files = [folder / f"{test}.jsonl" for test in config["tests"]]
    held_out = questions(row for file in files for row in RowFile(file))
    require_some(len(held_out), run, "test")
    for part in ("valid", "train"):
        kept = duplicates.without_questions(mixed(task, part, shares[part], seed), held_out)
        count = write_lines(path := Path("data/mixed", run, f"{part}.jsonl"), kept)
        print(f"{part}: {count:,} rows of {json.dumps(shares[part])}")
        require_some(count, run, part)
        if part == "valid":
            held_out = np.union1d(held_out, questions(RowFile(path)))


def questions(rows: Iterable[Row]) -> "NDArray[np.uint64]":
    """The sorted hashes of what the rows ask, eight bytes each."""
    return np.unique(np.fromiter(map(clean.question_digest, rows), np.uint64))


def require_some(rows: int, run: str, part: str) -> None:
    """Raise UserError before a training that would begin with nothing, or end in vain."""
    if not rows:
        raise UserError(
            f"{run}: its corpora have no row for {part}, without which {NEEDED[part]}; add rows: "
            "`python -m stages new` says how many most likely have some"
        )


def mixed(task: str, part: str, shares: dict[str, float], seed: int) -> Iterator[Row]:
    for corpus, weight in shares.items():
        yield from repetition.repeat_rows(
            RowFile(Path("data/prepared", task, part, f"{corpus}.jsonl")), weight, seed
        )


if __name__ == "__main__":
    command_line.run(main, __doc__)
