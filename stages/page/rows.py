"""The rows behind a task's figures: each input and reference once, beside what every run made of
it.
"""

from collections.abc import Mapping
from typing import Any

from stages.differences import differences
from stages.outcomes import Outcome
from stages.page import pictures
from stages.records import Row, target

LONGEST_MARKED = 20_000
"""Characters of a text whose differences are marked: two of 100,000 took seconds to compare."""

SAME = 0  # in place of an answer that is the reference, letter by letter


def of_task(task: str, found: Mapping[str, list[Outcome]]) -> dict[str, Any]:
    """found: a run's outcomes by the name that the page gives it."""
    rows = {
        outcome.key: outcome.row for outcomes in reversed([*found.values()]) for outcome in outcomes
    }
    places = {key: place for place, key in enumerate(sorted(rows))}
    answers: dict[str, list[Any]] = {}
    for run, outcomes in found.items():
        answers[run] = [None] * len(rows)
        for outcome in outcomes:
            answers[run][places[outcome.key]] = _answer(outcome)
    held_out = [{"corpus": key[0], **_question(rows[key])} for key in places]
    drawn = pictures.of_task(task, found, places)
    return {"rows": held_out, "answers": answers, **drawn}


def _question(row: Row) -> dict[str, Any]:
    """What a row asks, and its reference or its steps with their labels."""
    common = {"id": row["id"], "category": row["category"]}
    if "completions" in row:
        return common | {
            "input": row["prompt"],
            "steps": row["completions"],
            "labels": row["labels"],
        }
    if "messages" not in row:
        return common | {"input": "", "reference": target(row)}
    asked = row["messages"][:-1]
    turns = "\n".join(f"{turn['role']}: {turn['content']}" for turn in asked)
    return common | {
        "input": row["source"] if len(asked) == 1 and row["source"] else turns,
        "reference": target(row),
    }


def _answer(outcome: Outcome) -> dict[str, Any]:
    answer = outcome.answer
    common = {"score": round(outcome.score, 4)}
    if answer.tokens:
        common["nats"] = round(answer.nats / answer.tokens, 4)
    if "completions" in outcome.row:
        return common | {"steps": [round(score, 3) for score in answer.step_scores]}
    reference = target(outcome.row)
    if answer.answer == reference:
        return common | {"text": SAME}
    if "messages" not in outcome.row:  # it goes on from the first words, and need not be the same
        return common | {"text": answer.answer}
    return common | {"text": answer.answer, "edits": marks(reference, answer.answer)}


def marks(reference: str, answer: str) -> list[int]:
    """The differences, one after another; none of texts that are too long to be compared."""
    if max(len(reference), len(answer)) > LONGEST_MARKED:
        return []
    return [place for places in differences(reference, answer) for place in places]
