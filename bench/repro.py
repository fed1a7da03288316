"""`make repro` as a newcomer gives it: how long it takes in an empty clone, and where the time goes
-> bench/repro.md. First as it is committed, then with `exact: machine`, by all that the processor has.

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
HEAD = """# `make repro` in an empty clone

By `python -m bench.repro`. Stages run side by side, so that their times add up to more than the whole.
"""
# A number of threads decides bytes here, so that it has to be said; with two stages at once it is one for each.
MACHINE = {"  exact: portable\n": "  exact: machine\n", "  threads: 0 ": "  threads: 1 "}


def main() -> None:
    if len(sys.argv) > 2 or sys.argv[-1].startswith("-"):
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1] if len(sys.argv) == 2 else ".scratch/bench/repro")
    parts = [timed(folder / "portable", {}), timed(folder / "machine", MACHINE)]
    RESULT.write_text("\n".join([HEAD, *parts]), encoding="utf-8")
    print(f"{RESULT}: written")


def timed(folder: Path, instead: dict[str, str]) -> str:
    """A clone in which lines of params.yaml are others; what `make repro` took there, as a part of the report."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", ".", str(folder)], check=True)
    params = folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    for line, other in instead.items():
        if text.count(line) != 1:
            raise SystemExit(f"params.yaml has `{line.strip()}` {text.count(line)} times, not once")
        text = text.replace(line, other)
    params.write_text(text, encoding="utf-8")
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
    return report(lines, installed, whole, changed, instead)


def report(
    lines: list[str], installed: float, whole: float, changed: str, instead: dict[str, str]
) -> str:
    """The table that `stages repro` ends with, beside the processor and the whole time."""
    cells = [re.split(" *│ *", line.strip().strip("│").strip()) for line in lines if "│" in line]
    parts = [row for row in cells if len(row) == 4 and row[1].isdecimal()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in parts)
    files = ", ".join(line[3:] for line in changed.splitlines()) or "empty"
    settings = " and ".join(f"`{other.strip()}`" for other in instead.values())
    after = "" if instead else f" `git status` afterwards: {files}."
    return f"""## {f"With {settings}" if instead else "As it is committed"}

{datetime.date.today()}, {processor()}: {duration(whole)} in all, {duration(installed)} of it the installation.{after}

| stages | number | time together | longest |
|---|---|---|---|
{table}
"""


def processor() -> str:
    import torch

    told = Path("/proc/cpuinfo")
    text = told.read_text() if told.is_file() else ""
    said = [re.search(rf"^{key}\s*: (.*)", text, re.M) for key in ("model name", "cpu family")]
    # Cloud machines leave the generation out of the name; the family has it.
    name = " family ".join(found[1] for found in said if found) or platform.processor()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{psutil.cpu_count(logical=False)} cores of {name}, {capability}"


if __name__ == "__main__":
    main()
