"""pull: what a run needs, from a remote."""

import subprocess
import sys

import typer

from stages.commands.needed_files import Remote, Runs, lacking, locked, needs_of, reached, told
from stages.errors import UserError
from stages.params import load_params


def pull(runs: Runs, remote: Remote = "") -> None:
    """Fetch what a run needs and nothing else: it and its parents with their base, their answers
    and scores, and the task's corpora. It can then be asked, shown and continued without training
    its parents again.

    What made its base stays in the remote; `dvc pull --with-deps evaluate@RUN` has that too.

    Examples:

      python -m stages pull typst-003

      python -m stages pull gec-002 typst-003 --remote backup
    """
    from dvc.repo import Repo

    needs = needs_of(load_params(), runs)
    with Repo() as repo:
        shown = reached(repo, remote)[1]
        targets, _ = locked(repo, needs)
    named = ["--remote", remote] if remote else []
    done = subprocess.run([sys.executable, "-m", "dvc", "pull", *named, *targets])
    with Repo() as repo:  # anew, because a Repo keeps what it has read
        lacks = lacking(locked(repo, targets)[1])
    if lacks:
        raise UserError(
            f"{shown}: lacks files: {told(lacks)}; `python -m stages push "
            f"{' '.join(runs)}` in a clone that has them puts them there"
        )
    if done.returncode:
        raise UserError(f"dvc pull: failed with exit code {done.returncode}; see above")
    typer.echo(
        f"Next:  python -m stages apply {runs[-1]}; or `new`, then `dvc repro --allow-missing "
        "evaluate@RUN`, which trains the new run alone"
    )
