"""Rows to work on for the next version of a corpus: those that a run was trained on and gets wrong.

What is held out stays out: rows come from data/mixed/RUN, which no test set shares a question with,
and are compared once more with all test sets that there are now.
"""

import csv
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

from stages import backends, tasks
from stages.backends.shared import cards
from stages.corpus import clean, tables
from stages.corpus.examples import BadLine
from stages.errors import UserError, nearest
from stages.files import atomic_write, read_json, require_writable, write_lines
from stages.layers import Params, answering
from stages.outcomes import Figures, of_each
from stages.records import Message, Prediction, Row, read_rows, target

ANSWERED_PER_DRAFTED = 10  # rows are answered until enough are wrong, but no more than these
AT_ONCE = 64
JSON_LINES = ".jsonl"
FORMS = (JSON_LINES, *tables.DELIMITERS)
COLUMNS = ("category", "input", "output", "answered")
NAMED = 5  # failing categories that are told of


def write(
    path: Path,
    run: str,
    params: Params,
    failing: Mapping[str, Figures],
    categories: Sequence[str],
    rows: int,
    empty: bool,
) -> list[str]:
    """Writes training and validation rows that the run gets wrong, the worst first, as `prepare`
    writes rows or as a table, with the run's answer as "answered". Returns lines that say how many,
    and what there is of the categories that they were looked for in.

    failing: the categories of the test sets, the worst first.   categories: those to look in, []
    for the failing ones.   empty: without the reference, for whoever wants to answer without having
    seen it.
    """
    task = params.runs[run].task
    if path.suffix not in FORMS:
        raise UserError(
            f"--draft {path}: is written as JSON lines or as a table; name a file that ends in "
            f"{', '.join(FORMS[:-1])} or {FORMS[-1]}"
        )
    if path.exists():
        raise UserError(f"--draft {path}: is there already; name a new file, or remove it")
    require_writable(path.parent)
    waiting = candidates(run, task, categories or [*failing])
    if path.suffix != JSON_LINES and any("messages" not in row for row in waiting):
        raise UserError(
            f"--draft {path}: not all rows of {task} are pairs, as a table has them; name a file "
            f"that ends in {JSON_LINES}"
        )
    options = answering(params.resolve(run))
    cards.choose_one()  # and no lock, as somebody waits for the rows
    model = backends.load(options.backend, options.exact).answerer(
        f"models/{run}", params.runs[run].base, options
    )
    drafted, answered = list[tuple[float, dict[str, Any]]](), 0
    while len(drafted) < rows and answered < min(len(waiting), rows * ANSWERED_PER_DRAFTED):
        together = waiting[answered : answered + AT_ONCE]
        answered += len(together)
        answers = [
            Prediction(row["id"], "", **answer._asdict())
            for row, answer in zip(together, model.predict(together), strict=True)
        ]
        statistics = tasks.score(task).statistics(together, answers)
        scores = of_each(task, together, answers, statistics)
        drafted += [
            (score, _drafted(row, answer, empty and path.suffix == JSON_LINES))
            for row, answer, score in zip(together, answers, scores, strict=True)
            if score < 1
        ]
    if not drafted:
        raise UserError(
            f"{run}: gets none of the {answered} rows wrong that it answered; name another "
            f"--category, or write rows of your own for `python -m stages new {task}`"
        )
    drafted = sorted(drafted, key=itemgetter(0))[:rows]
    if path.suffix == JSON_LINES:
        write_lines(path, (row for _, row in drafted))
    else:
        _write_table(path, task, [row for _, row in drafted], empty)
    looked_for = categories or [*failing][:NAMED]
    named = dict.fromkeys([*looked_for, *(row["category"] for _, row in drafted)])
    return [
        f"{path}: {len(drafted)} rows that {run} gets wrong, of {answered} that it answered",
        *_what_there_is(params, run, failing, named),
    ]


def candidates(run: str, task: str, categories: Sequence[str]) -> list[Row]:
    """Training and validation rows of the run, category after category, each once, and none that
    a test set asks.
    """
    folder = Path("data/mixed", run)
    held_out = {
        clean.question_digest(row)
        for file in sorted(Path("data/prepared", task, "test").glob("*.jsonl"))
        for row in read_rows(file)
    }
    found, there = dict[str, Row](), set[str]()
    for part in ("valid", "train"):
        file = folder / f"{part}.jsonl"
        if not file.is_file():
            raise UserError(f"{file}: not there; run `dvc repro mix@{run}`")
        for row in read_rows(file):
            there.add(row["category"])
            if row["category"] in categories and held_out.isdisjoint(clean.question_digests(row)):
                found[row["id"]] = row
    if not found:
        raise UserError(
            f"{folder}: no row of {', '.join(categories)} to work on; write rows of your own and "
            f"give them to `python -m stages new {task}`{nearest(categories[0], sorted(there))}"
        )
    return sorted(found.values(), key=lambda row: categories.index(row["category"]))


def _drafted(row: Row, answer: Prediction, empty: bool) -> dict[str, Any]:
    made = answer.answer or list(answer.step_scores)
    return {**(_emptied(row) if empty else row)} | ({"answered": made} if made else {})


def _write_table(path: Path, task: str, rows: Sequence[dict[str, Any]], empty: bool) -> None:
    """As columns that every task of pairs reads.

    Raises UserError for a row that would be read as another one, such as a conversation of several
    turns; nothing is written then.
    """
    records = [
        (row["category"], row["source"], target(cast(Row, row)), row.get("answered", ""))
        for row in rows
    ]
    corpus = tasks.corpus(task)
    with tempfile.TemporaryDirectory() as folder:
        _write_cells(whole := Path(folder, f"draft{path.suffix}"), records)
        for row, read in zip(rows, corpus.read(whole, {}), strict=True):
            if isinstance(read, BadLine) or corpus.show(read).get("messages") != row["messages"]:
                raise UserError(
                    f"--draft {path}: row {row['id']} has more than an input and an output, or is "
                    f"read otherwise from a table; name a file that ends in {JSON_LINES}"
                )
    _write_cells(path, [(*row[:2], "" if empty else row[2], row[3]) for row in records])


def _write_cells(path: Path, records: Iterable[Sequence[str]]) -> None:
    with atomic_write(path) as file:
        delimiter = tables.DELIMITERS[path.suffix]
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(records)


def _emptied(row: Row) -> Row:
    """Without its reference; a plain text is its own."""
    if "completions" in row:
        return {**row, "labels": [None] * len(row["completions"])}
    if "messages" in row:
        empty = Message(role="assistant", content="")
        return {**row, "messages": [*row["messages"][:-1], empty]}
    return row


def _what_there_is(
    params: Params, run: str, failing: Mapping[str, Figures], categories: Iterable[str]
) -> Iterator[str]:
    """Of each category, its test rows with their score, and how many training rows the run and each
    corpus version have.
    """
    rows = Counter(row["category"] for row in read_rows(Path("data/mixed", run, "train.jsonl")))
    versions = dict[str, Counter[str]]()
    for name, corpus in params.corpora.items():
        report = Path("metrics/prepare", f"{name}.json")
        if corpus.task == params.runs[run].task and report.is_file():
            versions[name] = Counter(read_json(report)["train_categories"])
    for category in categories:
        of = failing.get(category)
        tested = f"{of.rows:,} test rows, {of.mean:.3f}" if of else "no test row"
        share = f"{rows[category]:,} of {rows.total():,} training rows"
        counts = (f"{name} {has[category]:,} of {has.total():,}" for name, has in versions.items())
        yield f"{category}: {tested}; {share} ({', '.join(counts)})"
