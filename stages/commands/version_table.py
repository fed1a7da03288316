"""The table of a task's versions in data/TASK/README.md."""

from pathlib import Path

from stages.commands import own_files
from stages.corpus import clean


def row_of(version: str, path: Path, report: clean.Report, note: str) -> str:
    """The version's row in the task's table of versions."""
    said = " ".join(note.split()).replace("|", "\\|") or "–"  # what would end the cell, or the row
    return f"| {version} | {path.name} | {report.read - report.dropped.total():,} | {said} |\n"


def empty_table(readme: Path) -> str:
    columns = "| version | file | rows | what is new |\n|---|---|---|---|\n"
    return f"# {readme.parent.name}\n\n## Versions\n\n{columns}"


def list_version(readme: Path, row: str) -> None:
    """One more row at the end of the task's README.md."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else empty_table(readme)
    with own_files.written(readme) as file:
        file.write(text.rstrip("\n") + "\n" + row)


def unlist(readme: Path, row: str) -> None:
    """The row taken out again; what others have written meanwhile stays."""
    if readme.exists() and row in (text := readme.read_text(encoding="utf-8")):
        before, _, after = text.rpartition(row)
        if before + after == empty_table(readme):
            readme.unlink()
            return
        with own_files.written(readme) as file:
            file.write(before + after)
