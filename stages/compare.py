"""compare: a task's scored runs -> the chain with its verdicts, the forgetting matrix, and what
plots read.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stages import command_line, stage_config, tasks
from stages.files import atomic_write, read_json_lines
from stages.scoring import bootstrap

CHAIN = (
    "run",
    "score",
    "low",
    "high",
    "parent",
    "difference",
    "difference_low",
    "difference_high",
    "verdict",
)
Scored = dict[tuple[str, str], dict[str, Any]]  # (test set, row id) -> a line of data/scored


def main(task: str) -> None:
    config = stage_config.load("compare", task)
    trained = dict(config["parents"])
    parents = trained | dict(config.get("variants", ()))
    score = tasks.score(task)
    scored = {run: read_scored(Path("data/scored", task, f"{run}.jsonl")) for run in parents}
    folder = Path("metrics/compare", task)

    chain = [
        chain_entry(run, parent.removeprefix("models/"), scored, score)
        for run, parent in parents.items()
    ]
    write_table(
        folder / "chain.csv", CHAIN, ([entry.get(key, "") for key in CHAIN] for entry in chain)
    )
    write_table(
        folder / "matrix.csv",
        ("run", "test_set", "score", "rows"),
        grouped_scores(scored, score, "corpus"),
    )
    write_table(
        folder / "categories.csv",
        ("run", "category", "score", "rows"),
        grouped_scores(scored, score, "category"),
    )
    write_table(folder / "curves.csv", ("run", "step", "split", "loss"), curves(task, trained))
    Console(width=110).print(table(task, chain))


def read_scored(path: Path) -> Scored:
    records = (record for _, record in read_json_lines(path) if isinstance(record, dict))
    return {(record["corpus"], record["id"]): record for record in records}


def statistics_of(rows: Iterable[dict[str, Any]]) -> bootstrap.Floats:
    """(N, K) statistics of some rows."""
    return np.array([row["statistics"] for row in rows])


def chain_entry(
    run: str, parent: str, scored: dict[str, Scored], score: tasks.Score
) -> dict[str, Any]:
    """A run on every test set, and against its parent on the same rows where the parent is a run of
    this task.
    """
    own = by_row(scored[run])
    low, high = bootstrap.interval(statistics_of(own.values()), score.headline)
    entry: dict[str, Any] = {
        "run": run,
        "score": headline_of(score, own.values()),
        "low": round(low, 4),
        "high": round(high, 4),
    }
    if parent in scored:
        before = by_row(scored[parent])
        rows = sorted(own)
        against = bootstrap.paired(
            statistics_of(own[r] for r in rows),
            statistics_of(before[r] for r in rows),
            score.headline,
        )
        entry |= {
            "parent": parent,
            "difference": round(against.difference, 4),
            "verdict": against.verdict,
        }
        entry |= {
            "difference_low": round(against.low, 4),
            "difference_high": round(against.high, 4),
        }
    return entry


def by_row(rows: Scored) -> dict[str, dict[str, Any]]:
    """A row that two versions hold out counts once, as the first of them has it."""
    first: dict[str, dict[str, Any]] = {}
    for (_, row), record in rows.items():
        first.setdefault(row, record)
    return first


def headline_of(score: tasks.Score, rows: Iterable[dict[str, Any]]) -> float:
    return round(float(score.headline(statistics_of(rows).sum(axis=0))), 4)


def grouped_scores(
    scored: dict[str, Scored], score: tasks.Score, by: str
) -> list[tuple[str, str, float, int]]:
    """(run, group, score, rows) for each run and each test set or category: by test set, the
    forgetting matrix.
    """
    found = []
    for run, rows in scored.items():
        for group in sorted({row[by] for row in rows.values()}):
            members = by_row({key: row for key, row in rows.items() if row[by] == group}).values()
            found.append((run, group, headline_of(score, members), len(members)))
    return found


def curves(task: str, runs: Iterable[str]) -> Iterable[list[str]]:
    for run in runs:
        with Path("metrics/curves", task, f"{run}.csv").open(encoding="utf-8", newline="") as file:
            yield from list(csv.reader(file))[1:]


def write_table(path: Path, header: tuple[str, ...], rows: Iterable[Iterable[Any]]) -> None:
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def table(task: str, chain: list[dict[str, Any]]) -> Table:
    shown = Table(
        "run",
        "score",
        "95 % interval",
        "parent",
        "difference",
        "verdict",
        title=f"{task}: every run on every held-out set so far",
    )
    for entry in chain:
        shown.add_row(
            entry["run"],
            f"{entry['score']:.3f}",
            f"{entry['low']:.3f} to {entry['high']:.3f}",
            *comparison_cells(entry),
        )
    return shown


def comparison_cells(entry: dict[str, Any]) -> tuple[str, str, str]:
    """(parent, difference with interval, verdict), or blanks at the start of a chain."""
    if "parent" not in entry:
        return "", "", ""
    interval = f"({entry['difference_low']:+.3f} to {entry['difference_high']:+.3f})"
    return entry["parent"], f"{entry['difference']:+.3f} {interval}", entry["verdict"]


if __name__ == "__main__":
    command_line.run(main, __doc__)
