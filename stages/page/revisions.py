"""What DVC has of a git revision or an experiment, copied to a folder that is read like the
repository.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.corpus.changes import Version
from stages.revisions import files_of
from stages.version_changes import prepared, prepared_at

WANTED = (
    "metrics/compare",
    "metrics/evaluate",
    "metrics/details",
    "metrics/curves",
    "metrics/prepare",
    "build/config/train",
    "data/scored",
    "data/predictions",
)
"""Of these everything; of the tasks that are compared the held-out rows too, and of runs their
lineage.
"""


@dataclass(frozen=True)
class Copy:
    """A repository's outputs: the workspace's, or those of a revision, in a folder of their own.

    revision: "" for the workspace.   missing: paths whose content could not be had.   files: of the
    revision, from which more is copied when it is asked for.
    """

    folder: Path
    revision: str = ""
    missing: tuple[str, ...] = ()
    files: Any = None

    def label(self, name: str) -> str:
        """What the page calls a run or a corpus."""
        return f"{name}@{self.revision}" if self.revision else name

    def corpus(self, task: str, name: str) -> Version:
        """A corpus version's prepared rows. Raises UserError where one of its parts is nowhere."""
        if self.revision:
            return prepared_at(self.revision, self.files, task, name, self.folder)
        return prepared(task, name, self.folder)


def copied(revision: str, tasks: list[str], folder: Path) -> Copy:
    """A revision's outputs of some tasks, as far as the cache or a remote has them, in `folder`.

    Raises UserError for a revision that there is not.
    """
    files = files_of(revision)
    wanted = [*WANTED, *(f"data/prepared/{task}/test" for task in tasks)]
    paths, missing = list[str](), list[str]()
    for place in wanted:
        try:
            paths += files.find(place)
        except Exception:  # what a folder holds is in the cache, whose errors are not DVC's own
            missing.append(place)
    models = files.ls("models", detail=False) if files.exists("models") else []
    paths += [f"{model}/lineage.json" for model in models if Path(model).name != "bases"]
    for path in paths:
        kept = folder / path
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            files.get_file(path, str(kept))
        except Exception:  # as above
            kept.unlink(missing_ok=True)
            missing.append(path)
    return Copy(folder, revision, tuple(missing), files)
