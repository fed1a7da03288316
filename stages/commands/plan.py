"""plan: how much memory a run takes, before anything is downloaded or loaded but the base's
config.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from stages import backends
from stages.errors import UserError
from stages.files import atomic_write
from stages.params import entry, load_params

PARAMS = Path("params.yaml")


def plan(
    run: Annotated[str, typer.Argument(help="a run of params.yaml")],
    fit: Annotated[
        bool, typer.Option("--fit", help="write the cheapest change that makes it fit into the run")
    ] = False,
) -> None:
    """Plan the memory of a run for a batch of rows of the greatest length; exit code 2 where it
    does not fit.

    Examples:

      python -m stages plan typst-003

      python -m stages plan typst-003 --fit
    """
    from stages.backends.shared import memory, model_folders

    params = load_params()
    spec, settings = entry(params.runs, run, "runs"), params.resolve(run)
    folder = model_folders.locate(spec.base, model_folders.CONFIG_FILES)
    rows, tokens = settings.per_device_train_batch_size, settings.max_length_tokens
    backend = backends.load(settings.backend, settings.exact)
    planned = backend.plan_memory(folder, settings, rows, tokens)
    batch = f"{rows} rows of {tokens:,} tokens on the {planned.where}"
    title = f"{run}: {settings.method} on {spec.base}, {batch}"
    table = Table("", "MB", title=title)
    for name in (
        "weights",
        "adapter",
        "gradients",
        "optimizer",
        "activations",
        "at_work",
        "logits",
        "process",
    ):
        table.add_row(name.replace("_", " "), f"{getattr(planned.need, name) / memory.MIB:,.0f}")
    table.add_row("at the fullest moment", f"{planned.need.total / memory.MIB:,.0f}", style="bold")
    Console().print(table)
    typer.echo(planned.verdict)
    if warning := backend.precision(settings).warning:
        typer.echo(f"warning: {warning}")
    if planned.fits:
        return
    if planned.change is None or not fit:
        raise UserError(planned.advice.replace("RUN", run))
    enter(run, planned.change)
    typer.echo(f"{PARAMS}: runs.{run} now has {memory.written(planned.change)}")


def enter(run: str, change: dict[str, object]) -> None:
    """The change into the run's entry; comments and order stay."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 200, True
    document = yaml.load(PARAMS.read_text(encoding="utf-8"))
    entry: CommentedMap = document["runs"][run]
    entry.update(change)
    with atomic_write(PARAMS) as file:
        yaml.dump(document, file)
    load_params()
