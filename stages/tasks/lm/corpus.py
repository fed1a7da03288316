"""lm: language modelling, of texts that are learned as they are.

Three published forms are read:
    .jsonl            {"text": …}
                      {"question": …, "answer": …}, as one text
                      {"messages": [{"role": …, "content": …}, …]}, whose last answer is learned
    WikiText          an article from each ` = Title = ` to the next
    any other text    a document from each blank line to the next
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.files import read_json_lines, read_lines
from stages.records import BadLine, Example, Message, Row, Shown

ROLES = ("system", "user", "assistant")
TITLE = re.compile(r" = [^=].* = ?")


SCORES_STEPS = False


def read(path: Path) -> Iterator[Example | BadLine]:
    if path.suffix == ".jsonl":
        return (_record(line, record) for line, record in read_json_lines(path))
    return _documents(path)


def show(example: Example) -> Shown:
    if example.prompt:
        return {"messages": [*example.prompt, {"role": "assistant", "content": example.target}]}
    return {"text": example.target}


def question(text: str) -> Row:
    """The text as a row that the model continues."""
    return Row(id="", category="", source="", text=text)


def group_key(example: Example) -> str:
    """A document is never divided between training and test."""
    return example.target


def _record(line: int, record: dict[str, Any] | str) -> Example | BadLine:
    if isinstance(record, str):
        return BadLine(line, record)
    if "messages" in record:
        return _conversation(line, record)
    given = [record["text"]] if "text" in record else [record.get("question"), record.get("answer")]
    parts = [part.strip() for part in given if isinstance(part, str)]
    if len(parts) < len(given):
        return BadLine(
            line,
            'no "text" (or "question" and "answer", or "messages") with a string in it; '
            "see data/lm/README.md#formats",
        )
    if not all(parts):
        return BadLine(line, "nothing to learn: its text is empty; remove the line")
    return Example(line, "", "\n".join(parts), str(record.get("category", "text")))


def _conversation(line: int, record: dict[str, Any]) -> Example | BadLine:
    turns = record["messages"]
    sound = isinstance(turns, list) and all(
        isinstance(turn, dict)
        and turn.get("role") in ROLES
        and isinstance(turn.get("content"), str)
        for turn in turns
    )
    if not sound or [turn["role"] for turn in turns][-2:] != ["user", "assistant"]:
        return BadLine(
            line,
            '"messages" is no list of {"role": system, user or assistant, "content": "…"} '
            "that ends with user, assistant",
        )
    if not turns[-1]["content"].strip():
        return BadLine(line, "nothing to learn: its answer is empty; remove the line")
    prompt = tuple(Message(role=turn["role"], content=turn["content"]) for turn in turns[:-1])
    return Example(
        line,
        turns[-2]["content"],
        turns[-1]["content"],
        str(record.get("category", "conversation")),
        prompt,
    )


def _documents(path: Path) -> Iterator[Example]:
    """The documents of a text file, which is WikiText if its first line with text is a title."""
    begin, lines = 0, list[str]()
    articles: bool | None = None
    for number, line in read_lines(path, blank=True):
        if articles is None and line.strip():
            articles = bool(TITLE.fullmatch(line))
        if (TITLE.fullmatch(line) if articles else not line.strip()) and lines:
            yield Example(begin, "", "\n".join(lines).strip(), "text")
            lines = []
        if line.strip():
            begin = begin if lines else number
            lines.append(line)
    if lines:
        yield Example(begin, "", "\n".join(lines).strip(), "text")
