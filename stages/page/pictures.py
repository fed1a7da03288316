"""What Typst sources look like, compiled in the confined worker of stages.scoring.render."""

import re
from collections.abc import Mapping
from typing import Any

from stages import tasks
from stages.outcomes import Outcome
from stages.records import target
from stages.scoring.render import Renderer
from stages.scoring.render_worker import Mode

WITH_PICTURES = "typst"
GLYPH = re.compile(r'<symbol id="(g[0-9A-F]+)"[^>]*>.*?</symbol>', re.DOTALL)


def of_task(
    task: str, found: Mapping[str, list[Outcome]], places: Mapping[tuple[str, str], int]
) -> dict[str, Any]:
    """pictures: the SVG of each distinct source that compiles, without its glyphs.   glyphs: these,
    by name.   drawn: by "reference" and by run, the place of each row's picture, or None.

    An answer with the reference's text has the reference's picture, and is not drawn again.
    """
    if task != WITH_PICTURES:
        return {}
    from stages.tasks.typst.score import mode

    wanted: dict[tuple[str, int], tuple[str, Mode]] = {}
    compiled, reference_compiled = (
        tasks.score(task).STATISTICS.index(name) for name in ("compiled", "references_compiled")
    )
    for run, outcomes in found.items():
        for outcome in outcomes:
            place, reference = places[outcome.key], target(outcome.row)
            if outcome.statistics[reference_compiled]:
                wanted["reference", place] = reference, mode(outcome.row)
            if outcome.statistics[compiled] and outcome.answer.answer != reference:
                wanted[run, place] = outcome.answer.answer, mode(outcome.row)
    svgs = _rendered([*dict.fromkeys(wanted.values())])
    glyphs: dict[str, str] = {}
    kept = {source: _without_glyphs(svg, glyphs) for source, svg in svgs.items() if svg}
    numbers = {source: number for number, source in enumerate(kept)}
    drawn: dict[str, list[int | None]] = {
        name: [None] * len(places) for name in ("reference", *found)
    }
    for (name, place), source in wanted.items():
        drawn[name][place] = numbers.get(source)
    return {"pictures": [*kept.values()], "glyphs": glyphs, "drawn": drawn}


def _rendered(sources: list[tuple[str, Mode]]) -> dict[tuple[str, Mode], str]:
    """The SVG of each source, "" of one that does not compile any more."""
    svgs: dict[tuple[str, Mode], str] = {}
    with Renderer(wanted="picture") as renderer:
        for mode in sorted({mode for _, mode in sources}):
            texts = [text for text, other in sources if other == mode]
            for text, svg in zip(texts, renderer.render(texts, mode), strict=True):
                svgs[text, mode] = (svg or b"").decode()
    return svgs


def _without_glyphs(svg: str, glyphs: dict[str, str]) -> str:
    """The SVG with its glyphs moved into `glyphs`: a letter's outline is in the page once."""
    glyphs.update({found[1]: found[0] for found in GLYPH.finditer(svg)})
    return GLYPH.sub("", svg)
