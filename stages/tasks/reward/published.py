"""The forms in which labelled solutions are published -> solutions, with the keys that nothing has
a use for.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stages.corpus import fields
from stages.corpus.fields import Malformed, unused

RATINGS = {-1: 0.0, 0: 0.5, 1: 1.0}
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


class Solution(NamedTuple):
    """A problem and its steps, with how right each is, 0 to 1 or None, as the record says it.

    unused: keys of the record that nothing has a use for.
    """

    problem: str
    steps: list[str]
    labels: list[Any]
    category: str
    unused: tuple[str, ...]


def solutions(record: dict[str, Any]) -> Iterable[Solution] | None:
    """What a record of any form but REVEAL says; None where it has none. Raises Malformed."""
    question = record.get("question")
    if isinstance(record.get("label"), str) and "input" in record:
        return [_math_shepherd(record)]
    if isinstance(question, dict) and "label" in record:
        return _prm800k(record, question)
    if isinstance(question, dict) and "choices" in question:
        return _eqasc(record, question)
    if "mistake_index" in record:
        steps = filled_steps(record.get("steps"))
        labels = _until(record["mistake_index"], len(steps))
        left = unused(record, {"input", "steps", "mistake_index"})
        return [Solution(text(record, "input"), steps, labels, "BIG-Bench-Mistake", left)]
    of_trl = "completions" in record
    problem, given = ("prompt", "completions") if of_trl else ("problem", "steps")
    written = fields.PREPARED if of_trl else ()
    if "labels" in record:
        steps, labels = filled_steps(record.get(given)), record["labels"]
        if not isinstance(labels, list) or len(labels) != len(steps):
            count = len(labels) if isinstance(labels, list) else "no"
            raise Malformed(
                f'{len(steps)} "steps" and {count} "labels"; '
                "each step has one, null where nobody labelled it"
            )
        category = fields.category(record) or "solution"
        left = unused(record, {problem, given, "labels", *written})
        return [Solution(text(record, problem), steps, labels, category, left)]
    if "label" in record and given in record:
        steps = filled_steps(record[given])
        if record["label"] is None:
            raise Malformed('"label" is null; -1 says that no step is wrong')
        labels = _until(None if _index(record["label"]) == -1 else record["label"], len(steps))
        left = unused(record, {problem, given, "label"})
        return [Solution(text(record, problem), steps, labels, "ProcessBench", left)]
    return None


def text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise Malformed(f'no "{key}"' if value is None else f'"{key}" is empty or no text')
    return value.strip()


def filled_steps(value: Any) -> list[str]:
    if value is not None and not isinstance(value, list):
        raise Malformed(f"the steps are {fields.kind(value)}; they are a list of texts")
    if not value:
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
    first = _index(first)
    if isinstance(first, bool) or not isinstance(first, int) or not 0 <= first < count:
        raise Malformed(
            f"the first mistake is at {repr(first)[:40]}, and the {count} steps are numbered from 0"
        )
    return [1.0] * first + [0.0] + [None] * (count - first - 1)


def _index(value: Any) -> Any:
    """A whole number as such, which a cell of a table has as a text, and pandas as 1.0 where others
    are empty; any other value as it is.
    """
    if isinstance(value, str) and WHOLE.fullmatch(value.strip()):
        return int(float(value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = re.compile(r"-?\d{1,9}(\.0*)?")
SHEPHERD_STEP = re.compile(r"(?:(?<=[+-])\s+|\s*\n\s*|\A)(?=Step \d+:)")
"""Where a step of Math-Shepherd begins: at the start of a line, or behind a mark."""


def _math_shepherd(record: dict[str, Any]) -> Solution:
    """The problem, and its steps with a + or a - behind each (Wang et al. 2024). Raises Malformed
    where a step has none: it would be joined with the next and have its label.
    """
    problem, begin, rest = record["label"].partition("Step 1:")
    steps, labels = list[str](), list[float]()
    for place, piece in enumerate(SHEPHERD_STEP.split(begin + rest)[1:], start=1):
        step, mark = piece.strip()[:-1].strip(), piece.strip()[-1:]
        if mark not in ("+", "-") or re.search(rf"\sStep {place + 1}:", step):
            raise Malformed(
                f'step {place} of "label" has no + or - behind it, as Math-Shepherd\'s have; '
                "correct it, or leave the solution out"
            )
        steps.append(step)
        labels.append(1.0 if mark == "+" else 0.0)
    if not problem.strip() or not steps:
        raise Malformed('"label" has no steps that end with + or -, as Math-Shepherd\'s have')
    left = unused(record, {"input", "label"})
    return Solution(problem.strip(), steps, labels, "Math-Shepherd", left)


def _prm800k(record: dict[str, Any], question: dict[str, Any]) -> list[Solution]:
    label = record["label"]
    problem, found = text(question, "problem"), list(_paths(label))
    if not found:
        raise Malformed("no step is labelled")
    entries = label["steps"]
    completions = [
        each
        for entry in entries
        for each in [*(entry.get("completions") or []), entry.get("human_completion")]
        if isinstance(each, dict)
    ]
    left = _nested(
        ("", [record], {"question", "label"}),
        ("question.", [question], {"problem"}),
        ("label.", [label], {"steps"}),
        ("label.steps.", entries, {"completions", "human_completion", "chosen_completion"}),
        ("label.steps.completions.", completions, {"text", "rating"}),
    )
    return [Solution(problem, steps, labels, "PRM800K", left) for steps, labels in found]


def _nested(*levels: tuple[str, list[dict[str, Any]], set[str]]) -> tuple[str, ...]:
    """The unused keys of each (where, objects, used keys), each once."""
    return tuple(
        dict.fromkeys(
            key
            for where, objects, used in levels
            for each in objects
            for key in unused(each, used, where)
        )
    )


def _paths(label: Any) -> Iterator[tuple[list[str], list[float | None]]]:
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
        chosen = _index(chosen) if isinstance(chosen, float) else chosen
        if chosen is not None and (
            isinstance(chosen, bool) or chosen not in range(len(completions))
        ):
            raise Malformed(
                f"step {place}: chosen_completion {repr(chosen)[:40]} of {len(completions)}"
            )
        human = _objects(
            [entry["human_completion"]] if entry.get("human_completion") else [],
            f"step {place}: what was chosen",
        )
        for rating in (each.get("rating") for each in [*completions, *human]):
            if not (rating is None or (isinstance(rating, int) and rating in RATINGS)):
                raise Malformed(
                    f"step {place}: rating {repr(rating)[:40]}; ratings are -1, 0, 1 and null"
                )
        for at, completion in enumerate(completions):
            rating = completion.get("rating")
            if at != chosen and rating is not None:
                others.append(
                    ([*path, text(completion, "text")], [None] * len(path) + [RATINGS[rating]])
                )
        taken = completions[chosen] if chosen is not None else next(iter(human), None)
        if not taken:
            break
        path.append(text(taken, "text"))
        labels.append(RATINGS[taken["rating"]] if taken.get("rating") is not None else None)
    if any(value is not None for value in labels):
        yield path, labels
    yield from others


def _eqasc(record: dict[str, Any], question: dict[str, Any]) -> list[Solution]:
    """Each chain of facts as a solution of the question with the answer that it supports."""
    stem = text(question, "stem")
    if not (choices := _objects(question["choices"], '"choices"')):
        raise Malformed('no "choices"')
    found, facts = list[tuple[str, list[dict[str, Any]]]](), list[dict[str, Any]]()
    for choice in choices:
        chains = choice.get("chains") or []
        if not isinstance(chains, list) or not all(isinstance(chain, list) for chain in chains):
            raise Malformed('"chains" is no list of lists of facts')
        for chain in chains:
            of_chain = _objects(chain, "a fact of a chain")
            facts += of_chain
            if any(fact.get("score") is not None for fact in of_chain):
                found.append((f"{stem} {text(choice, 'text')}", of_chain))
    left = _nested(
        ("", [record], {"question"}),
        ("question.", [question], {"stem", "choices"}),
        ("question.choices.", choices, {"text", "chains"}),
        ("question.choices.chains.", facts, {"text", "score"}),
    )
    return [
        Solution(
            problem,
            filled_steps([fact.get("text") for fact in chain]),
            [fact.get("score") for fact in chain],
            "eQASC",
            left,
        )
        for problem, chain in found
    ]


def names_answers(path: Path, columns: Mapping[str, str]) -> bool:
    """Whether records of a file of lines may have an answer_id, by which several are one."""
    with path.open("rb") as file:
        return "answer_id" in columns.values() or any(b"answer_id" in line for line in file)


def answer_id(record: dict[str, Any] | str) -> str | None:
    """The id that the rows of one REVEAL answer share; None for a record of another form."""
    if not isinstance(record, dict) or "step" not in record or record.get("answer_id") is None:
        return None
    return str(record["answer_id"])


def reveal(rows: list[dict[str, Any]]) -> Solution:
    """The solution that the rows of one answer of REVEAL are. Raises Malformed."""
    labels = [_reveal_label(row) for row in rows]
    steps = filled_steps([row.get("step") for row in rows])
    used = {"answer_id", "question", "step", *REVEAL_COLUMNS, "answer_is_logically_correct"}
    return Solution(text(rows[0], "question"), steps, labels, "REVEAL", _nested(("", rows, used)))


def _reveal_label(row: dict[str, Any]) -> float | None:
    """The step's own label; where it has none, the label of its whole answer."""
    for column in (*REVEAL_COLUMNS, "answer_is_logically_correct"):
        value = str(row.get(column) or "").strip().lower()
        if value in REVEAL_LABELS:
            return REVEAL_LABELS[value]
    return None
