"""repro: `dvc repro`, and before it a proof that an edit of the code changes no training."""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stages import stage_config
from stages.commands import side_by_side
from stages.errors import UserError
from stages.files import as_json


def repro(
    targets: Annotated[
        list[str] | None, typer.Argument(help="stages, such as train@gec-002; else the whole graph")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="prove that an edit changes no training, and keep it")
    ] = False,
    jobs: Annotated[
        str,
        typer.Option(
            "--jobs",
            "-j",
            help="stages at once, each with its share of the cores or a GPU; or auto",
        ),
    ] = "1",
) -> None:
    """Reproduce the graph as `dvc repro` does; with --jobs, several stages at once; with --verify,
    keep what an edit has not changed.

    --jobs runs stages side by side that do not depend on each other, and writes what `dvc repro`
    writes. Where one fails, what does not depend on it goes on. A training waits while the memory
    that is planned for it is not free. Ctrl-C ends all at their next step; the same command goes
    on from there.

    --verify looks at each trained run whose code or packages alone have changed. It makes the first
    20 steps again and compares the weights, byte for byte, with those that lineage.json notes.
    Where they are the same, dvc.lock takes the new code and the run is not trained again. That
    proves the data and their order, the start, the loss, the gradients and the optimizer; it does
    not prove what comes later: evaluations, early stopping, the choice of the best step, saving,
    the loss curve and lineage.json. To prove these too, call `dvc repro` without it and look at
    `git diff dvc.lock`: outputs that came out the same have the same checksum there.

    Examples:

      python -m stages repro --jobs auto

      python -m stages repro --verify

      python -m stages repro --verify train@gec-002
    """
    at_once = side_by_side.as_many(jobs)
    if "" in (targets or []):
        raise UserError("repro: an empty target; name a stage, or give none for the whole graph")
    if verify:
        dvc("repro", "configure")
        verified(changed_in_code_alone(targets or []))
    if at_once > 1:
        side_by_side.reproduce(targets or [], at_once)
    else:
        dvc("repro", *(targets or []))


def verified(runs: list[str]) -> None:
    """Make the first steps of each run again; enter those that came out the same into dvc.lock."""
    table = Table("run", "first steps", title="code or packages have changed, nothing else")
    same = []
    for run in runs:
        before, now = lineage(run).get("first_steps_md5"), first_steps_md5(run)
        table.add_row(run, "the same" if now == before else "differ: it is trained again")
        same += [run] if now == before else []
    if runs:
        Console().print(table)
    if same:
        dvc("commit", "--force", *(f"train@{run}" for run in same))
    typer.echo(f"{len(same)} of {len(runs)} trainings proved to be the same in their first steps")


def changed_in_code_alone(targets: list[str]) -> list[str]:
    """Runs, also those that the targets stand on, of which DVC knows no other change than that of
    their config, and whose config has the settings that they were trained with.
    """
    status = json.loads(
        dvc("status", "--json", *(["--with-deps", *targets] if targets else []), shown=False)
    )
    found = []
    for stage, changes in status.items():
        kind, _, run = stage.partition("@")
        config = stage_config.CONFIG / kind / f"{run}.json"
        if kind == "train" and changes == [{"changed deps": {config.as_posix(): "modified"}}]:
            now, then = stage_config.load("train", run), lineage(run)
            settings = hashlib.md5(as_json(now["settings"]).encode(), usedforsecurity=False)
            spec = (now["run"]["task"], now["run"]["corpus"], now["run"]["parent"])
            if settings.hexdigest() == then["config_md5"] and spec == (
                then["task"],
                then["corpus"]["name"],
                then["parent"]["path"],
            ):
                found.append(run)
    return found


def first_steps_md5(run: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "md5.json")
        command = [sys.executable, "-m", "stages.train", run, "--first-steps", str(path)]
        if subprocess.run(command).returncode:
            raise UserError(f"{run}: its first steps could not be made again; see above")
        return str(json.loads(path.read_text(encoding="utf-8")))


def lineage(run: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(
        Path("models", run, "lineage.json").read_text(encoding="utf-8")
    )
    return record


def dvc(*arguments: str, shown: bool = True) -> str:
    """Run dvc; what it prints, or "" where it is shown. Raises UserError where it fails."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, stdout=None if shown else subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError(
            f"dvc {' '.join(arguments)}: failed with exit code {done.returncode}; see above"
        )
    return done.stdout or ""
