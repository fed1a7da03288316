"""python -m stages VERB: what a user does beside DVC."""

import sys

import typer

from stages.commands import (
    apply,
    begin,
    check,
    diff,
    export,
    inspect,
    merge_file,
    new,
    plan,
    propose,
    pull,
    push,
    renumber,
    report,
    repro,
    serve,
)
from stages.errors import UserError

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
VERBS = (
    (begin.begin, "make a clone a project of your own, on a base that you name"),
    (new.new, "a file becomes the next version of a corpus, with its run"),
    (propose.propose, "inputs without an answer become training rows"),
    (check.check, "look at a run before it is trained"),
    (plan.plan, "how much memory a run takes"),
    (repro.repro, "dvc repro, several stages at once; or prove an edit"),
    (report.report, "a page and pictures of all scores"),
    (inspect.inspect, "what a run gets right and wrong, and rows to work on"),
    (diff.diff, "what one version of a corpus has that another has not"),
    (apply.apply, "answer your own text"),
    (serve.serve, "answer in a local page and by OpenAI's protocol"),
    (export.export, "write a run for other programs"),
    (pull.pull, "fetch what a run needs from a remote"),
    (push.push, "give a remote what a run needs"),
    (renumber.renumber, "give a version another number"),
    (merge_file.merge_file, "git's merge of dvc.lock and params.yaml, by entry"),
)
for verb, does in VERBS:
    app.command(short_help=does)(verb)


def main() -> None:
    """The user's mistake ends a verb with its sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
