"""`kill -9` at random moments, and whether the same command, given again, ends where an undisturbed
one does.

    python -m tests.kills FOLDER                            20 kills over the whole default graph at nano settings
    python -m tests.kills OTHER --of FOLDER/calm --kills 5 -- exp run --temp -S runs.reward-002.lora.r=8
    python -m tests.kills VERBS --of FOLDER/calm --kills 60 --verbs                          commands and stages by themselves

FOLDER/calm and FOLDER/disturbed are clones at nano settings, or copies of one where the graph has
run; behind `--` stands the dvc command, `repro` if nothing. Kills go to a stage's process, to dvc,
or to both. Prints a line for each, and ends with exit code 1 unless the locks are equal: the
workspace's, or those of the experiments."""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from stages.backends.shared.fingerprint import md5
from tests import nano
from tests.conftest import ENVIRONMENT

ORPHAN_SECONDS = 120
"""What a stage that outlives its dvc may take to end."""


def start(folder: Path, *command: str) -> psutil.Popen:
    with (folder / "kills.log").open("ab") as log:
        return psutil.Popen(
            ["dvc", *command], cwd=folder, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT
        )


def stages(process: psutil.Process) -> list[psutil.Process]:
    """What runs a stage under this dvc, its shell included."""
    found = []
    with suppress(psutil.Error):
        for child in process.children(recursive=True):
            with suppress(psutil.Error):
                if any("stages." in argument for argument in child.cmdline()):
                    found.append(child)
    return found


def strike(process: psutil.Popen, victim: str) -> list[psutil.Process]:
    """Kill; what is left running."""
    running = stages(process)
    targets = {"stage": running, "dvc": [process], "both": [process, *running]}[victim] or [process]
    for target in targets:
        with suppress(psutil.Error):
            target.send_signal(signal.SIGKILL)
    process.wait()
    return [stage for stage in running if stage.is_running()]


def take_back_half_a_lock(folder: Path, before: str) -> None:
    """DVC writes dvc.lock in place, and a kill in that instant leaves its first half. What to do
    then, docs/reliability.md says: what git has of it, or none where git has none.

    before: what it held when the command was given.
    """
    lock = folder / "dvc.lock"
    text = lock.read_text(encoding="utf-8") if lock.is_file() else ""
    if before.count("\n  ") > text.count("\n  ") or (not text.endswith("\n") and text):
        print("dvc.lock was being written: git checkout dvc.lock", flush=True)
        lock.unlink()
        subprocess.run(["git", "checkout", "--quiet", "dvc.lock"], cwd=folder)


def disturbed(
    folder: Path, command: list[str], kills: int, seconds: float, rng: random.Random
) -> Counter[str]:
    """Run the command again and again until it ends well, killed so many times before; which kills
    there were.

    seconds: between kills, on average.
    """
    struck: Counter[str] = Counter()
    while True:
        lock = folder / "dvc.lock"
        before = lock.read_text(encoding="utf-8") if lock.is_file() else ""
        process = start(folder, *command)
        try:
            left = None if struck.total() == kills else rng.uniform(0.5, 2 * seconds)
            if process.wait(timeout=left) == 0:
                return struck
            raise SystemExit(
                f"{folder}: dvc {' '.join(command)} failed by itself; see kills.log there"
            )
        except psutil.TimeoutExpired:
            victim = rng.choice(("stage", "dvc", "both"))
            orphans = strike(process, victim)
            struck[victim] += 1
            print(
                f"kill {struck.total()}: {victim}{', a stage outlived it' if orphans else ''}",
                flush=True,
            )
            if (
                rng.random() < 0.5
            ):  # else the command is given again beside what is left of the last one
                psutil.wait_procs(orphans, timeout=ORPHAN_SECONDS)
            take_back_half_a_lock(folder, before)


def locks(folder: Path, command: list[str]) -> set[str]:
    """The lock that the command left: in the workspace, or in the experiments that it made
    elsewhere."""
    if "--temp" not in command:
        return {(folder / "dvc.lock").read_text(encoding="utf-8")}
    listed = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname)", "refs/exps"], cwd=folder, **TEXT
    )
    # A kill while DVC sets an experiment up leaves refs/exps/temp, which hold what it began with.
    made = [name for name in listed.stdout.split() if not name.startswith("refs/exps/temp/")]
    shown = [
        subprocess.run(["git", "show", f"{name}:dvc.lock"], cwd=folder, **TEXT).stdout
        for name in made
    ]
    return {text for text in shown if text}


class Verb(NamedTuple):
    """A command that writes.   final: what it makes, as the last thing that needs long.   half: what
    stands there while it does."""

    command: tuple[str, ...]
    final: str
    half: str


VERBS = {
    "new": Verb(
        ("stages", "new", "gec", "big.tsv", "--test-only"),
        "data/gec/train_003.tsv",
        "data/gec/train_003.tsv.partial",
    ),
    "prepare": Verb(
        ("stages.prepare", "gec-003"),
        "data/prepared/gec/test/gec-003.jsonl",
        "data/prepared/gec/test/.gec-003.jsonl.partial",
    ),
    "predict": Verb(
        ("stages.predict", "gec-001"),
        "data/predictions/gec-001.jsonl",
        "data/predictions/.gec-001.jsonl.partial",
    ),
    "evaluate": Verb(
        ("stages.evaluate", "gec-001"),
        "data/scored/gec/gec-001.jsonl",
        "data/scored/gec/.gec-001.jsonl.partial",
    ),
    "export": Verb(
        ("stages", "export", "gec-001", "-o", "build/gec-001"),
        "build/gec-001",
        "build/.gec-001.partial",
    ),
    "report": Verb(
        ("stages", "report"), "build/report/index.html", "build/report/.index.html.partial"
    ),
}
"""In the order in which they are given; `big.tsv` is what `new` takes in."""
BIG_ROWS = 1000


def struck_verbs(
    calm: Path, other: Path, kills: int, rng: random.Random
) -> tuple[Counter[str], int]:
    """Every verb undisturbed in `calm`, and in `other` killed before it is given to its end. How
    many kills each got, and how many left half of what it writes.

    Raises AssertionError where something half made has its final name, or where other files are
    there in the end, or others in them.
    """
    for folder in (calm, other):
        rows = (f"{row}\t水<が>（を）{row}回飲む。\tParticle\n" for row in range(BIG_ROWS))
        (folder / "big.tsv").write_text("".join(rows), encoding="utf-8")
    struck, halves = Counter[str](), 0
    for place, (name, verb) in enumerate(VERBS.items()):
        before, begun = tree(other, verb.final), time.monotonic()
        assert give(calm, verb).wait() == 0, f"{name} failed undisturbed; see kills.log in {calm}"
        seconds, made = time.monotonic() - begun, tree(calm, verb.final)
        for _ in range(kills * place // len(VERBS), kills * (place + 1) // len(VERBS)):
            strike_verb(other, verb, seconds, rng)
            struck[name] += 1
            halves += (other / verb.half).exists()
            found = tree(other, verb.final)
            assert found in (before, made), f"{name}: half of {verb.final}"
            take_away(other, name)
        assert give(other, verb).wait() == 0, f"{name} failed after its kills; see kills.log"
        if name == "new":
            for folder in (calm, other):
                configure = [sys.executable, "-m", "stages.configure"]
                subprocess.run(configure, cwd=folder, env=ENVIRONMENT, **TEXT)
    assert tree(calm) == tree(other)
    return struck, halves


def strike_verb(folder: Path, verb: Verb, seconds: float, rng: random.Random) -> None:
    """Kill a verb, or it and its children: at a random moment of the seconds that it takes, or,
    every other time, shortly after it has begun to write, under its final name or another.
    """
    before = [identity(folder / name) for name in (verb.final, verb.half)]
    process = give(folder, verb)
    when, sees_half = time.monotonic() + rng.uniform(0, seconds), rng.random() < 0.5
    while process.poll() is None and (sees_half or time.monotonic() < when):
        if sees_half and before != [identity(folder / name) for name in (verb.final, verb.half)]:
            time.sleep(rng.choice((0, rng.uniform(0, 0.2 * seconds))))
            break
        time.sleep(0.0005)
    assert process.poll() in (None, 0), f"{verb} failed by itself; see kills.log in {folder}"
    children = []
    with suppress(psutil.Error):
        children = process.children(recursive=True)
    for victim in [process, *(children if rng.random() < 0.5 else [])]:
        with suppress(psutil.Error):
            victim.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(children, timeout=ORPHAN_SECONDS)


def identity(path: Path) -> tuple[int, int] | None:
    """By which a file that is written is told from one that was there."""
    with suppress(FileNotFoundError):
        return path.stat().st_ino, path.stat().st_mtime_ns
    return None


def take_away(folder: Path, name: str) -> None:
    """What can be made once only, where a kill came too late."""
    if name == "export":
        shutil.rmtree(folder / "build/gec-001", ignore_errors=True)
    if name == "new" and "gec-003" in (folder / "params.yaml").read_text(encoding="utf-8"):
        changed = ["params.yaml", "data/gec/README.md"]
        subprocess.run(["git", "checkout", "--quiet", *changed], cwd=folder, **TEXT)
        for left in (folder / "data/gec").glob("train_003*"):
            left.unlink()


def tree(folder: Path, below: str = "") -> dict[str, str]:
    """Every folder, and the MD5 of every file, but git's and DVC's own; of files in .scratch the
    name alone.
    """
    found = {}
    for path in [folder / below, *(folder / below).rglob("*")]:
        name = path.relative_to(folder)
        if path == folder or not path.exists() or name.parts[0] in (".git", ".dvc"):
            continue
        if path.name != "kills.log":
            told = path.is_dir() or name.parts[0] == ".scratch"
            found[str(name)] = "" if told else md5(path)
    return found


def give(folder: Path, verb: Verb) -> psutil.Popen:
    with (folder / "kills.log").open("ab") as log:
        return psutil.Popen(
            [sys.executable, "-m", *verb.command],
            cwd=folder, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip


TEXT: dict[str, Any] = {"check": True, "capture_output": True, "text": True}


def main() -> None:
    given = sys.argv[1:]
    command = given[given.index("--") + 1 :] if "--" in given else ["repro"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=12.0, help="between kills, on average")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbs", action="store_true", help="kill each verb by itself")
    parser.add_argument("--of", type=Path, help="a clone in which the graph has run")
    options = parser.parse_args(given[: given.index("--")] if "--" in given else given)
    calm, other = (options.folder / name for name in ("calm", "disturbed"))
    for folder in (calm, other):
        if options.of:
            shutil.copytree(options.of, folder, symlinks=True)
        else:
            nano.make(folder)
    if options.verbs:
        counts, halves = struck_verbs(calm, other, options.kills, random.Random(options.seed))
        print(f"{dict(counts)}: {halves} of {options.kills} kills left a half; all files equal")
        return
    begun = time.monotonic()
    if start(calm, *command).wait():
        raise SystemExit(f"{calm}: dvc {' '.join(command)} failed undisturbed; see kills.log there")
    print(f"undisturbed: {time.monotonic() - begun:.0f} s", flush=True)
    struck = disturbed(other, command, options.kills, options.seconds, random.Random(options.seed))
    same = locks(calm, command) == locks(other, command) != set()
    counts = ", ".join(f"{count} of {victim}" for victim, count in sorted(struck.items()))
    print(
        f"dvc {' '.join(command)}: {struck.total()} kills ({counts}); locks "
        f"{'equal' if same else 'DIFFER'}"
    )
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()
