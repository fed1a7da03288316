"""A corpus of many short texts, prepared, mixed and trained on up to the first step, twice: what each stage
takes in time and memory -> bench/large.csv, a line for each stage and number of rows.

    python -m bench.large 1000000 10000000        needs a base: models/bases/tiny, or --base FOLDER

Each stage is a process of its own. `cpu_s` is that of all its processes, `peak_mb` the resident memory of
the one that is asked, `other_mb` of the largest that it began. The raw file is made in --folder, with some
150 bytes a row of what the stages write; it is removed afterwards."""

import argparse
import csv
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import yaml

RESULT = Path("bench/large.csv")
STAGES = ("prepare", "mix", "train", "train again")
COLUMNS = (
    "rows",
    "stage",
    "seconds",
    "cpu_s",
    "rows_per_cpu_s",
    "before_mb",
    "peak_mb",
    "other_mb",
)
WORDS, OF_A_TEXT = 20_000, 5


class Begun(Exception):
    """A training is at its first step."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.large",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("rows", nargs="+", type=int)
    parser.add_argument("--base", type=Path, default=Path("models/bases/tiny"))
    parser.add_argument("--folder", type=Path, default=Path(".scratch/bench/large"))
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(measured(options.stage, options.rows[0], options.folder)))
        return
    lines = RESULT.read_text(encoding="utf-8").splitlines() if RESULT.is_file() else []
    known = [*csv.DictReader(lines)]
    kept = [each for each in known if int(each["rows"]) not in options.rows]
    for rows in options.rows:
        folder = (options.folder / str(rows)).absolute()
        shutil.rmtree(folder, ignore_errors=True)
        make(folder, rows, options.base.absolute())
        for stage in STAGES:
            command = [sys.executable, "-m", "bench.large", str(rows), "--stage", stage]
            done = subprocess.run(
                [*command, "--folder", folder], stdout=subprocess.PIPE, text=True, check=True
            )
            kept.append(json.loads(done.stdout.splitlines()[-1]))
            print({name: kept[-1][name] for name in COLUMNS}, flush=True)
        shutil.rmtree(folder)
    with RESULT.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(kept, key=lambda each: int(each["rows"])))


def make(folder: Path, rows: int, base: Path) -> None:
    """The raw file and a params.yaml of one corpus and one run, configured."""
    folder.mkdir(parents=True)
    rng = random.Random(rows)
    letters = "abcdefghijklmnoprstuvwz"
    words = ["".join(rng.choices(letters, k=rng.randrange(3, 8))) for _ in range(WORDS)]
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(rows):
            file.write(f'{{"text": "{" ".join(rng.choices(words, k=OF_A_TEXT))}"}}\n')
    run = {"task": "lm", "corpus": "lm-001", "base": str(base), "parent": str(base)}
    once = {"num_train_epochs": 1, "max_steps": 0, "max_eval_batches": 2}
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8")) | {
        "allow_outside": True,
        "corpora": {"lm-001": {"task": "lm", "file": "corpus.jsonl", "max_drop_fraction": 1.0}},
        "runs": {"lm-001": run | once},
        "compare": ["lm"],
    }
    params |= {key: {} for key in ("synthetic", "sources", "bases", "variants")}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "stages.configure"]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def measured(stage: str, rows: int, folder: Path) -> dict[str, object]:
    """What a stage takes here, without the time that its imports take."""
    os.environ["PYTHONPATH"] = str(Path.cwd())  # of the processes that it begins
    os.chdir(folder)
    if stage == "prepare":
        from stages import prepare as module
    elif stage == "mix":
        from stages import mix as module  # type: ignore[no-redef]
    else:
        from stages import train as module  # type: ignore[no-redef]
        from stages.backends.pytorch import fit, trainer

        def begun(*_: object, **__: object) -> None:
            raise Begun

        assert fit
        trainer.LabelledTrainer.training_step = begun  # type: ignore[assignment]
    before, begins, used = resident_mb(), time.monotonic(), cpu_seconds()
    with suppress(Begun):
        module.main("lm-001")
    cpu = max(cpu_seconds() - used, 0.01)
    return {
        "rows": rows,
        "stage": stage,
        "seconds": round(time.monotonic() - begins, 1),
        "cpu_s": round(cpu, 1),
        "rows_per_cpu_s": round(rows / cpu),
        "before_mb": before,
        "peak_mb": peak_mb(resource.RUSAGE_SELF),
        "other_mb": peak_mb(resource.RUSAGE_CHILDREN),
    }


def cpu_seconds() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in both)


def peak_mb(who: int) -> int:
    return round(resource.getrusage(who).ru_maxrss / 1024)


def resident_mb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


if __name__ == "__main__":
    main()
