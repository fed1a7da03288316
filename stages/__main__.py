"""python -m stages VERB: what a user does beside DVC."""

import sys
from collections.abc import Sequence
from importlib import import_module

import typer

from stages.errors import UserError

VERBS = {
    "begin": "make a clone a project of your own, on a base that you name",
    "new": "a file becomes the next version of a corpus, with its run",
    "propose": "inputs without an answer become training rows",
    "check": "look at a run before it is trained",
    "plan": "how much memory a run takes",
    "repro": "dvc repro, several stages at once; or prove an edit",
    "report": "a page and pictures of all scores",
    "inspect": "what a run gets right and wrong, and rows to work on",
    "diff": "what one version of a corpus has that another has not",
    "apply": "answer your own text",
    "serve": "answer in a local page and by OpenAI's protocol",
    "export": "write a run for other programs",
    "pull": "fetch what a run needs from a remote",
    "push": "give a remote what a run needs",
    "renumber": "give a version another number",
    "merge-file": "git's merge of dvc.lock and params.yaml, by entry",
}
"""Each is the function of its name in the module of its name, in stages/commands."""


def application(words: Sequence[str]) -> typer.Typer:
    """With the verb alone that a command line begins with; with all of them where it begins with
    none: to import all takes 0.3 s, `repro` alone half of it.
    """
    app = typer.Typer(
        help=__doc__,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        callback=lambda: None,  # without one, a single verb would be the whole program
    )
    for verb in words[:1] if words and words[0] in VERBS else VERBS:
        name = verb.replace("-", "_")
        function = getattr(import_module(f"stages.commands.{name}"), name)
        app.command(short_help=VERBS[verb])(function)
    return app


def main() -> None:
    """The user's mistake ends a verb with its sentence and exit code 2."""
    try:
        application(sys.argv[1:])()
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
