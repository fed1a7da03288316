"""Every preset of params.yaml builds its training on a shrunken model of its architecture, alone
and with its card."""

from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

from stages.backends.pytorch import backend as pytorch
from stages.backends.pytorch import models
from stages.backends.pytorch.loss import summed_nats
from stages.backends.shared import model_folders
from stages.backends.shared.tokenizers import load_tokenizer
from stages.errors import UserError
from stages.layers import merge
from stages.params import load_params
from stages.settings import Options
from stages.text import batches, tokenizer
from stages.text.chat import encode
from tests.tiny import ROWS, TEXTS, settings_with

PARAMS = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))
ARCHITECTURES = {"mistral-7b": "mistral", "reward-4b-lora": "qwen3", "reward-4b-full": "qwen3"}


def layers(presets: list[str]) -> dict:
    return merge(PARAMS["defaults"], *(PARAMS["presets"][name] for name in presets))


def shrunken(folder: Path, architecture: str) -> str:
    torch.manual_seed(0)
    fast = tokenizer.train(TEXTS, 400, "gpt2")
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        bos_token_id=fast.bos_token_id,
    )
    model_folders.write_weights(folder, AutoModelForCausalLM.from_config(config), fast)
    return str(folder)


NAMED = [[name] for name, preset in PARAMS["presets"].items() if preset.get("backend") != "mlx"]
NAMED += [["card-8gb", name] for name in ("llama-3.2-3b", "llama-3-8b", "mistral-7b", "generic")]


@pytest.mark.parametrize("names", NAMED, ids=" ".join)
def test_presets_build_their_training(names, tmp_path):
    # As on a card, where `precision: auto` is bfloat16.
    chosen, name = Options.model_validate(layers(names) | {"precision": "bfloat16"}), names[-1]
    base = shrunken(tmp_path / "base", ARCHITECTURES.get(name, "llama"))
    model = models.model_for_training(base, base, chosen, scores_steps="reward" in name)
    model.train()
    rows = [
        sequence
        for row in ROWS
        for sequence in encode(load_tokenizer(base, base), row, chosen.max_length_tokens)
    ]
    with torch.autocast("cpu", torch.bfloat16, enabled=True):
        summed_nats(model, batches.pad(rows[: chosen.per_device_train_batch_size], 0)).backward()
    trained = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
    assert any(
        weights.grad is not None and weights.grad.abs().sum() > 0 for weights in trained.values()
    )
    ranks = {weights.shape[0] for name, weights in trained.items() if "lora_A" in name}
    assert ranks == (set() if chosen.method == "full" else {chosen.lora.r})
    quantised = any(hasattr(module, "quant_state") for module in model.modules())
    assert quantised == (chosen.method == "qlora")
    assert ("reward" in name) == hasattr(pytorch.causal_model(model), model_folders.STEP_HEAD)


def test_the_mlx_preset_builds_its_training(tmp_path):
    from stages.backends.mlx import loop
    from stages.backends.mlx import models as mlx_models

    (name,) = [name for name, preset in PARAMS["presets"].items() if preset.get("backend") == "mlx"]
    chosen = Options.model_validate(layers([name]) | {"precision": "bfloat16"})
    base = shrunken(tmp_path / "base", "qwen3")
    model = mlx_models.model_for_training(base, base, chosen)
    rows = [
        sequence
        for row in ROWS
        for sequence in encode(load_tokenizer(base, base), row, chosen.max_length_tokens)
    ]
    assert loop.summed_nats(model, *loop.arrays(rows[:4], 0)).item() > 0
    assert {
        weights.shape[0]
        for name, weights in mlx_models.peft_state(model).items()
        if "lora_A" in name
    } == {16}


def test_presets_are_combined_in_the_order_they_are_named(tmp_path):
    params = dict(PARAMS)
    params["runs"] = PARAMS["runs"] | {
        "gec-001": PARAMS["runs"]["gec-001"] | {"preset": ["card-8gb", "mistral-7b", "lora-small"]}
    }
    params["runs"]["gec-001"].pop("lora", None)
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(params), encoding="utf-8")
    chosen = load_params(file).resolve("gec-001")
    assert (chosen.method, chosen.lora.r, chosen.lora.lora_alpha, chosen.memory_limit_mb) == (
        "qlora",
        8,
        16,
        7000,
    )


def test_a_preset_for_another_architecture_names_the_modules_there_are(tmp_path):
    base = shrunken(tmp_path / "base", "llama")
    chosen = settings_with(lora={"target_modules": ["c_attn"]})
    with pytest.raises(
        UserError,
        match=r"this architecture has down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj",
    ):
        models.model_for_training(base, base, chosen)
