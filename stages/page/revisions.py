"""What DVC has of a git revision or an experiment, copied to a folder that is read like the
repository.
"""

from pathlib import Path

from stages.revisions import files_of

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


def copied(revision: str, tasks: list[str], folder: Path) -> list[str]:
    """Copy a revision's outputs of some tasks into `folder`; the paths of which neither the cache
    nor a remote has the content.

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
    return missing
