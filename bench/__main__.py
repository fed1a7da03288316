"""Ours beside what a user would pick instead: the same work in turn, on this machine, in one run ->
bench/results.md.

make bench                                   every workload; needs a finished `make repro` and about an hour
python -m bench finetune predict --turns 5   these alone; the others' sections of bench/results.md stay
"""

import argparse
import platform
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.turns import in_turn, section, take

MODULES = (
    "finetune",
    "pretrain",
    "predict",
    "pretrained",
    "serving",
    "prepare",
    "graph",
    "qlora_step",
)
WORKLOADS = {
    name: workload
    for module in MODULES
    for name, workload in import_module(f"bench.{module}").WORKLOADS.items()
}
RESULTS = Path("bench/results.md")
HEAD = "# Measured side by side\n\n`make bench`. What each figure means and what was tried is in [NOTES.md](NOTES.md).\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="WORKLOAD", help=", ".join(WORKLOADS))
    parser.add_argument("--turns", type=int, default=3, help="of each side (3)")
    parser.add_argument(
        "--folder", type=Path, default=Path(".scratch/bench"), help="for what is made on the way"
    )
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        WORKLOADS[options.names[0]].make(options.folder)
        return
    if options.side:
        print(take(WORKLOADS[options.names[0]].sides[options.side], options.folder))
        return
    if unknown := set(options.names) - WORKLOADS.keys():
        parser.error(
            f"{', '.join(sorted(unknown))}: no such workload; there are {', '.join(WORKLOADS)}"
        )
    card = cuda_device()
    for name in options.names or WORKLOADS:
        if WORKLOADS[name].needs_cuda and not card:
            print(f"{name}: needs a CUDA device; left out")
            continue
        folder = (options.folder / name).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        turns = in_turn(name, WORKLOADS[name], folder, options.turns)
        write(
            name, section(name, WORKLOADS[name], turns) + conditions(options.turns, card or cpu())
        )


def cuda_device() -> str:
    """The name of the CUDA device, or "". Asked elsewhere: a process's peak memory begins with what
    its parent has loaded.
    """
    command = (
        "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    )
    return subprocess.run(
        [sys.executable, "-c", command], text=True, capture_output=True, check=True
    ).stdout.strip()


def conditions(turns: int, where: str) -> str:
    packages = ", ".join(
        f"{package} {version(package)}"
        for package in ("torch", "transformers", "peft", "trl", "mlx-lm", "dvc")
    )
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{where}, {memory:.0f} GiB, Python {platform.python_version()}"
    return f"\n{turns} turn{'s' * (turns > 1)} each; {machine}; {packages}.\n"


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        re.findall(r"model name\s*: (.*)", info.read_text(encoding="utf-8"))
        if info.is_file()
        else []
    )
    return f"{psutil.cpu_count()} cores ({names[0] if names else platform.processor()})"


def write(name: str, text: str) -> None:
    """Results with this workload's section in its place."""
    known = RESULTS.read_text(encoding="utf-8") if RESULTS.is_file() else ""
    sections = {part.split(":", 1)[0]: f"## {part.rstrip()}\n" for part in known.split("\n## ")[1:]}
    sections[name] = text
    RESULTS.write_text(
        "\n".join([HEAD, *(sections[other] for other in WORKLOADS if other in sections)]),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
