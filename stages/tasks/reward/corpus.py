"""reward: a process reward model's data: solutions with a label, 0 to 1, of how right each step is.

Files are of records: .jsonl, .ndjson, .json, .parquet, .csv, .tsv. One file may mix these forms:
    {"problem": …, "steps": […], "labels": [1, 0.7, null, …]}
        null: the step is not labelled
    TRL: {"prompt": …, "completions": […], "labels": [true, false, …]}
        which `prepare` writes, with numbers
    Math-Shepherd: {"input": …, "label": "problem Step 1: … +\\nStep 2: … -"}
    PRM800K: {"question": {"problem": …},
              "label": {"steps": [{"completions": [{"text", "rating"}], …}]}}
        the chosen path is one solution; the path up to each rated alternative is another
    eQASC: {"question": {"stem": …, "choices": [{"text": …, "chains": [[{"text", "score"}, …]]}]}}
    BIG-Bench-Mistake: {"input": …, "steps": […], "mistake_index": 3}
        null: no mistake
    ProcessBench: {"problem": …, "steps": […], "label": 3}
        -1: no mistake
    REVEAL: a row for each step, with answer_id, question, step, its labels and
        answer_is_logically_correct
Labels are kept as they are: 0.7 is not rounded to 1, and a step without a label does not count as
right. Where a data set names only the first wrong step, the steps after it have no label.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from stages.corpus import fields, formats, source_files
from stages.corpus.examples import BadLine, Example
from stages.corpus.fields import Malformed
from stages.corpus.source_files import Span
from stages.errors import UserError
from stages.records import Row, Shown
from stages.tasks.reward import published
from stages.tasks.reward.published import Solution

FORMATS = "see data/reward/README.md#formats"
REVEAL_TEST_ONLY = (
    "REVEAL is published as a benchmark, under CC BY-ND 4.0, to be tested on and not trained on"
)
SCORES_STEPS = True


def read(
    path: Path, columns: Mapping[str, str], span: Span | None = None
) -> Iterator[Example | BadLine]:
    """The file's solutions as examples. A record in none of the forms becomes a BadLine."""
    records, before = source_files.records(path, columns, span), set[str]()
    for answer, group in groupby(records, key=lambda item: published.answer_id(item[1])):
        if answer is None:
            yield from formats.examples_of(group, _examples)
            continue
        assert not span
        members = [(line, record) for line, record in group if isinstance(record, dict)]
        if answer in before:
            reason = f"answer_id {answer[:40]} came before others; sort the rows by it"
            yield from (BadLine(line, reason) for line, _ in members)
            continue
        before.add(answer)
        (line, _), rows = members[0], [row for _, row in members]
        try:
            yield _example(line, published.reveal(rows), REVEAL_TEST_ONLY)
        except Malformed as fault:
            yield BadLine(line, str(fault))


def reads_lines_alone(path: Path, columns: Mapping[str, str]) -> bool:
    return source_files.has_a_record_in_each_line(path) and not published.names_answers(
        path, columns
    )


def show(example: Example) -> Shown:
    """The solution in TRL's form of stepwise supervision."""
    return {
        "prompt": example.source,
        "completions": list(example.steps),
        "labels": list(example.labels),
    }


def group_key(example: Example) -> str:
    """The problem: all its solutions stay in the same part of the split."""
    return example.source


def question(text: str) -> Row:
    """A solution of the user as a row to be scored.

    text: a JSON object with problem and steps, or the problem on the first line and a step on each
    further line. Raises UserError for a text without steps.
    """
    problem, *steps = text.strip().split("\n")
    if text.lstrip().startswith("{"):
        try:
            record = json.loads(text)
            problem = published.text(record, "problem")
            steps = published.filled_steps(record.get("steps"))
        except (ValueError, AttributeError) as fault:
            raise UserError(
                f'{text[:60]!r}: {fault}; a solution is {{"problem": …, "steps": […]}}'
            ) from None
    steps = [step for step in steps if step.strip()]
    if not steps:
        raise UserError(
            f'{text[:60]!r}: no steps; give {{"problem": …, "steps": […]}}, '
            "or the problem and a step a line behind it"
        )
    unlabelled: list[float | None] = [None] * len(steps)
    return Row(
        id="", category="", source=problem, prompt=problem, completions=steps, labels=unlabelled
    )


def _examples(line: int, record: dict[str, Any]) -> Iterator[Example]:
    found = published.solutions(record)
    if found is None:
        keys = fields.keys_of(record)
        raise Malformed(f"{keys}: none of the forms of a labelled solution; {FORMATS}")
    for solution in found:
        yield _example(line, solution)


def _example(line: int, solution: Solution, test_only: str = "") -> Example:
    values = [_label(label, place) for place, label in enumerate(solution.labels, start=1)]
    if all(value is None for value in values):
        raise Malformed("no step is labelled")
    target, category = "\n".join(solution.steps), solution.category
    for text in (solution.problem, target, category):
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise Malformed("half a surrogate pair in it; write the whole character")
    return Example(
        line,
        solution.problem,
        target,
        category,
        steps=tuple(solution.steps),
        labels=tuple(values),
        test_only=test_only,
        form=f"solutions of the form of {category}" if category != "solution" else "solutions",
        unused=solution.unused,
    )


def _label(value: Any, place: int) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise Malformed(f"label {place} is {value!r}; a label is a number from 0 to 1, or null")
    return float(value)
