"""reward: a process reward model's data: solutions with a label, 0 to 1, of how right each step is.

Files are of records: .jsonl, .json, .parquet, .csv. One file may mix these forms:
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
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from stages.corpus import fields, formats, source_files
from stages.corpus.examples import BadLine, Example
from stages.corpus.fields import Malformed
from stages.errors import UserError
from stages.records import Row, Shown

FORMATS = "see data/reward/README.md#formats"
RATINGS = {-1: 0.0, 0: 0.5, 1: 1.0}
REVEAL_TEST_ONLY = (
    "REVEAL is published as a benchmark, under CC BY-ND 4.0, to be tested on and not trained on"
)
REVEAL_LABELS = {
    "fully attributable": 1.0, "supported": 1.0, "correct": 1.0, "partially attributable": 0.5,
    "contradictory": 0.0, "unsupported": 0.0, "incorrect": 0.0, "true": 1.0, "false": 0.0,
    "yes": 1.0, "no": 0.0,
}  # fmt: skip
REVEAL_COLUMNS = (
    "correctness_label",
    "logic_relevance_label",
    "attribution_label",
    "logic_correctness_label",
)


SCORES_STEPS = True


def read(path: Path, columns: Mapping[str, str]) -> Iterator[Example | BadLine]:
    """The file's solutions as examples. A record in none of the forms becomes a BadLine."""
    records, before = source_files.records(path, columns), set[str]()
    for steps_of, group in groupby(records, key=lambda item: _answer_id(item[1])):
        if steps_of is None:
            yield from formats.examples_of(group, _examples)
            continue
        members = [(line, record) for line, record in group if isinstance(record, dict)]
        if str(steps_of) in before:
            reason = f"answer_id {steps_of} came before others; sort the rows by it"
            yield BadLine(members[0][0], reason)
        else:
            yield _reveal(members)
        before.add(str(steps_of))


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
            problem, steps = _text(record, "problem"), _steps(record.get("steps"))
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
    if "completions" in record:
        record = {**record, "problem": record.get("prompt"), "steps": record["completions"]}
    elif isinstance(record.get("label"), str) and "input" in record:
        record = _math_shepherd(record["label"])
    if isinstance(record.get("question"), dict) and "label" in record:
        problem, solutions = _text(record["question"], "problem"), list(_prm800k(record["label"]))
        if not solutions:
            raise Malformed("no step is labelled")
        for steps, labels in solutions:
            yield _example(line, problem, steps, labels, "PRM800K")
    elif isinstance(record.get("question"), dict) and "choices" in record["question"]:
        yield from _eqasc(line, record["question"])
    elif "mistake_index" in record:
        steps = _steps(record.get("steps"))
        yield _example(
            line,
            _text(record, "input"),
            steps,
            _until(record["mistake_index"], len(steps)),
            "BIG-Bench-Mistake",
        )
    elif "labels" in record:
        steps, labels = _steps(record.get("steps")), record["labels"]
        if not isinstance(labels, list) or len(labels) != len(steps):
            count = len(labels) if isinstance(labels, list) else "no"
            raise Malformed(
                f'{len(steps)} "steps" and {count} "labels"; '
                "each step has one, null where nobody labelled it"
            )
        category = fields.category(record) or "solution"
        yield _example(line, _text(record, "problem"), steps, labels, category)
    elif "label" in record and "steps" in record:
        steps = _steps(record["steps"])
        if record["label"] is None:
            raise Malformed('"label" is null; -1 says that no step is wrong')
        first = None if record["label"] == -1 else record["label"]
        yield _example(
            line, _text(record, "problem"), steps, _until(first, len(steps)), "ProcessBench"
        )
    else:
        keys = ", ".join(repr(key)[:40] for key in list(record)[:5]) or "no keys"
        raise Malformed(f"{keys}: none of the forms of a labelled solution; {FORMATS}")


SHEPHERD_STEP = re.compile(r"(Step \d+:.*?)\s*([+-])\s*(?=Step \d+:|\Z)", re.DOTALL)


def _math_shepherd(text: str) -> dict[str, Any]:
    """The problem, and its steps with a + or a - behind each (Wang et al. 2024). Raises
    Malformed.
    """
    problem, found = text.partition("Step 1:")[0].strip(), SHEPHERD_STEP.findall(text)
    if not problem or not found:
        raise Malformed('"label" has no steps that end with + or -, as Math-Shepherd\'s have')
    labels = [1.0 if mark == "+" else 0.0 for _, mark in found]
    steps = [step.strip() for step, _ in found]
    return {"problem": problem, "steps": steps, "labels": labels, "category": "Math-Shepherd"}


def _example(
    line: int, problem: str, steps: list[str], labels: list[Any], category: str, test_only: str = ""
) -> Example:
    values = [_label(label, place) for place, label in enumerate(labels, start=1)]
    if all(value is None for value in values):
        raise Malformed("no step is labelled")
    target = "\n".join(steps)
    for text in (problem, target, category):
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise Malformed("half a surrogate pair in it; write the whole character")
    return Example(
        line,
        problem,
        target,
        category,
        steps=tuple(steps),
        labels=tuple(values),
        test_only=test_only,
        form=f"solutions of the form of {category}" if category != "solution" else "solutions",
    )


def _label(value: Any, place: int) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise Malformed(f"label {place} is {value!r}; a label is a number from 0 to 1, or null")
    return float(value)


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise Malformed(f'no "{key}"' if value is None else f'"{key}" is empty or no text')
    return value.strip()


def _steps(value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise Malformed('no "steps"; a solution has at least one')
    for place, step in enumerate(value, start=1):
        if not isinstance(step, str) or not step.strip():
            raise Malformed(f"step {place} is empty or no text")
    return [step.strip() for step in value]


def _objects(value: Any, what: str) -> list[dict[str, Any]]:
    """A list of objects; null is an empty one. Raises Malformed."""
    found = [] if value is None else value
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        other = (
            found
            if not isinstance(found, list)
            else next(each for each in found if not isinstance(each, dict))
        )
        raise Malformed(f"{what}: {fields.kind(other)} in place of an object")
    return found


def _until(first: Any, count: int) -> list[float | None]:
    """Labels from the index of the first mistake: 1 before it, 0 at it, None after it.

    first: None = the solution has no mistake.   count: the number of steps.
    """
    if first is None:
        return [1.0] * count
    if isinstance(first, bool) or not isinstance(first, int) or not 0 <= first < count:
        raise Malformed(
            f"the first mistake is at {first!r}, and the {count} steps are numbered from 0"
        )
    return [1.0] * first + [0.0] + [None] * (count - first - 1)


def _prm800k(label: Any) -> Iterator[tuple[list[str], list[float | None]]]:
    """(steps, labels) of the chosen path, and of each rated alternative with the path before it.

    A continuation that the labeller wrote has no rating. Steps before an alternative have no label
    in its solution, because the chosen path has it.
    """
    entries = _objects(label.get("steps") if isinstance(label, dict) else None, '"label.steps"')
    if not entries:
        raise Malformed('no "label.steps"')
    path: list[str] = []
    labels: list[float | None] = []
    others = []
    for place, entry in enumerate(entries, start=1):
        completions = _objects(entry.get("completions"), f"step {place}: completions")
        chosen = entry.get("chosen_completion")
        if chosen is not None and (
            not isinstance(chosen, int) or not 0 <= chosen < len(completions)
        ):
            raise Malformed(f"step {place}: chosen_completion {chosen!r} of {len(completions)}")
        for at, completion in enumerate(completions):
            rating = completion.get("rating")
            if rating not in (None, *RATINGS):
                raise Malformed(f"step {place}: rating {rating!r}; ratings are -1, 0, 1 and null")
            if at != chosen and rating is not None:
                others.append(
                    ([*path, _text(completion, "text")], [None] * len(path) + [RATINGS[rating]])
                )
        taken = entry.get("human_completion") if chosen is None else completions[chosen]
        if not taken:
            break
        (taken,) = _objects([taken], f"step {place}: what was chosen")
        path.append(_text(taken, "text"))
        labels.append(RATINGS[taken["rating"]] if taken.get("rating") is not None else None)
    if any(value is not None for value in labels):
        yield path, labels
    yield from others


def _eqasc(line: int, question: dict[str, Any]) -> Iterator[Example]:
    """Each chain of facts as a solution of the question with the answer that it supports."""
    stem = _text(question, "stem")
    if not (choices := _objects(question["choices"], '"choices"')):
        raise Malformed('no "choices"')
    for choice in choices:
        chains = choice.get("chains") or []
        if not isinstance(chains, list) or not all(isinstance(chain, list) for chain in chains):
            raise Malformed('"chains" is no list of lists of facts')
        for chain in chains:
            facts = [fact for fact in chain if isinstance(fact, dict)]
            labels = [fact.get("score") for fact in facts]
            if any(label is not None for label in labels):
                yield _example(
                    line,
                    f"{stem} {_text(choice, 'text')}",
                    _steps([fact.get("text") for fact in facts]),
                    labels,
                    "eQASC",
                )


def _answer_id(record: dict[str, Any] | str) -> Any:
    """The id that the rows of one REVEAL answer share; None for a record of another form."""
    return record.get("answer_id") if isinstance(record, dict) and "step" in record else None


def _reveal(members: list[tuple[int, dict[str, Any]]]) -> Example | BadLine:
    """The solution that the rows of one answer of REVEAL are."""
    line, first = members[0]
    try:
        labels = [_reveal_label(row) for _, row in members]
        steps = _steps([row.get("step") for _, row in members])
        return _example(line, _text(first, "question"), steps, labels, "REVEAL", REVEAL_TEST_ONLY)
    except Malformed as fault:
        return BadLine(line, str(fault))


def _reveal_label(row: dict[str, Any]) -> float | None:
    """The step's own label; where it has none, the label of its whole answer."""
    for column in (*REVEAL_COLUMNS, "answer_is_logically_correct"):
        value = str(row.get(column) or "").strip().lower()
        if value in REVEAL_LABELS:
            return REVEAL_LABELS[value]
    return None
