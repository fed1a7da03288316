"""plan: how much memory a run takes, before anything is downloaded or loaded but the base's
config.
"""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stages import backends
from stages.commands.edited_params import edited_params
from stages.errors import UserError
from stages.params import PARAMS, load_params, run_entry
from stages.settings import Launch, Strategy


def plan(
    run: Annotated[str, typer.Argument(help="a run of params.yaml")],
    fit: Annotated[
        bool, typer.Option("--fit", help="write the cheapest change that makes it fit into the run")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, max=1024, help="in place of the run's launch.processes")
    ] = None,
    strategy: Annotated[
        Strategy | None, typer.Option(help="in place of the run's launch.strategy")
    ] = None,
) -> None:
    """Plan the memory of a run for a batch of rows of the greatest length, in each of its
    processes; exit code 2 where it does not fit.

    Examples:

      python -m stages plan typst-003

      python -m stages plan typst-003 --fit

      python -m stages plan typst-003 --processes 4 --strategy fsdp
    """
    from stages.backends.shared import memory, model_folders, workers

    params = load_params()
    spec, settings = run_entry(params, run), params.resolve(run)
    asked = {"processes": processes, "strategy": strategy}
    changed = {name: value for name, value in asked.items() if value is not None}
    if changed:
        launch = Launch.model_validate(settings.launch.model_dump() | changed)
        settings = settings.model_copy(update={"launch": launch})
        if faults := backends.limits(settings.backend).refuses(settings, False):
            raise UserError(faults[0])
    folder = model_folders.locate(spec.base, model_folders.CONFIG_FILES)
    rows, tokens = settings.per_device_train_batch_size, settings.max_length_tokens
    backend = backends.load(settings.backend, settings.exact)
    planned = backend.plan_memory(folder, settings, rows, tokens)
    count = workers.all_processes(settings.launch, settings.device)
    beside = f", in each of {count} processes ({settings.launch.strategy})" if count > 1 else ""
    batch = f"{rows} rows of {tokens:,} tokens on the {planned.where}{beside}"
    title = escape(f"{run}: {settings.method} on {spec.base}, {batch}")
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
    with edited_params() as document:
        document["runs"][run].update(planned.change)
    typer.echo(f"{PARAMS}: runs.{run} now has {memory.written(planned.change)}")
