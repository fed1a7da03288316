"""`make repro` as a newcomer gives it: how long it takes in an empty clone, and where the time goes
-> bench/repro.md.

    python -m bench.repro            in .scratch/bench/repro, which is removed before
    python -m bench.repro FOLDER

What is committed is cloned. The installation takes packages from pip's cache where they are there."""

import datetime
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from stages.progress_lines import duration

RESULT = Path("bench/repro.md")


def main() -> None:
    if len(sys.argv) > 2 or sys.argv[-1].startswith("-"):
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1] if len(sys.argv) == 2 else ".scratch/bench/repro")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", ".", str(folder)], check=True)
    begun = time.monotonic()
    installed, lines = 0.0, list[str]()
    process = subprocess.Popen(
        ["make", "repro"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
        if "stages repro" in line:  # make's echo of what follows the installation
            installed = time.monotonic() - begun
    if process.wait():
        raise SystemExit(f"{folder}: make repro failed; see above")
    whole = time.monotonic() - begun
    changed = subprocess.run(
        ["git", "status", "--short"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout
    RESULT.write_text(report(lines, installed, whole, changed), encoding="utf-8")
    print(f"{RESULT}: written")


def report(lines: list[str], installed: float, whole: float, changed: str) -> str:
    """The table that `stages repro` ends with, beside the processor and the whole time."""
    cells = [re.split(" *│ *", line.strip().strip("│").strip()) for line in lines if "│" in line]
    parts = [row for row in cells if len(row) == 4 and row[1].isdecimal()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in parts)
    files = ", ".join(line[3:] for line in changed.splitlines()) or "empty"
    return f"""# `make repro` in an empty clone

`python -m bench.repro`, {datetime.date.today()}: {processor()}.

{duration(whole)} in all, {duration(installed)} of it the installation. `git status` afterwards: {files}.

| stages | number | time together | longest |
|---|---|---|---|
{table}

Stages run side by side, so that their times add up to more than the whole.
"""


def processor() -> str:
    import torch

    named = Path("/proc/cpuinfo")
    names = re.findall("model name.*: (.*)", named.read_text()) if named.is_file() else []
    name = names[0] if names else platform.processor()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{psutil.cpu_count(logical=False)} cores of {name}, {capability}"


if __name__ == "__main__":
    main()
