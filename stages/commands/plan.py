"""plan: how much memory a run takes, before anything is downloaded or loaded but the base's config."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from stages.errors import UserError
from stages.files import atomic_write
from stages.params import entry, load_params

PARAMS = Path("params.yaml")


def plan(
    run: Annotated[str, typer.Argument(help="a run of params.yaml")],
    fit: Annotated[bool, typer.Option("--fit", help="write the cheapest change that makes it fit into the run")] = False,
) -> None:
    """Plan the memory of a run for a batch of rows of the greatest length; exit code 2 where it does not fit.

    Examples:

      python -m stages plan typst-003

      python -m stages plan typst-003 --fit
    """
    from stages.backends import adapter, planning

    params = load_params()
    spec, chosen = entry(params.runs, run, "runs"), params.resolve(run)
    model, (where, free) = planning.outline(adapter.locate(spec.base, adapter.CONFIG_FILES)), planning.room(chosen)
    rows, tokens = chosen.per_device_train_batch_size, chosen.max_length_tokens
    wanted = planning.need(model, chosen, rows, tokens, where)
    table = Table("", "MB", title=f"{run}: {chosen.method} on {spec.base}, {rows} rows of {tokens:,} tokens on the {where}")
    for name in ("weights", "adapter", "gradients", "optimizer", "activations", "at_work", "logits", "process"):
        table.add_row(name.replace("_", " "), f"{getattr(wanted, name) / planning.MIB:,.0f}")
    table.add_row("at the fullest moment", f"{wanted.total / planning.MIB:,.0f}", style="bold")
    Console().print(table)
    typer.echo(planning.verdict(wanted, where, free))
    if wanted.total <= free:
        return
    change = planning.remedy(model, chosen, tokens, where, free)
    if change is None or not fit:
        raise UserError(planning.advice(change).replace("RUN", run))
    enter(run, change)
    typer.echo(f"{PARAMS}: runs.{run} now has {planning.written(change)}")


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
