"""One run over several processes: the same steps, whoever dies, and what cannot be spread."""

import json
import os
import platform
import re
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from stages import backends
from stages.backends.pytorch import backend as pytorch
from stages.backends.pytorch import process_group
from stages.backends.pytorch.trainer import LabelledTrainer
from stages.backends.shared import answerers, cards, dealing, memory, remedies, workers
from stages.backends.shared.outline import outline
from stages.backends.shared.place import Place
from stages.backends.shared.progress import Progress
from stages.errors import UserError
from stages.layers import merge
from stages.processes import cores
from stages.schema_faults import faults_of
from stages.settings import Launch, Options
from stages.text import batches
from tests.conftest import ENVIRONMENT, warm_python
from tests.spread import train
from tests.test_methods import SOLUTIONS
from tests.tiny import OPTIONS, ROWS, SETTINGS, checkpoint, folder_to_train, settings_with

ROOT = Path(__file__).parents[1]
WAYS = {"alone": Launch()} | {
    strategy: Launch(processes=2, strategy=strategy) for strategy in ("ddp", "fsdp")
}


def case(folder: Path, name: str, method: str, launch: Launch, **changes: Any) -> dict[str, Any]:
    """A training of ten steps.   changes: of its settings."""
    rows = SOLUTIONS if method == "reward" else ROWS
    base = folder / f"base-{method}"
    if not base.exists():
        checkpoint(base, "qwen3" if method == "full" else "llama")
    plain = {
        "method": "full" if method == "full" else "lora",
        "max_steps": 10,
        "eval_steps": 4,
        "lora": {"lora_dropout": 0.0},
        "learning_rate": 1e-3,
        "launch": launch.model_dump(),
        "device": "cpu",
    }
    settings = merge(OPTIONS, plain, changes)
    del settings["generation"]
    return {
        "name": f"{name}-{method}-{launch.strategy}-{launch.processes}",
        "base": str(base),
        "settings": settings,
        "rows": [rows],
        "checkpoints": str(folder / f"checkpoints-{name}-{method}-{launch.strategy}"),
    }


def spread(folder: Path, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases in two processes."""
    (folder / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    arguments = ["-m", "tests.spread", f"{folder}/cases.json", f"{folder}/results"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", warm_python())
        workers.run(arguments, Launch(processes=2), "cpu")
    found: list[dict[str, Any]] = torch.load(folder / "results", weights_only=True)
    return found


def figures(result: dict[str, Any], name: str) -> list[float]:
    return [record[name] for record in result["history"] if name in record]


@pytest.fixture
def at_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where workers find the code, and no folder of logs is made."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


def test_several_processes_make_the_steps_of_one(tmp_path, at_root):
    """Rows of a step come in parts of other sizes, so that sums are made in another order."""
    changes = {
        "lora": {"added_tokens": ["<x>"]},
        "full": {"gradient_accumulation_steps": 2, "save": ["best", "last"]},
        "reward": {"gradient_checkpointing": True},
    }
    ways = [
        (method, strategy, name)
        for method in changes
        for strategy in ("ddp", "fsdp")
        for name in ("one", "again")
    ]
    found = spread(
        tmp_path,
        [
            case(tmp_path, name, method, WAYS[strategy], **changes[method])
            for method, strategy, name in ways
        ],
    )
    by_way = dict(zip(ways, found, strict=True))
    for method, of_method in changes.items():
        alone = train(case(tmp_path, "one", method, WAYS["alone"], **of_method))
        for strategy in ("ddp", "fsdp"):
            theirs, again = (by_way[method, strategy, name] for name in ("one", "again"))
            for name, count in (("loss", 10), ("grad_norm", 10), ("eval_loss", 3)):
                assert len(figures(theirs, name)) == count
                assert figures(theirs, name) == pytest.approx(figures(alone, name), abs=1e-5), name
            assert alone["weights"].keys() == theirs["weights"].keys()
            for name, weights in alone["weights"].items():
                assert torch.allclose(weights, theirs["weights"][name], rtol=0, atol=1e-5), name
                assert torch.equal(theirs["weights"][name], again["weights"][name]), name
            assert theirs["md5"] == again["md5"]


class Stopped(BaseException):
    """As a kill: nothing that runs catches it."""


def test_a_training_goes_on_with_another_number_of_processes(tmp_path, at_root, monkeypatch):
    whole = train(case(tmp_path, "whole", "full", WAYS["alone"]))

    def stop(self: Progress, step: int) -> None:
        if step == 6:
            raise Stopped

    half = [case(tmp_path, strategy, "full", WAYS[strategy]) for strategy in ("ddp", "fsdp")]
    for way in half:
        alone = way | {"settings": way["settings"] | {"launch": Launch().model_dump()}}
        with monkeypatch.context() as patch:
            patch.setattr(Progress, "step_ends", stop)
            with pytest.raises(Stopped):
                train(alone)
        assert Path(way["checkpoints"], "checkpoint-4").is_dir()
    for result in spread(tmp_path, half):
        assert figures(result, "eval_loss") == pytest.approx(figures(whole, "eval_loss"), abs=1e-5)
        for name, weights in whole["weights"].items():
            assert torch.allclose(weights, result["weights"][name], rtol=0, atol=1e-5), name


def test_machines_that_see_other_rows_do_not_begin(tmp_path, at_root):
    unlike = case(tmp_path, "unlike", "lora", Launch(nodes=2))
    unlike["rows"] = [ROWS, [ROWS[1], *ROWS[1:]]]
    (result,) = spread(tmp_path, [unlike])
    host = platform.node()
    assert result["error"] == (
        f"launch: process 2 of 2, on {host}, has another list of rows than the first, on {host}; "
        "bring both to one commit with `dvc pull`, or let them share a folder"
    )


def conduct(folder: Path, launch: Launch) -> None:
    told = {"report_to": [], "threads": 1, "save_total_limit": 2, "launch": launch.model_dump()}
    (folder / "build/config/conduct/gec-001.json").write_text(json.dumps(told), encoding="utf-8")


def begin(folder: Path) -> psutil.Popen:
    """What it says goes into the files out and err."""
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        return psutil.Popen(
            [sys.executable, "-m", "stages.train", "gec-001"],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=out,
            stderr=err,
        )


def checkpoints_of(folder: Path) -> list[Path]:
    return sorted((folder / ".scratch").glob("*/checkpoint-*/checksums.json"))


def weights_of(folder: Path) -> bytes:
    return (folder / "models/gec-001/adapter_model.safetensors").read_bytes()


def test_whoever_is_killed_the_same_bytes_come_out(tmp_path):
    """With dropout, whose draws are a step's own."""
    changes = {"max_steps": 60, "eval_steps": 5, "lora": {"lora_dropout": 0.2}}
    folder_to_train(tmp_path, merge(OPTIONS, changes), checkpoint(tmp_path / "base", "llama"))
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    conduct(tmp_path, WAYS["ddp"])
    assert begin(tmp_path).wait() == 0
    lineage = json.loads((tmp_path / "models/gec-001/lineage.json").read_text(encoding="utf-8"))
    assert lineage["processes"] == 2
    wanted = weights_of(tmp_path)
    shutil.rmtree(tmp_path / "models/gec-001")
    for victim, number in (
        ("second", signal.SIGKILL),
        ("launcher", signal.SIGKILL),
        ("launcher", signal.SIGTERM),
    ):
        process, before = begin(tmp_path), checkpoints_of(tmp_path)
        until = time.monotonic() + 100
        while checkpoints_of(tmp_path) == before and time.monotonic() < until:
            time.sleep(0.01)
        spread = process.children()
        (spread[1] if victim == "second" else process).send_signal(number)
        process.wait()
        told = (tmp_path / "err").read_text(encoding="utf-8")
        until = time.monotonic() + 30
        while any(map(lives, spread)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(map(lives, spread))
        assert not (tmp_path / "models/gec-001").exists()
        assert "Traceback" not in told
        if victim == "second":
            assert told.endswith(
                "process 2 of 2 was ended by SIGKILL (the system does so where memory runs out), "
                "and the others with it; the same command goes on from the last checkpoint\n"
            )
            assert process.returncode == 128 + signal.SIGKILL
    said = (tmp_path / "out").read_text(encoding="utf-8")
    assert "by SIGTERM; the same command goes on from here" in said
    assert process.returncode == 128 + signal.SIGTERM
    assert begin(tmp_path).wait() == 0
    assert weights_of(tmp_path) == wanted


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_ctrl_c_while_workers_begin_is_no_traceback(tmp_path, seconds):
    folder_to_train(tmp_path, OPTIONS, "models/bases/none")
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    conduct(tmp_path, WAYS["ddp"])
    process = begin(tmp_path)
    while len(process.children()) < 2:
        time.sleep(0.005)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    assert re.fullmatch(
        "process [12] of 2 was ended by SIGINT, and the others with it; the same command goes on "
        "from the last checkpoint\n",
        (tmp_path / "err").read_text(encoding="utf-8"),
    )


def lives(process: psutil.Process) -> bool:
    """Not ended; one whose parent was killed may wait as a zombie for somebody to ask for it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_sharded_model_that_runs_out_of_memory_is_told_what_to_set():
    """Its processes make the same passes, so that none can divide its own."""
    training = SimpleNamespace(
        computed_by=SimpleNamespace(is_sharded=True),
        state=SimpleNamespace(global_step=4),
        computing=[3, 1],
    )
    with pytest.raises(UserError) as caught:
        LabelledTrainer._repeat_with_fewer_tokens(training, None, [], None)
    assert str(caught.value) == (
        "step 5: out of memory with 2 rows at once; nothing was written. With strategy fsdp all "
        "processes make the same passes: set a smaller per_device_train_batch_size"
    )


def test_a_step_is_dealt_out_by_tokens_and_whole():
    lengths = [5, 300, 8, 7, 6, 90, 80, 40, 30, 20, 10, 3]
    plan = batches.plan(lengths, 2, 3, 9, 1)
    parts = [dealing.share(plan, lengths, 2, part, 3) for part in range(3)]
    for step in range(plan.steps):
        dealt = [[row for batch in part.step(step) for row in batch] for part in parts]
        rows = sorted(row for batch in plan.step(step) for row in batch)
        assert sorted(row for part in dealt for row in part) == rows
        assert all(len(batch) <= 2 for part in parts for batch in part.step(step))
        tokens = [sum(lengths[row] for row in part) for part in dealt]
        # Graham's bound of the longest processing time first.
        fewest = max(sum(lengths[row] for row in rows) / 3, max(lengths[row] for row in rows))
        assert max(tokens) <= fewest * (4 / 3 - 1 / 9)
    assert dealing.share(plan, lengths, 2, 0, 1) is plan


def test_every_process_has_as_many_rows_to_evaluate_and_all_are_evaluated():
    lengths = [5, 300, 8, 7, 6, 90, 80]
    parts = [dealing.every_nth(lengths, part, 3) for part in range(3)]
    assert {len(part) for part in parts} == {3}
    assert {row for part in parts for row in part} == set(range(7))
    assert dealing.every_nth(lengths, 0, 1) == [1, 5, 6, 2, 3, 4, 0]


def begin_workers(code: str, **launch: Any) -> None:
    workers.run(["-c", code], Launch(**launch), "cpu")


def test_workers_are_told_their_place_as_torchrun_tells_it(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names = "RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE GROUP_RANK MASTER_ADDR OMP_NUM_THREADS"
    begin_workers(
        "import os; from pathlib import Path; "
        f"Path({str(tmp_path)!r}, os.environ['RANK']).write_text("
        f"' '.join(os.environ[name] for name in {names!r}.split()))",
        processes=2,
    )
    threads = max(1, cores() // 2)
    told = [path.read_text(encoding="utf-8") for path in sorted(tmp_path.iterdir())]
    assert told == [f"{rank} 2 {rank} 2 0 localhost {threads}" for rank in range(2)]


def test_what_a_worker_says_last_is_told_with_its_exit_code(capfd):
    code = (
        "import os, sys, time\n"
        "if os.environ['RANK'] == '1': print('no such row', file=sys.stderr); sys.exit(2)\n"
        "time.sleep(60)"
    )
    began = time.monotonic()
    with pytest.raises(SystemExit) as caught:
        begin_workers(code, processes=2)
    assert caught.value.code == 2
    assert capfd.readouterr().err == "process 2 of 2:\nno such row\n"
    assert time.monotonic() - began < workers.GRACE_SECONDS + 10


def test_what_all_workers_say_is_told_once(capfd):
    with pytest.raises(SystemExit) as caught:
        begin_workers("import sys; print('no such row', file=sys.stderr); sys.exit(2)", processes=3)
    assert (caught.value.code, capfd.readouterr().err) == (2, "no such row\n")


def test_a_worker_whose_exchange_breaks_off_leaves_the_cause_to_others(monkeypatch, capsys):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("GROUP_RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(workers.STORE, "file")
    scope: dict[str, Any] = {}
    dispatched = (
        "def call(depth):\n    if depth:\n        call(depth - 1)\n    raise RuntimeError('closed')"
    )
    for code, file in (
        (dispatched, "/torch/_ops.py"),
        ("def wait(depth):\n    call(depth)", "/torch/distributed/x.py"),
    ):
        exec(compile(code, file, "exec"), scope)
    for depth in (0, 5):
        with pytest.raises(SystemExit) as caught, workers.ended_together():
            scope["wait"](depth)
        assert caught.value.code == workers.LEFT_ALONE
        said = "the exchange with the other processes broke off: closed\n"
        assert capsys.readouterr().err == said
    with pytest.raises(RuntimeError, match="ours"), workers.ended_together():
        raise RuntimeError("ours")


def test_where_no_process_failed_by_itself_it_is_said(capfd):
    with pytest.raises(SystemExit) as caught:
        begin_workers(f"import sys; sys.exit({workers.LEFT_ALONE})", processes=2)
    assert caught.value.code == workers.LEFT_ALONE
    assert capfd.readouterr().err == (
        "no process failed by itself: another machine has ended, or they cannot reach each other; "
        "see there, and give the same command again, which goes on from the last checkpoint\n"
    )


def test_more_processes_than_cards_are_refused(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cards, "free_megabytes", lambda: {"0": 5, "1": 70, "2": 30})
    assert workers.processes_here(Launch(processes="auto"), "auto") == 3
    assert workers.usable_cards("cuda") == ["1", "2", "0"]
    assert workers.processes_here(Launch(processes="auto"), "cpu") == 1
    workers.require_cards(Launch(processes=4), "cpu")
    with pytest.raises(UserError) as caught:
        workers.require_cards(Launch(processes=4), "auto")
    assert str(caught.value) == (
        "launch.processes 4: 3 cards can be used here; set auto, which takes 3, or device: cpu"
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"NODE_RANK": "1", "MASTER_ADDR": "10.0.0.5", "MASTER_PORT": "4000"},
        {
            "SKYPILOT_NODE_RANK": "1",
            "SKYPILOT_NODE_IPS": "10.0.0.5\n10.0.0.6",
            "MASTER_PORT": "4000",
        },
        {"SLURM_NODEID": "1", "MASTER_ADDR": "10.0.0.5", "MASTER_PORT": "4000"},
    ],
)
def test_a_machine_finds_its_place(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert workers.meeting_place(Launch(nodes=2)) == (1, "tcp://10.0.0.5:4000")


def test_slurms_list_of_machines_is_read(tmp_path, monkeypatch):
    program = tmp_path / "scontrol"
    program.write_text("#!/bin/sh\n[ \"$*\" = 'show hostnames n[1-2]' ] && printf 'n1\\nn2\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    monkeypatch.setenv("SLURM_NODEID", "0")
    assert workers.meeting_place(Launch(nodes=2)) == (0, f"tcp://n1:{workers.PORT}")


@pytest.mark.parametrize(
    "environment", [{}, {"NODE_RANK": "2", "MASTER_ADDR": "a"}, {"NODE_RANK": "0"}]
)
def test_a_machine_without_a_place_is_told_how_to_get_one(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        workers.meeting_place(Launch(nodes=2))
    assert str(caught.value) == (
        "launch.nodes 2: which of these machines is this one? Give the same command on each with "
        "NODE_RANK, 0 to 1, and MASTER_ADDR, the address of number 0, in the environment; Slurm and "
        "SkyPilot set their own"
    )


def test_a_machine_that_does_not_come_is_named(monkeypatch):
    """Each of two machines waits for the other, which is not there."""
    monkeypatch.setenv(process_group.JOIN_SECONDS, "1")
    monkeypatch.setenv(workers.STORE, "tcp://127.0.0.1:29713")
    monkeypatch.setenv("SKYPILOT_NODE_IPS", "127.0.0.1\n10.0.0.7")
    sentences = list[str]()
    for rank in ("0", "1"):
        for name, value in (("RANK", rank), ("WORLD_SIZE", "2"), ("GROUP_RANK", rank)):
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError) as caught:
            process_group.ProcessGroup.join("cpu", 2)
        sentences.append(str(caught.value))
    assert sentences == [
        "launch.nodes 2: 10.0.0.7 did not come within 1 seconds; give the same command there, with "
        "a way to 127.0.0.1:29713, or raise TSUGIKI_JOIN_SECONDS",
        "launch: the first machine, 127.0.0.1, cannot be reached at port 29713 (MASTER_ADDR, "
        "MASTER_PORT) after 1 seconds: [Errno 111] Connection refused",
    ]


def test_an_address_that_is_no_ones_and_a_port_that_is_none_are_said(monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("GROUP_RANK", "0")):
        monkeypatch.setenv(name, value)
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    monkeypatch.setenv(workers.STORE, f"tcp://127.0.0.1:{port}")
    with pytest.raises(UserError) as caught:
        process_group.ProcessGroup.join("cpu", 2)
    taken.close()
    assert str(caught.value).startswith(
        f"launch: no exchange at 127.0.0.1:{port} (MASTER_ADDR, MASTER_PORT), which is to be this "
        "machine's address and a free port: "
    )
    for name, value in (("NODE_RANK", "0"), ("MASTER_ADDR", "a"), ("MASTER_PORT", "99999")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        workers.meeting_place(Launch(nodes=2))
    assert str(caught.value) == "MASTER_PORT=99999: a port is a number below 65536, such as 29500"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "qlora"}, "method qlora: bitsandbytes packs weights in 4 bits"),
        ({"method": "full", "optim": "muon"}, "optim muon: it turns whole matrices"),
        (
            {"optim": "paged_adamw_8bit"},
            "optim paged_adamw_8bit: bitsandbytes has its state in pages",
        ),
        (
            {"precision": "float16"},
            "precision float16: each process scales the loss by what it alone has seen",
        ),
    ],
)
def test_what_cannot_be_shared_out_is_refused(changes, sentence):
    faults = backends.limits("pytorch").refuses(
        settings_with(launch={"strategy": "fsdp", "processes": 2}, **changes), False
    )
    assert faults == [f"{sentence}, which strategy fsdp cannot share out; set launch.strategy: ddp"]
    for launch in ({}, {"strategy": "fsdp"}):  # one process has all
        alone = settings_with(launch=launch, **changes)
        assert not backends.limits("pytorch").refuses(alone, False)


@pytest.mark.parametrize("processes", [0, 1025, "two", 1.5])
def test_a_number_of_processes_that_is_none_is_told_by_its_key(processes):
    faults = faults_of(Launch, {"processes": processes}, "defaults.launch", whole=False)
    assert faults
    assert all(
        fault.startswith("`defaults.launch.processes`: input should be ") for fault in faults
    )


def test_mlx_trains_in_one_process():
    assert backends.limits("mlx").refuses(settings_with(launch={"processes": 2}), False) == [
        "launch: backend mlx trains in one process; use backend: pytorch"
    ]


def test_a_plan_has_a_part_of_the_weights_in_each_process(tmp_path):
    model = outline(Path(checkpoint(tmp_path / "base", "llama", width=64)))
    one, ddp, fsdp = (
        memory.need(
            model,
            settings_with(method="full", launch=launch, device="cpu"),
            4,
            128,
            "cpu",
            fused_attention=True,
        )
        for launch in ({}, {"processes": 4}, {"processes": 4, "strategy": "fsdp"})
    )
    assert ddp == one
    assert fsdp.optimizer == one.optimizer // 4
    assert fsdp.activations == one.activations
    # Of two layers and what is in none all is whole beside a quarter.
    assert fsdp.weights == pytest.approx(1.25 * one.weights, rel=1e-3)


def test_a_machine_waits_whole_seconds_for_others(monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("GROUP_RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(workers.STORE, "tcp://127.0.0.1:29713")
    monkeypatch.setenv(process_group.JOIN_SECONDS, "10m")
    with pytest.raises(UserError) as caught:
        process_group.ProcessGroup.join("cpu", 2)
    assert str(caught.value) == "TSUGIKI_JOIN_SECONDS=10m: whole seconds, such as 600"
    with pytest.raises(UserError) as caught:
        process_group.ProcessGroup.join("mps", 1)
    assert str(caught.value) == (
        "launch: the processes of a Mac would share its one GPU; set device: cpu, or "
        "launch.processes: 1"
    )


def test_the_cards_of_a_machine_are_a_remedy(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cards, "free_megabytes", lambda: {"0": 5, "1": 70})
    changes = list(remedies.remedies(settings_with(device="cuda", method="full")))
    spread = {"launch": {"processes": "auto", "nodes": 1, "strategy": "fsdp"}}
    assert spread in changes
    assert memory.written(spread) == "launch: {processes: auto, nodes: 1, strategy: fsdp}"
    assert changes.index(spread) < next(
        at for at, change in enumerate(changes) if "method" in change
    )
    changed = memory.with_change(SETTINGS, spread)
    assert changed.launch == Launch(processes="auto", strategy="fsdp")


@pytest.mark.parametrize("begun", [False, True])
def test_fewer_processes_are_a_remedy_where_they_share_a_memory(tmp_path, monkeypatch, begun):
    folder = Path(checkpoint(tmp_path / "base", "llama"))
    settings = settings_with(device="cpu", launch={"processes": 64})
    monkeypatch.setattr(cards, "free_megabytes", dict)
    monkeypatch.setattr(remedies, "usable_cores", lambda: 4)
    if begun:  # in one of them
        place = Place(3, 64, 0)
        monkeypatch.setattr(workers, "own_place", lambda: place)

    def planned(free: float, settings: Options = settings) -> memory.MemoryPlan:
        found = SimpleNamespace(available=round(free))
        monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: found)
        return memory.plan(folder, settings, 2, 64, lambda _: True, lambda *_: [])

    one = planned(2**50).need.total
    assert planned(64 * one).fits
    few = planned(5 * one)
    assert not few.fits
    assert few.advice == (
        "Set launch: {processes: 4, nodes: 1, strategy: ddp} (`python -m stages plan RUN --fit`)"
    )
    fewest = planned(2.1 * one, settings_with(device="cpu", launch={"processes": 4}, per_device_train_batch_size=1, gradient_checkpointing=True))  # fmt: skip
    if not begun:
        assert not fewest.fits
        assert fewest.change == {"launch": {"processes": 2, "nodes": 1, "strategy": "ddp"}}
    assert memory.written(few.change or {}) not in [
        memory.written(change)
        for change in remedies.remedies(settings_with(launch={"processes": 4}))
    ]
    assert not [
        change for change in remedies.remedies(settings_with(device="cpu")) if "launch" in change
    ]


def test_answers_of_several_processes_are_those_of_one(tmp_path):
    base = checkpoint(tmp_path / "base", "llama")
    settings = settings_with(device="cpu", generation={"max_new_tokens": 8})
    answering = pytorch.Answering.model_validate(
        settings.model_dump(include=set(pytorch.Answering.model_fields))
    )
    rows = ROWS[:7]
    alone = pytorch.answerer(base, base, answering).predict(rows)
    several = answerers.Answerers(base, base, answering, 2)
    assert several.predict(rows) == alone
    assert several.predict(rows[:1]) == alone[:1]
    asked = [row | {"messages": row["messages"][:-1]} for row in rows]
    likely = pytorch.answerer(base, base, answering).candidates(asked, 3)
    shared_out = several.candidates(asked, 3)
    assert [[text for text, _ in row] for row in shared_out] == [
        [text for text, _ in row] for row in likely
    ]
    assert [nats for row in shared_out for _, nats in row] == pytest.approx(
        [nats for row in likely for _, nats in row], rel=1e-5
    )
    for process in several.pool._processes.values():
        process.kill()
    with pytest.raises(UserError) as caught:
        several.predict(rows)
    assert str(caught.value) == (
        "a process that answered was ended, as where memory runs out; the same command goes on "
        "from the answers that are kept, with a smaller launch.processes or generation.batch_size "
        "if need be"
    )
    several.close()


def test_a_damaged_adapter_is_named_as_by_one_process(tmp_path):
    base = checkpoint(tmp_path / "base", "llama")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/adapter_config.json").write_text("{}", encoding="utf-8")
    answering = pytorch.Answering.model_validate(
        SETTINGS.model_dump(include=set(pytorch.Answering.model_fields)) | {"device": "cpu"}
    )
    sentences = list[str]()
    for load in (
        lambda: pytorch.answerer(str(tmp_path / "run"), base, answering),
        lambda: answerers.Answerers(str(tmp_path / "run"), base, answering, 2).predict(ROWS[:2]),
    ):
        with pytest.raises(UserError) as caught:
            load()
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]
