"""Published formulas -> the rows of the benchmark. Nothing of them lies in the repository."""

import hashlib
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.errors import UserError
from stages.files import read_lines
from stages.tasks.typst.benchmark_half import is_in_benchmark
from stages.tasks.typst.corpus import construct, is_document


@dataclass(frozen=True)
class Formula:
    latex: str
    typst: str = ""
    """What the source says it is in Typst; "" where it says nothing."""


@dataclass(frozen=True)
class Source:
    """A file of formulas that is published.

    url: where it can be had; of a page, not of the file, where `file_there` is false.   sha256: of
    the file that the figures were measured with; "" where another file was, which `stands_for`
    names.
    """

    name: str
    file: str
    url: str
    licence: str
    sha256: str
    read: Callable[[Path], Iterator[Formula]]
    file_there: bool = True
    stands_for: str = ""


LABEL = re.compile(r"\\label\{[^}]*\}")


def _lines(path: Path) -> Iterator[Formula]:
    """Without labels, which name an equation that the formula stands without."""
    for _, line in read_lines(path):
        if latex := LABEL.sub("", line).strip():
            yield Formula(latex)


def _half(path: Path) -> Iterator[Formula]:
    return (formula for formula in _lines(path) if is_in_benchmark(formula.latex))


def _cases(path: Path) -> Iterator[Formula]:
    """tex2typst's own tests: a list of `tex` and `typst`. A test of Typst's that has no LaTeX is
    left out.
    """
    for case in yaml.safe_load(path.read_text(encoding="utf-8"))["cases"]:
        if case.get("tex") and case.get("typst"):
            yield Formula(str(case["tex"]).strip(), str(case["typst"]).strip())


def _screenshots(path: Path) -> Iterator[Formula]:
    """KaTeX's screenshot tests: by their name a formula, or a mapping with it and its macros."""
    for case in yaml.safe_load(path.read_text(encoding="utf-8")).values():
        latex = case if isinstance(case, str) else case.get("tex", "")
        if latex and not (isinstance(case, dict) and case.get("macros")):
            yield Formula(latex.strip())


def _extracted(path: Path) -> Iterator[Formula]:
    for number, line in read_lines(path):
        try:
            record: Any = json.loads(line)
            yield Formula(record["latex"].strip(), record.get("typst", ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f'{path}:{number}: not a JSON object with "latex"; have each line be one'
            ) from None


SAID_ASIDE = re.compile(r"[\s{}]|\\[,;:! ]")

TEX2TYPST = "https://raw.githubusercontent.com/qwinsi/tex2typst/ccd9d40/test"
SOURCES = (
    Source(
        "im2latex",
        "im2latex_val.formulas.norm.txt",
        "https://zenodo.org/records/56198",
        "formulas of arXiv papers; no licence stated",
        "edc09f24cc2e200be1cf34ae1c9d5982058897fdef7d2b6377582586eaf5b8fa",
        _half,
        file_there=False,
    ),
    Source(
        "im2markup",
        "im2markup_sample.formulas.lst",
        "https://github.com/harvardnlp/im2markup",
        "formulas of arXiv papers; MIT for the repository",
        "9f0c60f5fd0a990ce09f718802a2151ba4074621a04b6dc0aca56e30368b97c6",
        _lines,
        file_there=False,
    ),
    Source(
        "katex",
        "ss_data.yaml",
        "https://raw.githubusercontent.com/KaTeX/KaTeX/"
        "7c5a5f633527e193f11d18de04ffd8c69669fd76/test/screenshotter/ss_data.yaml",
        "MIT",
        "",
        _screenshots,
    ),
    Source(
        "katex and texmath",
        "katex_texmath_formulas.jsonl",
        "https://github.com/jgm/texmath",
        "MIT (KaTeX), GPL-2.0 (texmath)",
        "542bdfc7d9e4af867bee36b6ef98d3179d7b5fe513ddf66027ec4dfecc953551",
        _extracted,
        file_there=False,
        stands_for="the formulas of KaTeX's ss_data.yaml and of texmath's test/reader/tex, extracted",
    ),
    Source(
        "tex2typst",
        "math.yml",
        f"{TEX2TYPST}/math.yml",
        "GPL-3.0",
        "ad5d7d6e65ee7c172bec2e6c4180c4efce2fcc6baffd5c6c38c1442b3cac26e8",
        _cases,
    ),
    Source(
        "tex2typst symbols",
        "symbol.yml",
        f"{TEX2TYPST}/symbol.yml",
        "GPL-3.0",
        "ad63dfa0f8b6d214da23dc0419448e1850c54805b13d810efb3b6d929459a41e",
        _cases,
    ),
)
"""The tarballs that npm has of mitex-wasm 0.2.5, tex2typst 0.6.2, katex and mathjax-full hold no
tests, so that no row comes from there."""


@dataclass(frozen=True)
class Row:
    id: str
    source: str
    latex: str
    typst: str
    """The reference; "" where there is none."""
    mode: str
    construct: str


def rows(folder: Path, most: int, sources: tuple[Source, ...] = SOURCES) -> list[Row]:
    """At most so many rows of each source whose file lies in the folder, drawn by a hash.

    A formula counts once, where it comes first, and not where it is written in another way in the
    half of im2latex that may be trained on. Raises UserError where the folder has none of the
    files.
    """
    found: list[Row] = []
    seen = {
        _key(formula.latex)
        for source in sources
        if source.read is _half and (folder / source.file).is_file()
        for formula in _lines(folder / source.file)
        if not is_in_benchmark(formula.latex)
    }
    for source in sources:
        path = folder / source.file
        if not path.is_file():
            continue
        formulas = {}
        for formula in source.read(path):
            if (key := _key(formula.latex)) not in seen:
                seen.add(key)
                formulas[hashlib.blake2b(key.encode(), digest_size=5).hexdigest()] = formula
        for place in sorted(formulas)[:most]:
            formula = formulas[place]
            mode = "document" if is_document(formula.latex) else "math"
            found.append(
                Row(f"{source.name}/{place}", source.name, formula.latex, formula.typst, mode,
                    construct(formula.latex))
            )  # fmt: skip
    if not found:
        raise UserError(
            f"{folder}: none of {', '.join(source.file for source in sources)}; "
            "`python -m bench.typst build` says where each can be had"
        )
    return found


def told(folder: Path, sources: tuple[Source, ...] = SOURCES) -> str:
    """Each source, whether its file is there and is the one that was measured, as a table."""
    lines = ["| source | file | here | licence | from |", "|---|---|---|---|---|"]
    for source in sources:
        path = folder / source.file
        here = "no"
        if path.is_file():
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            here = "yes" if sha256 == source.sha256 else f"another one, sha256 {sha256[:12]}…"
        what = f" ({source.stands_for})" if source.stands_for else ""
        lines.append(
            f"| {source.name} | {source.file}{what} | {here} | {source.licence} | {source.url} |"
        )
    return "\n".join(lines)


def fetch(folder: Path, sources: tuple[Source, ...] = SOURCES) -> None:
    """Download what can be had by its address and is not there yet. A file whose hash is known and
    differs is refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        if not source.file_there or (folder / source.file).exists():
            continue
        try:
            with urllib.request.urlopen(source.url, timeout=30) as answer:
                content = answer.read()
        except OSError as error:
            print(f"{source.url}: {error}; put the file into {folder} by hand")
            continue
        sha256 = hashlib.sha256(content).hexdigest()
        if source.sha256 and sha256 != source.sha256:
            raise UserError(f"{source.url}: sha256 {sha256}, not {source.sha256}; not kept")
        (folder / source.file).write_bytes(content)


def _key(latex: str) -> str:
    """What two spellings of one formula have in common: all but its spaces and groups."""
    return SAID_ASIDE.sub("", latex)
