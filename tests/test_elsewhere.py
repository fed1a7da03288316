"""The scripts that start one run on several machines, with what they call stubbed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import run

ROOT = Path(__file__).parents[1]
NEEDS = "configure mix@gec-002 train@gec-001 train@lm-001"
PLACE = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "SKYPILOT_NODE_RANK", "SLURM_NODEID")


@pytest.fixture
def cluster(tmp_path):
    """cluster(script, arguments, variables): what it does, a command a line, each with its host and
    the variables that tell a training its place; and what it says."""
    said, stubs = tmp_path / "said", tmp_path / "stubs"
    folder = tmp_path / "a folder" / "elsewhere"
    folder.mkdir(parents=True)
    stubs.mkdir()
    for name in ("ssh.sh", "slurm.sh"):
        (folder / name).write_bytes((ROOT / "elsewhere" / name).read_bytes())
    place = " ".join(f"${{{name}:+{name}=${name}}}" for name in PLACE)
    note = f'echo "${{HOST:-here}}" {place} "${{0##*/}}" "$@" >> {said}'
    for name, does in {
        "python": f'if [ "$1" = elsewhere/needs.py ]; then echo {NEEDS}; exit; fi; {note}; case "$* " in *"stages.train $BREAKS "*) exit 7; esac',
        "dvc": note,
        "srun": 'for node in 0 1; do HOST=node$node SLURM_NODEID=$node "$@"; done',
        "ssh": 'HOST=$1 exec bash -c "$2"',
        "sleep": "exec true",
    }.items():  # fmt: skip
        (stubs / name).write_text(f"#!/bin/bash\n{does}\n", encoding="utf-8")
        (stubs / name).chmod(0o755)

    def start(*command: str, **variables: str) -> tuple[list[str], subprocess.CompletedProcess]:
        environment = {"PATH": f"{stubs}:{os.environ['PATH']}", "HOST": "", "BREAKS": "none"}
        done = subprocess.run(["bash", *command], cwd=folder.parent, env=environment | variables, capture_output=True, text=True)  # fmt: skip
        lines = said.read_text(encoding="utf-8").splitlines() if said.is_file() else []
        return [" ".join(line.split()) for line in lines], done

    return start


def test_slurm_prepares_trains_on_every_machine_and_goes_on_on_one(cluster, tmp_path):
    did, done = cluster("elsewhere/slurm.sh", "gec-002", SLURM_SUBMIT_DIR=str(tmp_path / "a folder"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert did == [
        f"here python -m stages repro {NEEDS}",
        "node0 SLURM_NODEID=0 python -m stages.train gec-002",
        "node1 SLURM_NODEID=1 python -m stages.train gec-002",
        "here dvc commit --force train@gec-002",
        "here python -m stages repro evaluate@gec-002",
    ]


def test_slurm_gives_one_task_to_a_machine_and_time_for_a_checkpoint():
    options = re.findall(r"#SBATCH --(\S+)", (ROOT / "elsewhere/slurm.sh").read_text("utf-8"))
    assert {"ntasks-per-node=1", "signal=TERM@120"} <= set(options)
    assert not [option for option in options if option.startswith("nodes")]  # given to sbatch


def test_ssh_tells_each_machine_its_number_and_the_first_one(cluster):
    did, done = cluster("elsewhere/ssh.sh", "gec-002", "alpha", "beta")
    assert done.returncode == 0, done.stderr
    assert did[0] == f"alpha python -m stages repro {NEEDS}"
    assert sorted(did[1:3]) == [
        f"{host} NODE_RANK={number} MASTER_ADDR=alpha MASTER_PORT=29500 python -m stages.train gec-002"
        for number, host in enumerate(("alpha", "beta"))
    ]
    assert did[3:] == [
        "alpha dvc commit --force train@gec-002",
        "alpha python -m stages repro evaluate@gec-002",
    ]


def test_where_a_training_fails_nothing_is_committed(cluster):
    did, done = cluster("elsewhere/ssh.sh", "gec-002", "alpha", "beta", BREAKS="gec-002")
    assert done.returncode == 7
    assert not [line for line in did if "commit" in line]


def test_ssh_says_what_it_wants(cluster):
    did, done = cluster("elsewhere/ssh.sh", "gec-002")
    assert (done.returncode, did) == (2, [])
    assert "elsewhere/ssh.sh RUN HOST..." in done.stderr


def task() -> dict:
    return yaml.safe_load((ROOT / "elsewhere/sky.yaml").read_text(encoding="utf-8"))


def test_sky_prepares_on_the_first_machine_and_trains_on_all(cluster, tmp_path):
    script = task()["run"].replace("/shared/adapters", f"'{tmp_path}/a folder'")
    common = {"SKYPILOT_TASK_ID": "1", "RUN": "gec-002"}
    first, done = cluster("-c", script, SKYPILOT_NODE_RANK="0", **common)
    assert done.returncode == 0, done.stderr
    assert first == [
        f"here SKYPILOT_NODE_RANK=0 python -m stages repro {NEEDS}",
        "here SKYPILOT_NODE_RANK=0 python -m stages.train gec-002",
        "here SKYPILOT_NODE_RANK=0 dvc commit --force train@gec-002",
        "here SKYPILOT_NODE_RANK=0 python -m stages repro evaluate@gec-002",
    ]
    (tmp_path / "a folder/.scratch/ready-1").touch()
    both, _ = cluster("-c", script, SKYPILOT_NODE_RANK="1", **common)
    assert both[len(first) :] == ["here SKYPILOT_NODE_RANK=1 python -m stages.train gec-002"]


def test_sky_is_told_what_it_knows(tmp_path):
    assert set(task()) == {"name", "resources", "volumes", "envs", "setup", "run"}
    for name in ("setup", "run"):
        file = tmp_path / f"{name}.sh"
        file.write_text(f"#!/bin/bash\n{task()[name]}", encoding="utf-8")
        run(ROOT, "shellcheck", str(file))


def test_what_a_run_needs_is_what_its_training_reads():
    assert run(ROOT, sys.executable, "elsewhere/needs.py", "gec-002").stdout.strip() == NEEDS
    unknown = run(ROOT, sys.executable, "elsewhere/needs.py", "gec-999", succeeds=False)
    assert (unknown.returncode, unknown.stderr) == (2, "gec-999: no run of params.yaml has this name\n")  # fmt: skip
