"""Converted documents beside LaTeX's own pages: whether they compile, the words that both show, and
their pages' pictures, page by page.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from bench.typst import document_worker
from stages.confined_workers import NO_NETWORK
from stages.scoring import tex
from stages.scoring.likeness import Picture, unpacked

SECONDS, CPU_SECONDS, MEMORY_MB = 120, 60, 4096
WIDTH = 200
"""Pixels that a page is brought to: words are grey bands then, and lines that break elsewhere differ
little."""

BLUR = 3.0


@dataclass(frozen=True)
class Pages:
    pictures: list[Picture]
    words: Counter[str]


def of_latex(path: Path) -> Pages | None:
    """What LaTeX makes of a document; None where it refuses it, or is not there."""
    if not tex.available():
        return None
    with tex.Typesetter() as typesetter, tempfile.TemporaryDirectory() as name:
        found = typesetter.pages(path, Path(name, "paper.pdf"))
        return None if found is None else Pages(found, _words(Path(name, "paper.pdf")))


def of_typst(text: str, beside: Path) -> Pages | None:
    """What Typst makes of a document; None where it does not compile.

    beside: the folder whose pictures it may show. The compiler runs within limits, and reads only a
    copy of that folder.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "document")
        shutil.copytree(beside, folder)
        (folder / "paper.typ").write_text(text, encoding="utf-8")
        limits = f'ulimit -v {MEMORY_MB * 1024} 2>/dev/null; ulimit -t {CPU_SECONDS}; exec "$@"'
        command = [sys.executable, "-P", document_worker.__file__, "paper.typ"]
        try:
            done = subprocess.run(
                ["sh", "-c", limits, "sh", *command],
                cwd=folder,
                env={**os.environ, **NO_NETWORK, "RAYON_NUM_THREADS": "1"},
                capture_output=True,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return None
        if done.returncode:
            return None
        named = sorted(folder.glob("page-*.png"))
        pictures = [picture for path in named for picture in unpacked(path.read_bytes())]
        return Pages(pictures, _words(folder / "paper.pdf"))


def _words(pdf: Path) -> Counter[str]:
    """Words of three letters or more, by how often they stand there; letters of formulas as plain
    ones, which LaTeX's and Typst's fonts call differently.
    """
    if not shutil.which("pdftotext"):
        return Counter()
    done = subprocess.run(["pdftotext", "-enc", "UTF-8", str(pdf), "-"], capture_output=True)
    said = unicodedata.normalize("NFKC", done.stdout.decode("utf-8", "replace"))
    return Counter(re.findall(r"[^\W\d_]{3,}", said.replace("-\n", "")))


@dataclass(frozen=True)
class DocumentVerdict:
    compiled: bool
    words: float | None
    """F1 of the words that LaTeX shows and of those that Typst shows."""
    pages: float | None
    """The mean over the pages of either, of `page_overlap`; a page that only one has counts 0."""


def verdict(latex: Pages | None, typst: Pages | None) -> DocumentVerdict:
    if latex is None:
        return DocumentVerdict(typst is not None, None, None)
    if typst is None:
        return DocumentVerdict(False, 0.0, 0.0)
    shared = (latex.words & typst.words).total()
    words = 2 * shared / max(1, latex.words.total() + typst.words.total())
    both = [page_overlap(*pair) for pair in zip(latex.pictures, typst.pictures, strict=False)]
    return DocumentVerdict(True, words, sum(both) / max(len(latex.pictures), len(typst.pictures)))


def page_overlap(one: Picture, other: Picture) -> float:
    """0 to 1: the Dice coefficient of two pages' ink as grey bands, both as wide as their text."""
    if not one.size or not other.size:
        return float(one.size == other.size)
    bands = [_bands(one), _bands(other)]
    height = max(len(each) for each in bands)
    first, second = (np.pad(each, ((0, height - len(each)), (0, 0))) for each in bands)
    return float(2 * np.minimum(first, second).sum() / (first.sum() + second.sum()))


def _bands(page: Picture) -> np.ndarray:
    height = max(1, round(page.shape[0] * WIDTH / page.shape[1]))
    small = Image.fromarray(page).resize((WIDTH, min(height, 10 * WIDTH)), Image.Resampling.BOX)
    return gaussian_filter(np.asarray(small) / 255.0, BLUR)
