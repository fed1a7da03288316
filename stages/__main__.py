"""python -m stages VERB: what a user does beside DVC."""

import sys

import typer

from stages.commands import apply, check, export, new, plan, report, repro
from stages.errors import UserError

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("new")(new.new)
app.command("apply")(apply.apply)
app.command("check")(check.check)
app.command("plan")(plan.plan)
app.command("export")(export.export)
app.command("report")(report.report)
app.command("repro")(repro.repro)


def main() -> None:
    """The user's mistake ends a verb with its sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
