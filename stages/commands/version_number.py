"""The number of a task's next version, and its file."""

import re
from pathlib import Path

import typer

from stages.commands import begin
from stages.errors import UserError
from stages.files import PARTIAL
from stages.layers import Params
from stages.params import PARAMS


def next_version(params: Params, task: str, suffix: str) -> tuple[str, Path]:
    """(TASK-NNN, its file). What a `new` that was killed has left is told, and its number is passed
    over.

    Only half of a copy is removed: nothing else has its name.
    """
    folder = Path("data", task)
    number = free_number(params, task)
    for half in sorted(folder.glob(f"train_[0-9][0-9][0-9]*{PARTIAL}")):
        half.unlink()
        typer.echo(f"{half}: removed; a `new` that was killed had not copied all of it", err=True)
    locked = begin.LOCK.read_text(encoding="utf-8") if begin.LOCK.is_file() else ""
    while left := [*folder.glob(f"train_{number:03d}"), *folder.glob(f"train_{number:03d}.*")]:
        if any(f"path: {path}\n" in locked for path in left):
            raise UserError(
                f"{min(left)}: of the demo, which a `begin` that was stopped has left in "
                f"{begin.LOCK}; give the same `begin` again, which ends it"
            )
        typer.echo(
            f"{min(left)}: no entry of {PARAMS} names it, as where a `new` was killed; it stays, "
            "and the next number is taken. Delete it, its .dvc file and its row in README.md, or "
            "enter it by hand",
            err=True,
        )
        number += 1
    return f"{task}-{number:03d}", folder / f"train_{number:03d}{suffix}"


def free_number(params: Params, task: str) -> int:
    """The next one that is free for a corpus, its run and its file, whichever task an entry of that
    name or file is of.
    """
    # A run may have a number of its own, as a variant on an earlier corpus has.
    taken = [0]
    for entries in (params.corpora, params.runs, params.synthetic, params.sources):
        for name, item in entries.items():
            path = Path(getattr(item, "file", ""))  # a run has none
            if item.task == task or name[:-4] == task:
                taken.append(int(name[-3:]))
            if path.parent == Path("data", task) and re.fullmatch(r"train_[0-9]{3}\..*", path.name):
                taken.append(int(path.name[6:9]))
    return 1 + max(taken)
