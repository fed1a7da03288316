"""predict: a run, its untuned base and every test set of the task -> data/predictions/RUN.jsonl.

Rows that the same weights have answered before are read back from .scratch, so that a new version
costs the chain only its new rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from stages import backends, command_line, stage_config
from stages.backends.shared import answer_cache, workers
from stages.backends.shared.answerers import Answerers
from stages.checked import checked
from stages.files import write_lines
from stages.records import Prediction, Row, RowFile
from stages.settings import Answering, Launch


def main(run: str) -> None:
    config = stage_config.load("predict", run)
    conduct = stage_config.load(stage_config.CONDUCT, run)
    settings = Answering.model_validate(config["settings"] | {"threads": conduct["threads"]})
    launch = Launch.model_validate(conduct["launch"])
    processes = workers.processes_here(launch, settings.device)
    tests = {
        corpus: RowFile(Path("data/prepared", config["task"], "test", f"{corpus}.jsonl"))
        for corpus in config["tests"]
    }
    models = {"run": config["model"], "base": config["base"]}
    write_lines(
        Path("data/predictions", f"{run}.jsonl"),
        (
            record
            for by, model in models.items()
            for record in answered(by, model, config, settings, tests, processes)
        ),
    )


def answered(
    by: str,
    model: str,
    config: dict[str, Any],
    settings: Answering,
    tests: Mapping[str, Sequence[Row]],
    processes: int,
) -> Iterator[Prediction]:
    """What a model makes of every row of every test set; it is loaded when the first row that is
    new to it comes.
    """
    base = config["base"]

    @cache
    def loaded() -> Any:
        if processes > 1:
            answerer: Any = Answerers(model, base, settings, processes)
        else:
            answerer = backends.load(settings.backend, settings.exact).answerer(
                model, base, settings
            )
        return checked(answerer, config["task"], settings) if by == "run" else answerer

    cached = answer_cache.Answers(answer_cache.path_of(model, base, config))
    try:
        for corpus, rows in tests.items():
            answers = cached.complete(rows, lambda new: loaded().predict(new), processes)
            for row, answer in zip(rows, answers, strict=True):
                yield Prediction(row["id"], corpus, by=by, **answer._asdict())
    finally:
        if processes > 1 and loaded.cache_info().currsize:
            loaded().close()


if __name__ == "__main__":
    command_line.run(main, __doc__)
