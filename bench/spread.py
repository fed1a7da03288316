"""One run in one process with all cores, and in as many processes as there are cores with one thread each -> bench/spread.md.

    python -m bench.spread gec-002 lm-001         runs that `dvc repro` has made here: their rows and parents are taken
    python -m bench.spread --turns 5 gec-002

Each training makes STEPS steps, at settings of the run but with AdamW, which fsdp takes too, in a folder of its own; the ways take turns. Tokens/s are those of the log's
last report, memory is what the first process had resident at most."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.repro import processor
from stages.processes import cores

RESULT = Path("bench/spread.md")
STEPS = 40
HEAD = """# One run in several processes

By `python -m bench.spread {runs}`: {turns} turns, median tokens/s, each beside one process with {cores} threads in the same turn.
{machine}.

| run | way | tokens/s | beside one process | MB of the first process |
|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    count = cores()
    ways = {f"1 process, {count} threads": (1, "ddp", count)}
    ways |= {f"{count} processes, 1 thread, {name}": (count, name, 1) for name in ("ddp", "fsdp")}
    rows = []
    for run in asked.runs:
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for turn in range(asked.turns):
            for name, (processes, strategy, threads) in ways.items():
                found[name].append(trained(run, processes, strategy, threads))
                print(
                    f"{run}, turn {turn + 1}, {name}: {found[name][-1][0]:,.0f} tokens/s",
                    flush=True,
                )
        one = [rate for rate, _ in next(iter(found.values()))]
        for name, measured in found.items():
            ratio = statistics.median(
                rate / of_one for (rate, _), of_one in zip(measured, one, strict=True)
            )
            rate, memory = (statistics.median(each) for each in zip(*measured, strict=True))
            rows.append(f"| {run} | {name} | {rate:,.0f} | {ratio:.2f} | {memory:,.0f} |\n")
    head = HEAD.format(
        runs=" ".join(asked.runs), turns=asked.turns, cores=count, machine=processor()
    )
    RESULT.write_text(head + "".join(rows), encoding="utf-8")
    print(f"{RESULT}: written")


def trained(run: str, processes: int, strategy: str, threads: int) -> tuple[float, float]:
    """(tokens/s, MB of the first process)."""
    folder = Path(".scratch/bench/spread").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    for kind in ("train", "conduct"):
        config: dict[str, Any] = json.loads(
            Path("build/config", kind, f"{run}.json").read_text(encoding="utf-8")
        )
        if kind == "train":
            config["settings"] |= {
                "optim": "adamw_torch",
                "max_steps": STEPS,
                "eval_steps": STEPS,
                "logging_steps": STEPS // 2,
            }
        else:
            launch = {"processes": processes, "nodes": 1, "strategy": strategy}
            config |= {"threads": threads, "launch": launch}
        path = folder / "build/config" / kind / f"{run}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(config), encoding="utf-8")
    for name in ("stages", "models", "data/mixed"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name == "models":
            shutil.copytree(name, folder / name)
        else:
            (folder / name).symlink_to(Path(name).absolute())
    subprocess.run(
        [sys.executable, "-m", "stages.train", run],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "DVC_ROOT": str(folder)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    records = [
        json.loads(line)
        for line in (folder / "logs" / f"{run}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    rate = [record["tokens_per_second"] for record in records if "tokens_per_second" in record][-1]
    memory = next(
        record["memory/measured_bytes"] for record in records if "memory/measured_bytes" in record
    )
    return rate, memory / 2**20


if __name__ == "__main__":
    main()
