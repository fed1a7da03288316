"""An edit of params.yaml by a command."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from stages.commands import own_files
from stages.errors import UserError
from stages.params import PARAMS, validate


@contextmanager
def edited_params(removed: dict[str, Collection[str]] | None = None) -> Iterator[CommentedMap]:
    """The document, written when the block ends well; its comments and order stay.

    removed: entries that are taken out before, by group.

    Raises UserError, and writes nothing, where it would not be valid.
    """
    text = PARAMS.read_text(encoding="utf-8")
    for group, names in (removed or {}).items():
        text = without(text, group, names)
    edited = YAML()
    edited.width, edited.preserve_quotes = 200, True
    document = edited.load(text)
    yield document
    written = StringIO()
    edited.dump(document, written)
    validate(written.getvalue(), PARAMS)
    with own_files.written(PARAMS) as file:
        file.write(written.getvalue())


def without(text: str, group: str, names: Collection[str]) -> str:
    """params.yaml without some entries of a group, nor the comments right above each.

    By lines, because a YAML document that is written again loses the comments around what was
    deleted. Raises UserError where the group is not written with an entry on a line of its own.
    """
    lines = text.splitlines(keepends=True)
    keys = [at for at, line in enumerate(lines) if re.match(r"[\w-]+:", line)]
    begin = next(at for at in keys if lines[at].startswith(f"{group}:"))
    end = min((at for at in keys if at > begin), default=len(lines))
    while end > begin + 1 and re.match(r"#|\s*$", lines[end - 1]):
        end -= 1  # what stands above the next group belongs to it
    kept, above, dropped = list[str](), list[str](), False
    for line in lines[begin + 1 : end]:
        if line.startswith("  #"):
            above.append(line)
            continue
        if key := re.match(r"  ([\w.-]+):", line):
            dropped = key[1] in names
        kept += [] if dropped else [*above, line]
        above = []
    head = lines[begin] if kept else f"{group}: {{}}\n"
    edited = "".join([*lines[:begin], head, *kept, *lines[end:]])
    if _loaded(edited, group) != {
        name: entry for name, entry in _loaded(text, group).items() if name not in names
    }:
        raise UserError(
            f"{PARAMS}: the entries of `{group}` do not stand on lines of their own, two spaces "
            f"in; delete {', '.join(sorted(names))} there by hand"
        )
    return edited


def _loaded(text: str, group: str) -> dict[str, Any]:
    entries: dict[str, Any] = yaml.safe_load(text)[group] or {}
    return entries
