"""typst: references that cannot be scored, because the pinned Typst does not compile them.

Its symbols change their names between versions, and corpora that are published keep the old ones.
"""

import re
from collections import Counter
from collections.abc import Sequence
from importlib import metadata

from stages.records import Row, target
from stages.scoring.render import Known, Renderer
from stages.tasks.typst.score import mode

RENAMED = tuple(
    (re.compile(rf"(?<![A-Za-z.]){old}(?![A-Za-z])"), new)
    for old, new in (
        (
            r"(plus|minus|times|dot|div|ast|eq|lt|gt|bar\.v|dash|backslash|slash|parallel|perp)\.circle",
            r"\1.o",
        ),
        (r"((?:integral\.)?)sect", r"\1inter"),
        (r"diff", "partial"),
        (r"angle\.([lr])", r"chevron.\1"),
        (r"(bracket|paren|brace|shell)\.([lr])\.double", r"\1.\2.stroked"),
        (r"planck\.reduce", "planck"),
        (r"gimmel", "gimel"),
    )
)
"""(old, new) names, each tried with Typst 0.15: the old one does not compile, and the new one looks
like the character that it stands for."""


def told(rows: Sequence[Row]) -> str:
    """How many references do not compile and by which names, in a sentence; "" where all do.

    rows: their `id` says where they stand.
    """
    broken = _uncompiled([(row, target(row)) for row in rows])
    if not broken:
        return ""
    mended = [(row, _renamed(text)) for row, text in broken]
    still = {row["id"]: row for row, _ in _uncompiled(mended)}
    names = Counter[str]()
    for row, text in broken:
        names.update([] if row["id"] in still else _old_names(text))
    why = [f"{name} ({count:,})" for name, count in names.most_common()]
    if still:
        why.append(f"for other reasons {len(still):,}, such as {next(iter(still))}")
    return (
        f"{len(broken):,} of {len(rows):,} references do not compile with Typst "
        f"{metadata.version('typst')}, so that no answer to them is right: {'; '.join(why)}; mend "
        "them first"
    )


def _uncompiled(references: list[tuple[Row, str]]) -> list[tuple[Row, str]]:
    """In their order."""
    modes = [mode(row) for row, _ in references]
    pictures: Known = {}
    with Renderer(known=pictures) as renderer:
        for each in sorted(set(modes)):
            pairs = zip(references, modes, strict=True)
            renderer.render([text for (_, text), other in pairs if other == each], each)
    return [
        (row, text)
        for (row, text), each in zip(references, modes, strict=True)
        if pictures[text, each] is None
    ]


def _renamed(text: str) -> str:
    for old, new in RENAMED:
        text = old.sub(new, text)
    return text


def _old_names(text: str) -> set[str]:
    return {
        f"`{found[0]}` is `{found.expand(new)}` now"
        for old, new in RENAMED
        for found in old.finditer(text)
    }
