"""fetch: a data set of the hub at its pinned revision -> a corpus file; what it has is checked by
`prepare`, as any corpus.
"""

import json
from collections.abc import Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from stages import command_line, stage_config
from stages.entries import Source
from stages.errors import UserError
from stages.files import write_lines


def main(name: str) -> None:
    source = Source.model_validate(stage_config.load("fetch", name)["source"])
    path = Path(source.file)
    if path.suffix != ".jsonl":
        raise UserError(
            f"params.yaml: `sources.{name}.file`: {path} is written as JSON lines; name it .jsonl"
        )
    count = write_lines(path, records(name, source))
    print(f"{path}: {count:,} records of {source.hub_id} at {source.revision[:12]}")


def records(name: str, source: Source) -> Iterator[dict[str, Any]]:
    """The data set's rows in their order, with the columns that are wanted under the names that are
    wanted.
    """
    from datasets import load_dataset

    try:  # its files are data (Parquet, JSON, CSV): datasets runs no code of a repository
        loaded = load_dataset(
            source.hub_id, source.name or None, split=source.split, revision=source.revision
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise UserError(
            f"`sources.{name}`: {source.hub_id} at {source.revision[:12]} could not be had "
            f"({why}); connect to the hub, log in "
            "where the data set is gated, or correct hub_id, name, split or revision"
        ) from None
    if absent := [column for column in source.columns if column not in loaded.column_names]:
        there = ", ".join(loaded.column_names)
        raise UserError(
            f"`sources.{name}.columns`: {source.hub_id} has no column {', '.join(absent)}; it has "
            f"{there}"
        )
    keys = list(source.columns.values())
    if twice := [key for key in source.columns.values() if keys.count(key) > 1]:
        raise UserError(
            f"`sources.{name}.columns`: two columns would both be {twice[0]!r}; "
            "give one another name"
        )
    columns = source.columns or {column: column for column in loaded.column_names}
    for row in loaded:
        record = {key: row[column] for column, key in columns.items()}
        try:
            yield json.loads(json.dumps(record, default=_as_text))
        except TypeError as error:
            raise UserError(
                f"`sources.{name}.columns`: {source.hub_id} has {error}, which is no text or "
                "number; name the columns that are wanted"
            ) from None


def _as_text(value: Any) -> str:
    """What JSON has no form for: times and exact decimals. Raises TypeError for others."""
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta | Decimal):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__}")


if __name__ == "__main__":
    command_line.run(main, __doc__)
