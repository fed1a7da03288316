"""The fields of a record: texts that are there and are texts, and what nothing has a use for."""

from collections.abc import Collection
from typing import Any

PREPARED = ("id", "source")  # what `prepare` writes beside a row's messages; they follow from these


class Malformed(ValueError):
    """A record that cannot be read. The message is a phrase that follows "line 12: "."""


def content(record: dict[str, Any], key: str, see: str, needed: bool = True) -> str:
    """The record's text at this key, stripped; "" where it is missing.

    see: where the formats are described, for the error. Raises Malformed where the value is no
    text, and where it is missing or empty though needed.
    """
    value = record.get(key)
    if value is None:
        if needed:
            raise Malformed(f'no "{key}"; {see}')
        return ""
    if not isinstance(value, str):
        raise Malformed(f'"{key}" is {kind(value)}; it is a text')
    if needed and not value.strip():
        raise Malformed(f'"{key}" is empty')
    return value.strip()


def category(record: dict[str, Any]) -> str:
    """The record's category; "" where it has none. Raises Malformed where it is no text."""
    value = record.get("category")
    if not (value is None or isinstance(value, str)):
        raise Malformed(f'"category" is {kind(value)}; it is a word, or left out')
    return (value or "").strip()


def unused(record: dict[str, Any], used: Collection[str], inside: str = "") -> tuple[str, ...]:
    """The keys of a record with a value that nothing here has a use for."""
    known = {*used, "category"}
    return tuple(
        inside + as_name(key)
        for key, value in record.items()
        if key not in known and value not in (None, "", [], {})
    )


def as_name(key: str) -> str:
    """A key as it can be printed on a line: what cannot is escaped, and the end of a long one is
    left out.
    """
    shown = key if key.isprintable() else repr(key)[1:-1]
    shown = shown or "a key without a name"
    return shown if len(shown) <= 60 else f"{shown[:59]}…"


def keys_of(record: dict[str, Any]) -> str:
    """The first keys of a record, in words for an error."""
    return ", ".join(repr(key)[:40] for key in list(record)[:5]) or "no keys"


def kind(value: Any) -> str:
    """The type of a JSON value, in words for an error."""
    names = {
        bool: "true or false",
        dict: "an object",
        list: "a list",
        str: "a text",
        bytes: "bytes",
        type(None): "null",
    }
    is_number = isinstance(value, int | float)
    return names.get(type(value), "a number" if is_number else f"of type {type(value).__name__}")
