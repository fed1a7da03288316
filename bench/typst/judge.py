"""Answers beside what is known of their rows: whether they compile, render like the reference, and
look like what LaTeX draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from bench.typst.sources import Row
from stages.processes import cores, in_order
from stages.progress_lines import ProgressLines
from stages.scoring import tex
from stages.scoring.likeness import ALIKE, Picture, likeness, of_typst
from stages.scoring.render import Known, Renderer
from stages.scoring.render_worker import BLANK, Mode

MODES: tuple[Mode, ...] = ("math", "document")
PAIRS_AT_ONCE = 16
T = TypeVar("T")


@dataclass(frozen=True)
class Facts:
    """What is known of the rows, in their order.

    fingerprints: of the references; None where there is none that compiles.   drawn: LaTeX's own
    pictures; None where LaTeX refuses the row, or is not there.
    """

    fingerprints: list[bytes | None]
    drawn: list[Picture | None]


def facts(rows: Sequence[Row]) -> Facts:
    modes = [row.mode for row in rows]
    fingerprints = _by_mode(modes, [row.typst for row in rows], _fingerprints)
    drawn: list[Picture | None] = [None] * len(rows)
    if tex.available():
        with tex.Typesetter() as typesetter:
            drawn = _by_mode(modes, [row.latex for row in rows], typesetter.pictures)
    return Facts(
        [each or None if row.typst else None for row, each in zip(rows, fingerprints, strict=True)],
        drawn,
    )


@dataclass(frozen=True)
class Verdict:
    compiled: bool
    equal: bool | None
    """None where there is no reference that compiles."""
    likeness: float | None
    """To LaTeX's picture; 0 where the answer does not compile, None where LaTeX drew none."""

    @property
    def alike(self) -> bool | None:
        return None if self.likeness is None else self.likeness >= ALIKE


Likenesses = dict[tuple[str, str], float]
"""By a row's LaTeX and an answer's fingerprint, in hexadecimal: systems often agree."""


def verdicts(
    rows: Sequence[Row],
    texts: Sequence[str],
    modes: Sequence[str],
    of: Facts,
    known: Likenesses,
) -> list[Verdict]:
    """Of each answer, compiled in its mode.

    known: what was compared before, which is added to.
    """
    prints = _by_mode(modes, texts, _fingerprints)
    keys = [(row.latex, (shown or b"").hex()) for row, shown in zip(rows, prints, strict=True)]
    asked = {
        key: place
        for place, (key, shown, drawn) in enumerate(zip(keys, prints, of.drawn, strict=True))
        if shown and drawn is not None and key not in known
    }
    pictures = _by_mode(
        [modes[place] for place in asked.values()],
        [texts[place] for place in asked.values()],
        of_typst,
    )
    pairs = [
        (key, drawn, picture)
        for (key, place), picture in zip(asked.items(), pictures, strict=True)
        if picture is not None and (drawn := of.drawn[place]) is not None
    ]
    with ProgressLines("comparing pictures", len(pairs), "pairs") as lines:
        parts = [pairs[at : at + PAIRS_AT_ONCE] for at in range(0, len(pairs), PAIRS_AT_ONCE)]
        for part, values in zip(parts, in_order(_compared, parts, cores()), strict=True):
            known.update(zip([key for key, *_ in part], values, strict=True))
            lines.advance(len(part))
    return [
        Verdict(
            shown is not None,
            None if wanted is None else shown == wanted and shown != BLANK,
            None if drawn is None else known.get(key, 0.0),
        )
        for key, shown, wanted, drawn in zip(keys, prints, of.fingerprints, of.drawn, strict=True)
    ]


def _compared(pairs: Sequence[tuple[tuple[str, str], Picture, Picture]]) -> list[float]:
    return [likeness(one, other) for _, one, other in pairs]


def _fingerprints(sources: Sequence[str], mode: Mode) -> list[bytes | None]:
    with Renderer(known=SEEN) as renderer:
        return renderer.render(sources, mode)


SEEN: Known = {}


def _by_mode(
    modes: Sequence[str], texts: Sequence[str], ask: Callable[[Sequence[str], Mode], list[T]]
) -> list[T]:
    """What `ask` says of the texts, each in its mode, in their order."""
    found: dict[int, T] = {}
    for mode in MODES:
        places = [place for place, other in enumerate(modes) if other == mode]
        found.update(zip(places, ask([texts[place] for place in places], mode), strict=True))
    return [found[place] for place in range(len(texts))]


def statistics(verdicts: Sequence[Verdict], seconds: Sequence[float]) -> np.ndarray:
    """(N, 8): compiled, row; equal, has a reference; likeness, alike, has a picture; seconds."""
    return np.array(
        [
            (
                each.compiled,
                1,
                bool(each.equal),
                each.equal is not None,
                each.likeness or 0.0,
                bool(each.alike),
                each.likeness is not None,
                second,
            )
            for each, second in zip(verdicts, seconds, strict=True)
        ],
        dtype=float,
    ).reshape(-1, 8)


SHARES = {"compiles": (0, 1), "like the reference": (2, 3), "likeness": (4, 6), "alike": (5, 6)}
"""(sum, count) of each measure."""
