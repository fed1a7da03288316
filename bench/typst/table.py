"""Verdicts -> bench/typst/results.md and results.csv."""

import contextlib
import csv
import platform
import re
from collections.abc import Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

from bench.typst.judge import SHARES, Verdict, statistics
from bench.typst.judge_documents import DocumentVerdict
from bench.typst.sources import Row
from stages.processes import cores
from stages.scoring import bootstrap

FEWEST = 15
"""Rows that a cell of the tables by source and construct needs."""

COLUMNS = ("group", "rows", "system", *(f"{name}{end}" for name in SHARES for end in ("", " low", " high")), "s per 1,000")  # fmt: skip

Results = dict[str, tuple[Sequence[Verdict], Sequence[float]]]
"""By system its verdicts and what each took, in the order of the rows."""

Systems = dict[str, np.ndarray]
"""By system its statistics, (N, K), of the same rows in the same order."""


def lines(rows: Sequence[Row], results: Results) -> list[dict[str, str]]:
    """One for each group of rows and system: all, each source, each construct."""
    groups: dict[str, list[int]] = {"all": list(range(len(rows)))}
    for place, row in enumerate(rows):
        groups.setdefault(f"source: {row.source}", []).append(place)
    for name in sorted({row.construct for row in rows}):
        groups[f"construct: {name}"] = [
            place for place, row in enumerate(rows) if row.construct == name
        ]
    return [
        {
            "group": group,
            "rows": str(len(places)),
            "system": system,
            **_cells(table[places], 1 if group == "all" else FEWEST),
        }
        for group, places in groups.items()
        if len(places) >= FEWEST or group == "all"
        for system, table in ((system, statistics(*found)) for system, found in results.items())
    ]


def _cells(table: np.ndarray, fewest: int) -> dict[str, str]:
    cells = {}
    for name, (total, count) in SHARES.items():
        told = [""] * 3
        if table[:, count].sum() >= fewest:
            share = partial(_share, total, count)
            values = (share(table.sum(axis=0)), *bootstrap.interval(table, share))
            told = [f"{value:.3f}" for value in values]
        cells |= dict(zip((name, f"{name} low", f"{name} high"), told, strict=True))
    return cells | {"s per 1,000": f"{1000 * table[:, 7].mean():.2f}"}


def _share(total: int, count: int, sums: np.ndarray) -> np.ndarray:
    shares: np.ndarray = sums[..., total] / np.maximum(1, sums[..., count])
    return shares


def differences(others: Systems, ours: Systems, total: int, count: int) -> list[str]:
    """A table of what each of ours has more than each other system, both on the same rows."""
    if not others or not ours:
        return []
    share = partial(_share, total, count)
    told = [f"| more than | {' | '.join(ours)} |", "|---" * (len(ours) + 1) + "|"]
    for other, of_other in others.items():
        found = [bootstrap.paired(own, of_other, share) for own in ours.values()]
        cells = [f"{one.difference:+.3f} ({one.low:+.3f} to {one.high:+.3f})" for one in found]
        told.append(f"| {other} | {' | '.join(cells)} |")
    return told


HEAD = """# LaTeX to Typst, beside the converters that there are

`{command}`. What is measured, and how, is in [README.md](README.md).

{rows:,} formulas, of which LaTeX draws {drawn:,} and {referred:,} have a reference in Typst that compiles.
In brackets the 95 % interval of {resamples:,} resamplings of the rows. Times are of the conversion alone, one after another.
"""


def page(
    rows: Sequence[Row],
    found: list[dict[str, str]],
    drawn: int,
    referred: int,
    left_out: list[str],
    command: str,
    results: Results,
    ours: Sequence[str],
) -> str:
    """ours: the systems that stand beside each of the others."""
    head = HEAD.format(
        command=command,
        rows=len(rows),
        drawn=drawn,
        referred=referred,
        resamples=bootstrap.RESAMPLES,
    )
    parts = [head, shown(found, "all"), *(f"\n{each}." for each in left_out)]
    tables = {system: statistics(*of) for system, of in results.items()}
    more = differences(
        {system: of for system, of in tables.items() if system not in ours},
        {system: of for system, of in tables.items() if system in ours},
        *SHARES["alike" if drawn else "compiles"],
    )
    if more:
        what = "that look like LaTeX's picture" if drawn else "that compile"
        parts += [f"\n## The share of rows {what}, beside each other converter\n", *more]
    for kind, of in (
        ("construct", "By the formula's most distinctive construct"),
        ("source", "By source"),
    ):
        for measure, what in (
            ("compiles", "the share that compiles"),
            ("alike", "the share that looks like LaTeX's picture"),
            ("like the reference", "the share that renders like the reference"),
        ):
            if any(line[measure] for line in found):
                parts.append(f"\n## {of}: {what}\n\n{by_group(found, kind, measure)}")
    return "\n".join([*parts, f"\n{conditions()}\n"])


def conditions() -> str:
    packages = []
    for package in ("typst", "pypandoc_binary", "tex2typst", "tylax"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            packages.append(f"{package} {metadata.version(package)}")
    return f"{cpu()}, Python {platform.python_version()}; {', '.join(packages)}."


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    said = info.read_text(encoding="utf-8") if info.is_file() else ""
    named = re.search(r"model name\s*: (.*)", said)
    return f"{cores()} cores ({named[1] if named else platform.processor()})"


def shown(found: list[dict[str, str]], group: str) -> str:
    """A group's lines as a table."""
    heads = [name for name in SHARES if any(line[name] for line in found if line["group"] == group)]
    told = [f"| | {' | '.join(heads)} | s per 1,000 |", "|---" * (len(heads) + 2) + "|"]
    for line in found:
        if line["group"] == group:
            cells = [_cell(line, name) for name in heads]
            told.append(f"| {line['system']} | {' | '.join(cells)} | {line['s per 1,000']} |")
    return "\n".join(told)


def _cell(line: dict[str, str], measure: str) -> str:
    return f"{line[measure]} ({line[f'{measure} low']}–{line[f'{measure} high']})"


def by_group(found: list[dict[str, str]], kind: str, measure: str) -> str:
    """A measure of each system, a line for each group of a kind."""
    systems = list(dict.fromkeys(line["system"] for line in found))
    told = [f"| {kind} | rows | {' | '.join(systems)} |", "|---" * (len(systems) + 2) + "|"]
    for group in dict.fromkeys(line["group"] for line in found):
        if group.startswith(f"{kind}: "):
            of = {line["system"]: line for line in found if line["group"] == group}
            if any(line[measure] for line in of.values()):
                cells = [_cell(of[name], measure) for name in systems]
                rows = next(iter(of.values()))["rows"]
                told.append(f"| {group.removeprefix(f'{kind}: ')} | {rows} | {' | '.join(cells)} |")
    return "\n".join(told)


def write_csv(path: Path, found: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(found)


DOCUMENTS_HEAD = """# LaTeX documents to Typst, beside the converters that there are

`{command}`. What is measured, and how, is in [README.md](README.md).

{count} documents, which the benchmark writes itself ({pages} pages by LaTeX).
A document that does not compile counts 0 for its words and pages. In brackets the 95 % interval of {resamples:,} resamplings of
the documents; {unseen}.
"""


def documents_page(
    pages: dict[str, int | None],
    found: dict[str, list[tuple[DocumentVerdict, float]]],
    left_out: list[str],
    command: str,
    ours: Sequence[str],
) -> str:
    """pages: of each kind of document as LaTeX sets it; None where it does not.   ours: as of
    `page`.
    """
    missing = [kind for kind, count in pages.items() if count is None]
    head = DOCUMENTS_HEAD.format(
        command=command,
        count=len(pages),
        pages=sum(count or 0 for count in pages.values()),
        resamples=bootstrap.RESAMPLES,
        unseen=f"LaTeX as it is installed here does not set: {', '.join(missing)}"
        if missing
        else "LaTeX sets all",
    )
    parts = [head, "| | compiles | words | pages | s a document |", "|---|---|---|---|---|"]
    for system, each in found.items():
        cells = [
            _interval([float(verdict.compiled) for verdict, _ in each]),
            _interval([verdict.words for verdict, _ in each if verdict.words is not None]),
            _interval([verdict.pages for verdict, _ in each if verdict.pages is not None]),
            f"{np.mean([seconds for _, seconds in each]):.2f}",
        ]
        parts.append(f"| {system} | {' | '.join(cells)} |")
    parts += [f"\n{each}." for each in left_out]
    tables = {
        system: np.array([(of.pages, 1.0) for of, _ in each if of.pages is not None])
        for system, each in found.items()
    }
    more = differences(
        {system: of for system, of in tables.items() if system not in ours and len(of)},
        {system: of for system, of in tables.items() if system in ours and len(of)},
        0,
        1,
    )
    if more:
        parts += ["\n## The likeness of pages, beside each other converter\n", *more]
    parts += ["\n## By document: words, and pages; – where it does not compile\n"]
    parts += [f"| | pages | {' | '.join(found)} |", "|---" * (len(found) + 2) + "|"]
    for place, (kind, count) in enumerate(pages.items()):
        cells = [_both(each[place][0]) for each in found.values()]
        parts.append(f"| {kind} | {count or ''} | {' | '.join(cells)} |")
    return "\n".join([*parts, f"\n{conditions()}\n"])


def _both(verdict: DocumentVerdict) -> str:
    if not verdict.compiled:
        return "–"
    if verdict.words is None or verdict.pages is None:
        return "compiles"
    return f"{verdict.words:.2f}, {verdict.pages:.2f}"


def _interval(values: list[float]) -> str:
    if not values:
        return ""
    table = np.array([(value, 1.0) for value in values])
    low, high = bootstrap.interval(table, partial(_share, 0, 1))
    return f"{np.mean(values):.3f} ({low:.3f}–{high:.3f})"
