"""Whether an answer compiles, in the confined workers of stages.scoring.render."""

from collections.abc import Sequence
from typing import Self

from stages.records import Row
from stages.scoring.render import Renderer
from stages.scoring.render_worker import Mode
from stages.tasks.typst.corpus import is_document

PATIENCE = 4
"""How many slow answers of a check are given all of their time limit. Those of a prediction are
asked 256 at a time, each part in a check of its own."""


class Check:
    """As stages.tasks.Check: its workers run side by side, and one that hangs is replaced."""

    def __init__(self) -> None:
        self.renderer = Renderer(patience=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.renderer.__exit__()

    def passes(self, rows: Sequence[Row], answers: Sequence[str]) -> list[bool | None]:
        """Whether each compiles as what its row asks for, which is told without its reference."""
        modes = [mode(row, answer) for row, answer in zip(rows, answers, strict=True)]
        found = dict[tuple[str, Mode], bool | None]()
        for each in sorted({*modes}):
            sources = [answer for answer, of in zip(answers, modes, strict=True) if of == each]
            for source, picture in zip(sources, self.renderer.render(sources, each), strict=True):
                stopped = (source, each) in self.renderer.stopped
                found[source, each] = None if stopped else picture is not None
        return [found[key] for key in zip(answers, modes, strict=True)]


def mode(row: Row, answer: str) -> Mode:
    markup = is_document(row["source"]) or answer.lstrip().startswith("$")
    return "document" if markup else "math"
