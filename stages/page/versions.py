"""What the corpus of a run brought beside its parent's, and which categories that made better."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages import version_changes
from stages.corpus.changes import Version
from stages.errors import UserError
from stages.outcomes import Outcome


class Versions:
    """A task's corpora, of which two are compared once, whichever runs were trained on them."""

    def __init__(self, task: str, folder: Path) -> None:
        self.task, self.folder = task, folder
        self.known: dict[tuple[tuple[str, str], Path], dict[str, Any]] = {}

    def between(
        self,
        corpora: tuple[str, str],
        tokenizer_file: Path,
        before: Sequence[Outcome],
        after: Sequence[Outcome],
    ) -> dict[str, Any]:
        """corpora: the parent's, and the run's own.   before, after: what the two runs made of the
        held-out rows.

        sizes of both, counts of rows, and categories, what gained most first; or why there is none
        of this, as `lacks`.
        """
        try:
            known = self.known.get((corpora, tokenizer_file))
            rows = known or self._compared(corpora, tokenizer_file)
        except UserError as error:
            return {"corpora": corpora, "lacks": str(error)}
        self.known[corpora, tokenizer_file] = rows
        scores = version_changes.score_changes(before, after)
        categories = rows["categories"]
        return rows | {
            "categories": [
                {"name": name, **categories[name], **_score(scores.get(name))}
                for name in version_changes.most_gained_first(categories, scores)
            ]
        }

    def _compared(self, corpora: tuple[str, str], tokenizer_file: Path) -> dict[str, Any]:
        versions = [version_changes.prepared(self.task, corpus, self.folder) for corpus in corpora]
        found = version_changes.compared(*versions)
        of = found.changes
        return {
            "corpora": corpora,
            "sizes": [_size(version, tokenizer_file) for version in versions],
            "same": of.same,
            "added": len(of.added),
            "removed": len(of.removed),
            "changed": len(of.changed[0]),
            "near_duplicates": found.near_duplicates,
            "categories": {name: asdict(each) for name, each in found.categories().items()},
        }


def _size(version: Version, tokenizer_file: Path) -> dict[str, Any]:
    """Rows by part, and means of a row."""
    sums = {"input": version.source_characters, "reference": version.reference_characters}
    if tokenizer_file.is_file():
        sums["tokens"] = version.tokens(tokenizer_file)
    means = {name: round(total / max(len(version), 1), 1) for name, total in sums.items()}
    return {"parts": version.sizes, "rows": len(version), **means}


def _score(of: version_changes.ScoreChange | None) -> dict[str, Any]:
    """{} where the two runs have not answered the same rows of a category."""
    if not of or not of.change:
        return {}
    change = of.change
    numbers = {"was": of.before, "now": of.after} | {
        "change": change.difference,
        "low": change.low,
        "high": change.high,
    }
    return {"tested": of.rows} | {
        name: None if number is None else round(number, 4) for name, number in numbers.items()
    }
