"""A run as what other programs load."""

import errno
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages import files
from stages.backends.pytorch import models
from stages.backends.shared import adapters, model_folders
from stages.errors import UserError
from tests.conftest import run


def test_a_merged_checkpoint_says_what_base_and_adapter_say(clone):
    run(clone, "python", "-m", "stages", "export", "gec-002", "-o", "out/merged")
    merged = AutoModelForCausalLM.from_pretrained(clone / "out/merged", dtype=torch.float32).eval()
    ours = models.model_for_answering(
        str(clone / "models/gec-002"), str(clone / "models/lm-001")
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(clone / "out/merged")
    ids = torch.tensor([tokenizer("私は本が読みます。")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(
            merged(ids).logits, ours(ids).logits, rtol=0.02, atol=0.02
        )  # bfloat16 has 8 bits
    card = (clone / "out/merged/README.md").read_text(encoding="utf-8")
    score = json.loads((clone / "metrics/evaluate/gec/gec-002.json").read_text())["score"]
    assert f"| score | {score:.3f} (" in card
    assert 'base_model: "models/lm-001"' in card
    assert "grown on `models/lm-001` from `models/gec-001` (MD5 " in card
    assert str(clone) not in card


def test_in_float32_it_has_the_weights_of_the_run_and_others_may_read_it(clone):
    said = run(clone, "python", "-m", "stages", "export", "gec-002", "-o", "out/rounded").stdout
    assert (
        "Its weights are rounded to bfloat16, so that greedy answers may differ from those of the "
        "run here; --precision float32 keeps them, in twice the room\n"
    ) in said
    (clone / "out/.exact.partial/of a kill").mkdir(parents=True)
    command = ("python", "-m", "stages", "export", "gec-002", "-o", "out/exact")
    umask = ("sh", "-c", 'umask 027; exec "$@"', "sh")
    said = run(clone, *umask, *command, "--precision", "float32", cold=True).stdout
    assert "rounded" not in said
    exact = AutoModelForCausalLM.from_pretrained(clone / "out/exact").state_dict()
    ours = models.model_for_answering(str(clone / "models/gec-002"), str(clone / "models/lm-001"))
    assert all(torch.equal(exact[name], value) for name, value in ours.state_dict().items())
    assert sorted(path.name for path in (clone / "out").iterdir()) == ["exact", "rounded"]
    assert {path.stat().st_mode & 0o777 for path in (clone / "out/exact").iterdir()} == {0o640}
    assert (clone / "out/exact").stat().st_mode & 0o777 == 0o750


def test_an_export_before_evaluate_is_told_and_leaves_nothing(clone):
    (clone / "metrics/evaluate/gec/gec-002.json").unlink()
    command = ("python", "-m", "stages", "export", "gec-002", "-o", "out/none")
    done = run(clone, *command, succeeds=False)
    assert done.returncode == 2
    says = "metrics/evaluate/gec/gec-002.json: not there; `dvc repro evaluate@gec-002` scores the"
    assert says in done.stderr
    assert list((clone / "out").iterdir()) == []


def test_a_bar_in_a_licence_ends_no_cell(clone):
    command = ("python", "-m", "stages", "export", "gec-002", "-o", "out/peft", "--form", "peft")
    run(clone, *command, "--licence", "a|b")
    card = (clone / "out/peft/README.md").read_text(encoding="utf-8")
    assert 'license: "a|b"\n' in card
    assert "| licence | a\\|b; the base's" in card


def test_two_that_fill_one_folder_wait_and_the_second_is_told_that_it_is_there(inside):
    def fill() -> None:
        with files.atomic_folder(Path("out")) as half:
            (half / "b").touch()

    with ThreadPoolExecutor() as pool:
        with files.atomic_folder(Path("out")) as half:
            (half / "a").touch()
            other = pool.submit(fill)
            time.sleep(0.3)
            assert not other.done()
        with pytest.raises(UserError, match="out: there already; name a folder that is not, or"):
            other.result()
    assert [str(path) for path in inside.rglob("*")] == [str(inside / "out"), str(inside / "out/a")]


@pytest.mark.parametrize(
    ("error", "raised", "says"),
    [
        (OSError(errno.ENOSPC, "No space left"), UserError, r"^out: not written \(No space left\); make"),
        (OSError(errno.ENOENT, "no such file"), OSError, "no such file"),
        (KeyboardInterrupt("now"), KeyboardInterrupt, "now"),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_filled_to_its_end_is_not_there(inside, error, raised, says):
    def fill() -> None:
        with files.atomic_folder(Path("out")) as half:
            (half / "a").touch()
            raise error

    with pytest.raises(raised, match=says):
        fill()
    assert [*inside.iterdir()] == []


def test_added_tokens_and_heads_are_exported_too(clone):
    run(
        clone,
        "python",
        "-m",
        "stages",
        "export",
        "polish-002",
        "-o",
        "out/polish",
        "--licence",
        "mit",
    )
    tokenizer = AutoTokenizer.from_pretrained(clone / "out/polish")
    merged = AutoModelForCausalLM.from_pretrained(clone / "out/polish")
    assert merged.get_input_embeddings().num_embeddings >= len(tokenizer)
    assert tokenizer.convert_tokens_to_ids("<question>") == len(tokenizer) - 6
    assert 'license: "mit"' in (clone / "out/polish/README.md").read_text(encoding="utf-8")
    run(clone, "python", "-m", "stages", "export", "reward-002", "-o", "out/reward")
    assert (
        load_file(clone / "out/reward" / model_folders.HEAD).keys()
        == load_file(clone / "models/reward-002" / model_folders.HEAD).keys()
    )


def test_the_adapter_goes_out_in_both_forms(clone):
    run(clone, "python", "-m", "stages", "export", "gec-002", "-o", "out/peft", "--form", "peft")
    run(clone, "python", "-m", "stages", "export", "gec-002", "-o", "out/mlx", "--form", "mlx")
    assert (clone / "out/peft" / adapters.ADAPTER).read_bytes() == (
        clone / "models/gec-002" / adapters.ADAPTER
    ).read_bytes()
    _, there = adapters.read(clone / "out/mlx")
    state = load_file(clone / "models/gec-002" / adapters.ADAPTER)
    assert there.keys() == state.keys()
    assert all(torch.equal(there[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("gec-009",), "no `gec-009` under `runs`"),
        (
            ("lm-001", "--form", "peft"),
            "models/lm-001: full weights, not an adapter; use --form merged",
        ),
        (
            ("lm-001", "--form", "mlx"),
            "full weights, which mlx-lm loads as they are; use --form merged",
        ),
        (
            ("polish-002", "--form", "mlx"),
            "mlx-lm's adapters have no place for it; export the run merged instead",
        ),
    ],
)
def test_what_cannot_be_exported_says_so_and_leaves_nothing(clone, arguments, says):
    done = run(
        clone, "python", "-m", "stages", "export", *arguments, "-o", "out/none", succeeds=False
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert not (clone / "out/none").exists()


def test_a_folder_that_is_there_is_not_written_over(clone):
    (clone / "out").mkdir()
    done = run(clone, "python", "-m", "stages", "export", "gec-002", "-o", "out", succeeds=False)
    assert "out: there already; name a folder that is not, or remove it" in done.stderr
