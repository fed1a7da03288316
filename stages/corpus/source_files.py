"""The files that people have -> records with their place: JSON lines, a JSON array, CSV and TSV
with a header, Parquet; each may be compressed.
"""

import bz2
import csv
import gzip
import json
import lzma
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.errors import UserError

Record = tuple[int, dict[str, Any] | str]
"""(line, or row of a Parquet file, record), or (line, what is wrong with it); the first is 1."""

SPACE = re.compile(r"\s*")
OPENS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
TABLES = {".csv": ",", ".tsv": "\t"}
BEGINNINGS = {
    b"\xff\xfe": "UTF-16; convert it: `iconv -f UTF-16 -t UTF-8`",
    b"\xfe\xff": "UTF-16; convert it: `iconv -f UTF-16 -t UTF-8`",
    b"\x1f\x8b": "compressed by gzip; let its name end with .gz",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard; unpack it: `zstd -d`",
}
"""What a file is that is no UTF-8, by its first bytes."""
OF_RECORDS = (".jsonl", ".ndjson", ".json", ".parquet", *TABLES)


def form_of(path: Path) -> str:
    """The suffix of what is in the file: ".jsonl" of train.jsonl.gz."""
    inner = path.with_suffix("") if path.suffix.lower() in OPENS else path
    return inner.suffix.lower()


def suffixes_of(path: Path) -> str:
    """What a copy of the file ends with: ".jsonl.gz"."""
    packed = path.suffix.lower()
    return form_of(path) + (packed if packed in OPENS else "")


def records(path: Path, columns: Mapping[str, str]) -> Iterator[Record]:
    """The records of a file in their order, one in memory at a time but for a JSON array.

    columns: the record's key for each column, or key, of the file that has another name; keys that
    are not among them keep theirs. Raises UserError for a file that cannot be read at all: not
    there, of an unknown form, not UTF-8, damaged; and for a table without a column that is named.
    """
    readers = {".json": _array, ".parquet": _parquet, ".jsonl": _json_lines, ".ndjson": _json_lines}
    reader = readers.get(form_of(path), _table if form_of(path) in TABLES else None)
    if reader is None:
        raise UserError(
            f"{path}: files of records end with {', '.join(OF_RECORDS)}, and may be compressed "
            f"({', '.join(OPENS)}); convert it, or name it so"
        )
    is_table = form_of(path) in (*TABLES, ".parquet")
    for line, record in reader(path):
        if isinstance(record, dict) and columns:
            absent = [name for name in columns if name not in record]
            if absent and is_table:
                raise UserError(
                    f"{path}: no column {', '.join(absent)} with a value in row {line}; there are: "
                    f"{', '.join(record)}; correct `columns`"
                )
            record = {columns.get(key, key): value for key, value in record.items()}
        yield line, record


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line with its end) of a UTF-8 text without its byte-order mark, compressed or
    not.
    """
    require_file(path)
    try:
        with OPENS.get(path.suffix.lower(), open)(path, "rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    for bytes_, what in BEGINNINGS.items() if number == 1 else ():
                        if raw.startswith(bytes_):
                            raise UserError(f"{path}: {what}") from None
                    raise UserError(
                        f"{path} line {number}: not UTF-8 (byte {error.start + 1} of the line); "
                        "convert the file, for example `iconv -f CP932 -t UTF-8`"
                    ) from None
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, OSError) as error:
        raise UserError(f"{path}: cannot be read: {error}; fetch or compress it again") from None


def require_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; write the corpus there or correct its `file` in params.yaml"
        )


def _json_lines(path: Path) -> Iterator[Record]:
    for number, line in lines(path):
        if line.strip():
            yield number, _object(line)


def _object(text: str) -> dict[str, Any] | str:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    if isinstance(record, dict):
        return record
    return f"a JSON {type(record).__name__}; a record is an object"


def _array(path: Path) -> Iterator[Record]:
    """A list of objects, or one object that holds the list under its only key that has one, such as
    "data". A file that is JSON lines after all is read as such.
    """
    text = "".join(line for _, line in lines(path))
    decoder, at = json.JSONDecoder(), _skip(text, 0)
    if text[at : at + 1] == "{":
        yield from _json_lines(path) if _is_json_lines(text) else _wrapped(path, text)
        return
    if text[at : at + 1] != "[":
        raise UserError(f"{path}: not JSON: it begins with {text[at : at + 20]!r}; {NOT_AN_ARRAY}")
    line, counted, at = 1, 0, _skip(text, at + 1)
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            record, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} line {line}: not JSON: {error}; {NOT_AN_ARRAY}") from None
        yield line, record if isinstance(record, dict) else NOT_AN_OBJECT.format(record)
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            raise UserError(f"{path} line {line}: the array is not closed; {NOT_AN_ARRAY}")


NOT_AN_ARRAY = "a .json file is a list of objects; write one, or an object a line into .jsonl"
NOT_AN_OBJECT = "{0!r:.40} is no object"


def _skip(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def _is_json_lines(text: str) -> bool:
    """Whether its first line is an object of its own, and there are others."""
    first, _, rest = text.strip().partition("\n")
    return bool(rest.strip()) and isinstance(_object(first), dict)


def _wrapped(path: Path, text: str) -> Iterator[Record]:
    whole = _object(text)
    if isinstance(whole, str):
        raise UserError(f"{path}: {whole}; {NOT_AN_ARRAY}")
    lists = [key for key, value in whole.items() if isinstance(value, list)]
    if len(lists) != 1:
        found = f"{len(lists)} of its keys hold" if lists else "none of its keys holds"
        raise UserError(f"{path}: one object, and {found} a list; {NOT_AN_ARRAY}")
    for number, record in enumerate(whole[lists[0]], start=1):
        yield number, record if isinstance(record, dict) else NOT_AN_OBJECT.format(record)


def _table(path: Path) -> Iterator[Record]:
    """Rows by the names in the header. An empty cell is no value."""
    csv.field_size_limit(2**27)  # a cell may hold a document
    rows = csv.reader(
        (line for _, line in lines(path)), delimiter=TABLES[form_of(path)], strict=True
    )
    try:
        header = [name.strip() for name in next(rows, [])]
        if not any(header):
            return
        if twice := {name for name in header if header.count(name) > 1}:
            raise UserError(
                f"{path} line 1: two columns are named {min(twice)!r}; a table begins with a line "
                "of names, each once"
            )
        before = rows.line_num
        for cells in rows:
            line, before = before + 1, rows.line_num
            if not cells:
                continue
            if len(cells) != len(header):
                yield line, f"{len(cells)} cells, and the header names {len(header)} columns"
                continue
            yield line, {name: cell for name, cell in zip(header, cells, strict=True) if cell}
    except csv.Error as error:
        raise UserError(f"{path} line {rows.line_num}: {error}; correct the quotes there") from None


def _parquet(path: Path) -> Iterator[Record]:
    """Rows with their nested values as JSON would have them; what is null is no value."""
    import pyarrow
    import pyarrow.parquet

    require_file(path)
    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                number += 1
                yield number, {key: value for key, value in row.items() if value is not None}
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: no Parquet file: {error}; fetch it again") from None
