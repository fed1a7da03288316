"""The files that people have -> records with their place: JSON lines, a JSON array, CSV and TSV
with a header, Parquet; each may be compressed.
"""

import bz2
import gzip
import json
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from stages.corpus import tables
from stages.errors import UserError

Record = tables.Record
SPACE = re.compile(r"\s*")
ARRAY = re.compile(r"\s*\[\s*\{\s*\"[^\"]*\"\s*:")
"""How an array of objects begins."""
OPENS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
BEGINNINGS = {
    b"\xff\xfe": "UTF-16; convert it: `iconv -f UTF-16 -t UTF-8`",
    b"\xfe\xff": "UTF-16; convert it: `iconv -f UTF-16 -t UTF-8`",
    b"\x1f\x8b": "compressed by gzip; let its name end with .gz",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard; unpack it: `zstd -d`",
    b"\xfd7zXZ\x00": "compressed by xz; let its name end with .xz",
    b"BZh91AY&SY": "compressed by bzip2; let its name end with .bz2",
    b"PK\x03\x04": "a zip archive, as .xlsx files are too; unpack it, or save the table as .csv",
    b"PAR1\x15": "Parquet; let its name end with .parquet",
}
"""What a file is that is no UTF-8 text, by its first bytes."""
OF_RECORDS = (".jsonl", ".ndjson", ".json", ".parquet", *tables.DELIMITERS)


SPAN_BYTES = 2**20  # one process reads so many at once


class Span(NamedTuple):
    """Whole lines of a file: from byte `begin` to `end`; `line` is the number of the first."""

    begin: int
    end: int
    line: int


def spans(path: Path) -> Iterator[Span]:
    """All lines of a file, SPAN_BYTES and the rest of a line at a time."""
    with path.open("rb") as file:
        begin, line = 0, 1
        while block := file.read(SPAN_BYTES):
            block += file.readline()
            yield Span(begin, begin + len(block), line)
            begin, line = begin + len(block), line + block.count(b"\n")


def has_spans(path: Path) -> bool:
    """Whether parts of the file can be read by themselves: it is not compressed."""
    return path.is_file() and path.suffix.lower() not in OPENS


def has_a_record_in_each_line(path: Path) -> bool:
    return has_spans(path) and form_of(path) in (".jsonl", ".ndjson")


def form_of(path: Path) -> str:
    """The suffix of what is in the file: ".jsonl" of train.jsonl.gz."""
    inner = path.with_suffix("") if path.suffix.lower() in OPENS else path
    return inner.suffix.lower()


def suffixes_of(path: Path) -> str:
    """What a copy of the file ends with: ".jsonl.gz"."""
    packed = path.suffix.lower()
    return form_of(path) + (packed if packed in OPENS else "")


def records(path: Path, columns: Mapping[str, str], span: Span | None = None) -> Iterator[Record]:
    """The records of a file in their order, one in memory at a time but for a JSON array.

    span: those lines alone, of a file that has a record in each.

    columns: the record's key for each column, or key, of the file that has another name; keys that
    are not among them keep theirs. Raises UserError for a file that cannot be read at all: not
    there, of an unknown form, not UTF-8, damaged; for a table without a column that is named; and
    where two columns would have one name.
    """
    form = form_of(path)
    of_lines: dict[str, Callable[[Path], Iterator[Record]]] = {".json": _array}
    of_lines |= dict.fromkeys((".jsonl", ".ndjson"), partial(_json_lines, span=span))
    if form == ".parquet":
        require_file(path)
        header, found = tables.of_parquet(path)
    elif form in tables.DELIMITERS:
        header, found = tables.of_text(path, form, (line for _, line in lines(path)))
    elif form in of_lines:
        header, found = [], of_lines[form](path)
    else:
        require_file(path)
        raise UserError(
            f"{path}: {_other_form(path)}files of records end with {', '.join(OF_RECORDS)}, and "
            f"may be compressed ({', '.join(OPENS)}); convert it, or name it so"
        )
    tables.require_columns(path, header, columns)
    said_by_null = tables.SAID_BY_NULL & {columns.get(name, name) for name in header}
    for line, record in found:
        if isinstance(record, dict):
            record = tables.renamed(record, columns)
        if isinstance(record, dict) and form in tables.DELIMITERS:
            record = tables.with_lists(record)
        if isinstance(record, dict):
            record |= dict.fromkeys(said_by_null - record.keys())
        yield line, record


def lines(path: Path, span: Span | None = None) -> Iterator[tuple[int, str]]:
    """(number, line with its end) of a UTF-8 text without its byte-order mark, compressed or
    not.   span: those lines alone, of one that is not.
    """
    require_file(path)
    try:
        with OPENS.get(path.suffix.lower(), open)(path, "rb") as file:
            for number, raw in _of_span(file, span) if span else enumerate(file, start=1):
                if number == 1:
                    _require_text(path, raw)
                try:
                    yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{path} line {number}: not UTF-8 (byte {error.start + 1} of the line); "
                        "convert the file, for example `iconv -f CP932 -t UTF-8`"
                    ) from None
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise UserError(f"{path}: cannot be read: {error}; fetch or compress it again") from None


def _of_span(file: Any, span: Span) -> Iterator[tuple[int, bytes]]:
    at = file.seek(span.begin)
    for number, raw in enumerate(file, start=span.line):
        yield number, raw
        if (at := at + len(raw)) >= span.end:
            return


def _require_text(path: Path, first: bytes) -> None:
    """Raise UserError where the first line shows that the file is no text in UTF-8."""
    what = next((what for bytes_, what in BEGINNINGS.items() if first.startswith(bytes_)), "")
    if all(first[:8:2]) and len(first) > 8 and not any(first[1:8:2]):
        what = "UTF-16 without a byte-order mark; convert it: `iconv -f UTF-16LE -t UTF-8`"
    if what:
        raise UserError(f"{path}: {what}")


def _other_form(path: Path) -> str:
    with path.open("rb") as file:
        first = file.read(10)
    return next(
        (f"{what}; " for begins, what in BEGINNINGS.items() if first.startswith(begins)), ""
    )


def require_file(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path}: a folder; give the file of it that is the corpus")
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; write the corpus there or correct its `file` in params.yaml"
        )


def _json_lines(path: Path, span: Span | None = None) -> Iterator[Record]:
    if _is_array(_beginning(path)):
        raise UserError(f"{path}: a JSON array; let its name end with .json")
    for number, line in lines(path, span):
        if line.strip():
            yield number, _object(line)


def _object(text: str) -> dict[str, Any] | str:
    try:
        record, end = _decoded(text, _skip(text, 0))
        if (rest := _skip(text, end)) < len(text):
            found = text[rest : rest + 20].strip()
            return f"not JSON: {found!r} behind the object; each stands in a line"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    if isinstance(record, dict | str):
        return record
    return f"a JSON {type(record).__name__}; a record is an object"


def require_no_records(path: Path) -> None:
    """Raise UserError for a file of lines that begins as JSON lines or a JSON array do: they would
    be learned as a text.
    """
    first = _beginning(path) or [""]
    if first[0].lstrip().startswith("{") and isinstance(found := _object(first[0]), dict) and found:
        raise UserError(f"{path}: JSON lines; let its name end with .jsonl")
    if ARRAY.match("".join(first)):
        raise UserError(f"{path}: a JSON array; let its name end with .json")


def _decoded(text: str, at: int) -> tuple[Any, int]:
    """(what stands there, its end); for an object with a key that is given twice, what is wrong:
    JSON has no rule which of the two is meant. Raises ValueError.
    """
    twice: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            times = Counter(key for key, _ in pairs)
            twice.append(times.most_common(1)[0][0])
        return made

    record, end = json.JSONDecoder(object_pairs_hook=unique).raw_decode(text, at)
    if isinstance(record, str):
        record = NOT_AN_OBJECT.format(record)
    return (f"the key {twice[0]!r:.40} is given twice; keep one" if twice else record), end


def _array(path: Path) -> Iterator[Record]:
    """A list of objects, one object, or one that holds the list under its only key that has one,
    such as "data". A file that is JSON lines after all is read as such.
    """
    if _is_json_lines(path):
        yield from _json_lines(path)
        return
    text = "".join(line for _, line in lines(path))
    if (at := _skip(text, 0)) == len(text):
        return
    if text[at : at + 1] == "{":
        yield from _wrapped(path, text)
        return
    if text[at : at + 1] != "[":
        raise UserError(f"{path}: not JSON: it begins with {text[at : at + 20]!r}; {NOT_AN_ARRAY}")
    line, counted, at = 1, 0, _skip(text, at + 1)
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            record, end = _decoded(text, at)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} line {line}: not JSON: {error}; {NOT_AN_ARRAY}") from None
        yield line, record if isinstance(record, dict | str) else NOT_AN_OBJECT.format(record)
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            raise UserError(f"{path} line {line}: the array is not closed; {NOT_AN_ARRAY}")
    if (rest := _skip(text, at + 1)) < len(text):
        line = 1 + text.count("\n", 0, rest)
        raise UserError(
            f"{path} line {line}: {text[rest : rest + 20]!r} behind the end of the array; "
            f"{NOT_AN_ARRAY}"
        )


NOT_AN_ARRAY = "a .json file is a list of objects; write one, or an object a line into .jsonl"
NOT_AN_OBJECT = "{0!r:.40} is no object"


def _skip(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def _beginning(path: Path) -> list[str]:
    """The first lines of a file that are not blank, at most three."""
    return list(islice((line for _, line in lines(path) if line.strip()), 3))


def _is_json_lines(path: Path) -> bool:
    """Whether its first line is an object of its own, and there are others."""
    first = _beginning(path)
    return len(first) > 1 and isinstance(_object(first[0]), dict)


def _is_array(first: list[str]) -> bool:
    """Whether a file that begins so is one array of objects, and not one in each line."""
    in_each = len(first) > 1 and first[0].rstrip().endswith("}]")
    return not in_each and ARRAY.match("".join(first)) is not None


def _wrapped(path: Path, text: str) -> Iterator[Record]:
    """One record, or the records in a list of it. Its keys beside the list go to the first record,
    which says that nothing has a use for them.
    """
    whole = _object(text)
    if isinstance(whole, str):
        raise UserError(f"{path}: {whole}; {NOT_AN_ARRAY}")
    lists = {key: value for key, value in whole.items() if isinstance(value, list)}
    if _is_record(whole, lists):
        yield 1, whole
        return
    if len(lists) != 1:
        found = f"{len(lists)} of its keys hold" if lists else "none of its keys holds"
        raise UserError(f"{path}: one object, and {found} a list; {NOT_AN_ARRAY}")
    ((key, items),) = lists.items()
    beside = {f"{name} beside {key}": whole[name] for name in whole if name != key}
    for number, record in enumerate(items, start=1):
        yield number, beside | record if isinstance(record, dict) else NOT_AN_OBJECT.format(record)
        beside = beside if not isinstance(record, dict) else {}


def _is_record(whole: dict[str, Any], lists: dict[str, list[Any]]) -> bool:
    """Whether an object is one record and none that holds them: it has no list, or a list that a
    record has, or only lists of what is no object.
    """
    if not lists:
        return bool(whole)
    firsts = {key: items[0] for key, items in lists.items() if items}
    for key, first in firsts.items():
        if key in tables.LISTS and not (isinstance(first, dict) and first.keys() & tables.LISTS):
            return True
    objects = any(isinstance(first, dict) for first in firsts.values())
    return bool(firsts) and len(whole) > 1 and not objects
