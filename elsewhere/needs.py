"""The stages whose outputs a run's training reads, on one line: python elsewhere/needs.py RUN

What has to be there before the training begins on several machines at once.
"""

import sys

from dvc.exceptions import DvcException
from dvc.repo import Repo


def main(run: str) -> None:
    with Repo() as repo:
        try:
            (training,) = repo.stage.collect(f"train@{run}")
        except DvcException:
            print(f"{run}: no run of params.yaml has this name", file=sys.stderr)
            raise SystemExit(2) from None
        print(*sorted(stage.addressing for stage in repo.index.graph.successors(training)))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    main(sys.argv[1])
