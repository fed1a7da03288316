"""report: every score and the rows behind it, as one page that needs no network."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.errors import UserError
from stages.files import atomic_write, require_writable
from stages.page import comment, contents, page_file, revisions
from stages.page.revisions import Copy
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
    markdown: Annotated[
        Path | None,
        typer.Option(
            "--markdown", help="file for the figures as a comment on a pull request; - = print it"
        ),
    ] = None,
) -> None:
    """Write one HTML file with the chains, what each run knows and forgot, what made it, and every
    held-out row with all answers: build/report/index.html. It opens from the disk.

    Of a revision it shows the runs that differ from the workspace's, and what their corpora have
    that those of their parents, and of the same run elsewhere, have not.

    --markdown writes beside it what GitHub and GitLab show of a comment: which runs are better or
    worse than at the revision (without one, than their parents), what they forgot, and what data,
    settings and machine made them.

    Examples:

      python -m stages report

      python -m stages report main exp-abc12 -o /tmp/report.html

      python -m stages report main --markdown build/report/comment.md
    """
    path = output if output.suffix == ".html" else output / "index.html"
    if markdown and len(revision_names or []) > 1:
        raise UserError("report --markdown: compares with one revision; name one, or none")
    params = load_params()
    compared = [task for task in params.compare if _chain(task).is_file()]
    if not compared:
        raise UserError("metrics/compare: nothing has been compared yet; run `dvc repro` first")
    printed = markdown == Path("-")
    for folder in (path.parent, *([markdown.parent] if markdown else [])):
        require_writable(folder)
    with tempfile.TemporaryDirectory() as scratch:
        copies = [Copy(Path()), *_copies(revision_names or [], compared, Path(scratch))]
        runs = {
            task: [
                *(run for run, spec in params.runs.items() if spec.task == task),
                *(name for name, variant in params.variants.items() if variant.task == task),
            ]
            for task in compared
        }
        total = sum(map(len, runs.values())) * len(copies)
        with ProgressLines("reading", total, "runs") as lines:
            read = [contents.read(task, copies, runs[task], lines.advance) for task in compared]
        figures, rows = [], {}
        for of in read:
            about, rows[of.task] = contents.of_task(of)
            figures.append(about)
        said = [*_unchanged(compared, copies), *_lacking(figures)]
        if markdown:
            there = copies[1] if revision_names else None
            text = comment.of_tasks(read, copies[0], there, Path(scratch))
            if printed:
                typer.echo(text, nl=False)
            else:
                with atomic_write(markdown) as file:
                    file.write(text)
    page = page_file.html_of({"tasks": figures, "said": said}, rows)
    with atomic_write(path) as file:
        file.write(page)
    for line in said:
        typer.echo(line, err=True)
    count = sum(len(each["rows"]) for each in rows.values())
    typer.echo(
        f"{path}: {len(page.encode()) / 2**20:.1f} MB, {count:,} rows of {len(rows)} tasks; open "
        "it in a browser",
        err=printed,
    )


def _chain(task: str) -> Path:
    return Path("metrics/compare", task, "chain.csv")


def _copies(names: list[str], compared: list[str], scratch: Path) -> list[Copy]:
    copies = []
    for number, name in enumerate(dict.fromkeys(names)):
        folder = scratch / str(number)
        copies.append(revisions.copied(name, compared, folder))
    return copies


def _unchanged(compared: list[str], copies: list[Copy]) -> list[str]:
    return [
        f"{revision}: {', '.join(runs)} as in the workspace"
        for revision, runs in contents.unchanged(compared, copies).items()
        if runs
    ]


def _lacking(figures: list[dict[str, Any]]) -> list[str]:
    """What is missing of the rows of runs, and of the corpora that theirs are compared with."""
    runs = [run for about in figures for run in about["runs"]]
    return [
        *(f"{run['label']}: {run['lacks']}" for run in runs if run["lacks"]),
        *(
            f"{run['label']} against {version['against']}: {version['lacks']}"
            for run in runs
            for version in run["versions"]
            if "lacks" in version
        ),
    ]
