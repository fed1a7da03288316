"""diff: what one version of a corpus has that another has not, beside what runs learned of each."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages import outcomes
from stages.commands import own_files
from stages.commands.shown_outcomes import marked, printable
from stages.corpus import changes
from stages.errors import UserError
from stages.layers import Params
from stages.outcomes import Outcome
from stages.params import entry, load_params
from stages.records import Row, target
from stages.revisions import files_of

PARTS = ("train", "valid", "test")


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
    that category.

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
    parts = [_rows(task, given) for given in (before, after)]
    old, new = ([row for rows in of.values() for row in rows] for of in parts)
    found = changes.between(old, new)
    if as_jsonl:
        with own_files.written(as_jsonl) as file:
            for record in _records(found):
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        return
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        near = changes.near_duplicates(old, found.added, Path(folder))
    base = next((spec.base for spec in params.runs.values() if spec.task == task), "")
    console.print(_sizes(parts, (before, after), base))
    console.print(
        f"{found.same:,} rows are the same, {len(found.changed):,} have another answer, "
        f"{len(found.added):,} are new, {len(found.removed):,} are gone; of the new ones {near:,} "
        "resemble a row before them",
        highlight=False,
    )
    console.print(_by_category(params, task, (old, new), found, (before, after)))
    for kind, some in (("new", found.added), ("gone", found.removed)):
        for row in some[:rows]:
            console.print(f"\n{kind} · ", printable(row["category"]), sep="", highlight=False)
            console.print(_shown(row))
    for was, now in found.changed[:rows]:
        console.print("\nchanged · ", printable(now["category"]), sep="", highlight=False)
        part = _shown(was)
        part.add_row("now", marked(target(was), target(now), console.is_terminal))
        if "labels" in now:
            part.add_row("labels", f"{was['labels']} → {now['labels']}")
        console.print(part)


def _rows(task: str, given: str) -> dict[str, list[Row]]:
    """All prepared rows of CORPUS or CORPUS@REVISION by the part that they are in."""
    name, _, revision = given.partition("@")
    files, found = files_of(revision) if revision else None, dict[str, list[Row]]()
    for part in PARTS:
        path = Path("data/prepared", task, part, f"{name}.jsonl")
        try:
            at = str(path)
            text = files.read_text(at, encoding="utf-8") if files else path.read_text("utf-8")
        except Exception:  # DVC's cache has errors of its own beside FileNotFoundError
            where = f" at {revision}" if revision else ""
            raise UserError(
                f"{path}: not there{where}; run `dvc repro prepare@{name}`"
                + (", or `dvc pull` of that revision" if revision else "")
            ) from None
        found[part] = [json.loads(line) for line in text.split("\n") if line]
    return found


def _records(found: changes.Changes) -> Iterable[dict[str, Any]]:
    yield from ({"change": "new", "row": row} for row in found.added)
    yield from ({"change": "gone", "row": row} for row in found.removed)
    yield from ({"change": "changed", "before": was, "row": now} for was, now in found.changed)


def _sizes(parts: list[dict[str, list[Row]]], given: tuple[str, str], base: str) -> Table:
    """Rows by part and their mean lengths, in tokens too where the base is here."""
    table = Table("corpus", *PARTS, "characters of an input", "of a reference")
    tokenizer = Path(base, "tokenizer.json")
    if tokenizer.is_file():
        table.add_column("tokens of both")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, of in zip(given, parts, strict=True):
        rows = [row for some in of.values() for row in some]
        inputs, references = [row["source"] for row in rows], [target(row) for row in rows]
        sums = [sum(map(len, inputs)), sum(map(len, references))]
        if tokenizer.is_file():
            sums.append(_tokens(tokenizer, inputs + references))
        means = (f"{total / max(len(rows), 1):,.1f}" for total in sums)
        counts = (f"{len(some):,}" for some in of.values())
        table.add_row(printable(name), *counts, *means)
    return table


def _tokens(file: Path, texts: list[str]) -> int:
    from tokenizers import Tokenizer

    encoded = Tokenizer.from_file(str(file)).encode_batch_fast(texts, add_special_tokens=False)
    return sum(len(each.ids) for each in encoded)


def _by_category(
    params: Params,
    task: str,
    versions: tuple[list[Row], list[Row]],
    found: changes.Changes,
    given: tuple[str, str],
) -> Table:
    """Rows by category, and what the last run of each corpus makes of those that are held out."""
    table = Table("category")
    for header in (*(printable(name) for name in given), *map(Text, ("new", "gone", "changed"))):
        table.add_column(header)
    counts = [
        Counter(row["category"] for row in rows)
        for rows in (*versions, found.added, found.removed, [now for _, now in found.changed])
    ]
    scored = list[dict[str, float]]()
    for name in dict.fromkeys(each.partition("@")[0] for each in given):
        runs = [run for run, spec in params.runs.items() if spec.corpus == name]
        if not runs or not Path("data/scored", task, f"{runs[-1]}.jsonl").is_file():
            continue
        try:
            scored.append(_means(outcomes.once(outcomes.of_run(task, runs[-1]))))
        except UserError as error:
            typer.echo(f"without the scores of {runs[-1]}: {error}", err=True)
            continue
        table.add_column(f"score by {runs[-1]}")
        table.caption = "score by RUN: the mean of the rows that are held out"
    for column in table.columns[1:]:
        column.justify = "right"
    for category in sorted(set().union(*counts)):
        means = [of.get(category) for of in scored]
        table.add_row(
            printable(category),
            *(f"{count[category]:,}" for count in counts),
            *(_score(mean, means[0] if at else None) for at, mean in enumerate(means)),
        )
    return table


def _score(mean: float | None, before: float | None) -> str:
    """With its change from the other version's run, where both have one."""
    if mean is None:
        return ""
    return f"{mean:.3f}" + (f" ({mean - before:+.3f})" if before is not None else "")


def _means(scored: list[Outcome]) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for outcome in scored:
        scores.setdefault(outcome.row["category"], []).append(outcome.score)
    return {category: sum(some) / len(some) for category, some in scores.items()}


def _shown(row: Row) -> Table:
    part = Table.grid("", "", padding=(0, 2))
    if row["source"]:
        part.add_row("input", printable(row["source"]))
    part.add_row("reference", printable(target(row)))
    return part
