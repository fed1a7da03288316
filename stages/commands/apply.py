"""apply: a run on one's own text: files, a sentence, or standard input."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from stages import settings
from stages.records import UserError, read_lines, whole


def apply(
    run: Annotated[str, typer.Argument(help="a run of params.yaml that has been trained")],
    files: Annotated[list[Path] | None, typer.Argument(help="UTF-8 files, an input a line")] = None,
    text: Annotated[list[str] | None, typer.Option(help="an input; may be given several times")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="where the answers go, a line each; else the screen")
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="the run's own where not given")] = None,
) -> None:
    """Answer one's own text with a trained run, in the order of the input. `-` as a file is standard input.

    Examples:

      python -m stages apply gec-002 --text "私は本が読みます。"

      python -m stages apply typst-003 formulas.txt -o formulas.typ

      python -m stages apply lm-001 --text "In the morning, the" --max-new-tokens 20
    """
    params = settings.load()
    spec, chosen = settings.entry(params.runs, run, "runs"), params.resolve(run)
    if not Path("models", run).is_dir():
        raise UserError(
            f"models/{run}: not trained yet; run `dvc repro train@{run}`, or `dvc pull models/{run}` where a remote has it"
        )
    inputs = [*(text or []), *(line for file in files or [] for line in _lines(file))]
    if not inputs:
        raise UserError("nothing to answer: give FILEs, `-` for standard input, or --text")
    if max_new_tokens:
        chosen = chosen.model_copy(
            update={"generation": chosen.generation.model_copy(update={"max_new_tokens": max_new_tokens})}
        )

    answerer = import_module(f"stages.backends.{chosen.backend}").Answerer(f"models/{run}", spec.base, chosen)
    task = import_module(f"stages.tasks.{spec.task}.corpus")
    with Progress(console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task(run, total=len(inputs))
        if hasattr(task, "prompt"):
            answers = answerer.answer([task.prompt(given) for given in inputs], lambda count: bar.advance(shown, count))
        else:  # a language model goes on where the text stops
            answers = answerer.complete(inputs, lambda count: bar.advance(shown, count))
    if output is None:
        sys.stdout.writelines(f"{answer}\n" for answer in answers)
    else:
        with whole(output) as file:
            file.writelines(f"{answer}\n" for answer in answers)


def _lines(file: Path) -> list[str]:
    if str(file) == "-":
        return [line for line in sys.stdin.read().splitlines() if line.strip()]
    return [line for _, line in read_lines(file)]
