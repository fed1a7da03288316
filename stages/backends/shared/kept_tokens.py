"""Rows that are tokenised once, and kept in .scratch by all that decides their tokens: a training
that begins again, or goes on, reads them back. Large files are tokenised by several processes.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from stages.backends.shared import checkpoints
from stages.backends.shared.fingerprint import fingerprint, md5
from stages.files import as_json, atomic_folder, write_json
from stages.processes import cores, in_order
from stages.progress_lines import ProgressLines
from stages.records import Row, RowFile, rows_from
from stages.text import token_files
from stages.text.chat import Encoded
from stages.text.token_files import TokenFiles

KEPT_DAYS = 14
"""Tokens that no training has begun with for so long are removed when others are made."""
ROWS_OF_A_PART = 2_000  # short ones take half a second, and 2 MB
ROWS_OF_A_PROCESS = 50_000
"""It imports transformers, in 4 to 12 seconds; so many short rows take 16."""
LEFT_OUT = "left_out.json"

Encode = Callable[[Row], list[Encoded]]


class KeptMeanwhile(Exception):
    """Another process has made what this one waited to make."""


def tokenised(
    work: str,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    encode: Encode,
    *options: Any,
) -> tuple[TokenFiles, int]:
    """The sequences that `encode` makes of the rows, in order, and of how many it makes none.

    work: as a line of progress names it.   options: all that decides what `encode` makes beside the
    row, the tokenizer and the code of stages.text.chat. Rows of no file are tokenised and not kept.
    """
    if not isinstance(rows, RowFile):
        with tempfile.TemporaryDirectory() as temporary:
            return _made(Path(temporary), work, rows, encode)
    folder = root() / _key(rows, tokenizer, *options)
    with suppress(FileNotFoundError):  # first: an old one is not to go while it is looked at
        os.utime(folder)
    if not checkpoints.is_intact(folder):
        with suppress(KeptMeanwhile), atomic_folder(folder) as half:
            if checkpoints.is_intact(folder):
                raise KeptMeanwhile
            if folder.exists():
                checkpoints.remove(folder)
            _remove_old()
            _made(half, work, rows, encode)
            checkpoints.seal(half)
    return TokenFiles(folder), json.loads((folder / LEFT_OUT).read_text(encoding="utf-8"))["rows"]


def root() -> Path:
    return checkpoints.root() / "tokens"


def whole() -> list[Path]:
    """The folders of tokens that are kept; one that is being made is none yet."""
    return sorted(seal.parent for seal in root().glob(f"[!.]*/{checkpoints.SEAL}"))


def _key(rows: RowFile, tokenizer: PreTrainedTokenizerBase, *options: Any) -> str:
    # Here, because a prediction imports this module and needs no key.
    from stages import imports

    code = imports.closure("stages.text.chat")
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer.save_pretrained(temporary)  # with its chat template
        decides = {
            "rows": md5(rows.path),
            "tokenizer": fingerprint(Path(temporary)),
            "options": options,
            "code": imports.code(code),
            "packages": imports.packages(code, "transformers", "tokenizers", "jinja2"),
        }
    return hashlib.md5(as_json(decides).encode(), usedforsecurity=False).hexdigest()


def _remove_old() -> None:
    for folder in root().iterdir():
        with suppress(FileNotFoundError):  # another process has given it its name, or removed it
            if folder.stat().st_mtime < time.time() - KEPT_DAYS * 24 * 60 * 60:
                checkpoints.remove(folder)


def _made(folder: Path, work: str, rows: Sequence[Row], encode: Encode) -> tuple[TokenFiles, int]:
    left_out = 0
    with ProgressLines(work, len(rows), "rows") as lines:

        def parts() -> Iterator[token_files.Arrays]:
            nonlocal left_out
            for arrays, without in _parts(rows, encode, lines.advance):
                left_out += without
                yield arrays

        token_files.write(folder, parts())
    write_json(folder / LEFT_OUT, {"rows": left_out})
    return TokenFiles(folder), left_out


def _parts(
    rows: Sequence[Row], encode: Encode, advance: Callable[[int], None]
) -> Iterator[tuple[token_files.Arrays, int]]:
    """(arrays, rows without a sequence) of each ROWS_OF_A_PART.   advance: told how many rows more
    are done.
    """
    firsts = range(0, len(rows), ROWS_OF_A_PART)
    processes = min(cores(), max(1, len(rows) // ROWS_OF_A_PROCESS))
    if not isinstance(rows, RowFile) or processes == 1:
        coming = iter(rows)
        for _ in firsts:
            yield _part(islice(coming, ROWS_OF_A_PART), encode, advance)
        return
    counts = [min(ROWS_OF_A_PART, len(rows) - first) for first in firsts]
    begins = [rows.begins[first] for first in firsts]
    work = partial(_part_of_file, rows.path, encode)
    made = in_order(work, zip(begins, counts, strict=True), processes)
    for count, part in zip(counts, made, strict=True):
        advance(count)
        yield part


def _part_of_file(
    path: Path, encode: Encode, place: tuple[int, int]
) -> tuple[token_files.Arrays, int]:
    with path.open("rb") as file:
        return _part(rows_from(file, *place), encode, lambda rows: None)


def _part(
    rows: Iterable[Row], encode: Encode, advance: Callable[[int], None]
) -> tuple[token_files.Arrays, int]:
    sequences, left_out = list[Encoded](), 0
    for row in rows:
        of_row = encode(row)
        sequences += of_row
        left_out += not of_row
        advance(1)
    return token_files.arrays(sequences), left_out
