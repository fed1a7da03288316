"""new: a file becomes the next version of a task's corpus, with a run that continues from the
version before.
"""

import fcntl
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml.comments import CommentedMap

from stages import entries, tasks
from stages.commands import begun
from stages.commands.edited_params import edited_params
from stages.commands.named_artifacts import GRAPH, name_artifact
from stages.commands.next_run import Wants, descent, next_step
from stages.commands.read_corpus import (
    named_columns,
    read_corpus,
    same_content,
    shrinking_runs,
)
from stages.commands.version_number import free_number, next_version
from stages.commands.version_table import list_version, row_of
from stages.corpus import source_files
from stages.errors import UserError
from stages.files import PARTIAL, require_writable
from stages.params import PARAMS, entry, load_params

LOCK, WAIT_SECONDS = Path(".scratch/new.lock"), 30


CROWD_ROWS, CROWD_SHARES = 20, 3  # from which on it is told that a part has more than its share
PARTS_BY_NAME = {"training": "train", "validation": "valid", "test": "test"}


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
        entries.Malformed, typer.Option(help="what an unreadable line does")
    ] = "stop",
    max_drop_fraction: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="share of the rows that cleaning may drop"),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=KEY",
            help="a column of the file and the key that it is; can be repeated",
        ),
    ] = None,
    unknown_keys: Annotated[
        entries.UnknownKeys,
        typer.Option(help="what a key of the records does that nothing has a use for"),
    ] = "tell",
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

      python -m stages new polish faq.csv --columns question=instruction --columns answer=output
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
        what = "a folder" if file.is_dir() else "no such file"
        raise UserError(f"{file}: {what}; give the path of your corpus")
    corpus: dict[str, Any] = {"malformed": malformed} if malformed != "stop" else {}
    if max_drop_fraction is not None:
        corpus["max_drop_fraction"] = max_drop_fraction
    if columns:
        corpus["columns"] = named_columns(columns)
    if unknown_keys != "tell":
        corpus["unknown_keys"] = unknown_keys
    corpus |= {kind: True} if kind in ("test_only", "valid_only") else {}
    found = read_corpus(params, entries.Corpus(task=task, file=str(file), **corpus))
    report, checker = found.report, tasks.references(task)
    unscorable = checker.told(found.references) if checker else ""

    with alone():
        begun.end_killed(load_params())
        version, path = next_version(load_params(), task, source_files.suffixes_of(file))
        pointer, readme = begun.pointer_of(path), path.with_name("README.md")
        row = row_of(version, path, report, note)
        begun.note(file, path, row)
        try:
            copy(file, path)
            keep(path)
            list_version(readme, row)
            # last: what it writes is valid
            corpus = {"task": task, "file": str(path)} | corpus
            origin = enter(version, corpus, None if kind else wants)
        except BaseException:
            begun.take_back()
            raise
        if origin:
            name_artifact(task, version)
        begun.NOTE.unlink()

    rows = f"{report.read - report.dropped.total():,} rows of {file} are now {path}"
    typer.echo(f"{version}: {rows}; " + (origin or "no run is entered") + ".")
    forms = ", ".join(f"{form} ({count:,})" for form, count in report.forms.most_common())
    typer.echo(f"Read:  as {forms}")
    if report.dropped:
        typer.echo(f"Note:  dropped of its {report.read:,} rows: {report.reasons()}")
    if report.unused:
        typer.echo(f"Note:  {report.not_used()}; --unknown-keys stop refuses such a file")
    if unscorable:
        typer.echo(f"Note:  {unscorable}")
    absent = [name for name, part in PARTS_BY_NAME.items() if not found.parts[part]]
    if origin and absent:
        least = math.ceil(3 / min(params.split.valid, params.split.test))  # 95 % have one then
        typer.echo(
            f"Note:  no row of it is for {' and '.join(absent)}, without which no run can be "
            f"trained and scored; {least} rows or more most likely have some, if they do not all "
            "ask the same"
        )
    shares = {"validation": params.split.valid, "test": params.split.test}
    for name, share in shares.items() if origin else ():
        count, of = found.parts[PARTS_BY_NAME[name]], found.parts.total()
        if count >= CROWD_ROWS and count > CROWD_SHARES * share * of:
            typer.echo(
                f"Note:  {count:,} of its {of:,} rows ({count / of:.0%}) are for {name}, whose "
                f"share is {share:.0%}: rows on the same text stay in one part "
                f"(data/{task}/README.md), and many seem to have the same"
            )
    if twins := same_content(params, pointer):
        typer.echo(f"Note:  the same content as {', '.join(twins)}; was {file} given by mistake?")
    told = [pointer, path.with_name(".gitignore"), PARAMS, *([GRAPH] if origin else []), readme]
    names = shlex.join(str(name) for name in told if name.exists())
    if shrinking := shrinking_runs(params, task, found.tests):
        runs = ", ".join(f"{run} ({count:,})" for run, count in shrinking.items())
        typer.echo(
            f"Note:  it holds out questions that stand in the training rows of {runs}; these rows "
            "leave them, so that these runs and their descendants train again"
        )
    typer.echo(f"Git:   git add {names}  (`dvc exp run --queue` takes only what git has)")
    typer.echo(f"Next:  {next_step(load_params(), version, kind)}")


@contextmanager
def alone() -> Iterator[None]:
    """While no other `new` chooses a number or writes, nor a `dvc add` that outlives one. Raises
    UserError where another one does not end.
    """
    require_writable(LOCK.parent)
    with LOCK.open("a") as lock:
        os.set_inheritable(lock.fileno(), True)
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
            close_fds=False,  # it holds the lock of `alone` too
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
