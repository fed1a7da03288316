"""evaluate: a run's predictions -> its score with interval beside baseline and untuned base, and
the figures of each row.
"""

from pathlib import Path
from typing import Any

import numpy as np

from stages import command_line, stage_config, tasks
from stages.files import write_json, write_lines
from stages.records import Prediction, Row, read_predictions, read_rows
from stages.scoring import bootstrap


def main(run: str) -> None:
    config = stage_config.load("evaluate", run)
    task, corpus = config["task"], config["corpus"]
    score = tasks.score(task)
    tests = [
        row
        for test in config["tests"]
        for row in read_rows(Path("data/prepared", task, "test", f"{test}.jsonl"))
    ]
    made = read_predictions(Path("data/predictions", f"{run}.jsonl"))
    own, base = ([record for record in made if record.by == by] for by in ("run", "base"))
    statistics = score.statistics(tests, own)
    write_lines(Path("data/scored", task, f"{run}.jsonl"), scored(tests, own, statistics))

    # A row that two versions hold out counts once, as the first of them has it.
    first = {row["id"]: at for at, row in reversed([*enumerate(tests)])}
    places = sorted(first.values())
    tests = [tests[at] for at in places]
    own, base = ([answers[at] for at in places] for answers in (own, base))
    statistics = statistics[places]
    baseline = score.baseline(
        Path("data/prepared", task, "train", f"{corpus}.jsonl"), tests, Path(config["base"])
    )
    low, high = bootstrap.interval(statistics, score.headline)
    write_json(
        Path("metrics/evaluate", task, f"{run}.json"),
        {
            "score": headline_of(score, statistics),
            "low": round(low, 4),
            "high": round(high, 4),
            "baseline": headline_of(score, score.statistics(tests, baseline)),
            "base": headline_of(score, score.statistics(tests, base)),
            "loss": round(
                sum(record.nats for record in own) / sum(record.tokens for record in own), 4
            ),
            "n": len(tests),
        },
    )
    write_json(
        Path("metrics/details", task, f"{run}.json"),
        {key: round(value, 4) for key, value in score.details(tests, own).items()}
        | {"categories": categories(score, tests, statistics)},
    )


def headline_of(score: tasks.Score, statistics: np.ndarray) -> float:
    """The headline of all rows together."""
    return round(float(score.headline(statistics.sum(axis=0))), 4)


def categories(
    score: tasks.Score, tests: list[Row], statistics: np.ndarray
) -> dict[str, dict[str, float]]:
    """Score and number of rows by category."""
    names = np.array([row["category"] for row in tests])
    return {
        str(name): {
            "score": headline_of(score, statistics[names == name]),
            "n": int((names == name).sum()),
        }
        for name in np.unique(names)
    }


def scored(tests: list[Row], own: list[Prediction], statistics: np.ndarray) -> list[dict[str, Any]]:
    """What `compare` needs of each row: where it is from and its statistics."""
    return [
        {
            "id": row["id"],
            "corpus": record.corpus,
            "category": row["category"],
            "statistics": numbers.tolist(),
        }
        for row, record, numbers in zip(tests, own, statistics, strict=True)
    ]


if __name__ == "__main__":
    command_line.run(main, __doc__)
