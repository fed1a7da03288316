"""new: a file becomes the next version of a task's corpus, with a run that continues from the version before."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from stages import settings, tasks
from stages.corpus import clean
from stages.errors import UserError
from stages.files import atomic_write
from stages.params import Params, entry, load_params

PARAMS = Path("params.yaml")


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
    """Check FILE, take it in as the next version of TASK's corpus, and enter its corpus and run into params.yaml.

    Examples:

      python -m stages new typst formulas.jsonl --note "commutative diagrams"

      python -m stages new gec learners.tsv --malformed drop
    """
    params = load_params()
    if task not in params.tasks:
        entry(params.tasks, task, "tasks")
    report = check(task, file, malformed)

    version = f"{task}-{free_number(params, task):03d}"
    path = Path("data", task, f"train_{version[-3:]}{file.suffix}")
    if path.exists():
        raise UserError(
            f"{path} is there already, but no corpus in params.yaml names it; enter it by hand, or move it away"
        )
    base, parent = descent(params, task, start)

    path.parent.mkdir(parents=True, exist_ok=True)
    before = PARAMS.read_text(encoding="utf-8")
    shutil.copyfile(file, path)
    try:
        subprocess.run([sys.executable, "-m", "dvc", "add", "--quiet", str(path)], check=True)
        enter(version, task, path, base, parent, malformed)
        list_version(task, version, path, report, note)
    except BaseException:
        for left in (path, path.with_name(path.name + ".dvc")):
            left.unlink(missing_ok=True)
        with atomic_write(PARAMS) as params_file:
            params_file.write(before)
        raise

    typer.echo(
        f"{version}: {report.read - report.dropped.total():,} rows of {file} are now {path}; the run continues from {parent}."
    )
    typer.echo(f"Next:  dvc repro evaluate@{version} compare@{task}")


def free_number(params: Params, task: str) -> int:
    """The next one that is free for a corpus, its run and its file, whichever task an entry of that name or file is of."""
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


def check(task: str, file: Path, malformed: str) -> clean.Report:
    """Read the whole file as `prepare` will, before anything is written; raises UserError as it would."""
    reader = tasks.corpus(task)
    report = clean.Report(file)
    for _ in clean.deduplicate(clean.readable(reader.read(file), report), report):
        pass
    report.judge(malformed, settings.Corpus(task=task, file=str(file)).max_drop_fraction)
    return report


def descent(params: Params, task: str, start: bool) -> tuple[str, str]:
    """(base, parent) of the next run: the task's last run; where it has none, the base that the other tasks use."""
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
            f"{PARAMS}: no base for the first run of {task}; add one under `bases`, or enter the run by hand"
        )
    return pretrained[0], pretrained[0]


def enter(version: str, task: str, path: Path, base: str, parent: str, malformed: str) -> None:
    """The corpus and its run into params.yaml; comments and order stay."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 200, True
    document = yaml.load(PARAMS.read_text(encoding="utf-8"))
    corpus = {"task": task, "file": str(path)} | (
        {"malformed": malformed} if malformed != "stop" else {}
    )
    append(document["corpora"], version, corpus)
    append(
        document["runs"], version, {"task": task, "corpus": version, "base": base, "parent": parent}
    )
    with atomic_write(PARAMS) as file:
        yaml.dump(document, file)
    load_params()


def append(entries: CommentedMap, key: str, value: dict[str, Any]) -> None:
    """One more entry on a line of its own, as its neighbours are written."""
    line = CommentedMap(value)
    line.fa.set_flow_style()
    entries[key] = line


def list_version(task: str, version: str, path: Path, report: clean.Report, note: str) -> None:
    """A row in the task's table of versions."""
    readme = path.with_name("README.md")
    text = (
        readme.read_text(encoding="utf-8")
        if readme.exists()
        else f"# {task}\n\n## Versions\n\n| version | file | rows | what is new |\n|---|---|---|---|\n"
    )
    said = " ".join(note.split()).replace("|", "\\|") or "–"  # what would end the cell, or the row
    row = f"| {version} | {path.name} | {report.read - report.dropped.total():,} | {said} |\n"
    with atomic_write(readme) as file:
        file.write(text.rstrip("\n") + "\n" + row)
