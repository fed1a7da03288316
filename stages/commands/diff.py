"""diff: what one version of a corpus has that another has not, beside what runs learned of each."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages import outcomes, version_changes
from stages.commands import own_files
from stages.commands.shown_outcomes import marked, printable
from stages.corpus.changes import PARTS, Version
from stages.errors import UserError
from stages.layers import Params
from stages.outcomes import Outcome
from stages.params import entry, load_params
from stages.records import Row, target
from stages.revisions import files_of
from stages.version_changes import Compared


def diff(
    before: Annotated[str, typer.Argument(help="a corpus version, or CORPUS@REVISION")],
    after: Annotated[str, typer.Argument(help="another of the same task")],
    rows: Annotated[int, typer.Option(min=0, help="how many of each kind are shown")] = 3,
    as_jsonl: Annotated[
        Path | None, typer.Option("--jsonl", help="all rows that differ, an object a line")
    ] = None,
) -> None:
    """Show which rows were added, removed and changed from one corpus version to another, matched
    by their question, and by category; beside it, what the runs that were trained on each make of
    that category: the mean of its held-out rows' own scores, and how it changed, with its 95 %
    interval. The page of `report` shows the same for each run and its parent.

    Rows are those that `prepare` kept. REVISION is a git revision or an experiment, as far as DVC's
    cache has its rows.

    Examples:

      python -m stages diff typst-002 typst-003

      python -m stages diff typst-003@HEAD typst-003 --rows 10

      python -m stages diff gec-001 gec-002 --jsonl changes.jsonl
    """
    params = load_params()
    names = [given.partition("@")[0] for given in (before, after)]
    task, other = (entry(params.corpora, name, "corpora").task for name in names)
    if task != other:
        raise UserError(f"{after}: a corpus of {other}; name one of {task}, as {before} is")
    with tempfile.TemporaryDirectory() as scratch:
        versions = [
            _version(task, given, Path(scratch, str(number)))
            for number, given in enumerate((before, after))
        ]
        found = version_changes.compared(*versions)
        if as_jsonl:
            with own_files.written(as_jsonl) as file:
                for record in _records(found):
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
            return
        console = Console()
        base = next((spec.base for spec in params.runs.values() if spec.task == task), "")
        console.print(_sizes(versions, (before, after), base))
        of, alike = found.changes, found.near_duplicates
        resembling = (
            f"of the new ones {alike:,} resemble a row before them"
            if alike is not None
            else "which of them resemble others is looked for in at most "
            f"{version_changes.MOST_RESEMBLING:,} rows"
        )
        console.print(
            f"{of.same:,} rows are the same, {len(of.changed[0]):,} have another answer, "
            f"{len(of.added):,} are new, {len(of.removed):,} are gone; {resembling}",
            highlight=False,
        )
        _print_categories(console, params, task, found, (before, after))
        _print_rows(console, found, rows)


def _version(task: str, given: str, scratch: Path) -> Version:
    """CORPUS or CORPUS@REVISION."""
    name, _, revision = given.partition("@")
    if revision:
        return version_changes.prepared_at(revision, files_of(revision), task, name, scratch)
    return version_changes.prepared(task, name)


def _records(found: Compared) -> Iterator[dict[str, Any]]:
    of = found.changes
    yield from ({"change": "new", "row": row} for row in found.after.rows(of.added))
    yield from ({"change": "gone", "row": row} for row in found.before.rows(of.removed))
    yield from ({"change": "changed", "before": was, "row": now} for was, now in _changed(found))


def _changed(found: Compared, most: int | None = None) -> Iterable[tuple[Row, Row]]:
    was, now = (places[:most] for places in found.changes.changed)
    return zip(found.before.rows(was), found.after.rows(now), strict=True)


def _sizes(versions: list[Version], given: tuple[str, str], base: str) -> Table:
    """Rows by part and their mean lengths, in tokens too where the base is here."""
    table = Table("corpus", *PARTS, "characters of an input", "of a reference")
    tokenizer = Path(base, "tokenizer.json")
    if tokenizer.is_file():
        table.add_column("tokens of both")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, of in zip(given, versions, strict=True):
        sums = [of.source_characters, of.reference_characters]
        if tokenizer.is_file():
            sums.append(of.tokens(tokenizer))
        means = (f"{total / max(len(of), 1):,.1f}" for total in sums)
        table.add_row(printable(name), *(f"{size:,}" for size in of.sizes.values()), *means)
    return table


def _print_categories(
    console: Console, params: Params, task: str, found: Compared, given: tuple[str, str]
) -> None:
    """Rows by category, and what the last run of each corpus makes of those that are held out: what
    gained most first.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("category", overflow="fold")
    table.add_column("rows")
    table.add_column(Text("new, gone, changed"))
    names = dict.fromkeys(each.partition("@")[0] for each in given)
    scored = {run: some for run, some in (_scored(params, task, name) for name in names) if some}
    if scored:
        table.add_column("score")
    if len(scored) > 1:
        table.add_column("change")
        table.add_column("95 % interval")
    for column in table.columns[1:]:
        column.justify = "right"
    of_runs = version_changes.score_changes(*([], [], *scored.values())[-2:])
    counted = found.categories()
    for category in version_changes.most_gained_first(counted, of_runs):
        of = counted[category]
        counts = f"+{of.added:,} -{of.removed:,}" + (f" ~{of.changed:,}" if of.changed else "")
        cells = [f"{of.before:,} → {of.after:,}", counts]
        if score := of_runs.get(category):
            means = (mean for mean in (score.before, score.after) if mean is not None)
            cells.append(" → ".join(f"{mean:.3f}" for mean in means))
            if change := score.change:
                cells.append(f"{change.difference:+.3f}")
                cells.append(f"{change.low:+.2f} to {change.high:+.2f}")
        table.add_row(printable(category), *cells)
    console.print(table)
    if scored:
        by = " and then by ".join(scored)
        console.print(f"score: the mean of the held-out rows by {by}", highlight=False)


def _scored(params: Params, task: str, corpus: str) -> tuple[str, list[Outcome]]:
    """The last run of a corpus with what it made of the rows that are held out, [] where that
    cannot be had.
    """
    run = next((run for run, spec in [*params.runs.items()][::-1] if spec.corpus == corpus), "")
    if not run or not Path("data/scored", task, f"{run}.jsonl").is_file():
        return run, []
    try:
        return run, outcomes.of_run(task, run)
    except UserError as error:
        typer.echo(f"without the scores of {run}: {error}", err=True)
        return run, []


def _print_rows(console: Console, found: Compared, most: int) -> None:
    """A few of each kind."""
    of = found.changes
    for kind, version, places in (
        ("new", found.after, of.added),
        ("gone", found.before, of.removed),
    ):
        for row in version.rows(places[:most]):
            console.print(f"\n{kind} · ", printable(row["category"]), sep="", highlight=False)
            console.print(_shown(row))
    for was, now in _changed(found, most):
        console.print("\nchanged · ", printable(now["category"]), sep="", highlight=False)
        part = _shown(was)
        part.add_row("now", marked(target(was), target(now), console.is_terminal))
        if "labels" in now:
            part.add_row("labels", f"{was['labels']} → {now['labels']}")
        console.print(part)


def _shown(row: Row) -> Table:
    part = Table.grid("", "", padding=(0, 2))
    if row["source"]:
        part.add_row("input", printable(row["source"]))
    part.add_row("reference", printable(target(row)))
    return part
