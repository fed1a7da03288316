"""apply's documents: converted whole, with the runs' answers for what rules cannot be sure of."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import typer

from stages import tasks
from stages.backends import Answerer
from stages.commands import own_files
from stages.serving.runs import TrainedRun

MORE = 4
"""Further candidates of a model, for each formula whose greedy answer does not compile."""


class By(StrEnum):
    """Who converts formulas."""

    all = "all"
    model = "model"
    rules = "rules"


def converted(
    document: tasks.Document, file: Path, into: Path, run: TrainedRun, by: By
) -> tasks.Converted:
    """The file, as a document in the folder `into`; what was made of it is told."""
    greedy, more = (None, None) if by is By.rules else _answers(run)
    made = document.converted(file, into, greedy, more, by is not By.model)
    for line in made.summary():
        typer.echo(line if line.startswith(file.name) else f"{file.name}: {line}", err=True)
    return made


def write_report(path: Path, made: tasks.Converted) -> None:
    report = made.report()
    with own_files.written(path) as page:
        page.write(report)


def _answers(run: TrainedRun) -> tuple[tasks.Answers, tasks.Answers]:
    """(the run's own answers, its further ones). Its model is loaded when it is first asked."""
    loaded: list[Answerer] = []

    def answerer() -> Answerer:
        if not loaded:
            loaded.append(run.load())
        return loaded[0]

    def greedy(texts: Sequence[str]) -> list[list[str]]:
        if not texts:
            return []
        return [[answer] for answer in answerer().respond([run.question(text) for text in texts])]

    def more(texts: Sequence[str]) -> list[list[str]]:
        if not texts:
            return []
        rows = [run.question(text) for text in texts]
        return [[text for text, _ in found[1:]] for found in answerer().candidates(rows, MORE + 1)]

    return greedy, more
