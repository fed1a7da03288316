"""The whole repository in another folder at nano settings: what `make smoke` runs and the tests of
the graph start from.

    python -m tests.nano FOLDER        makes it and runs the whole graph there

Every file that git tracks, or would, is copied; corpora shrink to some dozen rows and trainings to
a few steps. DVC's cache is the folder's own."""

import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
NANO = {
    "max_steps": 3,
    "eval_steps": 3,
    "logging_steps": 1,
    "warmup_steps": 1,
    "per_device_train_batch_size": 8,
    "lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"},
    "generation": {"max_new_tokens": 4, "temperature": 0.0, "top_p": 1.0, "batch_size": 64},
}
ROWS = 80
GIT = [
    "git",
    "-c",
    "user.name=nano",
    "-c",
    "user.email=nano@localhost",
    "-c",
    "init.defaultBranch=main",
]
BASE = {
    "vocab_size": 400,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def make(folder: Path) -> Path:
    """A fresh git and DVC repository in `folder`, ready for `dvc repro`."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.run(
        listed, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0"):
        if name and (ROOT / name).is_file() and not name.startswith("metrics/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    shrink(folder / "params.yaml")
    for arguments in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["commit", "--quiet", "--message", "nano"],
    ):
        subprocess.run([*GIT, *arguments], cwd=folder, check=True)
    return folder


def reproduce(folder: Path, environment: dict[str, str] | None = None) -> None:
    """The whole graph, two stages at once: at this size most of the time goes into imports.

    environment: the `python` that is found there begins them all."""
    python = shutil.which("python", path=environment["PATH"]) if environment else None
    command = [python or sys.executable, "-m", "stages", "repro", "--jobs", "2"]
    if subprocess.run(command, cwd=folder, env=environment).returncode:
        raise SystemExit(f"{folder}: stages repro failed; see above")


def shrink(path: Path) -> None:
    """params.yaml with the same entries at nano size, comments kept."""
    yaml = YAML()
    params = yaml.load(path)
    params["defaults"].update(NANO)
    for task in params["tasks"].values():
        task.pop("generation", None)
    for corpus in params["synthetic"].values():
        corpus["rows"] = ROWS
    for base in params["bases"].values():
        base.update(BASE, intermediate_size=32)
    for run in params["runs"].values():
        for key in NANO.keys() & run.keys() - {"lora"}:
            del run[key]
        if "lora" in run:
            run["lora"] = {"r": 4}
        run.pop("num_train_epochs", None)
    yaml.dump(params, path)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    reproduce(make(Path(sys.argv[1])))
