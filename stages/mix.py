"""mix: a run's own corpus, replayed and mixed ones -> data/mixed/RUN: what it trains on, free of anything that is tested on."""

import json
from collections.abc import Iterator
from pathlib import Path

from stages import settings
from stages.corpus import clean, mix
from stages.records import Row, rows, stage, write_lines


def main(run: str) -> None:
    task, seed, shares = settings.mixture(Path("build/config", f"{run}.mix.json"))
    tested = {clean.asked(row) for path in sorted(Path("data/prepared", task, "test").glob("*.jsonl")) for row in rows(path)}
    for part in ("train", "valid"):
        kept = (row for row in mixed(task, part, shares, seed) if clean.asked(row) not in tested)
        count = write_lines(Path("data/mixed", run, f"{part}.jsonl"), kept)
        print(f"{part}: {count:,} rows of {json.dumps(shares)}")


def mixed(task: str, part: str, shares: dict[str, float], seed: int) -> Iterator[Row]:
    for corpus, weight in shares.items():
        yield from mix.repeated(rows(Path("data/prepared", task, part, f"{corpus}.jsonl")), weight, seed)


if __name__ == "__main__":
    stage(main, __doc__)
