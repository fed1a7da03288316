"""What can befall a file on its way from someone else: cut, emptied, other bytes, values of another
type, parts changed about, another encoding; or no file at all."""

import gzip
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

VALUES: list[Any] = [
    None, True, -1, 0, 10**30, 0.5, float("inf"), "", "x", "[v1]", "../..", "\ud800", "7", [], {}, [None], [[]], {"x": 1},
]  # fmt: skip


def damage(path: Path, rng: random.Random) -> str:
    """Change the file, or put something else in its place; what was done, in a word or two."""
    raw = path.read_bytes()
    acts: list[Any] = [_cut, _emptied, _other_bytes, _changed_about, _another_encoding]
    if path.suffix in (".json", ".jsonl", ".yaml"):
        acts += [_retyped] * 6 + [_without, _values_changed_about] * 2
    if rng.random() < 0.05:
        return _no_file(path, rng)
    act = rng.choice(acts)
    with path.open("wb") as file:
        file.write(act(raw, rng, path.suffix))
    return str(act.__name__.strip("_"))


def _no_file(path: Path, rng: random.Random) -> str:
    path.unlink()
    kind = rng.choice(["absent", "folder", "pipe", "broken link", "link to itself"])
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "absent":
        path.symlink_to("nowhere" if kind == "broken link" else path.name)
    return kind


def _cut(raw: bytes, rng: random.Random, _: str) -> bytes:
    return raw[: rng.randrange(len(raw))]


def _emptied(raw: bytes, rng: random.Random, _: str) -> bytes:
    return rng.choice([b"", b"\n", b" " * 9, bytes(len(raw))])


def _other_bytes(raw: bytes, rng: random.Random, _: str) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + rng.randbytes(rng.randint(1, 9)) + raw[at + 1 :]


def _changed_about(raw: bytes, rng: random.Random, _: str) -> bytes:
    at = sorted(rng.randrange(len(raw)) for _ in range(3))
    return raw[: at[0]] + raw[at[1] : at[2]] + raw[at[0] : at[1]] + raw[at[2] :]


def _another_encoding(raw: bytes, rng: random.Random, _: str) -> bytes:
    how = rng.choice(["utf-16", "utf-8-sig", "gzip", "\r"])
    if how == "gzip":
        return gzip.compress(raw)
    if how == "\r":
        return raw.replace(b"\n", b"\r")
    return raw.decode("utf-8", "replace").encode(how)


def _retyped(raw: bytes, rng: random.Random, suffix: str) -> bytes:
    def change(holder: Any, key: Any) -> None:
        holder[key] = rng.choice([*VALUES, [holder[key]], str(holder[key])])

    return _edited(raw, rng, suffix, change)


def _without(raw: bytes, rng: random.Random, suffix: str) -> bytes:
    return _edited(raw, rng, suffix, lambda holder, key: holder.pop(key))


def _values_changed_about(raw: bytes, rng: random.Random, suffix: str) -> bytes:
    def change(holder: Any, key: Any) -> None:
        other = rng.choice(_keys(holder))
        holder[key], holder[other] = holder[other], holder[key]

    return _edited(raw, rng, suffix, change)


def _edited(raw: bytes, rng: random.Random, suffix: str, change: Any) -> bytes:
    """A document, or one line of many, after a change of one of its values."""
    before, after = b"", b""
    if suffix == ".jsonl":
        lines = raw.splitlines(keepends=True)
        at = rng.randrange(len(lines))
        before, raw, after = b"".join(lines[:at]), lines[at], b"\n" + b"".join(lines[at + 1 :])
    document = YAML(typ="safe").load(raw) if suffix == ".yaml" else json.loads(raw)
    places = list(_places([document]))
    # the upper levels have few keys and decide most
    deep = rng.choice(sorted({depth for _, _, depth in places}))
    holder, key, _ = rng.choice([place for place in places if place[2] == deep])
    whole = [document] if holder == [document] else None
    change(whole or holder, key)
    return before + json.dumps(whole[0] if whole and whole else document).encode() + after


def _places(holder: Any, depth: int = 0) -> Iterator[tuple[Any, Any, int]]:
    for key in _keys(holder):
        yield holder, key, depth
        yield from _places(holder[key], depth + 1)


def _keys(holder: Any) -> list[Any]:
    if isinstance(holder, dict):
        return list(holder)
    return list(range(len(holder))) if isinstance(holder, list) else []
