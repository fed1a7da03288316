"""Rows to work on for the next version of a corpus: those that a run was trained on and gets wrong.

What is held out stays out: rows come from data/mixed/RUN, which no test set shares a question with,
and are compared once more with all test sets that there are now.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages import backends, tasks
from stages.corpus import clean
from stages.errors import UserError
from stages.files import write_lines
from stages.layers import Params, answering
from stages.outcomes import closeness
from stages.records import Prediction, Row, read_rows

ANSWERED_PER_DRAFTED = 10  # rows are answered until enough are wrong, but no more than these
AT_ONCE = 64


def write(
    path: Path, run: str, params: Params, categories: Sequence[str], rows: int, empty: bool
) -> str:
    """Writes rows of these categories, in their order, that the run gets wrong, as `prepare` writes
    rows, with the run's answer as "answered"; says how many, and what the training set has of each
    category.

    empty: without the reference, for whoever wants to answer without having seen it.
    """
    task = params.runs[run].task
    if path.suffix != ".jsonl":
        raise UserError(
            f"--draft {path}: is written as JSON lines; name a file that ends in .jsonl"
        )
    if path.exists():
        raise UserError(f"--draft {path}: is there already; name a new file, or remove it")
    waiting = candidates(run, task, categories)
    options = answering(params.resolve(run))
    model = backends.load(options.backend, options.exact).answerer(
        f"models/{run}", params.runs[run].base, options
    )
    drafted, answered = list[dict[str, Any]](), 0
    while len(drafted) < rows and answered < min(len(waiting), rows * ANSWERED_PER_DRAFTED):
        together = waiting[answered : answered + AT_ONCE]
        answered += len(together)
        answers = [
            Prediction(row["id"], "", **answer._asdict())
            for row, answer in zip(together, model.predict(together), strict=True)
        ]
        scores = tasks.score(task).headline(tasks.score(task).statistics(together, answers))
        for row, answer, score in zip(together, answers, scores, strict=True):
            if (closeness(row, answer) if "completions" in row else score) < 1:
                made = answer.answer or list(answer.step_scores)
                drafted.append({**(_emptied(row) if empty else row), "answered": made})
    write_lines(path, drafted[:rows])
    drafted = drafted[:rows]
    drawn = dict.fromkeys(row["category"] for row in drafted)
    told = [f"{path}: {len(drafted)} rows that {run} gets wrong, of {answered} that it answered"]
    return "\n".join(told + [_training_rows(params, task, name) for name in drawn])


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
    found: dict[str, Row] = {}
    for part in ("valid", "train"):
        file = folder / f"{part}.jsonl"
        if not file.is_file():
            raise UserError(f"{file}: not there; run `dvc repro mix@{run}`")
        found |= {
            row["id"]: row
            for row in read_rows(file)
            if row["category"] in categories and held_out.isdisjoint(clean.question_digests(row))
        }
    if not found:
        raise UserError(
            f"{folder}: no row of {', '.join(categories)} to work on; write rows of your own and "
            f"give them to `python -m stages new {task}`"
        )
    return sorted(found.values(), key=lambda row: categories.index(row["category"]))


def _emptied(row: Row) -> Row:
    """Without its reference; a plain text is its own."""
    if "completions" in row:
        return {**row, "labels": [None] * len(row["completions"])}
    if "messages" in row:
        *before, answer = row["messages"]
        return {**row, "messages": [*before, {**answer, "content": ""}]}
    return row


def _training_rows(params: Params, task: str, category: str) -> str:
    """How many training rows of a category each corpus version has."""
    counts = []
    for name, corpus in params.corpora.items():
        report = Path("metrics/prepare", f"{name}.json")
        if corpus.task == task and report.is_file():
            rows = json.loads(report.read_text(encoding="utf-8"))["train_categories"]
            counts.append(f"{name} {rows.get(category, 0):,} of {sum(rows.values()):,}")
    return f"training rows of {category}: {', '.join(counts)}"
