"""What several test files start from."""

import atexit
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from stages.errors import UserError
from stages.params import load_params
from tests import nano, warm

ENVIRONMENT = os.environ | {
    "PYTHONDONTWRITEBYTECODE": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_OFFLINE": "1",
    "COLUMNS": "200",
    "OMP_NUM_THREADS": "1",  # two test processes, each of which runs one thing at a time
}
Run = Callable[..., subprocess.CompletedProcess[str]]


@cache
def warm_environment() -> dict[str, str]:
    """Where stages begin in a fork of one process, as tests/warm.py says."""
    folder = tempfile.mkdtemp()
    server = warm.begin(Path(folder), ENVIRONMENT)
    atexit.register(shutil.rmtree, folder)
    atexit.register(server.terminate)
    return ENVIRONMENT | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def warm_python() -> str:
    """What begins the project's modules there."""
    return str(shutil.which("python", path=warm_environment()["PATH"]))


def run(
    folder: Path, *command: str, succeeds: bool = True, cold: bool = False
) -> subprocess.CompletedProcess[str]:
    """A command in a folder; where it must succeed, its whole output is shown when it does not.

    cold: every stage is a process of its own from the start."""
    environment = ENVIRONMENT if cold else warm_environment()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if succeeds and done.returncode:
        pytest.fail(
            f"{' '.join(command)} in {folder}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done


@pytest.fixture(scope="session")
def whole_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano clone in which the whole default graph has run, one for all test processes: read it,
    never write to it."""
    base = tmp_path_factory.getbasetemp()
    folder = (
        (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)
        / "whole_graph"
        / "repository"
    )
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder.parent / "done").exists():
            nano.make(folder)
            nano.reproduce(folder, warm_environment())
            run(folder, "git", "add", "--all")
            run(folder, *nano.GIT, "commit", "--quiet", "--message", "graph")
            (folder.parent / "done").touch()
    return folder


@pytest.fixture
def clone(whole_graph: Path, tmp_path: Path) -> Path:
    """A copy of the finished nano graph to change."""
    return Path(shutil.copytree(whole_graph, tmp_path / "clone", symlinks=True))


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the test stands in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


ERRORS: set[str] = set()
"""The different sentences that bad input was answered with, names of folders left out;
docs/reliability.md tells how many."""


def pytest_configure() -> None:
    built = UserError.__init__

    def noted(self: UserError, *arguments: object) -> None:
        built(self, *arguments)
        ERRORS.add(re.sub(r"/[\w./-]+/", "", str(self)))

    UserError.__init__ = noted  # type: ignore[method-assign]


def pytest_sessionstart() -> None:
    if not load_params(nano.ROOT / "params.yaml").synthetic:
        pytest.exit(
            "params.yaml has no demo, which these tests start from: `begin` took it out. Run them "
            "in a clone that has it",
            returncode=2,
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(
        session.config, "workeroutput"
    ):  # one of several processes: its set goes to the one that reports
        session.config.workeroutput["errors"] = sorted(ERRORS)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    ERRORS.update(getattr(node, "workeroutput", {}).get("errors", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(
        f"bad input was answered with {len(ERRORS)} different sentences in these processes"
    )
