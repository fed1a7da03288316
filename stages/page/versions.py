"""What the corpus of a run brought beside another run's, and which categories that made better."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stages import version_changes
from stages.corpus.changes import Version
from stages.errors import UserError
from stages.outcomes import Outcome, is_variant
from stages.page.revisions import Copy


@dataclass(frozen=True)
class Trained:
    """A run as the page shows it.   outcomes: what it made of the held-out rows."""

    label: str
    run: str
    copy: Copy
    lineage: dict[str, Any]
    outcomes: Sequence[Outcome]

    @property
    def corpus(self) -> str:
        return str(self.lineage["corpora"][0]["name"])

    @property
    def corpus_label(self) -> str:
        return self.copy.label(self.corpus)


class Versions:
    """A task's corpora, in the workspace and at revisions, of which two are compared once,
    whichever runs were trained on them.
    """

    def __init__(self, task: str, workspace: Path) -> None:
        self.task, self.workspace = task, workspace
        self.read: dict[str, Version] = {}
        self.known: dict[tuple[str, str, Path], dict[str, Any]] = {}

    def of(
        self, own: Trained, parent: Trained | None, namesakes: Iterable[Trained]
    ) -> list[dict[str, Any]]:
        """What a run's corpus has beside its parent's, and beside those of runs of its name at
        other revisions where they differ.
        """
        against = [parent] if parent else []
        against += [other for other in namesakes if self._differ(other, own)]
        return [found for other in against if (found := self._between(other, own))]

    def _differ(self, before: Trained, after: Trained) -> bool:
        """Where rows are missing, what the runs were trained on tells it."""
        if not (before.lineage and after.lineage):
            return True
        try:
            return not version_changes.alike(self._version(before), self._version(after))
        except UserError:
            return bool(before.lineage["data_md5"] != after.lineage["data_md5"])

    def _between(self, before: Trained, after: Trained) -> dict[str, Any]:
        """against: the label of the run before.   corpora: labels of its corpus and of the own one.

        sizes of both, counts of rows, and categories, what gained most first; or why there is none
        of this, as `lacks`. {} for a run of the workspace that is not trained, and for a variant.
        """
        if is_variant(after.run):
            return {}
        if lacking := [run for run in (before, after) if not run.lineage]:
            if not (revision := lacking[0].copy.revision):
                return {}
            missing = f"models/{lacking[0].run}/lineage.json"
            return {
                "against": before.label,
                "lacks": f"{missing}: not there at {revision}; run `dvc pull` of that revision",
            }
        common = {"against": before.label, "corpora": (before.corpus_label, after.corpus_label)}
        tokenizer_file = self.workspace / after.lineage["base"] / "tokenizer.json"
        key = (*common["corpora"], tokenizer_file)
        try:
            if key not in self.known:
                versions = (self._version(before), self._version(after))
                self.known[key] = _compared(versions, tokenizer_file)
        except UserError as error:
            return common | {"lacks": str(error)}
        scores = version_changes.score_changes(before.outcomes, after.outcomes)
        categories = self.known[key]["categories"]
        return {
            **common,
            **self.known[key],
            "categories": [
                {"name": name, **categories[name], **_score(scores.get(name))}
                for name in version_changes.most_gained_first(categories, scores)
            ],
        }

    def _version(self, of: Trained) -> Version:
        if of.corpus_label not in self.read:
            self.read[of.corpus_label] = of.copy.corpus(self.task, of.corpus)
        return self.read[of.corpus_label]


def _compared(versions: tuple[Version, Version], tokenizer_file: Path) -> dict[str, Any]:
    found = version_changes.compared(*versions)
    of = found.changes
    return {
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
