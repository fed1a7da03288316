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
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml.comments import CommentedMap

from stages import settings, tasks
from stages.backends.shared import model_folders
from stages.commands.edited_params import edited_params
from stages.corpus import clean, split
from stages.errors import UserError
from stages.files import PARTIAL, atomic_write, require_writable
from stages.params import PARAMS, Params, entry, load_params
from stages.records import Row, read_rows


class Malformed(StrEnum):
    STOP, DROP = "stop", "drop"


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
        Malformed, typer.Option(help="what an unreadable line does")
    ] = Malformed.STOP,
    max_drop_fraction: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="share of the rows that cleaning may drop"),
    ] = None,
    base: Annotated[
        str, typer.Option(help="start a new chain at this model: a folder or a NAME.json")
    ] = "",
    parent: Annotated[
        str, typer.Option(help="continue this run, or this adapter folder, instead of the last run")
    ] = "",
    preset: Annotated[
        list[str] | None, typer.Option(help="a preset of the run; can be repeated, last wins")
    ] = None,
    corpus_only: Annotated[
        bool, typer.Option("--corpus-only", help="enter no run, only what others can be mixed with")
    ] = False,
    test_only: Annotated[
        bool, typer.Option("--test-only", help="no run either: every row is tested on")
    ] = False,
    valid_only: Annotated[
        bool, typer.Option("--valid-only", help="no run either: every row is for validation")
    ] = False,
) -> None:
    """Check FILE, take it in as the next version of TASK's corpus, and enter its corpus and run
    into params.yaml.

    The run continues from the task's last one; a task's first run starts from `base` of
    params.yaml.

    Examples:

      python -m stages new typst formulas.jsonl --note "commutative diagrams"

      python -m stages new gec learners.tsv --malformed drop

      python -m stages new typst formulas.jsonl --base models/bases/smollm2 --preset pretrained

      python -m stages new typst exam.jsonl --test-only
    """
    params = load_params()
    if task not in params.tasks:
        entry(params.tasks, task, "tasks")
    kinds = {"corpus_only": corpus_only, "test_only": test_only, "valid_only": valid_only}
    kind = next((name for name, given in kinds.items() if given), "")
    wants = Wants(start, base, parent, preset or [])
    if sum(kinds.values()) > 1 or (kind and wants != Wants()):
        raise UserError(
            "new: --corpus-only, --test-only and --valid-only exclude each other, and --start, "
            "--base, --parent and --preset, which are of a run; give what you mean"
        )
    if sum(map(bool, (start, base, parent))) > 1:
        raise UserError("new: --start, --base and --parent say each where the run begins; give one")
    if not file.is_file():
        raise UserError(f"{file}: no such file; give the path of your corpus")
    corpus: dict[str, Any] = {"malformed": malformed.value} if malformed != Malformed.STOP else {}
    if max_drop_fraction is not None:
        corpus["max_drop_fraction"] = max_drop_fraction
    corpus |= {kind: True} if kind in ("test_only", "valid_only") else {}
    most = settings.Corpus(task=task, file=str(file), **corpus).max_drop_fraction
    report = check(task, file, malformed.value, most)

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
        # last: what it writes is valid
        origin = enter(version, {"task": task, "file": str(path)} | corpus, None if kind else wants)
        undo.pop_all()

    rows = f"{report.read - report.dropped.total():,} rows of {file} are now {path}"
    typer.echo(f"{version}: {rows}; " + (origin or "no run is entered") + ".")
    told = [pointer, path.with_name(".gitignore"), PARAMS, readme]
    names = shlex.join(str(name) for name in told if name.exists())
    if shrinking := shrinking_runs(params, task, file):
        runs = ", ".join(f"{run} ({count:,})" for run, count in shrinking.items())
        typer.echo(
            f"Note:  it holds out questions that stand in the training rows of {runs}; these rows "
            "leave them, so that these runs and their descendants train again"
        )
    typer.echo(f"Git:   git add {names}  (`dvc exp run --queue` takes only what git has)")
    typer.echo(f"Next:  {next_step(load_params(), version, kind)}")


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


@dataclass(frozen=True)
class Wants:
    """What the user says of the run: where it begins, and its presets."""

    start: bool = False
    base: str = ""
    parent: str = ""
    presets: list[str] = field(default_factory=list)


def descent(params: Params, task: str, wants: Wants) -> tuple[str, str]:
    """(base, parent) of the next run: the user's; else the task's last run, and where it has none,
    the base that params.yaml names for all tasks.
    """
    if wants.base:
        return (wants.base,) * 2
    own = [name for name, run in params.runs.items() if run.task == task]
    parent = wants.parent.removeprefix("models/")
    if parent and parent not in params.runs:
        return model_folders.origin(Path(wants.parent)), wants.parent
    if own and wants.start:
        return (params.runs[own[0]].base,) * 2
    if last := parent or (own[-1] if own else ""):
        grown_whole = params.resolve(last).method == "full"
        return f"models/{last}" if grown_whole else params.runs[last].base, f"models/{last}"
    if not params.base:
        raise UserError(
            f"{PARAMS}: no `base` for the first run of {task}; set it to a model's folder or its "
            "models/bases/NAME.json, or give --base"
        )
    return (params.base,) * 2


def next_step(params: Params, version: str, kind: str) -> str:
    """What the user most likely does now, which makes no more than was asked for."""
    task = params.corpora[version].task
    trained = {run for run in params.runs if Path("models", run, model_folders.LINEAGE).is_file()}
    others = [run for run, spec in params.runs.items() if spec.task == task and run != version]
    if kind == "corpus_only":
        return f"dvc repro prepare@{version}, then name it in a run: `mix: {{{version}: 0.5}}`"
    if kind == "valid_only":
        return f"dvc repro prepare@{version}, then name it in a run: `validation: {version}`"
    if kind == "test_only":
        return f"dvc repro compare@{task}" if others else "a run of this task, by `new`"
    first = [run for run in ancestors(params, version) if run not in trained]
    before = f"  (first trains {', '.join(first)}, which it stands on)" if first else ""
    compared = f" compare@{task}" if trained.issuperset(others) else ""
    return f"dvc repro evaluate@{version}{compared}{before}"


def ancestors(params: Params, run: str) -> list[str]:
    """The runs that a run stands on, the first one first."""
    spec, found = params.runs[run], list[str]()
    for path in (spec.base, spec.parent):
        if (name := path.removeprefix("models/")) in params.runs:
            found += [*ancestors(params, name), name]
    return list(dict.fromkeys(found))


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


def enter(version: str, corpus: dict[str, Any], wants: Wants | None) -> str:
    """The corpus and its run into params.yaml as it is now; comments and order stay. What is said
    of the run, "" where none is wanted.

    Raises UserError, and writes nothing, where the file would not be valid.
    """
    params, task = load_params(), corpus["task"]
    if free_number(params, task) > int(version[-3:]):
        raise UserError(f"{PARAMS}: {version} was entered meanwhile; run `new` again")
    if not wants:
        with edited_params() as document:
            append(document["corpora"], version, corpus)
        return ""
    base, parent = descent(params, task, wants)
    run: dict[str, Any] = {"task": task, "corpus": version, "base": base, "parent": parent}
    if wants.presets:
        run["preset"] = wants.presets[0] if len(wants.presets) == 1 else wants.presets
    for preset in wants.presets:
        entry(params.presets, preset, "presets")
    settled = params.options(wants.presets, params.tasks[task])
    if settled.method != "full":  # repeated for `dvc exp run -S`, which changes only what is there
        run["lora"] = {"r": settled.lora.r}
    with edited_params() as document:
        append(document["corpora"], version, corpus)
        append(document["runs"], version, run)
        if task not in params.compare:
            document["compare"].append(task)
    return f"the run {'starts' if parent == base else 'continues'} from {parent}"


def append(entries: CommentedMap, key: str, value: dict[str, Any]) -> None:
    """One more entry on a line of its own, as its neighbours are written."""
    entries.fa.set_block_style()  # `{}` before its first entry
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
