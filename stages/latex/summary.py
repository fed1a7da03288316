"""What was made of a document, in lines for the terminal and as a page.

The page shows each block's LaTeX beside its picture, and what stays LaTeX first.
"""

import base64
import html
from collections import Counter

from stages.latex.convert import Converted
from stages.latex.formulas import MODEL
from stages.latex.pieces import marks
from stages.latex.reading import Piece
from stages.scoring.render import MAX_SOURCE_CHARACTERS, Renderer

MAX_LINES = 15
MAX_PICTURES = 3000


def lines(made: Converted) -> list[str]:
    """Counts, what stays LaTeX and where, and what the reader must know."""
    blocks = [piece for piece in made.pieces if not piece.block.comment]
    left = [piece for piece in blocks if piece.typst is None]
    formulas = [each for each in made.found.formulas if made.pieces[each.block].typst is not None]
    by = Counter(each.by for each in formulas if each.typst is not None)
    unconverted = [each for each in formulas if each.typst is None]
    told = [
        f"blocks: {len(blocks):,}, by rule {len(blocks) - len(left):,}, "
        f"left as LaTeX {len(left):,}",
        f"formulas: {len(formulas):,}"
        + "".join(
            f", by {_named(name)} {count:,}"
            for name, count in sorted(by.items(), key=lambda item: -item[1])
        )
        + f", left as LaTeX {len(unconverted):,}",
    ]
    listed = [
        f"{place}: left as LaTeX: {_short(latex)}: {why}" for place, latex, why in lefts(made)
    ]
    told += listed[:MAX_LINES]
    if more := listed[MAX_LINES:]:
        told.append(f"and {len(more):,} more; --report FILE shows all")
    return told + made.notes


def lefts(made: Converted) -> list[tuple[str, str, str]]:
    """(place, LaTeX, why) of all that stays LaTeX, in order."""
    found = [
        (piece.block.start, piece.place, piece.block.text, piece.why)
        for piece in made.pieces
        if piece.typst is None
    ]
    for at, piece in enumerate(made.pieces):
        for index in marks(piece.typst or "", "left"):
            left = made.found.lefts[index]
            found.append((piece.block.start, made.pieces[at].place, left.latex, left.why))
        for index in marks(piece.typst or "", "formula"):
            formula = made.found.formulas[index]
            if formula.typst is None:
                found.append(
                    (piece.block.start, piece.place, formula.latex, "no candidate compiles")
                )
    return [(place, latex, why) for _, place, latex, why in sorted(found, key=lambda each: each[0])]


def page(made: Converted, title: str) -> str:
    """HTML that needs no network."""
    shown = [piece for piece in made.pieces if not piece.block.comment][:MAX_PICTURES]
    sources = [
        made.filling.alone(piece.typst) if piece.typst is not None else "" for piece in shown
    ]
    asked = [each for each in dict.fromkeys(sources) if each and len(each) <= MAX_SOURCE_CHARACTERS]
    with Renderer(wanted="picture") as renderer:
        pictures = dict(zip(asked, renderer.render(asked, "document"), strict=True))
    rows = "\n".join(
        _row(made, piece, pictures.get(source))
        for piece, source in zip(shown, sources, strict=True)
    )
    told = "\n".join(f"<li>{html.escape(each)}</li>" for each in lines(made)[:2] + made.notes)
    left = "\n".join(
        f"<li>{html.escape(place)}: {html.escape(why)}<pre>{html.escape(latex)}</pre></li>"
        for place, latex, why in lefts(made)
    )
    return PAGE.format(
        title=html.escape(title), told=told, left=left or "<li>nothing</li>", rows=rows
    )


def _row(made: Converted, piece: Piece, picture: bytes | None) -> str:
    by = Counter(
        made.found.formulas[index].by or "left as LaTeX"
        for index in marks(piece.typst or "", "formula")
    )
    who = ", ".join(f"{_named(name)} {count}" for name, count in by.most_common())
    partly = piece.typst is None or "left as LaTeX" in by or marks(piece.typst, "left")
    image = (
        f'<img alt="" src="data:image/svg+xml;base64,{base64.b64encode(picture).decode()}">'
        if picture
        else f"<pre>{html.escape(piece.typst or piece.why)}</pre>"
    )
    return (
        f"<tr{' class=left' if partly else ''}>"
        f"<td>{html.escape(piece.place)}<br>{html.escape(who)}</td>"
        f"<td><pre>{html.escape(piece.block.text)}</pre></td><td>{image}</td></tr>"
    )


def _named(name: str) -> str:
    if name == MODEL:
        return "the model"
    return f"the model's candidate {name.split()[1]}" if name.startswith(f"{MODEL} ") else name


def _short(latex: str) -> str:
    line = " ".join(latex.split())
    return line if len(line) <= 60 else f"{line[:57]}..."


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em }}
table {{ border-collapse: collapse; width: 100%; table-layout: fixed }}
td, th {{ border-top: 1px solid #ccc; padding: .5em; overflow: auto }}
td, th {{ vertical-align: top; text-align: left }}
td:first-child, th:first-child {{ width: 12em }}
.left {{ background: #fff6cc }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 }}
img {{ max-width: 100%; background: white }}
</style>
<h1>{title}</h1>
<ul>{told}</ul>
<h2>Left as LaTeX</h2>
<ul>{left}</ul>
<h2>Block by block</h2>
<table><tr><th>where, formulas by</th><th>LaTeX</th><th>Typst</th></tr>
{rows}
</table></html>
"""
