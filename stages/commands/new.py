"""new: a file becomes the next version of a task's corpus, with a run that continues from the
version before.
"""

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml.comments import CommentedMap

from stages import settings, tasks
from stages.commands.edited_params import edited_params
from stages.corpus import clean, split
from stages.errors import UserError
from stages.files import PARTIAL, atomic_write, require_writable
from stages.params import PARAMS, Params, entry, load_params
from stages.records import Row, read_rows

LOCK, WAIT_SECONDS = Path(".scratch/new.lock"), 30


def new(
    task: Annotated[str, typer.Argument(help="a task of params.yaml: lm, gec, typst, …")],
    file: Annotated[
        Path, typer.Argument(help="the corpus, in one of the task's formats (data/TASK/README.md)")
    ],
    note: Annotated[
        str, typer.Option(help="what is new in this version, for data/TASK/README.md")
    ] = "",
    start: Annotated[
        bool,
        typer.Option(
            "--start", help="start a new chain at the base instead of continuing the last version"
        ),
    ] = False,
    malformed: Annotated[
        str, typer.Option(help="what an unreadable line does: stop or drop")
    ] = "stop",
) -> None:
    """Check FILE, take it in as the next version of TASK's corpus, and enter its corpus and run
    into params.yaml.

    Examples:

      python -m stages new typst formulas.jsonl --note "commutative diagrams"

      python -m stages new gec learners.tsv --malformed drop
    """
    params = load_params()
    if task not in params.tasks:
        entry(params.tasks, task, "tasks")
    most = settings.Corpus(task=task, file=str(file)).max_drop_fraction
    report = check(task, file, malformed, most)

    with alone(), ExitStack() as undo:
        version, path = next_version(load_params(), task, file.suffix)
        pointer, readme = path.with_name(f"{path.name}.dvc"), path.with_name("README.md")
        undo.callback(path.unlink, missing_ok=True)
        copy(file, path)
        undo.callback(pointer.unlink, missing_ok=True)
        keep(path)
        row = row_of(version, path, report, note)
        undo.callback(unlist, readme, row)
        list_version(readme, row)
        parent = enter(version, task, path, start, malformed)  # last: what it writes is valid
        undo.pop_all()

    typer.echo(
        f"{version}: {report.read - report.dropped.total():,} rows of {file} are now {path}; the "
        f"run continues from {parent}."
    )
    told = [pointer, path.with_name(".gitignore"), PARAMS, readme]
    names = shlex.join(str(name) for name in told if name.exists())
    if shrinking := shrinking_runs(params, task, file):
        runs = ", ".join(f"{run} ({count:,})" for run, count in shrinking.items())
        typer.echo(
            f"Note:  it holds out questions that stand in the training rows of {runs}; these rows "
            "leave them, so that these runs and their descendants train again"
        )
    typer.echo(f"Git:   git add {names}  (`dvc exp run --queue` takes only what git has)")
    typer.echo(f"Next:  dvc repro evaluate@{version} compare@{task}")


@contextmanager
def alone() -> Iterator[None]:
    """While no other `new` chooses a number or writes. Raises UserError where another one does not
    end.
    """
    require_writable(LOCK.parent)
    with LOCK.open("a") as lock:
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise UserError(
                        f"{LOCK}: another `new` is running; run this one again when it has ended"
                    ) from None
                time.sleep(0.1)
        yield


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
    while left := [*folder.glob(f"train_{number:03d}"), *folder.glob(f"train_{number:03d}.*")]:
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
            if path.parent == Path("data", task) and re.fullmatch(r"train_[0-9]{3}", path.stem):
                taken.append(int(path.stem[-3:]))
    return 1 + max(taken)


def check(task: str, file: Path, malformed: str, max_drop_fraction: float) -> clean.Report:
    """Read the whole file as `prepare` will, before anything is written; raises UserError as it
    would.
    """
    reader = tasks.corpus(task)
    report = clean.Report(file)
    for _ in clean.deduplicate(clean.readable(reader.read(file), report), report):
        pass
    report.require_acceptable(malformed, max_drop_fraction)
    return report


def shrinking_runs(params: Params, task: str, file: Path) -> dict[str, int]:
    """The trained runs whose training rows ask what the new file holds out, and how many do.

    Such rows leave every version (stages/mix.py): another answer to the same question may lie in
    another part of the split, whose key need not be the question.
    """
    reader, held_out = tasks.corpus(task), set[int]()
    for example in clean.readable(reader.read(file), clean.Report(file)):
        if split.part(reader.group_key(example), params.split.valid, params.split.test) == "test":
            row: Row = {"id": "", "category": "", "source": "", **reader.show(example)}
            held_out.add(clean.question_digest(row))
    found = dict[str, int]()
    for run, spec in params.runs.items():
        path = Path("data/mixed", run, "train.jsonl")
        if spec.task == task and path.is_file():
            count = sum(clean.question_digest(row) in held_out for row in read_rows(path))
            found |= {run: count} if count else {}
    return found


def descent(params: Params, task: str, start: bool) -> tuple[str, str]:
    """(base, parent) of the next run: the task's last run; where it has none, the base that the
    other tasks use.
    """
    own = [name for name, run in params.runs.items() if run.task == task]
    if own:
        last = params.runs[own[-1]]
        grown_whole = params.resolve(own[-1]).method == "full"
        base = f"models/{own[-1]}" if grown_whole else last.base
        return (params.runs[own[0]].base,) * 2 if start else (base, f"models/{own[-1]}")
    pretrained = [f"models/{name}" for name, run in params.runs.items() if run.task == "lm"] or [
        f"models/bases/{name}" for name in params.bases
    ]
    if not pretrained:
        raise UserError(
            f"{PARAMS}: no base for the first run of {task}; add one under `bases`, or enter the "
            f"run by hand"
        )
    return pretrained[0], pretrained[0]


def copy(file: Path, path: Path) -> None:
    """FILE under a name that it has only when all of it is on the disk."""
    require_writable(path.parent)
    half = path.with_name(path.name + PARTIAL)
    try:
        with file.open("rb") as source, half.open("wb") as copied:
            shutil.copyfileobj(source, copied)
            copied.flush()
            os.fsync(copied.fileno())
        half.rename(path)
    except OSError as error:
        raise UserError(
            f"{path}: {file} was not copied there ({error.strerror}); make room, then run again"
        ) from None
    finally:
        half.unlink(missing_ok=True)


def keep(path: Path) -> None:
    """Into DVC's cache. Raises UserError with what DVC says where it refuses."""
    try:
        subprocess.run(
            [sys.executable, "-m", "dvc", "add", str(path)],  # --quiet would keep its errors too
            check=True,
            capture_output=True,
            text=True,
        )
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split("ERROR: ", 1)[-1].split())  # progress stands before it
        raise UserError(
            f"{path}: dvc did not take it, and nothing was entered; it says: {said}"
        ) from None


def enter(version: str, task: str, path: Path, start: bool, malformed: str) -> str:
    """The corpus and its run into params.yaml as it is now; comments and order stay. The parent of
    the run.

    Raises UserError, and writes nothing, where the file would not be valid.
    """
    params = load_params()
    if free_number(params, task) > int(version[-3:]):
        raise UserError(f"{PARAMS}: {version} was entered meanwhile; run `new` again")
    base, parent = descent(params, task, start)
    corpus = {"task": task, "file": str(path)} | (
        {"malformed": malformed} if malformed != "stop" else {}
    )
    run = {"task": task, "corpus": version, "base": base, "parent": parent}
    with edited_params() as document:
        append(document["corpora"], version, corpus)
        append(document["runs"], version, run)
    return parent


def append(entries: CommentedMap, key: str, value: dict[str, Any]) -> None:
    """One more entry on a line of its own, as its neighbours are written."""
    line = CommentedMap(value)
    line.fa.set_flow_style()
    entries[key] = line


def row_of(version: str, path: Path, report: clean.Report, note: str) -> str:
    """The version's row in the task's table of versions."""
    said = " ".join(note.split()).replace("|", "\\|") or "–"  # what would end the cell, or the row
    return f"| {version} | {path.name} | {report.read - report.dropped.total():,} | {said} |\n"


def empty_table(readme: Path) -> str:
    columns = "| version | file | rows | what is new |\n|---|---|---|---|\n"
    return f"# {readme.parent.name}\n\n## Versions\n\n{columns}"


def list_version(readme: Path, row: str) -> None:
    """One more row at the end of the task's README.md."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else empty_table(readme)
    with atomic_write(readme) as file:
        file.write(text.rstrip("\n") + "\n" + row)


def unlist(readme: Path, row: str) -> None:
    """The row taken out again; what others have written meanwhile stays."""
    if readme.exists() and row in (text := readme.read_text(encoding="utf-8")):
        before, _, after = text.rpartition(row)
        if before + after == empty_table(readme):
            readme.unlink()
            return
        with atomic_write(readme) as file:
            file.write(before + after)
