"""One adapter in two forms: PEFT's, which this repository keeps, and mlx-lm's. Nothing is lost
either way.

                 PEFT                                          mlx-lm
tensors          base_model.model.LAYER.lora_A.weight (r, in)  LAYER.lora_a (in, r)
                 base_model.model.LAYER.lora_B.weight (out, r) LAYER.lora_b (r, out)
scaling          lora_alpha / r                                scale
what is adapted  target_modules, layers_to_transform           keys, num_layers (from the last)
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.errors import UserError

MLX_ADAPTER = "adapters.safetensors"
_PEFT = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")


def is_mlx(config: dict[str, Any]) -> bool:
    """Whether an adapter_config.json is mlx-lm's."""
    return "lora_parameters" in config


def from_mlx(tensors: dict[str, Any]) -> dict[str, Any]:
    """mlx-lm's tensors by PEFT's names, each transposed."""
    named = {}
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        if part not in ("lora_a", "lora_b"):
            raise UserError(
                f"{name}: neither lora_a nor lora_b; of the adapters of mlx-lm only lora can be "
                f"continued"
            )
        named[f"base_model.model.{layer}.lora_{part[-1].upper()}.weight"] = tensor.T.contiguous()
    return named


def to_mlx(tensors: dict[str, Any]) -> dict[str, Any]:
    """PEFT's tensors by mlx-lm's names. Raises UserError for what mlx-lm has no place for, such as
    rows of added tokens.
    """
    named = {}
    for name, tensor in tensors.items():
        match = _PEFT.fullmatch(name)
        if match is None:
            raise UserError(
                f"{name}: mlx-lm's adapters have no place for it; export the run merged instead"
            )
        named[f"{match[1]}.lora_{match[2].lower()}"] = tensor.T.contiguous()
    return named


def config_from_mlx(config: dict[str, Any], folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """mlx-lm's adapter_config.json in PEFT's terms.   names: of its tensors."""
    if (kind := config.get("fine_tune_type", "lora")) != "lora":
        raise UserError(f"{folder}: mlx-lm's fine_tune_type {kind}; only lora can be continued")
    layers = {
        match[2].rpartition(".")[0]: None for name in names if (match := _LAYER.fullmatch(name))
    }
    parameters = config["lora_parameters"]
    alpha = parameters["scale"] * parameters["rank"]
    return {
        "base_model_name_or_path": config.get("model"),
        "r": parameters["rank"],
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "lora_dropout": parameters.get("dropout", 0.0),
        "target_modules": sorted({layer.rpartition(".")[2] for layer in layers}),
    }


def config_to_mlx(
    config: dict[str, Any], tensors: dict[str, Any], num_hidden_layers: int
) -> dict[str, Any]:
    """PEFT's adapter_config.json as mlx-lm reads it.   tensors: by mlx-lm's names."""
    found = [match for name in tensors if (match := _LAYER.fullmatch(name))]
    first = min(int(match[1]) for match in found)
    return {
        "fine_tune_type": "lora",
        "model": config["base_model_name_or_path"],
        "num_layers": num_hidden_layers - first,
        "lora_parameters": {
            "rank": config["r"],
            "scale": config["lora_alpha"] / config["r"],
            "dropout": config["lora_dropout"],
            "keys": sorted({match[2].rpartition(".")[0] for match in found}),
        },
    }
