"""typst: training rows from LaTeX formulas that nobody has translated.

Candidates come from our own rules, the kept converters, and from runs. One becomes a row where
Typst compiles it and its picture is like the one that LaTeX draws of the formula.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stages.corpus.clean import UNSOUND
from stages.errors import UserError
from stages.files import read_json_lines, read_lines
from stages.latex.formula_rules import typst_of
from stages.latex.kept_converters import MAX_FORMULA_CHARACTERS, KeptConverters
from stages.processes import cores, in_order
from stages.progress_lines import ProgressLines
from stages.scoring import likeness, tex
from stages.scoring.likeness import Picture
from stages.scoring.render import Renderer
from stages.scoring.render_worker import BLANK
from stages.tasks import Proposal
from stages.tasks.typst.benchmark_half import is_in_benchmark
from stages.tasks.typst.corpus import is_document

Answers = Sequence[tuple[str, float]]
"""Texts, each with its log-probability in nats."""

LINES, RECORDS, DOCUMENTS = (".txt", ".lst"), (".jsonl",), (".tex", ".latex", ".ltx")

COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%.*")
VERBATIM = re.compile(
    r"\\begin\{(verbatim|lstlisting|minted|comment)\*?\}.*?\\end\{\1\*?\}|\\verb\*?(\W).*?\2",
    re.DOTALL,
)
FORMULA = re.compile(
    r"(?<!\\)\$\$(?P<display>.+?)\$\$|(?<!\\)\$(?P<inline>.+?)(?<!\\)\$"
    r"|(?<!\\)\\\[(?P<bracket>.+?)\\\]|(?<!\\)\\\((?P<parenthesis>.+?)\\\)"
    r"|\\begin\{(?P<name>equation|displaymath|math)(?P<star>\*?)\}(?P<inside>.+?)\\end\{(?P=name)(?P=star)\}"
    r"|(?P<whole>\\begin\{(?P<rows>align|gather|multline|eqnarray)(?P<starred>\*?)\}.+?"
    r"\\end\{(?P=rows)(?P=starred)\})",
    re.DOTALL,
)
"""A formula of a document, or a line that is one with its dollar signs. The environments of several
lines stay, as they mean something inside."""

PAIRS_OF_A_PROCESS = 100
"""Pictures to compare: another process takes a second to begin."""

PARTS = ("display", "inline", "bracket", "parenthesis", "inside", "whole")


def inputs(path: Path) -> Sequence[str]:
    """The formulas of a file: a line each, a record's "latex", or those of a LaTeX document, whose
    macros are not expanded.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of your formulas")
    if path.suffix.lower() in DOCUMENTS:
        text = "\n".join(line for _, line in read_lines(path))
        found = [*_of_document(text)]
    elif path.suffix.lower() in RECORDS:
        found = [*_of_records(path)]
    elif path.suffix.lower() in LINES:
        found = [_bare(line) for _, line in read_lines(path)]
    else:
        forms = ", ".join((*LINES, *RECORDS, *DOCUMENTS))
        raise UserError(f"{path}: none of the files that formulas are read from: {forms}")
    if not found:
        raise UserError(f"{path}: no formula in it; write some, or name another file")
    return found


def unfit(text: str, benchmark_too: bool) -> str:
    if UNSOUND.search(text):
        return "damaged: a control character or U+FFFD in it"
    if len(text) > MAX_FORMULA_CHARACTERS:
        return f"longer than {MAX_FORMULA_CHARACTERS:,} characters"
    if is_document(text):
        return "text with formulas in it, not one formula"
    if not benchmark_too and is_in_benchmark(text):
        return "kept for the benchmark"
    return ""


def require_judge(by_pictures: bool) -> None:
    if by_pictures and not tex.available():
        raise UserError(
            f"LaTeX, whose pictures decide, is not on this machine; run `{tex.INSTALL}`, or give "
            "--without-pictures, with which two that agree decide"
        )


@dataclass
class Candidate:
    """One Typst of a formula.

    nats: the greatest log-probability that a run gives it; -infinity of a converter's.
    picture: a fingerprint, the same for all that look the same.
    """

    typst: str
    makers: list[str] = field(default_factory=list)
    nats: float = -math.inf
    picture: bytes | None = None
    likeness: float | None = None

    def told(self) -> dict[str, str | float]:
        told: dict[str, str | float] = {"typst": self.typst, "by": ", ".join(self.makers)}
        told["found"] = "compiles" if self.picture else "does not compile, or shows nothing"
        return told if self.likeness is None else told | {"likeness": round(self.likeness, 4)}


def proposed(
    inputs: Sequence[str], answers: Sequence[Mapping[str, Answers]], by_pictures: bool
) -> list[Proposal]:
    with KeptConverters() as converters:
        converted = converters.formulas(inputs)
    converted = [
        {"rules": own, **kept} if (own := typst_of(each)) else kept
        for each, kept in zip(inputs, converted, strict=True)
    ]
    candidates = [_candidates(made, runs) for made, runs in zip(converted, answers, strict=True)]
    every = [candidate for each in candidates for candidate in each]
    with Renderer() as renderer:
        found = renderer.render([candidate.typst for candidate in every], "math")
    for candidate, picture in zip(every, found, strict=True):
        candidate.picture = None if picture == BLANK or UNSOUND.search(candidate.typst) else picture
    if by_pictures:
        drawn = _measure(inputs, candidates)
        return [
            _likest(formula, each, is_drawn)
            for formula, each, is_drawn in zip(inputs, candidates, drawn, strict=True)
        ]
    return [_agreed(formula, each) for formula, each in zip(inputs, candidates, strict=True)]


def _candidates(converted: Mapping[str, str], runs: Mapping[str, Answers]) -> list[Candidate]:
    """Each different text once, with all who wrote it."""
    found: dict[str, Candidate] = {}
    written: dict[str, Answers] = {name: [(text, -math.inf)] for name, text in converted.items()}
    for maker, answers in [*written.items(), *runs.items()]:
        for text, nats in answers:
            if typst := text.strip():
                candidate = found.setdefault(typst, Candidate(typst))
                candidate.makers += [] if maker in candidate.makers else [maker]
                candidate.nats = max(candidate.nats, nats)
    return [*found.values()]


def _measure(formulas: Sequence[str], candidates: Sequence[Sequence[Candidate]]) -> list[bool]:
    """Whether LaTeX draws each formula; how like that the candidates are which compile."""
    asked = [at for at, each in enumerate(candidates) if any(one.picture for one in each)]
    with tex.Typesetter() as typesetter:
        originals = dict(
            zip(asked, typesetter.pictures([formulas[at] for at in asked]), strict=True)
        )
    # Of those that look the same one is drawn.
    drawn = {
        (at, candidate.picture): candidate.typst
        for at, original in originals.items()
        if original is not None
        for candidate in candidates[at]
        if candidate.picture
    }
    pictures = likeness.of_typst([*drawn.values()], "math")
    pairs = [(originals[at], picture) for (at, _), picture in zip(drawn, pictures, strict=True)]
    processes = max(1, min(cores(), len(pairs) // PAIRS_OF_A_PROCESS))
    measured = dict[tuple[int, bytes | None], float]()
    with ProgressLines("comparing", len(pairs), "pictures") as lines:
        for which, found in zip(drawn, in_order(_alike, pairs, processes), strict=True):
            measured[which] = found
            lines.advance()
    for at, each in enumerate(candidates):
        for candidate in each:
            if candidate.picture:
                candidate.likeness = measured.get((at, candidate.picture))
    return [originals.get(at) is not None for at in range(len(formulas))]


def _alike(pair: tuple[Picture | None, Picture | None]) -> float:
    one, other = pair
    return 0.0 if one is None or other is None else likeness.likeness(one, other)


def _likest(formula: str, candidates: Sequence[Candidate], is_drawn: bool) -> Proposal:
    """The candidate whose picture is most like LaTeX's."""
    if refusal := _uncompiled(candidates):
        return _refused(refusal, candidates)
    if not is_drawn:
        return _refused("LaTeX itself does not draw it", candidates)
    measured = [each for each in candidates if each.likeness is not None]
    best = max(measured, key=lambda each: (each.likeness or 0.0, *_preferred(each)))
    if (best.likeness or 0.0) < likeness.ALIKE:
        return _refused("no picture is like LaTeX's", candidates)
    return _accepted(formula, best, candidates)


def _agreed(formula: str, candidates: Sequence[Candidate]) -> Proposal:
    """A candidate whose picture several makers have come to."""
    if refusal := _uncompiled(candidates):
        return _refused(refusal, candidates)
    makers: dict[bytes, set[str]] = {}
    for each in candidates:
        if each.picture:
            makers.setdefault(each.picture, set()).update(each.makers)
    compiled = [each for each in candidates if each.picture]
    best = max(compiled, key=lambda each: (len(makers[each.picture or b""]), *_preferred(each)))
    if len(makers[best.picture or b""]) < 2:
        return _refused("no two agree on its picture", candidates)
    return _accepted(formula, best, candidates)


def _preferred(candidate: Candidate) -> tuple[float, int]:
    """Of several with the same picture: the one that a run finds likeliest, which has least to
    learn from it; without a run the shortest.
    """
    return candidate.nats, -len(candidate.typst)


def _uncompiled(candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "nobody translates it"
    return "" if any(each.picture for each in candidates) else "no translation compiles"


def _refused(why: str, candidates: Sequence[Candidate]) -> Proposal:
    return Proposal({}, [], why, [each.told() for each in candidates])


def _accepted(formula: str, best: Candidate, candidates: Sequence[Candidate]) -> Proposal:
    record = {"latex": formula, "typst": best.typst}
    return Proposal(record, best.makers, "", [each.told() for each in candidates])


def _of_records(path: Path) -> Iterator[str]:
    for line, record in read_json_lines(path):
        formula = record.get("latex") if isinstance(record, dict) else None
        if not isinstance(formula, str) or not formula.strip():
            what = record if isinstance(record, str) else 'no text under "latex"'
            raise UserError(f'{path} line {line}: {what}; write {{"latex": "x^2"}} in each line')
        yield _bare(formula)


def _of_document(text: str) -> Iterator[str]:
    text = VERBATIM.sub("", COMMENT.sub(r"\1", text))
    for found in FORMULA.finditer(text.partition(r"\begin{document}")[2] or text):
        yield " ".join(next(filter(None, found.group(*PARTS))).split())


def _bare(formula: str) -> str:
    """Without the signs around it that only say that it is a formula."""
    formula = formula.strip()
    found = FORMULA.fullmatch(formula)
    inside = next(filter(None, found.group(*PARTS))).strip() if found else formula
    return formula if is_document(inside) else inside  # $a$ and $b$
