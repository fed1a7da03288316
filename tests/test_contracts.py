"""Every task and backend has what its contract asks for: mypy looks at each that there is a folder of."""

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
    ("claim", "says"),
    [
        ("import stages.tasks.gec.corpus\n_: tasks.Score = stages.tasks.gec.corpus", "headline"),
        ("import stages.backends.mlx\n_: backends.Backend = stages.backends.mlx", "plan_memory"),
    ],
)
def test_what_a_module_lacks_is_told_by_name(tmp_path, claim, says):
    done = mypy(tmp_path, claim)
    assert done.returncode == 1
    assert says in done.stdout
