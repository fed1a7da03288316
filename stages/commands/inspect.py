"""inspect: what a run gets right and wrong, on the terminal; and rows to work on."""

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from stages import drafts, outcomes
from stages.commands import own_files, shown_outcomes
from stages.errors import UserError, nearest
from stages.layers import Params
from stages.outcomes import ByKey, Outcome
from stages.params import load_params, run_entry, scored_task
from stages.records import target


def inspect(
    run: Annotated[
        str, typer.Argument(help="a run of params.yaml, or a variant, that has been evaluated")
    ],
    worse_than: Annotated[
        str, typer.Option(help="rows that this run or variant of the same task answered better")
    ] = "",
    better_than: Annotated[
        str, typer.Option(help="rows that this run or variant of the same task answered worse")
    ] = "",
    category: Annotated[
        list[str] | None, typer.Option(help="rows of this category; may be given several times")
    ] = None,
    test_set: Annotated[str, typer.Option(help="rows that this corpus version holds out")] = "",
    contains: Annotated[
        str, typer.Option(help="rows with this text in their input, reference or answer")
    ] = "",
    rows: Annotated[int, typer.Option(min=0, help="how many are shown, or drafted")] = 10,
    as_csv: Annotated[
        Path | None, typer.Option("--csv", help="all the rows chosen as a table; `-`: the screen")
    ] = None,
    as_jsonl: Annotated[
        Path | None, typer.Option("--jsonl", help="the same, an object a line")
    ] = None,
    draft: Annotated[
        Path | None,
        typer.Option(
            help="a new file of training and validation rows to work on: .jsonl, or a table, .tsv "
            "or .csv, where a row is an input with its output"
        ),
    ] = None,
    empty: Annotated[
        bool, typer.Option("--empty", help="drafted rows without their reference")
    ] = False,
) -> None:
    """Show what a run makes of the rows that are held out: its categories, what lost most first,
    and the rows that it got wrong, the worst first, with their answers.

    The score of a row is the task's measure of it alone; of a labelled solution, 1 - the mean
    distance of its steps' scores from their labels.

    Examples:

      python -m stages inspect typst-003

      python -m stages inspect typst-003 --worse-than typst-002 --category matrix --rows 30

      python -m stages inspect gec-002 --contains ました --csv chosen.csv

    For the next version, rows that the run was trained or validated on and gets wrong, of the
    categories that it is worst in. Nothing that a test set asks is among them. The run's answer
    stands under "answered", which `new` has no use for:

      python -m stages inspect typst-003 --draft draft.jsonl --rows 50

      python -m stages new typst draft.jsonl --note "delimiters, mended by hand"
    """
    params = load_params()
    task = scored_task(params, run)
    scored = outcomes.once(outcomes.of_run(task, run))
    parent = _parent(params, run)
    if draft:
        run_entry(params, run)  # a variant was trained on no rows
        if worse_than or better_than or test_set or contains or as_csv or as_jsonl:
            raise UserError("--draft: takes --category, --rows and --empty, and no other option")
        failing = outcomes.by_category(task, scored, {})
        for line in drafts.write(draft, run, params, failing, category or [], rows, empty):
            typer.echo(line, err=True)
        return
    others = dict[str, ByKey]()
    try:
        if parent:
            others[parent] = _of_other(params, task, parent, scored)
    except UserError as error:
        typer.echo(f"without the change from {parent}: {error}", err=True)
        parent = ""
    for other in {worse_than, better_than} - {"", *others}:
        others[other] = _of_other(params, task, other, scored)
    _known("--category", category or [], {outcome.row["category"] for outcome in scored})
    _known("--test-set", [test_set] if test_set else [], {outcome.corpus for outcome in scored})
    chosen = [
        outcome
        for outcome in scored
        if (not category or outcome.row["category"] in category)
        and (not test_set or outcome.corpus == test_set)
        and (not contains or contains in "\n".join(_texts(outcome)))
        and (not worse_than or outcome.score < others[worse_than][outcome.key].score)
        and (not better_than or outcome.score > others[better_than][outcome.key].score)
    ]
    if against := others.get(worse_than or better_than):
        chosen.sort(key=lambda outcome: -abs(outcome.score - against[outcome.key].score))
    else:
        chosen.sort(key=lambda outcome: outcome.score)
    if as_csv:
        with own_files.written(as_csv) as file:
            writer = csv.DictWriter(file, [*_record(scored[0], others)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(_record(outcome, others) for outcome in chosen)
    if as_jsonl:
        with own_files.written(as_jsonl) as file:
            for outcome in chosen:
                file.write(json.dumps(_record(outcome, others), ensure_ascii=False) + "\n")
    if not (as_csv or as_jsonl):
        console = Console()
        before = others.get(parent, {})
        shown_outcomes.print_figures(console, task, run, scored, parent, before)
        if not against:
            chosen = [outcome for outcome in chosen if outcome.score < 1]
        shown_outcomes.print_rows(console, run, chosen, others, rows, len(scored))


def _parent(params: Params, run: str) -> str:
    """The run that it continues from, "" where that is none of its task; of a variant, its run."""
    if run in params.variants:
        return params.variants[run].model_of
    parent = params.runs[run].parent.removeprefix("models/")
    task = params.runs[run].task
    return parent if parent in params.runs and params.runs[parent].task == task else ""


def _of_other(params: Params, task: str, run: str, scored: list[Outcome]) -> ByKey:
    """What another run made of the same rows."""
    other = scored_task(params, run)
    if other != task:
        raise UserError(f"{run}: a run of {other}; name one of {task}, which answers the same rows")
    found = {outcome.key: outcome for outcome in outcomes.of_run(task, run)}
    if lacking := {outcome.corpus for outcome in scored if outcome.key not in found}:
        raise UserError(
            f"{run}: has not answered all rows of {', '.join(sorted(lacking))}; run `dvc repro "
            f"{outcomes.evaluation_of(run)}`"
        )
    return found


def _known(option: str, given: list[str], there: set[str]) -> None:
    for name in given:
        if name not in there:
            raise UserError(f"{option} {name}: no row of it{nearest(name, sorted(there))}")


def _texts(outcome: Outcome) -> tuple[str, str, str]:
    return outcome.row["source"], target(outcome.row), outcome.answer.answer


def _record(outcome: Outcome, others: dict[str, ByKey]) -> dict[str, Any]:
    """A row for other programs."""
    source, reference, answer = _texts(outcome)
    record = {
        "id": outcome.row["id"],
        "test_set": outcome.corpus,
        "category": outcome.row["category"],
        "score": outcome.score,
        "input": source,
        "reference": reference,
        "answer": answer,
        "nats": outcome.answer.nats,
        "tokens": outcome.answer.tokens,
        "labels": outcome.row.get("labels", []),
        "step_scores": [*outcome.answer.step_scores],
    }
    for name, theirs in others.items():
        record[f"score of {name}"] = theirs[outcome.key].score
        record[f"answer of {name}"] = theirs[outcome.key].answer.answer
    return record
