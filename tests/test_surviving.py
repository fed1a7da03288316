"""A training that is stopped, damaged or short of memory goes on to the same result, or says why it
cannot."""

import errno
import json
import math
import os
import re
import signal
from pathlib import Path

import pytest
import torch

from stages import train
from stages.backends.pytorch import backend as pytorch
from stages.backends.pytorch import trainer
from stages.backends.shared import adapters, checkpoints, progress, stopping
from stages.entries import Run
from stages.errors import UserError
from stages.settings import EarlyStopping
from tests.tiny import CONTRARY, ROWS, SETTINGS, checkpoint, grow


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("base") / "llama", "llama")


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bytes_of(folder):
    return (Path(folder) / adapters.ADAPTER).read_bytes()


def fit(base, settings, folder, valid=ROWS[16:]):
    """The training of a run whose checkpoints are in `folder`."""
    return pytorch.train(
        "run",
        Run(task="gec", corpus="gec-001", base=base, parent=base),
        settings,
        ROWS[:16],
        valid,
        folder,
    )


def stop_at(monkeypatch, step, act):
    """Do something when so many steps are made, before anything is saved at that step."""
    ended = progress.Progress.step_ends

    def step_ends(self, at):
        if at == step:
            act()
        ended(self, at)

    monkeypatch.setattr(progress.Progress, "step_ends", step_ends)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_checkpoint_from_which_the_same_command_goes_on_to_the_same_bytes(
    base, inside, monkeypatch, number
):
    # Step 3 lies between two evaluations and between two reports: nothing may depend on where it
    # was stopped.
    settings, before = SETTINGS.model_copy(update={"logging_steps": 2}), signal.getsignal(number)
    whole = fit(base, settings, inside / "whole")
    with monkeypatch.context() as patch:
        stop_at(patch, 3, lambda: os.kill(os.getpid(), number))
        with pytest.raises(SystemExit) as stopped:
            fit(base, settings, inside / "stopped")
    assert stopped.value.code == 128 + number
    assert (
        f"stopped at step 3 by {number.name}; the same command goes on from here"
        in Path("logs/run.log").read_text()
    )
    assert signal.getsignal(number) == before
    resumed = fit(base, settings, inside / "stopped")
    assert "resumed at step 3" in Path("logs/run.log").read_text()
    for name, trained in (("one", whole), ("two", resumed)):
        trained.save(inside / name)
        train.write_curve(inside / f"{name}.csv", "run", trained.history)
    assert bytes_of("one") == bytes_of("two")
    assert Path("one.csv").read_bytes() == Path("two.csv").read_bytes()


def test_a_trainer_whose_dvc_is_gone_saves_and_stops(base, inside, monkeypatch):
    alive = iter([True, True, False])
    monkeypatch.setattr(stopping, "_is_dvc", lambda process: True)
    monkeypatch.setattr(stopping, "_lives", lambda process: next(alive))
    with pytest.raises(SystemExit):
        fit(base, SETTINGS, inside / "scratch")
    assert "stopped at step 3 by the end of dvc" in Path("logs/run.log").read_text()
    assert checkpoints.is_intact(inside / "scratch/checkpoint-3")


@pytest.mark.parametrize("harm", ["truncate", "alter", "unsealed"])
def test_of_a_damaged_checkpoint_the_one_before_is_used_with_a_warning(
    base, inside, monkeypatch, harm
):
    whole = grow(base, base, inside / "whole")
    with monkeypatch.context() as patch:
        stop_at(patch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            grow(base, base, inside / "harmed")
    last = inside / "scratch-harmed/checkpoint-5"
    weights = last / adapters.ADAPTER
    if harm == "unsealed":  # killed before the last file was written
        (last / checkpoints.SEAL).unlink()
    else:
        found = weights.read_bytes()
        weights.write_bytes(
            found[:-100] if harm == "truncate" else found[:-1] + bytes([found[-1] ^ 1])
        )
    again = grow(base, base, inside / "harmed")
    log = Path("logs/harmed.log").read_text()
    assert "checkpoint-5: incomplete or damaged; the checkpoint before it is used" in log
    assert "resumed at step 4" in log
    assert bytes_of(whole) == bytes_of(again)


def test_patience_survives_a_resume(base, inside, monkeypatch):
    settings = SETTINGS.model_copy(
        update={"max_steps": 60, "early_stopping": EarlyStopping(patience=3, unit="evaluations")}
    )
    whole = fit(base, settings, inside / "whole", CONTRARY)
    assert whole.steps < 60
    with monkeypatch.context() as patch:  # after the first of the evaluations that count
        stop_at(patch, whole.best_step + 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            fit(base, settings, inside / "stopped", CONTRARY)
    assert fit(base, settings, inside / "stopped", CONTRARY).steps == whole.steps


def test_the_best_checkpoint_outlives_a_move_of_its_folder(base, inside, monkeypatch):
    """Rotation would delete it by its old path, and the last weights be saved in its place."""
    settings = SETTINGS.model_copy(update={"max_steps": 12, "save_total_limit": 1})
    whole = fit(base, settings, inside / "whole", CONTRARY)
    with monkeypatch.context() as patch:
        stop_at(patch, whole.best_step + 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            fit(base, settings, inside / "before", CONTRARY)
    (inside / "before").rename(inside / "after")
    again = fit(base, settings, inside / "after", CONTRARY)
    assert (again.steps, again.best_step) == (12, whole.best_step)
    assert whole.best_step < 6
    whole.save(inside / "saved-whole")
    again.save(inside / "saved-again")
    assert bytes_of(inside / "saved-whole") == bytes_of(inside / "saved-again")


@pytest.mark.parametrize("name", ["pytorch", "mlx"])
def test_a_training_that_had_ended_is_finished_without_another_step(base, inside, name):
    """Killed after its last step and before it was saved; its folder is another one now."""
    from stages.backends.mlx import backend as mlx

    backend = {"pytorch": pytorch, "mlx": mlx}[name]
    spec = Run(task="gec", corpus="gec-001", base=base, parent=base)
    settings = SETTINGS.model_copy(
        update={
            "backend": name,
            "max_steps": 60,
            "save": ["best", "last"],
            "early_stopping": EarlyStopping(patience=2, unit="evaluations"),
        }
    )
    made = []
    for folder in ("before", "after"):
        trained = backend.train("run", spec, settings, ROWS[:16], CONTRARY, inside / folder)
        trained.save(inside / f"saved-{folder}")
        losses = [entry for entry in trained.history if {"loss", "eval_loss"} & entry.keys()]
        made.append((trained.steps, trained.best_step, losses))
        if folder == "before":
            (inside / "before").rename(inside / "after")
    assert made[0] == made[1]
    assert made[0][0] < 60
    for saved in ("", "last"):
        first, again = (bytes_of(inside / f"saved-{each}" / saved) for each in ("before", "after"))
        assert first == again


def short_of_memory(monkeypatch, most):
    """A device that has room for the activations of so many rows."""
    summed = trainer.summed_nats

    def summed_nats(model, batch):
        nats = summed(model, batch)
        if len(batch["joined"].groups[0]) > most:  # its rows are as short as each other
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return nats

    monkeypatch.setattr(trainer, "summed_nats", summed_nats)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_out_of_memory_halves_the_tokens_at_once_and_keeps_the_step(
    base, inside, monkeypatch, accumulation
):
    lora = SETTINGS.lora.model_copy(update={"lora_dropout": 0.0})
    settings = SETTINGS.model_copy(
        update={"gradient_accumulation_steps": accumulation, "lora": lora}
    )
    whole = fit(base, settings, inside / "whole")
    short_of_memory(monkeypatch, 1)
    short = fit(base, settings, inside / "short")
    log = Path("logs/run.log").read_text()
    rows = 4 * accumulation
    said = re.findall(
        r"out of memory at step \d with (\d) rows at once, (\d+) tokens: from here on at most (\d+) tokens, in more passes; "
        rf"a step still sees {rows} rows\n",
        log,
    )
    assert said[0][0] == "4"
    assert all(int(most) == int(tokens) // 2 for _, tokens, most in said)
    for entry, other in zip(whole.history, short.history, strict=True):
        for key in entry.keys() & {"loss", "eval_loss", "grad_norm"}:
            assert other[key] == pytest.approx(entry[key], rel=1e-4)


def test_memory_that_ends_in_the_middle_of_a_step_counts_no_gradient_twice(
    base, inside, monkeypatch
):
    lora = SETTINGS.lora.model_copy(update={"lora_dropout": 0.0})
    settings = SETTINGS.model_copy(update={"gradient_accumulation_steps": 2, "lora": lora})
    whole = fit(base, settings, inside / "whole")
    passes, summed = iter(range(10_000)), trainer.summed_nats

    def summed_nats(model, batch):
        if next(passes) == 3:  # the second pass of the second step
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return summed(model, batch)

    monkeypatch.setattr(trainer, "summed_nats", summed_nats)
    short = fit(base, settings, inside / "short")
    assert "out of memory at step 2 with 4 rows at once, " in Path("logs/run.log").read_text()
    norms = [
        [entry["grad_norm"] for entry in trained.history if "grad_norm" in entry]
        for trained in (whole, short)
    ]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_a_row_that_does_not_fit_alone_is_named(base, inside, monkeypatch):
    short_of_memory(monkeypatch, 0)
    with pytest.raises(
        UserError,
        match=r"step 1: out of memory with row \d+ alone, \d+ tokens; .* method: qlora, or raise",
    ):
        fit(base, SETTINGS, inside / "scratch")


def test_an_exploding_loss_stops_with_the_step_and_a_remedy(base, inside, monkeypatch):
    summed, made = trainer.summed_nats, []

    def summed_nats(model, batch):
        made.append(1)
        return summed(model, batch) * (1 if len(made) < 20 else 30)

    monkeypatch.setattr(trainer, "summed_nats", summed_nats)
    settings = SETTINGS.model_copy(update={"max_steps": 60})
    with pytest.raises(
        UserError,
        match=r"step 2\d: the loss exploded, from [\d.]+ to [\d.]+ as a mean of 10 steps; nothing was",
    ):
        fit(base, settings, inside / "scratch")


def test_a_loss_after_a_resume_is_measured_against_the_lowest_before_it(base, inside, monkeypatch):
    settings = SETTINGS.model_copy(update={"max_steps": 24})
    seen, check = [], stopping.LossWatch.check

    def noted(self, step, losses, lowest):
        seen.append(lowest)
        return check(self, step, losses, lowest)

    monkeypatch.setattr(stopping.LossWatch, "check", noted)
    with monkeypatch.context() as patch:
        stop_at(patch, 20, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            fit(base, settings, inside / "scratch")
    lowest_before, made = seen[-1], len(seen)
    assert lowest_before is not None
    fit(base, settings, inside / "scratch")
    assert seen[made] is not None
    assert seen[made] <= lowest_before


def test_a_high_loss_that_falls_is_no_explosion(base, inside):
    assert fit(base, SETTINGS.model_copy(update={"max_steps": 30}), inside / "scratch").steps == 30


def test_a_full_disk_stops_with_a_sentence_and_the_run_resumes(base, inside, monkeypatch):
    whole = grow(base, base, inside / "whole")
    with monkeypatch.context() as patch:
        saved = torch.save

        def save(record, path, *others, **named):
            if "checkpoint-4" in str(path):
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            saved(record, path, *others, **named)

        patch.setattr(torch, "save", save)
        with pytest.raises(
            UserError, match=r"the disk is full; make room and run the same command again"
        ):
            grow(base, base, inside / "again")
    again = grow(base, base, inside / "again")
    assert "resumed at step 2" in Path("logs/again.log").read_text()
    assert bytes_of(whole) == bytes_of(again)


def test_a_folder_that_cannot_be_written_to_is_found_before_training(inside):
    Path("models").write_text("a file where the folder should be")
    from stages.files import require_writable

    with pytest.raises(
        UserError,
        match=r"models: cannot be written to \(File exists\); correct its rights, then run again",
    ):
        require_writable(Path("logs"), Path("models"))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_last_weights_are_kept_beside_the_best(base, inside, method):
    settings = SETTINGS.model_copy(
        update={"save": ["best", "last"], "method": method, "max_steps": 12}
    )
    best_only = fit(
        base, settings.model_copy(update={"save": ["best"]}), inside / "scratch", CONTRARY
    )
    assert best_only.best_step < 12
    assert not best_only.last
    trained = fit(base, settings, inside / "again", CONTRARY)
    best_only.save(inside / "one")
    trained.save(inside / "both")
    weights = adapters.ADAPTER if method == "lora" else "model.safetensors"
    assert (
        Path("one", weights).read_bytes()
        == Path("both", weights).read_bytes()
        != Path("both/last", weights).read_bytes()
    )
    if method == "lora":  # it can be continued as any adapter
        grow(base, str(inside / "both/last"), inside / "child")


def test_offloaded_activations_change_nothing(base, inside):
    plain = grow(base, base, inside / "plain")
    offloaded = grow(
        base, base, inside / "offloaded", SETTINGS.model_copy(update={"offload_activations": True})
    )
    assert bytes_of(plain) == bytes_of(offloaded)


def test_a_limit_of_evaluation_batches_looks_at_that_many(base, inside):
    every = fit(base, SETTINGS, inside / "every")
    some = fit(base, SETTINGS.model_copy(update={"max_eval_batches": 1}), inside / "some")
    losses = [
        [entry["eval_loss"] for entry in trained.history if "eval_loss" in entry]
        for trained in (every, some)
    ]
    assert losses[0] != losses[1]
    assert all(map(math.isfinite, losses[1]))


def test_a_device_that_is_not_there_is_refused(base, inside):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="device: there is no cuda here; set auto, which takes cpu"):
        fit(base, SETTINGS.model_copy(update={"device": "cuda"}), inside / "scratch")


def test_a_checkpoint_names_the_checksum_of_each_of_its_files(base, inside):
    grow(base, base, inside / "one")
    folder = inside / "scratch-one/checkpoint-6"
    sums = json.loads((folder / checkpoints.SEAL).read_text())
    assert set(sums) == {path.name for path in folder.iterdir()} - {checkpoints.SEAL}
