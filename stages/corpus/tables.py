"""Tables -> records by the names of their columns: CSV and TSV with a header, Parquet."""

import ast
import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.errors import UserError

Record = tuple[int, dict[str, Any] | str]
"""(line, or row of a Parquet file, record), or (line, what is wrong with it); the first is 1."""

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SEPARATORS = (";", "\t", "|", ",")
LISTS = {
    "messages", "conversations", "prompt", "completion", "history", "references", "target",
    "corrected", "steps", "completions", "labels",
}  # fmt: skip
"""Keys whose value may be a list, which a cell of a table has as a text of JSON."""
SAID_BY_NULL = {"mistake_index"}
"""Keys that say something where their column is empty: that a solution has no mistake."""
AS_PYTHON_WRITES = re.compile(r"""\[\s*['"{].*\]|\{\s*['"].*\}""", re.DOTALL)
PYTHON = (
    "{0!r:.40} is a list or an object as Python writes it, and no text; write the file as .jsonl, "
    'in pandas by `to_json("corpus.jsonl", orient="records", lines=True)`'
)


def of_text(path: Path, form: str, lines: Iterable[str]) -> tuple[list[str], Iterator[Record]]:
    """(header, rows by its names). An empty cell is no value."""
    csv.field_size_limit(2**27)  # a cell may hold a document
    delimiter = DELIMITERS[form]
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise _fault(path, rows.line_num, error) from None
    for other in SEPARATORS if len(header) == 1 else ():
        if other in header[0]:
            raise UserError(
                f"{path} line 1: its columns are divided by {other!r}, those of a "
                f"{form} file by {delimiter!r}; save it so, or name it .csv or .tsv"
            )
    if twice := {name for name in header if header.count(name) > 1}:
        raise UserError(
            f"{path} line 1: two columns are named {min(twice)!r}; a table begins with a line "
            "of names, each once"
        )
    return header, _rows(path, header, rows) if any(header) else iter(())


def _rows(path: Path, header: list[str], rows: Any) -> Iterator[Record]:
    before = rows.line_num
    try:
        for cells in rows:
            line, before = before + 1, rows.line_num
            if not cells:
                continue
            if len(cells) != len(header):
                yield line, f"{len(cells)} cells, and the header names {len(header)} columns"
            elif [cell.strip() for cell in cells] == header:
                yield line, "the header again; remove the line"
            else:
                yield line, {name: cell for name, cell in zip(header, cells, strict=True) if cell}
    except csv.Error as error:
        raise _fault(path, rows.line_num, error) from None


def _fault(path: Path, line: int, error: csv.Error) -> UserError:
    is_of_line_ends = "new-line" in str(error)
    remedy = "let lines end with LF or CR LF" if is_of_line_ends else "correct the quotes there"
    return UserError(f"{path} line {line}: {error}; {remedy}")


def of_parquet(path: Path) -> tuple[list[str], Iterator[Record]]:
    """(column names, rows with their nested values as JSON would have them); null is no value,
    also inside of them.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        return list(file.schema_arrow.names), _parquet_rows(path, file)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: no Parquet file: {error}; fetch it again") from None


def _parquet_rows(path: Path, file: Any) -> Iterator[Record]:
    import pyarrow

    number = 0
    try:
        for batch in file.iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                number += 1
                yield number, _without_nulls(row)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: a text in the rows behind row {number} is not UTF-8 ({error.reason}); write "
            "the file again from its source"
        ) from None
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: no Parquet file: {error}; fetch it again") from None


def _without_nulls(value: Any) -> Any:
    """The same without the keys that are null: Arrow gives every object of a column the keys of
    all. In a list null stays, which is a label that nobody gave.
    """
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def require_columns(path: Path, header: list[str], columns: Mapping[str, str]) -> None:
    """Raise UserError where the header of a table lacks a column that is named, and where two have
    one name.
    """
    if header and (absent := [name for name in columns if name not in header]):
        raise UserError(
            f"{path}: no column {', '.join(absent)}; there are: {', '.join(header)}; correct "
            "`columns`, --columns with `new`"
        )
    of_key = dict[str, str]()
    for name in [*header, *(name for name in columns if name not in header)]:
        key = columns.get(name, name)
        if (other := of_key.setdefault(key, name)) != name:
            raise UserError(TWO_COLUMNS.format(f"{path}: ", other, name, key))


def renamed(record: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any] | str:
    """The record with its keys named by `columns`; what is wrong, where two would have one name."""
    renamed = {columns.get(key, key): value for key, value in record.items()}
    if len(renamed) == len(record):
        return renamed
    named = [columns.get(key, key) for key in record]
    key = next(key for key in renamed if named.count(key) > 1)
    one, other, *_ = (name for name in record if columns.get(name, name) == key)
    return TWO_COLUMNS.format("", one, other, key)


TWO_COLUMNS = (
    "{0}{1!r} and {2!r} would both be {3!r}; correct `columns`, --columns with `new`: the one that "
    "has no use can be given another name"
)


def with_lists(record: dict[str, Any]) -> dict[str, Any] | str:
    """A row whose cells that are lists are read as such; what is wrong, where one is a list that
    pandas has written as Python does, which would be learned as a text.
    """
    row = dict[str, Any]()
    for key, cell in record.items():
        row[key] = cell
        if not AS_PYTHON_WRITES.fullmatch(cell.strip()) and not (key in LISTS and cell[0] == "["):
            continue
        try:
            value = json.loads(cell)
            if key in LISTS and isinstance(value, list) and _is_meant(key, value):
                row[key] = value
        except (ValueError, RecursionError):
            if _is_python(cell):
                return f'"{key}": {PYTHON.format(cell)}'
    return row


def _is_meant(key: str, value: list[Any]) -> bool:
    """Whether a list in a cell is none of a text: a prompt may be the text "[1, 2]"."""
    return key not in ("prompt", "completion") or all(isinstance(each, dict) for each in value)


def _is_python(cell: str) -> bool:
    try:
        return isinstance(ast.literal_eval(cell.strip()), list | dict)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return False
