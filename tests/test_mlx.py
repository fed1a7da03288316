"""The MLX backend beside the PyTorch one: the same losses, gradients and answers, and adapters that
either continues."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from stages import backends
from stages.backends.pytorch import backend as pytorch
from stages.backends.pytorch import models
from stages.backends.pytorch.loss import summed_nats
from stages.backends.shared import adapters, mlx_adapters, model_folders, progress
from stages.backends.shared.tokenizers import load_tokenizer
from stages.entries import Run
from stages.errors import UserError
from stages.params import load_params
from stages.settings import EarlyStopping
from stages.text import batches
from stages.text.chat import encode
from tests.conftest import run
from tests.tiny import ROWS, SETTINGS, checkpoint, grow, lora, settings_with

if sys.platform not in ("linux", "darwin"):
    pytest.skip("MLX has no wheel for this system", allow_module_level=True)

import mlx.core as mx
from mlx.utils import tree_flatten

from stages.backends.mlx import backend as mlx
from stages.backends.mlx import loop
from stages.backends.mlx import models as mlx_models

ROOT = Path(__file__).parents[1]
PLAIN = SETTINGS.model_copy(update={"backend": "mlx", "lora": lora(r=4, lora_alpha=8)})


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def base(request, tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("base") / request.param, request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("base") / "llama", "llama")


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(base, parent, folder, settings=PLAIN):
    """A run that MLX has trained, in `folder`."""
    spec = Run(task="gec", corpus="gec-001", base=base, parent=parent)
    made = mlx.train(
        folder.name, spec, settings, ROWS[:16], ROWS[16:], folder.parent / f"scratch-{folder.name}"
    )
    made.save(folder)
    return made


def sequences(base):
    fast = load_tokenizer(base, base)
    return [sequence for row in ROWS for sequence in encode(fast, row, 64)]


# Parity


def test_losses_and_gradients_are_those_of_the_pytorch_backend(base, inside):
    parent = grow(base, base, inside / "parent")  # so that both matrices of the adapter are there
    settings = PLAIN.model_copy(update={"precision": "float32"})
    ours, other = (
        mlx_models.model_for_training(base, parent, settings),
        models.model_for_training(base, parent, settings),
    )
    import mlx.nn as nn

    gradient = nn.value_and_grad(ours, loop.summed_nats)
    rows = sequences(base)
    for at in range(10):
        batch = rows[at : at + 5]
        nats, found = gradient(ours, *loop.arrays(batch, 0))
        other.zero_grad()
        expected = summed_nats(other, batches.pad(batch, 0))
        expected.backward()
        assert nats.item() == pytest.approx(expected.item(), rel=1e-4)
        found = mlx_adapters.from_mlx(
            {name: torch.tensor(np.array(value)) for name, value in tree_flatten(found)}
        )
        wanted = {name: weights.grad for name, weights in adapters.trainable(other).items()}
        assert found.keys() == wanted.keys()
        for name, tensor in wanted.items():
            assert (
                torch.linalg.norm(found[name] - tensor) <= 1e-3 * torch.linalg.norm(tensor) + 1e-6
            )


@pytest.mark.parametrize("split", [False, True])
def test_ten_steps_have_the_losses_of_the_pytorch_backend(base, inside, monkeypatch, split):
    """Split: rows of unlike length go through the model one after the other, and add up to the same
    step."""
    monkeypatch.setattr(batches, "PASS_OVERHEAD_TOKENS", 0 if split else 10**6)
    passes, arrays = [], loop.arrays
    monkeypatch.setattr(
        loop, "arrays", lambda rows, pad_id: passes.append(len(rows)) or arrays(rows, pad_id)
    )
    parent = grow(base, base, inside / "parent")
    course = {
        "max_steps": 10,
        "gradient_accumulation_steps": 2,
        "warmup_steps": 2,
        "weight_decay": 0.1,
    }
    settings = PLAIN.model_copy(update=course)
    spec = Run(task="gec", corpus="gec-001", base=base, parent=parent)
    histories = [
        backend.train(
            backend.__name__, spec, settings, ROWS[:16], ROWS[16:], inside / backend.__name__
        ).history
        for backend in (mlx, pytorch)
    ]
    compared = 0
    for key in ("loss", "eval_loss", "learning_rate", "grad_norm"):
        values = [[entry[key] for entry in history if key in entry] for history in histories]
        assert values[0] == pytest.approx(values[1], rel=1e-3 if key == "grad_norm" else 1e-4), key
        compared += len(values[0])
    assert compared == 10 + 5 + 10 + 10
    assert (min(passes) < 4) == split


def test_greedy_answers_and_nats_are_those_of_the_pytorch_backend(base, inside):
    run = grow(base, base, inside / "run")
    settings = settings_with(generation={"max_new_tokens": 6, "batch_size": 5})
    ours, other = (
        backend.Answerer(run, base, settings).predict(ROWS) for backend in (mlx, pytorch)
    )
    assert [answer.answer for answer in ours] == [answer.answer for answer in other]
    assert [answer.tokens for answer in ours] == [answer.tokens for answer in other]
    assert [answer.nats for answer in ours] == pytest.approx(
        [answer.nats for answer in other], rel=1e-4
    )
    asked = [row | {"messages": row["messages"][:-1]} for row in ROWS[:7]]
    ours, other = (
        backend.Answerer(run, base, settings).candidates(asked, 4) for backend in (mlx, pytorch)
    )
    assert [[text for text, _ in row] for row in ours] == [
        [text for text, _ in row] for row in other
    ]
    assert [nats for row in ours for _, nats in row] == pytest.approx(
        [nats for row in other for _, nats in row], rel=1e-4
    )
    texts = [
        {"id": "t", "category": "", "source": "", "text": "The old teacher reads a letter. " * 4}
    ]
    ours, other = (
        backend.Answerer(run, base, settings).predict(texts) for backend in (mlx, pytorch)
    )
    assert (ours[0].answer, ours[0].tokens) == (other[0].answer, other[0].tokens)


def test_what_answers_is_in_float32_whatever_training_was_in(base):
    settings = PLAIN.model_copy(update={"precision": "bfloat16"})
    trained = mlx_models.model_for_training(base, base, settings)
    answers = mlx.Answerer(base, base, settings).model
    kinds = [
        {value.dtype for _, value in tree_flatten(model.parameters()) if value.ndim > 1}
        for model in (trained, answers)
    ]
    assert mx.bfloat16 in kinds[0]
    assert kinds[1] == {mx.float32}


# Adapters


def test_a_chain_alternates_between_the_backends(llama, inside):
    trained(llama, llama, inside / "first")
    grow(llama, str(inside / "first"), inside / "second")
    third = trained(
        llama,
        str(inside / "second"),
        inside / "third",
        PLAIN.model_copy(update={"lora": lora(r=6, lora_alpha=6)}),
    )
    start, before = third.history, models.model_for_answering(str(inside / "second"), llama)
    rows = sequences(llama)[16:]
    parents_loss = sum(summed_nats(before, batches.pad([row], 0)).item() for row in rows)
    grown = mlx_models.model_for_training(
        llama, str(inside / "second"), PLAIN.model_copy(update={"lora": lora(r=6, lora_alpha=6)})
    )
    assert sum(nats for nats, _ in loop.row_nats(grown, rows, 4, 0)) == pytest.approx(
        parents_loss, rel=1e-4
    )
    assert start


def test_both_backends_write_the_same_form(llama, inside):
    trained(llama, llama, inside / "ours")
    grow(llama, llama, inside / "other", PLAIN)
    configs = [
        (inside / name / model_folders.ADAPTER_CONFIG).read_bytes() for name in ("ours", "other")
    ]
    assert configs[0] == configs[1]
    shapes = [
        {k: v.shape for k, v in load_file(inside / name / adapters.ADAPTER).items()}
        for name in ("ours", "other")
    ]
    assert shapes[0] == shapes[1]


def test_an_adapter_goes_to_mlx_and_back_without_a_change(llama, inside):
    run = Path(grow(llama, llama, inside / "run"))
    config, state = adapters.read(run)
    theirs = mlx_adapters.to_mlx(state)
    folder = inside / "theirs"
    folder.mkdir()
    save_file(theirs, folder / mlx_adapters.MLX_ADAPTER)
    (folder / "adapter_config.json").write_text(
        json.dumps(mlx_adapters.config_to_mlx(config, theirs, 2))
    )
    back_config, back = adapters.read(folder)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    by_name = {name.rpartition(".")[2] for name in config["target_modules"]}
    assert back_config == {key: config[key] for key in back_config} | {
        "target_modules": sorted(by_name)
    }
    # Where both forms are in one folder, its config says which is meant.
    save_file(
        {name: torch.zeros_like(tensor) for name, tensor in theirs.items()},
        run / mlx_adapters.MLX_ADAPTER,
    )
    assert all(torch.equal(tensor, state[name]) for name, tensor in adapters.read(run)[1].items())
    # mlx-lm itself loads it, and answers as we do.
    from mlx_lm.tuner.utils import load_adapters

    model = load_adapters(mlx_models.load_weights(llama), str(folder))
    ours = mlx.Answerer(str(run), llama, PLAIN)
    rows = sequences(llama)[:4]
    assert [nats for nats, _ in loop.row_nats(model, rows, 4, 0)] == pytest.approx(
        [nats for nats, _ in ours.nats(rows, lambda count: None)]
    )
    # And it can be a parent, of either backend.
    for room, learns in ((mlx_models, mlx_models.peft_state), (models, adapters.trainable)):
        learned = learns(room.model_for_training(llama, str(folder), PLAIN))
        assert all(torch.equal(learned[name], state[name]) for name in state)


def test_an_adapter_of_some_layers_is_continued_in_all(llama, inside):
    """mlx-lm's num_layers: the layers it leaves out get fresh adapters, which change nothing
    yet."""
    config, state = adapters.read(Path(grow(llama, llama, inside / "run")))
    some = {
        name: value for name, value in mlx_adapters.to_mlx(state).items() if ".layers.1." in name
    }
    folder = inside / "some"
    folder.mkdir()
    save_file(some, folder / mlx_adapters.MLX_ADAPTER)
    written = mlx_adapters.config_to_mlx(config, some, 2)
    assert written["num_layers"] == 1
    (folder / "adapter_config.json").write_text(json.dumps(written))
    for room, learns in ((mlx_models, mlx_models.peft_state), (models, adapters.trainable)):
        learned = learns(room.model_for_training(llama, str(folder), PLAIN))
        fresh = [
            weights
            for name, weights in learned.items()
            if ".layers.0." in name and "lora_B" in name
        ]
        assert fresh
        assert not any(weights.any() for weights in fresh)


# Training


def test_training_twice_gives_the_same_bytes_and_a_stopped_one_goes_on_to_them(
    llama, inside, monkeypatch
):
    settings = PLAIN.model_copy(
        update={"lora": lora(r=4, lora_alpha=8, lora_dropout=0.2), "logging_steps": 2}
    )
    one = trained(llama, llama, inside / "one", settings)
    trained(llama, llama, inside / "two", settings)

    def step_ends(self, step):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(progress.Progress, "step_ends", step_ends)
        with pytest.raises(SystemExit):
            trained(llama, llama, inside / "three", settings)
    three = trained(llama, llama, inside / "three", settings)
    assert "resumed at step 3" in Path("logs/three.log").read_text()
    found = [(inside / name / adapters.ADAPTER).read_bytes() for name in ("one", "two", "three")]
    assert found[0] == found[1] == found[2]
    assert one.history == three.history


def test_the_best_weights_are_kept_and_early_stopping_ends(llama, inside):
    changed = {
        "max_steps": 60,
        "learning_rate": 0.3,
        "early_stopping": EarlyStopping(patience=2, unit="evaluations"),
        "save": ["best", "last"],
    }
    settings = PLAIN.model_copy(update=changed)
    made = trained(llama, llama, inside / "run", settings)
    losses = {entry["step"]: entry["eval_loss"] for entry in made.history if "eval_loss" in entry}
    assert made.steps < 60
    assert made.best_step == min(losses, key=lambda step: losses[step])
    sums = loop.row_nats(made.model, sequences(llama)[16:], 4, 0)
    assert sum(nats for nats, _ in sums) / sum(tokens for _, tokens in sums) == pytest.approx(
        losses[made.best_step], rel=1e-4
    )
    assert (inside / "run/last" / adapters.ADAPTER).is_file()


def test_recomputed_activations_change_no_gradient(tmp_path):
    script = """
import sys
from pathlib import Path
from tests.test_mlx import PLAIN, trained
base, folder, recompute = sys.argv[1:]
trained(base, base, Path(folder).absolute(), PLAIN.model_copy(update={"gradient_checkpointing": recompute == "yes"}))
"""
    import subprocess

    base = checkpoint(tmp_path / "base", "llama")
    found = []
    for recompute in (
        "yes",
        "no",
    ):  # in processes of their own: mlx-lm changes the class of the layers
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        command = [sys.executable, "-c", script, base, recompute, recompute]
        subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True)
        found.append(load_file(tmp_path / recompute / adapters.ADAPTER))
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-3, atol=1e-5)


def test_a_base_in_mlx_4_bits_trains_its_adapter(llama, inside):
    from mlx_lm.utils import quantize_model, save_model

    wide = checkpoint(inside / "wide", "llama", width=64)
    model = mlx_models.load_weights(wide)
    config = json.loads((Path(wide) / "config.json").read_text())
    model, config = quantize_model(model, config, group_size=32, bits=4)
    save_model(wide, model)
    (Path(wide) / "config.json").write_text(json.dumps(config))
    made = trained(
        wide, wide, inside / "run", PLAIN.model_copy(update={"max_steps": 3, "eval_steps": 3})
    )
    assert made.steps == 3
    assert mlx.Answerer(str(inside / "run"), wide, PLAIN).predict(ROWS[:2])[0].tokens
    with pytest.raises(
        UserError,
        match="quantised for MLX; use backend: mlx, or a base in full precision with method: qlora",
    ):
        models.load_weights(Path(wide))


# What cannot be


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            "method: qlora",
            "method qlora: backend mlx trains adapters; use a base in MLX's 4 bits with method: "
            "lora",
        ),
        ("method: full", "method full: backend mlx trains adapters; use backend: pytorch"),
        (
            "added_tokens: [<a>]",
            "added_tokens: backend mlx trains no rows of the embedding; use backend: pytorch, or "
            "leave them",
        ),
        (
            "optim: paged_adamw_8bit",
            "optim paged_adamw_8bit: backend mlx has AdamW alone; leave it out",
        ),
        (
            "offload_activations: true",
            "offload_activations: backend mlx has one memory; leave it out",
        ),
        ("device: cuda", "device cuda: backend mlx knows auto (Metal where there is one) and cpu"),
    ],
)
def test_what_mlx_cannot_do_is_refused_before_anything_runs(inside, change, says):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    entry = "  typst-001: {task: typst, corpus: typst-001, "
    assert text.count(entry) == 1
    Path("params.yaml").write_text(
        text.replace(entry, f"{entry}backend: mlx, {change}, "), encoding="utf-8"
    )
    with pytest.raises(UserError) as error:
        load_params()
    assert f"params.yaml: `runs.typst-001`: {says}" in str(error.value)


def test_solutions_are_refused_before_anything_runs(inside):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(
        text.replace("  reward: {", "  reward: {backend: mlx, ", 1), encoding="utf-8"
    )
    with pytest.raises(
        UserError,
        match=r"`runs.reward-001`: task reward: backend mlx has no head for steps; use backend: py",
    ):
        load_params()


def test_names_of_layers_that_the_architecture_has_not_are_told_with_those_that_it_has(llama):
    with pytest.raises(
        UserError, match="no wqkv here; this architecture has down_proj, gate_proj, k_proj"
    ):
        mlx_models.model_for_training(
            llama, llama, PLAIN.model_copy(update={"lora": lora(target_modules=["wqkv"])})
        )


def test_a_base_in_bitsandbytes_4_bits_is_refused(llama, inside):
    folder = Path(checkpoint(inside / "quantised", "llama"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}})
    )
    with pytest.raises(UserError, match="quantised by bitsandbytes; use backend: pytorch"):
        mlx_models.load_weights(str(folder))


def test_arrays_mark_where_each_learned_token_is_predicted(llama):
    rows = sequences(llama)[:3]
    ids, places, wanted = loop.arrays(rows, 0)
    flat = np.array(ids).reshape(-1)
    assert [flat[place + 1] for place in places.tolist()] == wanted.tolist()
    assert len(wanted) == sum(len(row.ids) - row.given for row in rows)
    assert mx.array(0).item() == 0


def test_a_backend_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(backends.limits("mlx"), "PACKAGES", ("mlx", "mlx_of_nobody"))
    with pytest.raises(
        UserError,
        match=r"backend mlx: the package mlx_of_nobody is not installed here; run `pip install -r",
    ):
        backends.load("mlx", "machine")


def test_the_second_link_of_the_gec_chain_trained_by_mlx(clone):
    params = yaml.safe_load((clone / "params.yaml").read_text(encoding="utf-8"))
    params["runs"]["gec-002"]["backend"] = "mlx"
    (clone / "params.yaml").write_text(
        yaml.safe_dump(params, allow_unicode=True, sort_keys=False), encoding="utf-8"
    )
    run(clone, "dvc", "repro", "evaluate@gec-002")
    lineage = json.loads((clone / "models/gec-002/lineage.json").read_text())
    assert lineage["parent"]["path"] == "models/gec-001"
    score = json.loads((clone / "metrics/evaluate/gec/gec-002.json").read_text())
    assert score["n"] > 0
    said = run(
        clone, "python", "-m", "stages", "apply", "gec-002", "--text", "私は本が読みます。"
    ).stdout
    assert said.endswith("\n")


def test_arrays_of_two_models_are_shared_where_they_are_the_same_to_the_last_bit(llama):
    first, second = (mlx_models.load_weights(str(llama)) for _ in range(2))
    projection = second.layers[0].self_attn.q_proj
    projection.weight = projection.weight * 2
    before = np.array(second(mx.arange(3)[None]))
    mlx_models.share_arrays(second, first)
    assert second.model.embed_tokens.weight is first.model.embed_tokens.weight
    assert projection.weight is not first.layers[0].self_attn.q_proj.weight
    assert (np.array(second(mx.arange(3)[None])) == before).all()
