"""typst: LaTeX documents, which stages/latex converts; a model answers for their formulas."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.latex import convert, source, summary
from stages.latex.formulas import Answers, Formulas

READS, WRITES = (".tex", ".latex", ".ltx"), ".typ"


@dataclass(frozen=True)
class Document:
    """A converted document: see stages/tasks/__init__.py."""

    made: convert.Converted
    name: str

    @property
    def text(self) -> str:
        return self.made.text

    @property
    def answers(self) -> list[tuple[str, str]]:
        return list(
            dict.fromkeys((each.latex, each.typst or "") for each in self.made.found.formulas)
        )

    def summary(self) -> list[str]:
        return summary.lines(self.made)

    def report(self) -> str:
        return summary.page(self.made, self.name)


def converted(
    file: Path, into: Path, greedy: Answers | None, more: Answers | None, by_rules: bool
) -> Document:
    """Raises UserError for a file that is absent, empty or too large."""

    def bare(answers: Answers | None) -> Answers | None:
        if answers is None:
            return None

        def unwrapped(latex: Sequence[str]) -> list[list[str]]:
            return [[_bare(each) for each in found] for found in answers(latex)]

        return unwrapped

    made = convert.converted(
        source.read(file),
        file.parent,
        into,
        lambda pandoc: Formulas(pandoc, bare(greedy), bare(more), by_rules),
    )
    return Document(made, file.name)


def _bare(typst: str) -> str:
    """An answer without the signs that begin and end a formula in Typst's markup."""
    typst = typst.strip()
    return typst[1:-1].strip() if len(typst) > 2 and typst[0] == typst[-1] == "$" else typst
