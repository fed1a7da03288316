"""Models of the MLX backend: mlx-lm's, with its LoRA layers, whose tensors come and go by PEFT's
names.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.tuner.lora import LoRALinear
from mlx_lm.tuner.trainer import grad_checkpoint
from mlx_lm.utils import load_model as load_checkpoint

from stages.backends.shared import adapters, mlx_adapters
from stages.backends.shared.model_folders import (
    HEAD_NOT_PLAIN,
    NOT_NUMBERS,
    is_adapter,
    loading,
    locate,
)
from stages.errors import UserError
from stages.files import read_json
from stages.settings import Lora, Settings


def load_weights(base: str, dtype: mx.Dtype = mx.float32) -> Any:
    """A base as mlx-lm loads it, in `dtype`, or in MLX's 4 bits where its checkpoint is."""
    folder = locate(base)
    config = read_json(folder / "config.json")
    if "bitsandbytes" in str(config.get("quantization_config")):
        raise UserError(
            f"{base}: quantised by bitsandbytes; use backend: pytorch, or a base in full precision "
            f"or MLX's 4 bits"
        )
    with loading(base, "mlx-lm does not load it", "use backend: pytorch"):
        model, _ = load_checkpoint(folder, trust_remote_code=False)
    if "quantization" not in config:
        model.set_dtype(dtype)
    ids = mx.arange(3)[None]
    if mx.isnan(logits := model(ids)).any():
        raise UserError(NOT_NUMBERS.format(folder=folder))
    if not mx.allclose(logits, head(model, model.model(ids)), rtol=1e-4, atol=1e-6):
        raise UserError(HEAD_NOT_PLAIN.format(folder=folder, kind=model.args.model_type))
    return model


def head(model: Any, hidden: mx.array) -> mx.array:
    """(..., D) -> (..., V)."""
    logits: mx.array = (
        model.lm_head if "lm_head" in model else model.model.embed_tokens.as_linear
    )(hidden)
    return logits


def model_for_training(base: str, parent: str, settings: Settings) -> Any:
    """The base with fresh LoRA layers, or with the parent's, whichever backend has made them."""
    lora = adapters.lora_of(settings)
    model = load_weights(base, mx.bfloat16 if settings.precision == "bfloat16" else mx.float32)
    model.freeze()
    mx.random.seed(settings.seed)
    attach(model, lora)
    model.peft_config = peft_config(model, lora)
    if parent != base:
        if not is_adapter(Path(parent)):
            raise UserError(
                f"{parent}: full weights, not an adapter on {base}; make it the base as well"
            )
        adapters.check_continues(Path(parent), base, lora, [])
        state = peft_state(model)
        adapters.continue_adapter(state, Path(parent), lora)
        load_state(model, state)
    if settings.gradient_checkpointing:
        grad_checkpoint(model.layers[0])
    return model


def attach(model: Any, lora: Lora) -> None:
    """LoRA layers in place of the linear layers that the settings name. Raises UserError for names
    that there are not.
    """
    linear = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.QuantizedLinear)
    }
    there = {name: module for name, module in linear.items() if ".layers." in f".{name}"}
    targets = list(there) if lora.target_modules == "all-linear" else lora.target_modules
    # PEFT's adapters name their modules whole or by their last part.
    wanted = {
        name: [target for target in targets if f".{name}".endswith(f".{target}")] for name in there
    }
    if absent := sorted(set(targets) - {target for found in wanted.values() for target in found}):
        kinds = sorted({name.rpartition(".")[2] for name in there})
        raise UserError(
            f"lora.target_modules: no {', '.join(absent)} here; this architecture has "
            f"{', '.join(kinds)}"
        )
    scale = lora.lora_alpha / lora.r
    grafts = [
        (name, LoRALinear.from_base(module, lora.r, lora.lora_dropout, scale))
        for name, module in there.items()
        if wanted[name]
    ]
    model.update_modules(tree_unflatten(grafts))


def peft_config(model: Any, lora: Lora) -> Any:
    """What PEFT says of such an adapter: "all-linear" becomes the names of the modules."""
    from peft import LoraConfig

    names = {name for name, module in model.named_modules() if isinstance(module, LoRALinear)}
    targets = names if lora.target_modules == "all-linear" else set(lora.target_modules)
    return LoraConfig(
        task_type="CAUSAL_LM", **lora.model_dump(exclude={"target_modules"}), target_modules=targets
    )


def peft_state(model: Any) -> dict[str, torch.Tensor]:
    """The adapter's tensors by PEFT's names, in float32."""
    learned = tree_flatten(model.trainable_parameters())
    return mlx_adapters.from_mlx({name: torch.tensor(np.array(value)) for name, value in learned})


def load_state(model: Any, state: dict[str, torch.Tensor]) -> None:
    """PEFT's tensors into the LoRA layers."""
    model.load_weights(
        [(name, mx.array(value.numpy())) for name, value in mlx_adapters.to_mlx(state).items()],
        strict=False,
    )


def share_arrays(model: Any, other: Any) -> None:
    """Take the other model's arrays in place of those that are the same to the last bit."""
    theirs = dict(tree_flatten(other.parameters()))
    same = [
        (name, theirs[name])
        for name, own in tree_flatten(model.parameters())
        if name in theirs and _same_bits(own, theirs[name])
    ]
    model.load_weights(same, strict=False)


def _same_bits(own: mx.array, other: mx.array) -> bool:
    if (own.shape, own.dtype) != (other.shape, other.dtype):
        return False
    return bool(mx.array_equal(own.view(mx.uint8), other.view(mx.uint8)).item())
