"""train: a corpus version, a parent and settings -> models/RUN and its loss curve.

A training that was killed goes on where it was.
"""

import csv
import hashlib
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from stages import backends, command_line, stage_config
from stages.backends.shared import checkpoints, model_folders, workers
from stages.backends.shared.fingerprint import fingerprint, md5
from stages.backends.shared.place import own_place
from stages.entries import Run
from stages.files import as_json, atomic_write, require_writable, write_json
from stages.records import RowFile
from stages.settings import Settings


def main(
    run: str,
    first_steps: Annotated[
        Path | None,
        typer.Option(help="make the first steps alone and write the checksum of their weights"),
    ] = None,
) -> None:
    workers.heed_interrupt()
    config = stage_config.load("train", run)
    conduct = stage_config.load(stage_config.CONDUCT, run)
    spec = Run.model_validate(config["run"])
    report_to = conduct.pop("report_to")
    settings = Settings.model_validate(config["settings"] | conduct)
    if workers.is_spread(settings.launch, settings.device):
        workers.run(["-m", "stages.train", *sys.argv[1:]], settings.launch, settings.device)
        return
    train, valid = (Path("data/mixed", run, f"{part}.jsonl") for part in ("train", "valid"))
    train_rows, valid_rows = RowFile(train), RowFile(valid)
    backend = backends.load(settings.backend, settings.exact)
    name, leads = checkpoints.folder_name(run, spec), own_place().leads
    if first_steps:
        with folder_of(f"{name}-first-steps") as folder, workers.ended_together():
            trained = backend.train(
                f"{run}-first-steps",
                spec,
                settings,
                train_rows,
                valid_rows,
                folder,
                first_steps_only=True,
            )
            if leads:
                write_json(first_steps, trained.first_steps_md5)
        return

    curve = Path("metrics/curves", spec.task, f"{run}.csv")
    require_writable(Path("models"), curve.parent, Path("logs"))
    with folder_of(name) as folder, workers.ended_together():
        trained = backend.train(run, spec, settings, train_rows, valid_rows, folder, report_to)
        if not leads:
            return
        trained.save(Path("models", run))
        write_json(
            Path("models", run, model_folders.LINEAGE),
            {
                "run": run,
                "task": spec.task,
                "corpus": {
                    "name": spec.corpus,
                    "shares": config["shares"],
                    "train_md5": md5(train),
                    "valid_md5": md5(valid),
                },
                "base": model_folders.identity(spec.base),
                "parent": {"path": spec.parent, "md5": fingerprint(Path(spec.parent))},
                "config_md5": hashlib.md5(
                    as_json(config["settings"]).encode(), usedforsecurity=False
                ).hexdigest(),
                "rows": trained.rows,
                "rows_too_long": trained.rows_too_long,
                "steps": trained.steps,
                "best_step": trained.best_step,
                "first_steps_md5": trained.first_steps_md5,
                "precision": trained.precision,
                "computed_on": trained.computed_on,
            }
            | ({"processes": own_place().size} if own_place().size > 1 else {}),
        )
        write_curve(curve, run, trained.history)


def folder_of(name: str) -> AbstractContextManager[Path]:
    """Where a training keeps its checkpoints, held by the first of its processes."""
    if own_place().leads:
        return checkpoints.locked_folder(name)
    return nullcontext(checkpoints.root() / name)


def write_curve(path: Path, run: str, history: list[dict[str, float]]) -> None:
    """A Trainer's history as rows for dvc plots: the same however often the training was
    resumed.
    """
    names = {"loss": "train", "eval_loss": "valid"}
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("run", "step", "split", "loss"))
        for entry in history:
            writer.writerows(
                (run, entry["step"], names[key], f"{entry[key]:.6f}")
                for key in names.keys() & entry.keys()
            )


if __name__ == "__main__":
    command_line.run(main, __doc__)
