"""predict: a run, its untuned base and every test set of the task -> data/predictions/RUN.jsonl.

Rows that the same weights have answered before are read back from .scratch, so that a new version
costs the chain only its new rows.
"""

from functools import cache
from pathlib import Path
from typing import Any

from rich.progress import Progress

from stages import backends, command_line, stage_config
from stages.backends.shared import answer_cache
from stages.backends.shared.fingerprint import fingerprint
from stages.files import as_json, write_lines
from stages.records import Prediction, Row, read_rows
from stages.settings import Answering


def main(run: str) -> None:
    config = stage_config.load("predict", run)
    tests = {
        corpus: read_rows(Path("data/prepared", config["task"], "test", f"{corpus}.jsonl"))
        for corpus in config["tests"]
    }
    with Progress() as bar:
        models = {"run": f"models/{run}", "base": config["base"]}
        write_lines(
            Path("data/predictions", f"{run}.jsonl"),
            (
                record
                for by, model in models.items()
                for record in answered(by, model, config, tests, bar)
            ),
        )


def answered(
    by: str, model: str, config: dict[str, Any], tests: dict[str, list[Row]], bar: Progress
) -> list[Prediction]:
    """What a model makes of every row of every test set; it is loaded when the first row that is
    new to it comes.
    """
    base, settings = config["base"], Answering.model_validate(config["settings"])
    backend = backends.load(settings.backend)
    loaded = cache(lambda: backend.answerer(model, base, settings))
    answering = as_json([config[key] for key in ("settings", "code", "packages")])
    cached = answer_cache.Answers(fingerprint(Path(model), Path(base)), answering)
    task = bar.add_task(model, total=sum(map(len, tests.values())))
    records = []
    for corpus, rows in tests.items():
        answers = cached.complete(
            rows, lambda new: loaded().predict(new, lambda count: bar.advance(task, count))
        )
        records += [
            Prediction(row["id"], corpus, by=by, **answer._asdict())
            for row, answer in zip(rows, answers, strict=True)
        ]
    bar.update(task, completed=len(records))
    return records


if __name__ == "__main__":
    command_line.run(main, __doc__)
