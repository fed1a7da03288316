"""lm: language modelling, of texts that are learned as they are.

Three published forms are read, compressed too:
    records           of .jsonl, .json, .csv, .parquet:
                      {"text": …}
                      {"question": …, "answer": …}, as one text
                      {"messages": [{"role": …, "content": …}, …]}, whose last answer is learned
    WikiText          an article from each ` = Title = ` to the next
    any other text    a document from each blank line to the next
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.corpus import fields, formats, source_files
from stages.corpus.examples import BadLine, Example
from stages.records import Row, Shown

FORMATS = "see data/lm/README.md#formats"
TITLE = re.compile(r" = [^=].* = ?")


SCORES_STEPS = False


def read(path: Path, columns: Mapping[str, str]) -> Iterator[Example | BadLine]:
    if columns or source_files.form_of(path) in source_files.OF_RECORDS:
        records = source_files.records(path, columns)
        return (_record(line, record) for line, record in records)
    return _documents(path)


def show(example: Example) -> Shown:
    return example.conversation([]) if example.prompt else {"text": example.target}


def question(text: str) -> Row:
    """The text as a row that the model continues."""
    return Row(id="", category="", source="", text=text)


def group_key(example: Example) -> str:
    """A document is never divided between training and test."""
    return example.target


def _record(line: int, record: dict[str, Any] | str) -> Example | BadLine:
    if isinstance(record, str):
        return BadLine(line, record)
    if record.keys() & {"messages", "conversations"}:
        return _conversation(line, record)
    used = {"text"} if "text" in record else {"question", "answer"}
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
    unused = tuple(key for key in fields.unused(record, used) if key not in fields.PREPARED)
    category = str(record.get("category") or "text")
    form = "texts" if "text" in record else "questions with their answers"
    return Example(line, "", "\n".join(parts), category, form=form, unused=unused)


def _conversation(line: int, record: dict[str, Any]) -> Example | BadLine:
    try:
        parsed = formats.parse(record, FORMATS)
    except fields.Malformed as fault:
        return BadLine(line, str(fault))
    assert parsed
    asked = parsed.before[-1]["content"]
    category = str(record.get("category") or "conversation")
    return Example(
        line, asked, parsed.target, category, parsed.before, form=parsed.form,
        unused=parsed.unused, answer=parsed.answer, tools=parsed.tools,
    )  # fmt: skip


def _documents(path: Path) -> Iterator[Example]:
    """The documents of a text file, which is WikiText if its first line with text is a title."""
    begin, lines = 0, list[str]()
    articles: bool | None = None
    for number, line in source_files.lines(path):
        line = line.rstrip("\r\n")
        if articles is None and line.strip():
            articles = bool(TITLE.fullmatch(line))
        if (TITLE.fullmatch(line) if articles else not line.strip()) and lines:
            yield Example(begin, "", "\n".join(lines).strip(), "text", form="documents")
            lines = []
        if line.strip():
            begin = begin if lines else number
            lines.append(line)
    if lines:
        yield Example(begin, "", "\n".join(lines).strip(), "text", form="documents")
