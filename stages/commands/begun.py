"""What `new` has begun, noted until it is entered: a `new` that is killed is taken back by the next
one.
"""

from pathlib import Path

import typer

from stages.backends.shared.fingerprint import md5
from stages.commands.named_artifacts import name_artifact
from stages.commands.version_table import unlist
from stages.errors import UserError
from stages.files import read_json, write_json
from stages.layers import Params

NOTE = Path(".scratch/new.json")


def pointer_of(path: Path) -> Path:
    """The file by which DVC knows a corpus."""
    return path.with_name(f"{path.name}.dvc")


def note(file: Path, path: Path, row: str) -> None:
    """Before anything is written: FILE is to be at `path`, with a row in the table of versions."""
    write_json(NOTE, {"path": str(path), "md5": md5(file), "row": row})


def take_back() -> Path | None:
    """Remove what the note names; what the user has put into its place since then stays.

    The path, where a file was there and is removed.
    """
    begun = read_json(NOTE)
    path = Path(begun["path"])
    was_there = path.is_file()
    stays = was_there and md5(path) != begun["md5"]
    if not stays:
        path.unlink(missing_ok=True)
        pointer_of(path).unlink(missing_ok=True)
        unlist(path.with_name("README.md"), begun["row"])
    NOTE.unlink()
    return path if was_there and not stays else None


def end_killed(params: Params) -> None:
    """Before another one begins: as if the one that was killed had not run, or had ended."""
    try:
        path = read_json(NOTE)["path"]
    except (UserError, KeyError):  # none, or the user has written another file there
        return
    if versions := [name for name, corpus in params.corpora.items() if corpus.file == path]:
        for name, run in params.runs.items():
            if run.corpus in versions:
                name_artifact(run.task, name)
        NOTE.unlink()
    elif taken := take_back():
        typer.echo(f"{taken}: taken back; a `new` that was killed had not entered it", err=True)
