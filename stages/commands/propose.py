"""propose: inputs without an answer become training rows: candidates are made of each, and one that
is found right is kept.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import numpy as np
import typer

from stages import imports, tasks
from stages.backends.shared import checkpoints
from stages.backends.shared.beam_search import Candidates
from stages.backends.shared.fingerprint import fingerprint
from stages.commands import own_files
from stages.corpus.duplicates import isin_sorted
from stages.corpus.split import normalise
from stages.errors import UserError
from stages.files import as_line, digest, read_lines, require_writable, write_lines
from stages.layers import Params
from stages.params import entry, load_params
from stages.progress_lines import duration, write
from stages.records import RowFile
from stages.serving.runs import TrainedRun, trained_run
from stages.tasks import Proposal, Proposals

AT_ONCE = 500
"""Inputs that are looked at together and then kept: a minute's work or two. Their pictures take
fifty megabytes."""

SUFFIX = ".jsonl"

Answers = Callable[[Sequence[str]], Sequence[Candidates]]
"""Inputs -> of each what a run answers."""


def propose(
    task: Annotated[str, typer.Argument(help="a task of params.yaml that has proposals: typst")],
    files: Annotated[
        list[Path],
        typer.Argument(help=".txt, an input a line; .jsonl; or, of typst, .tex documents"),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="a new .jsonl file for the rows")],
    rejected: Annotated[
        Path | None,
        typer.Option(help="a new .jsonl file of all other inputs: the reason, and what was tried"),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(help="a trained run that answers too; may be given several times"),
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="different answers of each run, the likeliest ones")
    ] = 4,
    seed: Annotated[int, typer.Option(help="of which --rows are taken")] = 0,
    rows: Annotated[
        int | None, typer.Option(min=1, help="look at so many of the inputs that are fit")
    ] = None,
    without_pictures: Annotated[
        bool,
        typer.Option(
            "--without-pictures", help="keep what two agree on, where LaTeX is not installed"
        ),
    ] = False,
    benchmark_too: Annotated[
        bool,
        typer.Option("--benchmark-too", help="take inputs too that the benchmark keeps for itself"),
    ] = False,
) -> None:
    """Make training rows from inputs that have no answer: LaTeX formulas without their Typst.

    Of each formula the task's converters, and runs where some are named, make candidates. Those
    that do not compile are dropped. The one whose picture is most like the picture that LaTeX draws
    of the formula becomes a row, if it is like it at all. Inputs that a corpus version holds out or
    has already are left out, and those of the benchmark's half.

    Examples:

      python -m stages propose typst formulas.txt -o rows.jsonl --rejected rejected.jsonl

      python -m stages propose typst paper.tex --run typst-003 -o rows.jsonl

      python -m stages new typst rows.jsonl --note "formulas of our papers"
    """
    params = load_params()
    if task not in params.tasks:
        entry(params.tasks, task, "tasks")
    module = tasks.proposals(task)
    if module is None:
        able = [name for name in tasks.names() if tasks.proposals(name)]
        raise UserError(
            f"{task}: nothing tells a right answer of it without a reference, so that no rows can "
            f"be proposed; of {', '.join(able)} they can"
        )
    for option, path in (("--output", output), ("--rejected", rejected)):
        if path:
            _require_new(option, path)
    module.require_judge(not without_pictures)
    named = [trained_run(params, name) for name in dict.fromkeys(run or [])]
    if others := [each for each in named if each.task != task]:
        raise UserError(f"{others[0].name}: a run of {others[0].task}; name one of {task}")
    given = [text for file in files for text in module.inputs(file)]
    refused = [*_refused(params, task, module, given, benchmark_too)]
    waiting = [text for text, why in zip(given, refused, strict=True) if not why]
    waiting = _chosen(waiting, rows, seed)
    if not waiting:
        why = _counted(Counter(refused))
        raise UserError(f"none of the {len(given):,} inputs can become a row: {why}")

    by_pictures = not without_pictures
    weights = [fingerprint(each.folder, Path(each.base)) for each in named]
    folder = _kept_in(task, f"{weights} {candidates} {by_pictures}", waiting)
    models = {each.name: _model(each, candidates) for each in named}
    proposals = _proposed(module, waiting, models, by_pictures, folder)
    made = [each for each in proposals if not each.refused]
    unmade = [(text, each) for text, each in zip(waiting, proposals, strict=True) if each.refused]
    if rejected:
        with own_files.written(rejected) as file:
            for text, why in zip(given, refused, strict=True):
                file.write(as_line({"input": text, "reason": why}) if why else "")
            for text, each in unmade:
                file.write(as_line({"input": text, "reason": each.refused, "tried": each.tried}))
    reasons = Counter(filter(None, refused)) + Counter(each.refused for _, each in unmade)
    if not made:
        raise UserError(f"no row of the {len(given):,} inputs: {_counted(reasons)}")
    with own_files.written(output) as file:
        file.writelines(as_line(each.record) for each in made)
    shutil.rmtree(folder)
    typer.echo(f"{output}: {len(made):,} rows of {len(given):,} inputs")
    typer.echo(f"Made by:  {_counted(Counter(maker for each in made for maker in each.makers))}")
    if reasons:
        typer.echo(f"Refused:  {_counted(reasons)}")
    if beyond := refused.count("") - len(waiting):
        typer.echo(f"Left:  {beyond:,} beyond --rows")
    typer.echo(f"Next:  python -m stages new {task} {output}")


def _kept_in(task: str, asked: str, waiting: Sequence[str]) -> Path:
    """Where a call that is stopped leaves what it has done, for the same call by the same code."""
    files = imports.closure(f"stages.tasks.{task}.proposals")
    code = f"{sorted(imports.code(files).items())} {sorted(imports.packages(files).items())}"
    return checkpoints.root() / "proposals" / f"{digest(code, asked, *waiting):016x}"


def _proposed(
    module: Proposals,
    waiting: Sequence[str],
    models: Mapping[str, Answers],
    by_pictures: bool,
    folder: Path,
) -> list[Proposal]:
    """What becomes of each input; where there are many, how far it is and when it will end.

    folder: where it is kept, part by part.
    """
    proposals = list[Proposal]()
    begun, before = monotonic(), 0
    for first in range(0, len(waiting), AT_ONCE):
        part = waiting[first : first + AT_ONCE]
        if (kept := folder / f"{first}.jsonl").is_file():
            proposals += [Proposal(**json.loads(line)) for _, line in read_lines(kept)]
            before = len(proposals)
            continue
        answers = {name: answer(part) for name, answer in models.items()}
        of_each = [{name: texts[at] for name, texts in answers.items()} for at in range(len(part))]
        found = module.proposed(part, of_each, by_pictures)
        write_lines(kept, found)
        proposals += found
        if left := len(waiting) - len(proposals):
            rows = sum(not each.refused for each in proposals)
            seconds = (monotonic() - begun) / (len(proposals) - before) * left
            write(
                f"proposing: {len(proposals):,} of {len(waiting):,} inputs, {rows:,} rows, about "
                f"{duration(seconds)} left"
            )
    return proposals


def _require_new(option: str, path: Path) -> None:
    if path.suffix != SUFFIX:
        raise UserError(f"{option} {path}: is written as JSON lines; name a file in {SUFFIX}")
    if path.exists():
        raise UserError(f"{option} {path}: is there already; name a new file, or remove it")
    require_writable(path.parent)


def _refused(
    params: Params, task: str, module: Proposals, given: Sequence[str], benchmark_too: bool
) -> Iterator[str]:
    """Why an input is not looked at, for each; "" where it is.

    White space does not count: an input that a corpus has with other spaces is the same one.
    """
    marks = [digest(normalise(text)) for text in given]
    held_out = isin_sorted(marks, _known(params, task, ["test"]))
    known = isin_sorted(marks, _known(params, task, ["train", "valid"]))
    seen = set[int]()
    for at, (text, mark) in enumerate(zip(given, marks, strict=True)):
        if held_out[at]:
            yield "held out by a corpus version"
        elif known[at]:
            yield "in a corpus version already"
        elif mark in seen:
            yield "given before"
        else:
            yield module.unfit(text, benchmark_too)
        seen.add(mark)


def _known(params: Params, task: str, parts: Iterable[str]) -> Any:
    """The sorted hashes of what the rows of all corpus versions ask. Raises UserError where one is
    not prepared.
    """
    files = [
        Path("data/prepared", task, part, f"{name}.jsonl")
        for name, corpus in params.corpora.items()
        if corpus.task == task
        for part in parts
    ]
    for file in files:
        if not file.is_file():
            raise UserError(
                f"{file}: not there, so that nobody knows what it holds out; run `dvc repro "
                f"prepare@{file.stem}`"
            )
    sources = (row["source"] for file in files for row in RowFile(file))
    return np.unique(np.fromiter((digest(normalise(each)) for each in sources), np.uint64))


def _chosen(waiting: list[str], rows: int | None, seed: int) -> list[str]:
    """So many of them in their order, chosen by a hash: an input's place among the others does not
    matter.
    """
    if rows is None or rows >= len(waiting):
        return waiting
    chosen = {*sorted(waiting, key=lambda text: digest(f"{seed}", text))[:rows]}
    return [text for text in waiting if text in chosen]


def _model(run: TrainedRun, candidates: int) -> Answers:
    answerer = run.load()
    return lambda texts: answerer.candidates([run.question(text) for text in texts], candidates)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.most_common())
