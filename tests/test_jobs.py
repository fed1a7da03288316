"""`stages repro --jobs`: what does not depend on each other side by side, and the same lock."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml

from stages.commands import job_memory, side_by_side
from stages.commands.side_by_side import Crew, Job, as_many
from stages.commands.stale_stages import long_after
from stages.errors import UserError
from tests.conftest import ENVIRONMENT, run
from tests.test_graph import change, own_material, reran

REPRO = ("python", "-m", "stages", "repro", "--jobs", "2")


def lock(folder: Path) -> dict:
    return yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]


def said(done: subprocess.CompletedProcess) -> str:
    return done.stdout + done.stderr


def test_it_writes_the_lock_of_dvc_repro_and_then_has_nothing_to_do(clone, tmp_path):
    """The graph of the fixture was made with it; here the rest is made again by dvc alone."""
    again = ["train@typst-002", "predict@typst-003", "compare@typst", "prepare@gec-002"]
    before = lock(clone)
    run(clone, "dvc", "repro", "--force", "--single-item", *again)
    assert lock(clone) == before
    assert reran(clone) == set()
    shown = run(clone, *REPRO)
    assert "Data and pipelines are up to date." in shown.stdout
    change(clone, "runs/gec-002/learning_rate", 0.125)
    change(clone, "runs/reward-002/learning_rate", 0.125)
    shown = run(clone, *REPRO).stdout
    begun = re.findall(r"\| Running stage '(\S+)':", shown)
    assert {name for name in begun if name.startswith("train")} == {
        "train@gec-002",
        "train@reward-002",
    }
    assert "train@gec-002 | Iter 3/3" in shown
    assert re.search(r"^\d+ of \d+ stages done in \d+ (s|min)$", shown, re.MULTILINE)
    assert re.search(r"│ train +│ 2 +│ \d+ s +│ train@(gec|reward)-002, \d+ s +│", shown)
    assert not re.search(r"\| .*git add dvc.lock", shown)
    assert reran(clone) == set()


def test_a_chain_that_fails_lets_the_other_go_on(clone):
    own_material(clone, "gec-001").write_text("no tab here\n", encoding="utf-8")
    path = own_material(clone, "typst-002")
    path.write_text(
        path.read_text(encoding="utf-8") + '{"latex": "\\\\frac{9}{7}", "typst": "frac(9, 7)"}\n',
        encoding="utf-8",
    )
    done = run(clone, *REPRO, succeeds=False)
    assert done.returncode == 1
    assert "repro | prepare@gec-001 failed; what does not depend on it goes on" in done.stdout
    assert re.search(r"prepare@gec-001 .*failed", done.stdout)
    counted = r"\d+ of \d+ stages done in [\w ]+, 1 failed or stopped, \d+ not begun"
    assert re.search(counted, done.stdout)
    assert "Running stage 'compare@typst'" in done.stdout
    assert "Running stage 'train@gec-001'" not in done.stdout


def test_a_signal_ends_all_and_the_same_command_goes_on(clone):
    change(clone, "runs/gec-002/max_steps", 4000)
    change(clone, "runs/reward-002/max_steps", 4000)
    assert stopped_by(clone, signal.SIGINT, r"train@(\S+) \| Iter")
    assert stopped_by(clone, signal.SIGTERM, r"train@(\S+) \| resumed at step")


def stopped_by(clone: Path, number: int, line: str) -> bool:
    """Whether the signal, sent when both trainings have printed such a line, stops both of them.

    line: a pattern whose group is the run's name."""
    process = subprocess.Popen(
        [sys.executable, *REPRO[1:]],
        cwd=clone, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    shown, sent = "", False
    for each in process.stdout:
        shown += each
        if not sent and len(set(re.findall(line, shown))) == 2:
            process.send_signal(number)
            sent = True
    process.stdout.close()
    assert process.wait() == 128 + number, shown
    stopped = re.findall(r"train@\S+ \| stopped at step (\d+) by \w+; the same command", shown)
    assert "the same command goes on from here" in shown.splitlines()[-1]
    return len(stopped) == 2


def test_two_at_once_and_targets_that_do_not_exist_are_refused(clone):
    path = clone / side_by_side.LOCK
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4711\n")
        held.flush()
        done = run(clone, *REPRO, succeeds=False)
    assert done.returncode == 2
    assert (
        ".scratch/repro.lock: another `stages repro` is at work here (process 4711); wait for it, "
        "or stop it" in done.stderr
    )
    done = run(clone, *REPRO, "train@gec-020", succeeds=False)
    assert done.returncode == 2
    assert (
        "train@gec-020: no stage of dvc.yaml has this name; did you mean `train@gec-002`?"
        in done.stderr
    )


@pytest.mark.parametrize(
    ("file", "before", "after", "code", "says"),
    [
        (
            "params.yaml",
            "max_grad_norm",
            "max_gradnorm",
            2,
            "params.yaml: `defaults.max_gradnorm` is no option; did you mean `max_grad_norm`?",
        ),
        ("params.yaml", "sources: {}", "sources:", 2, "params.yaml: `sources` is empty, which DVC"),
        ("stages/mix.py", "def main", "def main(", 2, "dvc: failed to reproduce 'configure'"),
        ("dvc.yaml", "stages:", "stages: [", 2, "dvc: "),
    ],
)
def test_what_dvc_cannot_begin_with_is_a_sentence(clone, file, before, after, code, says):
    text = (clone / file).read_text(encoding="utf-8")
    assert before in text
    (clone / file).write_text(text.replace(before, after, 1), encoding="utf-8")
    done = run(clone, *REPRO, succeeds=False)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_target_is_not_the_whole_graph(clone):
    done = run(clone, *REPRO, "", succeeds=False)
    assert done.returncode == 2
    assert "repro: an empty target; name a stage, or give none for the whole graph" in done.stderr


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "1.5", "9" * 5000, "٣"])
def test_how_many_at_once_is_a_number_or_auto(jobs):
    with pytest.raises(UserError) as caught:
        as_many(jobs)
    assert str(caught.value) == (f"--jobs {jobs}: how many at once is a number from 1 on, or auto")


def test_auto_is_one_a_card_or_one_a_core(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3,5")
    assert as_many("auto") == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for there, wanted in ((1, 1), (2, 2), (64, side_by_side.MOST_JOBS)):
        monkeypatch.setattr(side_by_side, "cores", lambda there=there: there)
        assert as_many("auto") == wanted


GRAPH = {
    "train@a-001": set(),
    "predict@a-001": {"train@a-001"},
    "train@a-002": {"train@a-001"},
    "train@b-001": set(),
    "mix@b-001": set(),
}


def crew(monkeypatch, jobs: int) -> tuple[Crew, list[dict]]:
    """A crew whose calls of dvc are only noted."""
    begun: list[dict] = []

    def popen(command, env, **_):
        begun.append({"stages": command[6:], **env})
        return SimpleNamespace(stdout=iter(()), pid=1, poll=lambda: None, returncode=None)

    monkeypatch.setattr(side_by_side.subprocess, "Popen", popen)
    monkeypatch.setattr(side_by_side, "planned_bytes", lambda stage: 0)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made = Crew(GRAPH, jobs)
    made.ready += made.order.get_ready()
    made.ready.sort(key=lambda name: -made.long_after[name])
    return made, begun


def test_what_delays_the_end_begins_first_and_cores_are_shared(monkeypatch):
    assert long_after(GRAPH) == {
        "train@a-001": 2, "predict@a-001": 1, "train@a-002": 1, "train@b-001": 1, "mix@b-001": 0,
    }  # fmt: skip
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(side_by_side, "cores", lambda: 8)
    made, begun = crew(monkeypatch, 2)
    assert made._begin_next()
    assert made._begin_next()
    assert [(each["stages"], each["OMP_NUM_THREADS"]) for each in begun] == [
        (["train@a-001"], "4"),
        (["train@b-001"], "4"),
    ]
    alone, begun = crew(monkeypatch, 2)
    alone.ready = ["train@a-001"]
    assert alone._begin_next()
    assert begun[0]["OMP_NUM_THREADS"] == "8"


def test_no_more_trainings_begin_than_there_are_cards_to_wait_for(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    made, begun = crew(monkeypatch, 4)
    while made._begin_next():
        pass
    assert [(each["stages"], each["CUDA_VISIBLE_DEVICES"]) for each in begun] == [
        (["train@a-001"], "2"),
        (["mix@b-001"], "2"),
    ]
    assert "repro | train@b-001 waits: every card is in use (2)\n" in capsys.readouterr().out
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    made, begun = crew(monkeypatch, 4)
    while made._begin_next():
        pass
    assert [each["stages"] for each in begun] == [["train@a-001"], ["train@b-001"], ["mix@b-001"]]
    # Which of them it takes, each process settles (test_cards.py).
    assert {each["CUDA_VISIBLE_DEVICES"] for each in begun} == {"2,0"}


def test_a_training_waits_for_memory_that_is_promised_to_another(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    made, begun = crew(monkeypatch, 4)
    monkeypatch.setattr(side_by_side, "planned_bytes", lambda stage: 3 * 2**30)
    monkeypatch.setattr(side_by_side, "resident", lambda pid: 2**30)
    free = SimpleNamespace(available=4 * 2**30)
    monkeypatch.setattr(side_by_side.psutil, "virtual_memory", lambda: free)
    while made._begin_next():
        pass
    assert begun[0]["stages"] == ["train@a-001"]  # alone it begins, whatever is free
    assert "repro | train@b-001 waits: 3,072 MB planned, 2,048 MB free\n" in capsys.readouterr().out
    free.available = 6 * 2**30
    assert made._begin_next()
    assert begun[-1]["stages"] == ["train@b-001"]


def test_what_a_process_and_its_children_hold_is_counted():
    child = subprocess.Popen(
        [sys.executable, "-c", "x = b'x' * 2**26; import time; time.sleep(60)"]
    )
    try:
        until = time.monotonic() + 60
        while psutil.Process(child.pid).memory_info().rss < 2**26 and time.monotonic() < until:
            time.sleep(0.05)
        own = psutil.Process().memory_info().rss
        assert job_memory.resident(os.getpid()) > own + 2**26 - 2**22
    finally:
        child.kill()
        child.wait()
    assert job_memory.resident(2**22 + 1) == 0


def test_a_call_that_fails_in_the_middle_has_done_what_came_before(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    made, _ = crew(monkeypatch, 2)
    made.ready = []
    job = Job(
        ["train@a-001", "train@b-001", "mix@b-001"], SimpleNamespace(returncode=1), failed={"train@b-001"}
    )  # fmt: skip
    made.running = [job]
    made._end(job)
    assert (made.done, made.failed, made.ready) == ({"train@a-001"}, {"train@b-001"}, ["mix@b-001"])


def test_two_workers_of_the_queue_have_a_card_each(clone, tmp_path):
    """As `dvc queue start -j 2` begins them, beside a training of somebody else, on card 1."""
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "nvidia-smi").write_text(
        "#!/bin/sh\nprintf '0, 100, GPU-a\\n1, 300, GPU-b\\n2, 200, GPU-c\\n'\n"
    )
    (beside / "nvidia-smi").chmod(0o755)
    (beside / "sitecustomize.py").write_text(  # a PyTorch that knows CUDA
        "import sys\n"
        "if 'stages.train' in sys.orig_argv:\n    import torch\n    torch.version.cuda = '13.0'\n"
    )
    environment = ENVIRONMENT | {
        "PATH": f"{beside}:{os.environ['PATH']}", "PYTHONPATH": str(beside), "TMPDIR": str(beside),
    }  # fmt: skip
    environment.pop("CUDA_VISIBLE_DEVICES", None)

    def dvc(*arguments: str) -> None:
        """Into a file: a worker keeps a pipe open until it ends."""
        with (beside / "dvc.log").open("a") as log:
            subprocess.run(
                ["dvc", *arguments], cwd=clone, env=environment, stdout=log, stderr=log, check=True
            )

    with (beside / "tsugiki-card-GPU-b.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for key in ("max_steps", "eval_steps"):  # which end neither training before it is killed
            change(clone, f"runs/reward-002/{key}", 4000)
        for rank, name in ((5, "one"), (6, "two")):
            change(clone, "runs/reward-002/lora/r", rank)
            dvc("exp", "run", "--queue", "--name", name, "train@reward-002")
        dvc("queue", "start", "--jobs", "2")
        computes = re.compile(r"^computes on card (.+)$", re.MULTILINE)
        until = time.monotonic() + 300
        cards: list[list[str]] = []
        while len(cards) < 2:
            assert time.monotonic() < until, (beside / "dvc.log").read_text("utf-8")
            time.sleep(0.5)
            logs = [*clone.glob(".dvc/tmp/exps/run/*/*.out")]
            cards = [*filter(None, (computes.findall(log.read_text("utf-8")) for log in logs))]
        for name in "ac":
            lock = (beside / f"tsugiki-card-GPU-{name}.lock").open("r+")
            os.kill(int(lock.read()), signal.SIGKILL)
            fcntl.flock(lock, fcntl.LOCK_EX)  # free at once
            lock.close()
        dvc("queue", "stop", "--kill")
    assert sorted(cards) == [["0"], ["2"]]
