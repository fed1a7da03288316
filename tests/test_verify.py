"""An edit without effect is proved and kept; one with an effect is found, and its run trained
again."""

import json

import pytest
import torch
from safetensors.torch import load_file

from stages.backends.pytorch import backend as pytorch
from stages.backends.shared import first_steps
from stages.backends.shared.first_steps import weights_md5
from stages.entries import Run
from tests.conftest import run
from tests.tiny import ROWS, SETTINGS, checkpoint

TRAINER = "stages/backends/pytorch/trainer.py"


def test_the_checksum_tells_apart_names_shapes_types_and_every_bit():
    weights = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3), "c": torch.ones(1)},
        {"a": torch.zeros(2, 3), "b": torch.ones(1).to(torch.float16)},
        {"a": torch.zeros(2, 3), "b": torch.ones(1).nextafter(torch.tensor(2.0))},
    ]
    assert len({weights_md5(each) for each in (weights, *others)}) == 5
    assert weights_md5(dict(reversed(weights.items()))) == weights_md5(weights)


@pytest.mark.parametrize("name", ["pytorch", "mlx"])
def test_the_first_steps_alone_have_the_weights_of_the_whole_trainings_first_steps(
    inside, monkeypatch, name
):
    from stages.backends.mlx import backend as mlx
    from stages.backends.mlx import loop
    from stages.backends.pytorch import callback

    for module in (first_steps, callback, loop):
        monkeypatch.setattr(module, "FIRST_STEPS", 3)
    backend = {"pytorch": pytorch, "mlx": mlx}[name]
    base = checkpoint(inside / "base", "llama")
    spec = Run(task="gec", corpus="gec-001", base=base, parent=base)
    settings = SETTINGS.model_copy(update={"backend": name})

    def train(label: str, steps: int, first_steps_only: bool = False) -> str:
        changed = settings.model_copy(update={"max_steps": steps, "warmup_steps": 3})
        made = backend.train(
            label, spec, changed, ROWS[:16], ROWS[16:], inside / label, (), first_steps_only
        )
        assert made.steps == (3 if first_steps_only else steps)
        if made.steps == 3 and not first_steps_only:
            made.save(inside / f"{label}-saved")
        return made.first_steps_md5

    whole, only = train("whole", 6), train("only", 6, first_steps_only=True)
    assert whole == only
    assert train("whole-again", 6) == whole
    assert train("another", 6, first_steps_only=True) == whole
    other = settings.model_copy(update={"seed": 7})
    settings = other
    assert train("seed", 6, first_steps_only=True) != whole


def test_an_edit_without_effect_is_proved_and_kept_without_training(clone):
    weights = clone / "models/gec-001/adapter_model.safetensors"
    inode = weights.stat().st_ino
    path = clone / TRAINER
    code = path.read_text(encoding="utf-8")
    path.write_text(f"{code}\nWITHOUT_EFFECT = 1\n", encoding="utf-8")
    done = run(clone, "python", "-m", "stages", "repro", "--verify", "train@gec-001")
    assert "2 of 2 trainings proved to be the same in their first steps" in done.stdout
    assert "Running stage 'train" not in done.stdout
    assert weights.stat().st_ino == inode
    shown = run(clone, "dvc", "repro", "train@gec-001").stdout
    assert "Data and pipelines are up to date" in shown

    # Another order of the rows: an edit with an effect.
    path = clone / "stages/text/steps.py"
    code = path.read_text(encoding="utf-8")
    assert code.count("random.Random(seed)") == 1
    path.write_text(code.replace("Random(seed)", "Random(seed + 1)"), encoding="utf-8")
    before = load_file(weights)
    done = run(clone, "python", "-m", "stages", "repro", "--verify", "train@gec-001")
    assert "0 of 2 trainings proved to be the same in their first steps" in done.stdout
    assert "Running stage 'train@gec-001'" in done.stdout
    after = load_file(weights)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_change_of_settings_is_not_taken_for_one_of_code(clone):
    entry = "  typst-001: {task: typst, corpus: typst-001, "
    text = (clone / "params.yaml").read_text(encoding="utf-8")
    changed = text.replace(entry, f"{entry}adam_beta2: 0.9, ")
    assert changed != text
    (clone / "params.yaml").write_text(changed, encoding="utf-8")
    done = run(clone, "python", "-m", "stages", "repro", "--verify", "train@typst-001")
    assert "0 of 0 trainings proved" in done.stdout
    assert "Running stage 'train@typst-001'" in done.stdout
    lineage = json.loads((clone / "models/typst-001/lineage.json").read_text(encoding="utf-8"))
    assert len(lineage["first_steps_md5"]) == 32


def test_a_target_that_does_not_exist_is_told_by_dvc_with_exit_code_2(clone):
    done = run(clone, "python", "-m", "stages", "repro", "train@nobody", succeeds=False)
    assert done.returncode == 2
    assert "dvc repro train@nobody: failed with exit code" in done.stderr
