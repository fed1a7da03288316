"""A stage's command line."""

import sys
from collections.abc import Callable
from pathlib import Path

import typer

from stages.errors import UserError


def run(main: Callable[..., None], description: str | None) -> None:
    """Run a stage for the key that the command line names. The user's mistake ends it with its
    sentence and exit code 2.
    """
    name = Path(sys.argv[0]).stem
    key = "@KEY" if main.__code__.co_argcount else ""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=description, epilog=f"The usual way: dvc repro {name}{key}")(main)
    try:
        app(prog_name=f"python -m stages.{name}")
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
