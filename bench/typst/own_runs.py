"""Runs of one's own, asked by the command that their users have."""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from bench.typst.peers import Answer
from stages.latex import template
from stages.tasks.typst.corpus import is_document

Ask = Callable[[list[str]], Iterable[Answer]]

SEPARATOR = "rownumber{}ends"
DOCUMENT = "\\documentclass{article}\n\\usepackage{amsmath,amssymb}\n\\begin{document}\n%s\n\\end{document}\n"


WAYS = {"the whole converter": "all", "its rules alone": "rules", "its model alone": "model"}
"""What `apply --by` is asked for, by its name in the tables."""

AT_ONCE = 400
"""Formulas of a call: a call begins with loading the model."""


def ways(runs: list[str], converters: list[str], bys: list[str] | None = None) -> dict[str, Ask]:
    """By name how each is asked: runs for each formula as a line, converters for all of them as one
    document.   bys: those of WAYS that are asked; all of them without.
    """
    asks: dict[str, Ask] = {run: partial(lines, run) for run in runs}
    return asks | {
        f"{run}, {name}": partial(document, run, by)
        for run in converters
        for name, by in WAYS.items()
        if by in (bys or WAYS.values())
    }


def stamp() -> str:
    """What changes with each training, and with the converter's code, so that no older answers are
    taken for those of now.
    """
    paths = [*Path("models").glob("*/lineage.json"), *Path("stages/latex").glob("*.*")]
    content = b"".join(path.read_bytes() for path in sorted(paths))
    return hashlib.blake2b(content, digest_size=4).hexdigest()


def lines(run: str, formulas: list[str]) -> list[Answer]:
    asked = [" ".join(formula.split()) for formula in formulas]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "formulas.txt"), Path(folder, "answers.jsonl")
        given.write_text("\n".join(asked) + "\n", encoding="utf-8")
        seconds = _apply(run, given, made) / len(formulas)
        answers = [json.loads(line)["answer"] for line in made.read_text("utf-8").splitlines()]
    return [Answer(answer, seconds) for answer in answers]


def document(run: str, by: str, formulas: list[str]) -> list[Answer]:
    """Each formula as a displayed one of a document, whose Typst is cut at the paragraphs between."""
    parts = [
        f"{formula if is_document(formula) else displayed(formula)}\n\n{SEPARATOR.format(place)}"
        for place, formula in enumerate(formulas)
    ]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "paper.tex"), Path(folder, "paper.typ")
        given.write_text(DOCUMENT % "\n\n".join(["begin", SEPARATOR.format("s"), *parts]), "utf-8")
        seconds = _apply(run, given, made, "--by", by) / len(formulas)
        text = made.read_text("utf-8")
    return [cut(text, place, seconds) for place in range(len(formulas))]


def displayed(formula: str) -> str:
    """On lines of its own, as it may end in a comment; without blank ones, at which LaTeX ends it."""
    lines = [line for line in formula.split("\n") if line.strip()]
    return "\n".join(["\\[", *lines, "\\]"])


def paper(run: str, by: str, document: Path) -> Answer:
    """A whole document, written beside its pictures, which it may show there alone."""
    made = document.with_name(f"{document.stem}-converted.typ")
    try:
        seconds = _apply(run, document, made, "--by", by)
        return Answer(made.read_text("utf-8"), seconds)
    finally:
        made.unlink(missing_ok=True)


def cut(text: str, place: int, seconds: float) -> Answer:
    """What stands for a formula in the document's Typst, with the helpers that it calls."""
    before = SEPARATOR.format(place - 1 if place else "s")
    found = re.search(rf"{before}(.*?){SEPARATOR.format(place)}", text, re.DOTALL)
    if not found:
        return Answer(None, seconds)
    part = found[1].strip()
    formula = re.fullmatch(r"\$([^$]*)\$|#unnumbered\[\$([^$]*)\$\]", part)
    if formula:
        return Answer((formula[1] or formula[2] or "").strip(), seconds, "math")
    return Answer(f"{template.alone(part)}\n\n{part}".strip(), seconds, "document")


def _apply(run: str, given: Path, made: Path, *more: str) -> float:
    """The seconds that it took. Ends with what it says where it fails."""
    command = [sys.executable, "-m", "stages", "apply", run, str(given), "-o", str(made), *more]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return time.perf_counter() - begin
