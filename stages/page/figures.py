"""A task's figures as `compare` and `evaluate` left them, and 95 % intervals where its rows are at
hand.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from stages import outcomes
from stages.files import read_lines
from stages.outcomes import Outcome

Group = dict[str, Any]
"""score, rows, and low and high where the rows themselves are at hand."""


def chain(task: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Each compared run: its score with interval, beside baseline, untuned base and its parent."""
    found = {}
    for record in _table(folder / "metrics/compare" / task / "chain.csv"):
        run = record.pop("run")
        words = {name: record.pop(name) for name in ("parent", "verdict")}
        numbers = {name: float(value) for name, value in record.items() if value}
        beside = read_json(folder / "metrics/evaluate" / task / f"{run}.json")
        found[run] = beside | numbers | words
    return found


def measures(task: str, run: str, folder: Path) -> dict[str, float]:
    """The task's further measures by name."""
    details = read_json(folder / "metrics/details" / task / f"{run}.json")
    return {name: value for name, value in details.items() if isinstance(value, int | float)}


def by_test_set(task: str, run: str, folder: Path, held_out: list[Outcome]) -> dict[str, Group]:
    """A row of the forgetting matrix."""
    if not held_out:
        return _tabled(folder / "metrics/compare" / task / "matrix.csv", run, "test_set")
    return _grouped(task, held_out, lambda outcome: outcome.corpus)


def by_category(task: str, run: str, folder: Path, held_out: list[Outcome]) -> dict[str, Group]:
    if not held_out:
        return _tabled(folder / "metrics/compare" / task / "categories.csv", run, "category")
    return _grouped(task, held_out, lambda outcome: outcome.row["category"])


def losses(task: str, run: str, folder: Path) -> list[dict[str, Any]]:
    """The loss curve's points: split, step, loss."""
    return [
        {"split": point["split"], "step": int(point["step"]), "loss": float(point["loss"])}
        for point in _table(folder / "metrics/curves" / task / f"{run}.csv")
    ]


def _grouped(
    task: str, held_out: list[Outcome], group_of: Callable[[Outcome], str]
) -> dict[str, Group]:
    members = defaultdict(list)
    for outcome in held_out:
        members[group_of(outcome)].append(outcome)
    return {name: _group(task, outcomes.once(members[name])) for name in sorted(members)}


def _group(task: str, some: list[Outcome]) -> Group:
    of = outcomes.figures(task, some, {})
    return {"score": of.score, "rows": of.rows, "low": of.low, "high": of.high}


def _tabled(path: Path, run: str, by: str) -> dict[str, Group]:
    return {
        record[by]: {"score": float(record["score"]), "rows": int(record["rows"])}
        for record in _table(path)
        if record["run"] == run
    }


def _table(path: Path) -> Iterable[dict[str, str]]:
    """A CSV file's records; none where it is not there."""
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)


def read_json(path: Path) -> dict[str, Any]:
    """{} where the file is not there."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def read_records(path: Path) -> list[dict[str, Any]]:
    """[] where the file is not there."""
    return [json.loads(line) for _, line in read_lines(path)] if path.is_file() else []
