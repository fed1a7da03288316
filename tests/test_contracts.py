"""Every task and backend has what its contract asks for: mypy looks at each that there is a folder
of."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from stages import backends, tasks

ROOT = Path(__file__).parents[1]
PROTOCOLS = {
    "corpus": "tasks.Corpus",
    "score": "tasks.Score",
    "synthetic": "tasks.Synthetic",
    "document": "tasks.Document",
    "references": "tasks.References",
    "candidates": "tasks.Candidates",
    "proposals": "tasks.Proposals",
}


def claims() -> list[str]:
    """A statement for each module: that it is what its protocol asks for."""
    found = [
        ("tasks", f"{name}.{part}", protocol)
        for name in tasks.names()
        for part, protocol in PROTOCOLS.items()
        if (ROOT / "stages/tasks" / name / f"{part}.py").is_file()
    ]
    for name in backends.names():
        found.append(("backends", f"{name}.backend", "backends.Backend"))
        found.append(("backends", name, "backends.Limits"))
    return [
        f"import stages.{group}.{module}\n_{at}: {protocol} = stages.{group}.{module}"
        for at, (group, module, protocol) in enumerate(found)
    ]


def mypy(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    path = folder / "claims.py"
    path.write_text(f"from stages import backends, tasks\n{code}\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_every_task_and_backend_is_what_its_contract_asks_for(tmp_path):
    statements = claims()
    assert len(statements) >= 5 * 3 + 1 + 2 * 2
    done = mypy(tmp_path, "\n".join(statements))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "protocol"),
    [("stages.tasks.gec.corpus", "tasks.Score"), ("stages.backends.mlx", "backends.Backend")],
)
def test_a_module_that_lacks_something_is_found(tmp_path, module, protocol):
    done = mypy(tmp_path, f"import {module}\n_: {protocol} = {module}")
    assert done.returncode == 1
    assert (
        f'expression has type Module, variable has type "{protocol.partition(".")[2]}"'
        in done.stdout
    )


def test_every_test_that_keeps_a_fault_away_is_there():
    """docs/faults.md names one in each row: `FILE::NAME`, or `::NAME` of the file before."""
    file, named = "", 0
    for line in (ROOT / "docs/faults.md").read_text(encoding="utf-8").splitlines():
        tests = re.findall(r"(test_\w+\.py)?::(test_\w+)", line)
        assert bool(tests) == (line.startswith("| ") and not line.startswith("| fault ")), line
        for found, name in tests:
            file, named = found or file, named + 1
            text = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(", text, re.MULTILINE), name
    assert named > 60
