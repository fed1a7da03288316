"""report: every score and the rows behind it, as one page that needs no network."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.errors import UserError
from stages.files import atomic_write, require_writable
from stages.page import contents, page_file, revisions
from stages.page.contents import Copy
from stages.params import load_params
from stages.progress_lines import ProgressLines


def report(
    revision_names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REVISIONS]...",
            help="git revisions or experiments to show beside the workspace",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="folder for index.html, or an .html file")
    ] = Path("build/report"),
) -> None:
    """Write one HTML file with the chains, what each run knows and forgot, what made it, and every
    held-out row with all answers: build/report/index.html. It opens from the disk.

    Examples:

      python -m stages report

      python -m stages report main exp-abc12 -o /tmp/report.html
    """
    path = output if output.suffix == ".html" else output / "index.html"
    params = load_params()
    compared = [task for task in params.compare if _chain(task).is_file()]
    if not compared:
        raise UserError("metrics/compare: nothing has been compared yet; run `dvc repro` first")
    require_writable(path.parent)
    with tempfile.TemporaryDirectory() as scratch:
        copies = [Copy(Path()), *_copies(revision_names or [], compared, Path(scratch))]
        runs = {
            task: [run for run, spec in params.runs.items() if spec.task == task]
            for task in compared
        }
        total = sum(map(len, runs.values())) * len(copies)
        figures, rows = [], {}
        with ProgressLines("reading", total, "runs") as lines:
            for task in compared:
                about, rows[task] = contents.of_task(task, copies, runs[task], lines.advance)
                figures.append(about)
        said = [*_unchanged(compared, copies), *_lacking(figures)]
    page = page_file.html_of({"tasks": figures, "said": said}, rows)
    with atomic_write(path) as file:
        file.write(page)
    for line in said:
        typer.echo(line, err=True)
    count = sum(len(each["rows"]) for each in rows.values())
    typer.echo(
        f"{path}: {len(page.encode()) / 2**20:.1f} MB, {count:,} rows of {len(rows)} tasks; open "
        "it in a browser"
    )


def _chain(task: str) -> Path:
    return Path("metrics/compare", task, "chain.csv")


def _copies(names: list[str], compared: list[str], scratch: Path) -> list[Copy]:
    copies = []
    for number, name in enumerate(dict.fromkeys(names)):
        folder = scratch / str(number)
        copies.append(Copy(folder, name, tuple(revisions.copied(name, compared, folder))))
    return copies


def _unchanged(compared: list[str], copies: list[Copy]) -> list[str]:
    return [
        f"{revision}: {', '.join(runs)} as in the workspace"
        for revision, runs in contents.unchanged(compared, copies).items()
        if runs
    ]


def _lacking(figures: list[dict[str, Any]]) -> list[str]:
    return [
        f"{run['label']}: {run['lacks']}"
        for about in figures
        for run in about["runs"]
        if run["lacks"]
    ]
