"""lm: language modelling, of texts that are learned as they are.

Three published forms are read, compressed too:
    records           of .jsonl, .ndjson, .json, .csv, .tsv, .parquet:
                      {"text": …}
                      {"question": …, "answer": …}, as one text
                      {"messages": [{"role": …, "content": …}, …]}, whose answers are learned
    WikiText          an article from each ` = Title = ` to the next; records may hold a line each
    any other text    a document from each blank line to the next
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from stages.corpus import fields, formats, source_files
from stages.corpus.examples import BadLine, Example
from stages.corpus.source_files import Span
from stages.records import Row, Shown

FORMATS = "see data/lm/README.md#formats"
TITLE = re.compile(r" = [^=].* = ?")


SCORES_STEPS = False


def read(
    path: Path, columns: Mapping[str, str], span: Span | None = None
) -> Iterator[Example | BadLine]:
    if columns or source_files.form_of(path) in source_files.OF_RECORDS:
        if span:
            return formats.examples_of(source_files.records(path, columns, span), _examples)
        return _read_records(source_files.records(path, columns))
    source_files.require_no_records(path)
    return _documents(source_files.lines(path))


def reads_lines_alone(path: Path, columns: Mapping[str, str]) -> bool:
    return source_files.has_a_record_in_each_line(path) and not _is_wikitext(
        _first(source_files.records(path, columns))
    )


def show(example: Example) -> Shown:
    return example.conversation([]) if example.prompt else {"text": example.target}


def question(text: str) -> Row:
    """The text as a row that the model continues."""
    return Row(id="", category="", source="", text=text)


def group_key(example: Example) -> str:
    """A document is never divided between training and test."""
    return example.target


def _read_records(records: Iterator[source_files.Record]) -> Iterator[Example | BadLine]:
    """A document of each record. WikiText is also published with a line in each, many empty: its
    articles, where the first that says something is a title.
    """
    first = _first(records)
    records = chain(first, records)
    if not _is_wikitext(first):
        yield from formats.examples_of(records, _examples)
        return
    others = list[source_files.Record]()

    def lines() -> Iterator[tuple[int, str]]:
        for number, record in records:
            if (text := _line(record)) is None:
                others.append((number, record))
            else:
                yield number, text

    yield from formats.examples_of(((item.line, item) for item in _documents(lines())), _encodable)
    yield from formats.examples_of(others, _examples)


def _first(records: Iterator[source_files.Record]) -> list[source_files.Record]:
    """Up to the first that says something."""
    first = list[source_files.Record]()
    for line, record in records:
        first.append((line, record))
        text = _line(record)
        # A record with more than a text, such as a category, is no line of WikiText.
        if (text or "").strip() or (text is None and isinstance(record, dict)):
            break
    return first


def _is_wikitext(first: list[source_files.Record]) -> bool:
    return bool(first and TITLE.fullmatch((_line(first[-1][1]) or "").rstrip("\r\n")))


def _encodable(line: int, example: Example) -> Iterator[Example]:
    formats.require_encodable(example)
    yield example


def _line(record: dict[str, Any] | str) -> str | None:
    """The text of a record that has nothing else."""
    if isinstance(record, str) or record.keys() - {"text"}:
        return None
    text = record.get("text", "")
    return text if isinstance(text, str) else None


def _examples(line: int, record: dict[str, Any]) -> Iterator[Example]:
    if any(record.get(key) is not None for key in ("messages", "conversations")):
        example = _conversation(line, record)
    else:
        example = _text(line, record)
    formats.require_encodable(example)
    yield example


def _text(line: int, record: dict[str, Any]) -> Example:
    has_text = record.get("text") is not None
    used = ("text",) if has_text else ("question", "answer")
    given = [record.get(key) for key in used]
    parts = [part.strip() for part in given if isinstance(part, str)]
    if len(parts) < len(given):
        raise fields.Malformed(
            'no "text" (or "question" and "answer", or "messages") with a string in it; '
            "see data/lm/README.md#formats"
        )
    if not all(parts):
        raise fields.Malformed("nothing to learn: its text is empty; remove the line")
    unused = tuple(key for key in fields.unused(record, used) if key not in fields.PREPARED)
    category = fields.category(record) or "text"
    form = "texts" if has_text else "questions with their answers"
    return Example(line, "", "\n".join(parts), category, form=form, unused=unused)


def _conversation(line: int, record: dict[str, Any]) -> Example:
    parsed = formats.parse(record, FORMATS)
    assert parsed
    asked = parsed.before[-1]["content"]
    category = fields.category(record) or "conversation"
    return Example(
        line, asked, parsed.target, category, parsed.before, form=parsed.form,
        unused=formats.unused_with_source(parsed, record, asked), answer=parsed.answer,
        tools=parsed.tools,
    )  # fmt: skip


def _documents(numbered: Iterable[tuple[int, str]]) -> Iterator[Example]:
    """The documents of a text's lines, which is WikiText if the first with text is a title."""
    begin, lines = 0, list[str]()
    articles: bool | None = None
    for number, line in numbered:
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
