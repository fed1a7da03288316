"""push: what a run needs, to a remote."""

import subprocess
import sys

import typer

from stages.commands.needed_files import Remote, Runs, lacking, locked, needs_of, reached, told
from stages.errors import UserError
from stages.params import load_params


def push(runs: Runs, remote: Remote = "") -> None:
    """Give a remote what `pull` of a run fetches, and nothing else. `dvc push` gives it everything.

    Examples:

      python -m stages push typst-003

      python -m stages push gec-002 typst-003 --remote backup
    """
    from dvc.repo import Repo

    needs = needs_of(load_params(), runs)
    with Repo() as repo:
        there, shown = reached(repo, remote)
        targets, outputs = locked(repo, needs)
        lacks = {
            path: (out, runs)
            for path, (out, runs) in lacking(outputs).items()
            if not there.odb.exists(out.hash_info.value)
        }
    if lacks:
        raise UserError(
            f"neither DVC's cache here nor {shown} has all files: {told(lacks)}; "
            f"`dvc repro evaluate@{runs[0]}` makes what is missing"
        )
    named = ["--remote", remote] if remote else []
    done = subprocess.run([sys.executable, "-m", "dvc", "push", *named, *targets])
    if done.returncode:
        raise UserError(f"dvc push: failed with exit code {done.returncode}; see above")
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", "dvc.lock", "params.yaml", "data", "metrics"],
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    if changed:
        names = ", ".join(line[3:] for line in changed)
        typer.echo(f"Note:  commit {names}; others pull by what git has")
