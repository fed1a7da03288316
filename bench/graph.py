"""W5. What the graph costs: `dvc repro` of the finished default graph, where nothing has changed,
beside as many empty stages.

The empty stages form chains as the graph does: each reads the file that the one before it wrote.
Timed as a whole command.
"""

import subprocess
from pathlib import Path

import yaml

from bench.turns import Work, Workload

QUIET = {"check": True, "capture_output": True}
REPEATS = 3


def stages() -> int:
    listed = subprocess.run(["dvc", "stage", "list", "--name-only"], text=True, **QUIET)
    return len(listed.stdout.split())


def make(folder: Path) -> None:
    """A repository in which as many stages copy a line from the one before."""
    empty = folder / "empty"
    if (empty / "dvc.lock").exists():
        return
    empty.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "init", "--quiet"], cwd=empty, **QUIET)
    subprocess.run(["dvc", "init", "--quiet"], cwd=empty, **QUIET)
    (empty / "0.txt").write_text("nothing\n", encoding="utf-8")
    chain = {
        f"stage-{at}": {
            "cmd": f"cp {at}.txt {at + 1}.txt",
            "deps": [f"{at}.txt"],
            "outs": [f"{at + 1}.txt"],
        }
        for at in range(stages())
    }
    (empty / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": chain}, sort_keys=False), encoding="utf-8"
    )
    subprocess.run(["dvc", "repro"], cwd=empty, **QUIET)


def repro(where: Path) -> Work:
    work = Work(done=REPEATS)
    with work.timed():
        for _ in range(REPEATS):
            done = subprocess.run(["dvc", "repro"], cwd=where, text=True, **QUIET)
    if "up to date" not in done.stdout:
        raise SystemExit(f"{where}: the graph was not finished; run `make repro` first")
    return work


def ours(_: Path) -> Work:
    work = repro(Path())
    work.same = {"stages": stages()}
    return work


def empty(folder: Path) -> Work:
    work = repro(folder / "empty")
    work.same = {"stages": stages()}
    return work


WORKLOADS = {
    "graph": Workload(
        "`dvc repro` where nothing has changed",
        "commands",
        make,
        {"ours": ours, "as many empty stages": empty},
        {"as many empty stages": 1 / 1.3},
    )
}
