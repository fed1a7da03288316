"""apply: trained runs on one's own text: a sentence, files of lines, standard input, or a
document. Without any, on a terminal, a prompt.
"""

import json
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from stages import settings, tasks
from stages.commands import documents, own_files, prompt
from stages.errors import UserError
from stages.params import load_params
from stages.serving.runs import TrainedRun, overridden, trained_run

Parts = Sequence[tuple[str, bool]]
"""All that is written, in order: (text, whether a model is asked for its answer; else it is written
as it is).
"""

LINE_BREAK = re.compile(r"\s*[\r\n]\s*")


def apply(
    runs: Annotated[
        str,
        typer.Argument(
            help="a trained run of params.yaml, or several of one task with commas between them"
        ),
    ],
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="UTF-8 files, an input a line; or one .tex, .latex or .ltx document"),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", "--prompt", help="an input; may be given several times"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="a file, or a folder for RUN.typ, RUN.txt; else the screen"
        ),
    ] = None,
    no_chunking: Annotated[
        bool, typer.Option("--no-chunking", help="each file whole, as one input")
    ] = False,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            help="of an answer. This and the next three are the run's own where they are not given"
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 takes the likeliest token; above 0 samples")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="share of the probability that is sampled from")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(max=2**63 - 1, help="of sampling: the same seed gives the same text"),
    ] = None,
    by: Annotated[
        documents.By | None,
        typer.Option(help="who converts a document's formulas; all where it is not given"),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="an HTML file: a document's LaTeX beside what was made of it"),
    ] = None,
) -> None:
    """Answer one's own text with trained runs, in the order of the input. `-` as a file is standard
    input. Without an input, on a terminal, texts are asked for and answered one after another.

    A file of answers has a line for each input, in which an answer of several lines is one; a file
    that ends in .jsonl has objects with "input" and "answer" as it is.

    Examples:

      python -m stages apply gec-002 --text "私は本が読みます。"

      python -m stages apply gec-002

      python -m stages apply typst-003 formulas.txt -o formulas.typ

    A whole document, which compiles (docs/documents.md), two runs side by side, and sampling:

      python -m stages apply typst-003 paper.tex -o paper.typ --report paper.html

      python -m stages apply typst-002,typst-003 formulas.txt -o out

      python -m stages apply lm-001 --prompt "In the morning, the" --temperature 0.8 --top-p 0.9
      --seed 1 --max-new-tokens 20

    The score of each step of a solution:

      python -m stages apply reward-002 --text '{"problem": "Compute 4 + 5 - 3.", "steps": ["4 + 5 =
      9.", "9 - 3 = 7."]}'
    """
    params = load_params()

    def find(name: str) -> TrainedRun:
        run = trained_run(params, name)
        return replace(
            run, settings=_overridden(run.settings, seed, max_new_tokens, temperature, top_p)
        )

    chosen = [find(name) for name in dict.fromkeys(runs.split(","))]
    prompt.require_one_task(chosen)
    texts, files = text or [], files or []
    for each in texts:
        prompt.require_text("--text", each)
    if not (texts or files or output) and sys.stdin.isatty() and sys.stdout.isatty():
        return prompt.answer_lines(chosen, find)
    task = chosen[0].task
    document = tasks.document(task)
    papers = [file for file in files if document and file.suffix.lower() in document.READS]
    if papers and not no_chunking and (len(files) > 1 or texts):
        raise UserError(
            f"{task}: a {papers[0].suffix} document is converted alone; call apply once for each"
        )
    if document and papers and not no_chunking:
        return _convert(document, papers[0], chosen, output, by or documents.By.all, report)
    if by or report:
        raise UserError(
            f"{'--by' if by else '--report'}: of documents alone, such as paper.tex; leave it out"
        )
    parts = _lines(texts, files, no_chunking)
    inputs = [part for part, asked in parts if asked]
    paths = _paths(output, [run.name for run in chosen], document.WRITES if document else ".txt")

    answers = {run.name: _answered(run, inputs) for run in chosen}
    if not paths and len(chosen) > 1:
        Console().print(prompt.side_by_side(inputs, answers))
        return
    keeps_breaks = no_chunking or any(path.suffix == ".jsonl" for path in paths.values())
    shown = answers if keeps_breaks or len(inputs) == 1 else _on_one_line(answers)
    if not paths:
        sys.stdout.write(_joined(parts, *shown.values()))
    for name, path in paths.items():
        _write(path, parts, inputs, shown[name])


def _on_one_line(answers: dict[str, list[str]]) -> dict[str, list[str]]:
    """The answers to several lines, without line breaks, which would end an answer."""
    several = sum(
        LINE_BREAK.search(answer) is not None for each in answers.values() for answer in each
    )
    if several:
        typer.echo(
            f"answers of several lines, which are on one here, as each input has one: {several:,}; "
            "-o FILE.jsonl keeps their line breaks",
            err=True,
        )
    return {
        name: [LINE_BREAK.sub(" ", answer.strip("\r\n")) for answer in each]
        for name, each in answers.items()
    }


def _overridden(
    own: settings.Answering,
    seed: int | None,
    max_new_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
) -> settings.Answering:
    """The run's own way to answer with what the call gives, within the bounds of params.yaml."""
    try:
        return overridden(
            own, seed, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p
        )
    except ValidationError as error:
        fault = error.errors()[0]
        option, why = str(fault["loc"][-1]).replace("_", "-"), fault["msg"].lower()
        raise UserError(f"--{option}: {why}, not {fault['input']!r}; correct the value") from None


def _convert(
    document: tasks.Document,
    file: Path,
    runs: list[TrainedRun],
    output: Path | None,
    by: documents.By,
    report: Path | None,
) -> None:
    """A document by each run."""
    if len(runs) > 1 and (report or not output):
        raise UserError(
            "a document by several runs is written into a folder, without --report: name the "
            "folder with -o, or one run"
        )
    paths = _paths(output, [run.name for run in runs], document.WRITES)
    if report:
        _paths(report, [runs[0].name], ".html")
    for run in runs:
        path = paths.get(run.name)
        beside = path if path and str(path) != "-" and own_files.is_replaceable(path) else file
        made = documents.converted(document, file, beside.parent, run, by)
        if path and path.suffix == ".jsonl":
            _write(
                path,
                [],
                [given for given, _ in made.answers],
                [answer for _, answer in made.answers],
            )
        elif path:
            with own_files.written(path) as written:
                written.write(made.text)
        else:
            sys.stdout.write(made.text)
        if report:
            documents.write_report(report, made)


def _lines(texts: list[str], files: list[Path], no_chunking: bool) -> Parts:
    """Each text and each line (or whole file) as an input, and a line break after its answer."""
    inputs = list(texts)
    for file in files:
        given = _text(file)
        found = [given] if no_chunking else [line.rstrip("\r") for line in given.split("\n")]
        if not given.strip():
            raise UserError(f"{file}: empty; write an input a line, or name another file")
        inputs += [line for line in found if line.strip()]
    if not inputs:
        raise UserError("nothing to answer: give FILEs, `-` for standard input, or --text")
    return [part for given in inputs for part in ((given, True), ("\n", False))]


def _text(file: Path) -> str:
    """All of it, line ends as they are, without a byte-order mark."""
    if str(file) != "-" and not file.is_file():
        raise UserError(f"{file}: no such file; correct its name, or give `-` for standard input")
    raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + raw.count(b"\n", 0, error.start)
        raise UserError(
            f"{file} line {line}: not UTF-8; convert the file, for example `iconv -f CP932 -t "
            f"UTF-8`"
        ) from None


def _paths(output: Path | None, runs: list[str], suffix: str) -> dict[str, Path]:
    """Where each run's answers go; that they can be written is found out before a model is
    loaded.
    """
    if output is None:
        return {}
    if len(runs) > 1 and output.suffix and not output.is_dir():
        raise UserError(
            f"-o {output}: several runs write into a folder, RUN{suffix} each; name one without "
            f"{output.suffix}"
        )
    into = len(runs) > 1 or output.is_dir()
    paths = {run: output / f"{run}{suffix}" if into else output for run in runs}
    if not own_files.is_replaceable(paths[runs[0]]):
        return paths
    try:
        paths[runs[0]].parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=paths[runs[0]].parent):
            return paths
    except OSError as error:
        raise UserError(
            f"-o {output}: cannot be written there ({error.strerror}); name another place"
        ) from None


def _answered(run: TrainedRun, inputs: list[str]) -> list[str]:
    answerer = run.load()
    return answerer.respond([run.question(text) for text in inputs])


def _write(path: Path, parts: Parts, inputs: list[str], answers: list[str]) -> None:
    records = (
        json.dumps({"input": given, "answer": answer}, ensure_ascii=False) + "\n"
        for given, answer in zip(inputs, answers, strict=True)
    )
    with own_files.written(path) as file:
        file.writelines(records if path.suffix == ".jsonl" else [_joined(parts, answers)])


def _joined(parts: Parts, answers: list[str]) -> str:
    following = iter(answers)
    return "".join(next(following) if asked else part for part, asked in parts)
