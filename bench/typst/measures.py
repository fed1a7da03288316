"""Measures of how alike two pictures are, on pairs that are alike and pairs that are not.

A pair is LaTeX's picture of a formula and Typst's of the same formula, or of one with one thing
changed that a reader sees at once (bench/typst/mutations.py). Formulas that the project's grammar
writes in both notations, and those of im2latex that are not in the benchmark, have no brackets and
are turned into the same picture by two converters, which is taken for right. (Brackets are not:
Typst enlarges them around a fraction by itself, and LaTeX does not, which neither converter heeds.)
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from bench.typst import peers
from bench.typst.mutations import KINDS, mutated
from bench.typst.sources import SOURCES
from stages.errors import UserError
from stages.files import read_lines
from stages.processes import cores, in_order
from stages.scoring import tex
from stages.scoring.likeness import ALIKE, Picture, likeness, of_typst
from stages.scoring.render import Renderer
from stages.tasks.typst import synthetic
from stages.tasks.typst.benchmark_half import is_in_benchmark
from stages.tasks.typst.corpus import is_document

OF_GRAMMAR, OF_IM2LATEX, LONGEST = 120, 400, 300
BRACKETS = re.compile(
    r"[()\[\]|]|\\(?:[{}|]|left|[lr]?(?:angle|vert|Vert|floor|ceil|brac[ek]|brack))"
)

Pair = tuple[str, bool, Picture, Picture]
"""(where it is from, whether the pictures are alike, LaTeX's, Typst's)."""


def told(sources: Path, seed: int = 5) -> str:
    if not tex.available():
        raise UserError(f"LaTeX draws one picture of each pair and is not there: {tex.INSTALL}")
    found = pairs(sources, random.Random(seed))
    alike = np.array([same for _, same, *_ in found])
    origin = np.array([where for where, *_ in found])
    parts = [found[at : at + 16] for at in range(0, len(found), 16)]
    values = np.concatenate(list(in_order(_measured, parts, cores())))
    lines = [
        "| measure | AUC | right at the best threshold | threshold | grammar | im2latex |",
        "|---|---|---|---|---|---|",
    ]
    for name, each in zip(MEASURES, values.T, strict=True):
        threshold = max(np.unique(each), key=lambda value: float(((each >= value) == alike).mean()))
        right = (each >= threshold) == alike
        of = [
            f"{right[origin == where].mean():.3f}" if (origin == where).any() else ""
            for where in ("grammar", "im2latex")
        ]
        lines.append(
            f"| {name} | {auc(each, alike):.3f} | {right.mean():.3f} | {threshold:.3f} | {of[0]} | {of[1]} |"
        )
    own = ((values[:, 0] >= ALIKE) == alike).mean()
    return "\n".join(
        [
            f"{alike.sum()} pairs that are alike, {(~alike).sum()} that are not\n",
            *lines,
            f"\nAt ALIKE = {ALIKE}, {own:.3f} of the pairs are right.",
        ]
    )


def auc(values: np.ndarray, alike: np.ndarray) -> float:
    """The share of pairs of an alike and another pair in which the alike one is more so."""
    higher = values[alike][:, None] - values[~alike]
    return float(((higher > 0) + 0.5 * (higher == 0)).mean())


def pairs(sources: Path, rng: random.Random) -> list[Pair]:
    right = [*of_grammar(rng), *of_im2latex(sources, rng)]
    asked = [(where, latex, typst, True) for where, latex, typst in right]
    for where, latex, typst in right:
        for kind in rng.sample(KINDS, len(KINDS)):
            if (changed := mutated(latex, kind, rng)) not in (None, latex):
                asked.append((where, str(changed), typst, False))
                break
    with tex.Typesetter() as typesetter:
        drawn = typesetter.pictures([latex for _, latex, _, _ in asked])
        first = dict(
            zip(
                [typst for *_, typst in right],
                typesetter.pictures([latex for _, latex, _ in right]),
                strict=True,
            )
        )
    rendered = of_typst([typst for _, _, typst, _ in asked], "math")
    return [
        (where, same, one, other)
        for (where, _, typst, same), one, other in zip(asked, drawn, rendered, strict=True)
        if one is not None and other is not None and (same or not np.array_equal(one, first[typst]))
    ]


def of_grammar(rng: random.Random) -> Iterator[tuple[str, str, str]]:
    left = OF_GRAMMAR
    while left:
        node = synthetic.draw(rng, rng.choice((1, 2, 3)))
        if not is_document(node.latex()):
            left -= 1
            yield "grammar", node.latex(), node.typst()


def of_im2latex(sources: Path, rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """Where the file and two converters are there."""
    path = sources / SOURCES[0].file
    names = [name for name in ("tylax", "tex2typst") if not peers.absent(name, Path())]
    if not path.is_file() or len(names) < 2:
        return
    latex = [line.strip() for _, line in read_lines(path)]
    latex = [
        line
        for line in latex
        if 0 < len(line) < LONGEST and not is_in_benchmark(line) and not BRACKETS.search(line)
    ]
    latex = rng.sample(latex, min(OF_IM2LATEX, len(latex)))
    texts = []
    for name in names:
        with peers.Converter(name, Path()) as converter:
            texts.append([answer.text or "#(" for answer in converter.answers(latex)])
    with Renderer() as renderer:
        one, other = (renderer.render(each, "math") for each in texts)
    for source, typst, first, second in zip(latex, texts[0], one, other, strict=True):
        if first and first == second:
            yield "im2latex", source, typst


def ssim(one: Picture, other: Picture) -> float:
    """The mean structural similarity (Wang et al. 2004), windows of 7 pixels, where either has ink."""
    a, b = _together(one, other)
    mean_a, mean_b = uniform_filter(a, 7), uniform_filter(b, 7)
    both = uniform_filter(a * b, 7) - mean_a * mean_b
    squares = uniform_filter(a * a, 7) - mean_a**2 + uniform_filter(b * b, 7) - mean_b**2
    top = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
    found = top / ((mean_a**2 + mean_b**2 + 1e-4) * (squares + 9e-4))
    return float(found[(mean_a > 0.01) | (mean_b > 0.01)].mean())


def overlap(one: Picture, other: Picture) -> float:
    """The Dice coefficient of blurred ink."""
    a, b = (gaussian_filter(each, 1.5) for each in _together(one, other))
    return float(2 * np.minimum(a, b).sum() / (a.sum() + b.sum() + 1e-9))


def _together(one: Picture, other: Picture) -> tuple[np.ndarray, np.ndarray]:
    """Both on one canvas, moved to where their ink agrees best."""
    shape = [a + b for a, b in zip(one.shape, other.shape, strict=True)]
    transforms = [np.fft.rfft2(each / 255.0, shape) for each in (one, other)]
    agreed = np.fft.irfft2(transforms[0] * transforms[1].conj(), shape)
    down, across = np.unravel_index(agreed.argmax(), agreed.shape)
    moved = np.zeros((2, *shape))
    moved[0, : one.shape[0], : one.shape[1]] = one / 255.0
    moved[1, : other.shape[0], : other.shape[1]] = other / 255.0
    moved[1] = np.roll(moved[1], (down, across), (0, 1))
    return moved[0], moved[1]


MEASURES: dict[str, Callable[[Picture, Picture], float]] = {
    "the least alike part (`likeness`)": likeness,
    "SSIM after a shift": ssim,
    "overlap of blurred ink after a shift": overlap,
}


def _measured(part: Sequence[Pair]) -> np.ndarray:
    return np.array(
        [[measure(one, other) for measure in MEASURES.values()] for *_, one, other in part]
    )
