"""typst: an answer is right when it renders like the reference, however it is written.

Two spellings of one formula (`frac(a, b)` and `a/b`, `alpha` and `α`) give the same picture; a source that does not
compile gives none. Sources are compiled by stages.scoring.render, as formulas or as documents.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np
from sacrebleu.metrics import CHRF

from stages.records import Prediction, Row, target
from stages.scoring.render import BLANK, Mode, Renderer
from stages.tasks.typst.corpus import is_document

STATISTICS = ("rows", "alike", "compiled", "exact", "references_compiled")
PANDOC_SECONDS = 10.0


def statistics(rows: list[Row], answers: list[Prediction]) -> np.ndarray:
    """(N, 5) of 0 and 1: a row; renders like the reference; compiles; same text; the reference compiles."""
    return _compared(rows, [answer.answer for answer in answers])


def headline(totals: np.ndarray) -> np.ndarray:
    """(..., 5) sums -> (...) share of the rows that render like their reference; 0 where there are no rows."""
    return _share(totals, "alike")


def details(rows: list[Row], answers: list[Prediction]) -> dict[str, float]:
    """Shares of the rows, and chrF; pandoc's own score on the same rows where pandoc is on the machine."""
    texts = [answer.answer for answer in answers]
    totals = _compared(rows, texts).sum(axis=0)
    # chrF of Popović 2015 as in sacrebleu: character 1- to 6-grams, beta 2, white space left out.
    chrf = CHRF().corpus_score(texts, [[target(row) for row in rows]]).score / 100 if rows else 0.0
    measures = {
        "compile_rate": float(_share(totals, "compiled")),
        "exact_match": float(_share(totals, "exact")),
        "chrf": chrf,
        "reference_compile_rate": float(_share(totals, "references_compiled")),
    }
    if pandoc := shutil.which("pandoc"):
        converted = _compared(rows, [_by_pandoc(pandoc, row) for row in rows]).sum(axis=0)
        measures["pandoc_render_equal"] = float(_share(converted, "alike"))
    return measures


def baseline(train: Path, rows: list[Row], base: Path) -> list[Prediction]:
    """The input passed through: LaTeX that happens to be Typst too."""
    return [Prediction(row["id"], "", row["source"], 0.0, 0) for row in rows]


def mode(row: Row) -> Mode:
    """A document's source or a reference in dollar signs is compiled as markup, others as the inside of a formula."""
    return (
        "document" if is_document(row["source"]) or target(row).lstrip().startswith("$") else "math"
    )


def _compared(rows: list[Row], texts: list[str]) -> np.ndarray:
    found = np.zeros((len(rows), len(STATISTICS)))
    modes = [mode(row) for row in rows]
    with Renderer() as renderer:
        for each in sorted(
            set(modes)
        ):  # one request for each mode: a request keeps the worker busy without pauses
            places = [place for place, other in enumerate(modes) if other == each]
            references = [target(rows[place]) for place in places]
            given = [texts[place] for place in places]
            pictures = zip(
                renderer.render(given, each), renderer.render(references, each), strict=True
            )
            for place, text, reference, (shown, wanted) in zip(
                places, given, references, pictures, strict=True
            ):
                same_text = _squeezed(text) == _squeezed(reference)
                # Nothing looks like nothing: an answer without a mark is right only where it is the reference itself.
                alike = shown is not None and shown == wanted and (shown != BLANK or same_text)
                found[place] = (1, alike, shown is not None, same_text, wanted is not None)
    return found


def _share(totals: np.ndarray, name: str) -> np.ndarray:
    rows, count = totals[..., 0], totals[..., STATISTICS.index(name)]
    share: np.ndarray = np.divide(count, rows, out=np.zeros_like(rows), where=rows > 0)
    return share


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _by_pandoc(pandoc: str, row: Row) -> str:
    """The row's LaTeX as pandoc converts it, without the dollar signs around a formula; "" where it gives up."""
    formula = mode(row) == "math"
    source = f"$${row['source']}$$" if formula else row["source"]
    command = [pandoc, "--sandbox", "--from=latex", "--to=typst", "--wrap=none"]
    try:
        done = subprocess.run(
            command,
            input=source,
            capture_output=True,
            text=True,
            timeout=PANDOC_SECONDS,
            check=True,
        )
    except subprocess.SubprocessError:
        return ""
    return done.stdout.strip().strip("$").strip() if formula else done.stdout.strip()
