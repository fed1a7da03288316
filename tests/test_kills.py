"""A short form of `python -m tests.kills`; docs/reliability.md has the figures of the long one."""

import random
import shutil
from pathlib import Path

from tests import kills
from tests.conftest import run


def test_stages_that_are_killed_end_in_the_same_lock(clone):
    before = (clone / "dvc.lock").read_bytes()
    command = ["repro", "--force", "--single-item", "train@reward-002", "predict@reward-002"]
    struck = kills.disturbed(clone, command, 3, 3.0, random.Random(2))
    assert struck.total() >= 2
    assert (clone / "dvc.lock").read_bytes() == before


def test_verbs_that_are_killed_leave_what_undisturbed_ones_leave(clone, tmp_path):
    calm = Path(shutil.copytree(clone, tmp_path / "calm", symlinks=True))
    struck, halves = kills.struck_verbs(calm, clone, 30, random.Random(3))
    assert set(struck.values()) == {5}
    assert halves >= 6
    started = [kills.start(folder, "repro", "evaluate@gec-001") for folder in (calm, clone)]
    assert [process.wait() for process in started] == [0, 0]
    assert (clone / "dvc.lock").read_bytes() == (calm / "dvc.lock").read_bytes()
    assert kills.tree(clone) == kills.tree(calm)


def test_an_experiment_outside_the_workspace_survives_a_kill(clone):
    command = ["exp", "run", "--temp", "-S", "runs.reward-002.lora.r=8"]
    # Struck after 5.8 s, while stages run. A kill in the second in which DVC sets the experiment up
    # may leave an empty params.yaml in DVC's own folder, with which it cannot begin again.
    struck = kills.disturbed(clone, command, 1, 3.0, random.Random(2))
    assert struck.total() == 1
    assert len(kills.locks(clone, command)) == 1


def test_half_a_lock_is_taken_back_as_the_document_says(clone):
    lock = clone / "dvc.lock"
    whole = lock.read_text(encoding="utf-8")
    lock.write_text(whole[: whole.index(" data/", len(whole) // 2)], encoding="utf-8")
    assert "validation failed" in run(clone, "dvc", "status", succeeds=False).stderr
    kills.take_back_half_a_lock(clone, whole)
    assert lock.read_text(encoding="utf-8") == whole
    assert run(clone, "dvc", "status").stdout == "Data and pipelines are up to date.\n"
