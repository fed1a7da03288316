"""mix: a run's own corpus, replayed and mixed ones -> data/mixed/RUN: training rows free of anything that is held out."""

import json
from collections.abc import Iterator
from pathlib import Path

from stages.corpus import clean, mix
from stages.records import Row, configured, rows, stage, write_lines


def main(run: str) -> None:
    config = configured("mix", run)
    task, seed, shares = config["task"], config["seed"], config["shares"]
    held_out = {clean.asked(row) for path in sorted(Path("data/prepared", task, "test").glob("*.jsonl")) for row in rows(path)}
    for part in ("valid", "train"):
        kept = (row for row in mixed(task, part, shares[part], seed) if clean.asked(row) not in held_out)
        count = write_lines(path := Path("data/mixed", run, f"{part}.jsonl"), kept)
        print(f"{part}: {count:,} rows of {json.dumps(shares[part])}")
        held_out |= {clean.asked(row) for row in rows(path)}


def mixed(task: str, part: str, shares: dict[str, float], seed: int) -> Iterator[Row]:
    for corpus, weight in shares.items():
        yield from mix.repeated(rows(Path("data/prepared", task, part, f"{corpus}.jsonl")), weight, seed)


if __name__ == "__main__":
    stage(main, __doc__)
