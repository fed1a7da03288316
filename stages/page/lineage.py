"""What made a run: its corpora, parent and base, what differs from the parent, what it took."""

from pathlib import Path
from typing import Any

from stages.page.figures import read_json, read_records

Flat = dict[tuple[str, ...], Any]
"""Nested maps as one, by the path of their keys."""


def of_run(run: str, folder: Path) -> dict[str, Any]:
    """Lineage by name, as far as the folder has it; {} for a run that is not trained there.

    corpora: name, share of its rows in an epoch, and its training rows, its own first.   line: the
    models that it descends from, oldest first.   differs: [what, parent's value, own value], None
    where one has no such setting.
    """
    noted = read_json(folder / "models" / run / "lineage.json")
    if not noted:
        return {}
    parent = noted["parent"]["path"]
    return {
        "corpora": [
            {"name": name, "share": share, "rows": _training_rows(name, folder)}
            for name, share in sorted(
                noted["corpus"]["shares"].items(),
                key=lambda each: each[0] != noted["corpus"]["name"],
            )
        ],
        "line": [*_ancestors(parent, folder), run],
        "base": noted["base"]["path"],
        "parent": parent,
        "noted": {
            name: value for name, value in noted.items() if not isinstance(value, dict | list)
        },
        "data_md5": noted["corpus"]["train_md5"],
        "differs": _differences(_config(parent, folder), _config(run, folder)),
        "took": _took(run, folder),
    }


def _training_rows(corpus: str, folder: Path) -> int | None:
    rows: dict[str, int] = read_json(folder / "metrics/prepare" / f"{corpus}.json").get("rows", {})
    return rows.get("train")


def _ancestors(model: str, folder: Path) -> list[str]:
    """A model and what it descends from, oldest first."""
    name = model.removeprefix("models/")
    noted = read_json(folder / "models" / name / "lineage.json")
    return [*(_ancestors(noted["parent"]["path"], folder) if noted else []), name]


def _config(model: str, folder: Path) -> Flat:
    name = model.removeprefix("models/")
    return _flat(read_json(folder / "build/config/train" / f"{name}.json"))


def changed_settings(run: str, before: Path, now: Path) -> list[tuple[str, Any, Any]]:
    """[what, then, now] of all that decides a run's training beside its data, in two folders; none
    where one of them does not have it.
    """
    return _differences(_config(run, before), _config(run, now))


def _differences(parent: Flat, own: Flat) -> list[tuple[str, Any, Any]]:
    """Of all that decides a training beside its data; none where the parent is no run."""
    names = [name for name in own | parent if parent and own and parent.get(name) != own.get(name)]
    return [(".".join(name), parent.get(name), own.get(name)) for name in sorted(names)]


def _flat(value: Any, place: tuple[str, ...] = ()) -> Flat:
    if not isinstance(value, dict):
        return {place: value}
    return {
        leaf: found
        for key, inner in value.items()
        for leaf, found in _flat(inner, (*place, key)).items()
    }


def _took(run: str, folder: Path) -> dict[str, float]:
    """Seconds, bytes and tokens a second of the last training that this machine's log tells of."""
    took: dict[str, float] = {}
    speeds = list[float]()
    began = 0.0
    for record in read_records(folder / "logs" / f"{run}.jsonl"):
        if record.get("message", "").startswith("precision "):  # a training's first line
            began, speeds, took = record["timestamp"], [], {}
        elif "tokens_per_second" in record:
            speeds.append(record["tokens_per_second"])
        elif "memory/measured_bytes" in record:  # and its last
            took = {
                "seconds": record["timestamp"] - began,
                "bytes": record["memory/measured_bytes"],
                "tokens_per_second": sum(speeds) / len(speeds) if speeds else 0.0,
            }
    return took
