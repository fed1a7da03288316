"""typst: an answer is right if it renders like the reference, however it is written.

Two ways to write one formula (`frac(a, b)` and `a/b`, `alpha` and `α`) give the same picture; a
source that does not compile gives none. stages.scoring.render compiles the sources, as formulas or
documents.
"""

from pathlib import Path

import numpy as np
from sacrebleu.metrics import CHRF

from stages.records import Prediction, Row, target
from stages.scoring.render import Known, Renderer
from stages.scoring.render_worker import BLANK, Mode
from stages.tasks.typst.corpus import is_document

KNOWN: Known = {}
"""What this process has compiled: the statistics, the details and the baseline of a run ask for the
same references, and the first two for the same answers."""

STATISTICS = ("rows", "alike", "compiled", "exact", "references_compiled")


def statistics(rows: list[Row], answers: list[Prediction]) -> np.ndarray:
    """(N, 5), each 0 or 1.

    1 to count the row; whether the answer renders like the reference, compiles, and is the same
    text; whether the reference compiles.
    """
    return _compared(rows, [answer.answer for answer in answers])


def headline(totals: np.ndarray) -> np.ndarray:
    """(..., 5) sums -> (...) share of rows that render like the reference; 0 without rows."""
    return _share(totals, "alike")


def details(rows: list[Row], answers: list[Prediction]) -> dict[str, float]:
    """Shares of the rows, and chrF."""
    texts = [answer.answer for answer in answers]
    totals = _compared(rows, texts).sum(axis=0)
    # chrF (Popović 2015) with sacrebleu's defaults: character 1- to 6-grams, beta 2, no white
    # space.
    chrf = CHRF().corpus_score(texts, [[target(row) for row in rows]]).score / 100 if rows else 0.0
    measures = {
        "compile_rate": float(_share(totals, "compiled")),
        "exact_match": float(_share(totals, "exact")),
        "chrf": chrf,
        "reference_compile_rate": float(_share(totals, "references_compiled")),
    }
    return measures


def baseline(train: Path, rows: list[Row], base: Path) -> list[Prediction]:
    """The source, unchanged: right where the LaTeX is valid Typst with the same meaning."""
    return [Prediction(row["id"], "", row["source"], 0.0, 0) for row in rows]


def mode(row: Row) -> Mode:
    """How the row's Typst is compiled: "document" as markup, "math" as the inside of a formula."""
    markup = is_document(row["source"]) or target(row).lstrip().startswith("$")
    return "document" if markup else "math"


def _compared(rows: list[Row], texts: list[str]) -> np.ndarray:
    found = np.zeros((len(rows), len(STATISTICS)))
    modes = [mode(row) for row in rows]
    with Renderer(known=KNOWN) as renderer:
        # All sources of a mode in one call: the worker then compiles without pauses between them.
        for each in sorted(set(modes)):
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
                # All blank pictures are equal, so an answer that shows nothing is right only if it
                # has the reference's text.
                alike = shown is not None and shown == wanted and (shown != BLANK or same_text)
                found[place] = (1, alike, shown is not None, same_text, wanted is not None)
    return found


def _share(totals: np.ndarray, name: str) -> np.ndarray:
    rows, count = totals[..., 0], totals[..., STATISTICS.index(name)]
    share: np.ndarray = np.divide(count, rows, out=np.zeros_like(rows), where=rows > 0)
    return share


def _squeezed(text: str) -> str:
    return " ".join(text.split())
