"""The prompt of `apply`: texts are answered line by line, by models that stay loaded."""

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages.commands.shown_outcomes import safe
from stages.errors import UserError
from stages.serving.batcher import Batch, Event, Question
from stages.serving.runs import LoadedRuns, TrainedRun

HELP = """\
a text            is answered; one that begins with / needs a space before it
/run RUN          another run answers
/both RUN [RUN]   one more beside the first, or these two, side by side
/help             this
/quit, Ctrl-D     ends; Ctrl-C stops an answer"""


def answer_lines(runs: Sequence[TrainedRun], find: Callable[[str], TrainedRun]) -> None:
    """Until the end of standard input, or /quit.

    find: a run by its name. Raises UserError for one that there is not.
    """
    with suppress(ImportError):
        import readline  # noqa: F401  # a line can be edited, and earlier ones come back

    loaded = LoadedRuns()
    for run in runs:
        loaded.answerer(run)
    typer.echo("/help says what can be written here")
    while True:
        try:
            line = line_after(f"{' | '.join(run.name for run in runs)}> ")
            command, *names = line.split() if line.startswith("/") else [""]
            if command == "/quit":
                return
            if command in ("/run", "/both"):
                runs = chosen(command, runs, [find(name) for name in names])
                for run in runs:
                    loaded.answerer(run)
            elif command == "/help":
                typer.echo(HELP)
            elif command:
                raise UserError(f"{command}: no command; /help names them")
            elif line.strip():
                answer(line, runs, loaded)
        except EOFError:
            return typer.echo()
        except KeyboardInterrupt:
            typer.echo()
        except UserError as fault:
            typer.echo(fault)


def line_after(prompt: str) -> str:
    """Raises UserError for bytes that are no text."""
    try:
        line = input(prompt)
    except UnicodeError:
        line = "\udcff"
    require_text("the line", line)
    return line


def require_text(name: str, given: str) -> None:
    """Raise UserError for bytes that are no text: Python makes half surrogate pairs of them."""
    try:
        given.encode()
    except UnicodeError:
        raise UserError(f"{name} is not UTF-8; set the terminal to it") from None


def chosen(
    command: str, runs: Sequence[TrainedRun], named: Sequence[TrainedRun]
) -> Sequence[TrainedRun]:
    """The runs that answer from now on."""
    if command == "/both" and len(named) == 1:
        named = [runs[0], *named]
    if len(named) != (1 if command == "/run" else 2):
        raise UserError(f"{command}: name {'a run' if command == '/run' else 'one or two runs'}")
    require_one_task(named)
    return named


def require_one_task(runs: Sequence[TrainedRun]) -> None:
    if len(tasks := {run.task: run for run in runs}) > 1:
        raise UserError(
            f"runs side by side are of one task; these are of {', '.join(tasks)}: call apply once "
            f"for each task"
        )


def answer(line: str, runs: Sequence[TrainedRun], loaded: LoadedRuns) -> None:
    """One run's answer as it is written, two runs' beside each other when both are whole."""
    if len(runs) == 1:
        asked(line, runs[0], loaded, lambda piece: typer.echo(safe(piece), nl=False))
        return typer.echo()
    answers = {run.name: [asked(line, run, loaded, lambda piece: None)] for run in runs}
    Console().print(side_by_side([line], answers))


def asked(line: str, run: TrainedRun, loaded: LoadedRuns, show: Callable[[str], None]) -> str:
    """The answer.   show: given each piece of it. Raises KeyboardInterrupt where Ctrl-C stopped it,
    between two tokens: raised wherever Python happens to be, it was lost in a library's callback.
    """

    def tell(event: Event) -> None:
        if isinstance(event, str):
            show(event)

    def stop(*_: object) -> None:
        question.withdrawn = True

    question = Question(run, run.question(line), run.settings, tell, in_pieces=True)
    before = signal.signal(signal.SIGINT, stop)
    try:
        answers = loaded.answerer(run).respond([question.row], Batch([question]))
    finally:
        signal.signal(signal.SIGINT, before)
    if question.withdrawn:
        raise KeyboardInterrupt
    question.end(answers[0])
    return answers[0]


def side_by_side(inputs: Sequence[str], answers: Mapping[str, Sequence[str]]) -> Table:
    """answers: of each run."""
    table = Table("input", *answers, show_lines=True)
    for row in zip(inputs, *answers.values(), strict=True):
        table.add_row(*(Text(safe(cell)) for cell in row))
    return table
