"""Adapters in PEFT's format, read, continued and written byte for byte alike.

PEFT's own writer puts a set in random order, an absolute path and a README beside the
weights; two identical trainings would differ by them, so the two files are written here.
"""

import re
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from stages.backends.shared import mlx_adapters
from stages.backends.shared.model_folders import (
    ADAPTER_CONFIG,
    HEAD,
    STEP_HEAD,
    adapter_config,
    is_base,
    loading,
    write_tensors,
)
from stages.errors import UserError
from stages.files import write_json
from stages.schema_faults import faults_of
from stages.settings import Lora, Settings

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

ADAPTER = "adapter_model.safetensors"
PLAIN_LORA = {
    "peft_type": "LORA",
    "bias": "none",
    "lora_bias": False,
    "use_rslora": False,
    "use_dora": False,
    "use_qalora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "alora_invocation_tokens": None,
    "arrow_config": None,
    "monteclora_config": None,
}
"""What makes an adapter W + s B A and nothing more; `continue_adapter` knows no other."""
PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
"""Of PEFT's init_lora_weights: the base stays as it is, and all of A and B learns."""


class AdapterConfig(BaseModel):
    """What is asked of an adapter that someone else has made, in PEFT's terms."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    base_model_name_or_path: str
    r: int = Field(ge=1)
    lora_alpha: float = Field(gt=0)
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | str


def lora_of(settings: Settings) -> Lora:
    """The adapter of methods lora and qlora. Raises ValueError for a full training, which has
    none.
    """
    if settings.lora is None:
        raise ValueError(f"method {settings.method}: no lora among its settings")
    return settings.lora


def is_target(name: str, targets: Sequence[str]) -> bool:
    """Whether a module is named by target_modules, whole or by its last parts, as in PEFT."""
    return any(f".{name}".endswith(f".{target}") for target in targets)


def require_own_weights(model: Any, folder: Path, settings: Settings) -> None:
    """Raise UserError for an adapter of a matrix that something else changes too: of head or
    embedding where they share their weights, which merging into one would change in both; of an
    embedding whose added tokens are trained.

    model: whole, or its outline.
    """
    targets = lora_of(settings).target_modules
    if targets == "all-linear":
        return
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    named = {
        name: module
        for name, module in model.named_modules()
        if module in (head, embedding) and is_target(name, targets)
    }
    if named and head.weight is embedding.weight:
        raise UserError(
            f"lora.target_modules: {', '.join(named)} shares its weights with the other of head "
            f"and embedding in {folder}, so that merging would change both; leave it out, or use "
            "method: full"
        )
    if settings.added_tokens and embedding in named.values():
        raise UserError(
            "added_tokens: their rows of the embedding are trained, and lora.target_modules names "
            f"all of it, {', '.join(named)}; leave out one of the two"
        )


def check_continues(parent: Path, base: str, lora: Lora, added: list[int]) -> None:
    """Raise UserError where an adapter cannot be continued as the settings ask: another base, other
    targets, a lower rank, more than LoRA.

    added: ids of this run's added tokens; the parent's are the first of them.
    """
    config, tensors = read(parent)
    more = [
        f"{key} {config[key]}"
        for key, plain in PLAIN_LORA.items()
        if (config.get(key) or plain) != plain
    ]
    if (begun := config.get("init_lora_weights")) not in PLAIN_STARTS:
        more.append(f"init_lora_weights {begun}, which changes the base or what of it learns")
    if more:
        raise UserError(
            f"{parent}: its adapter has {', '.join(more)}; only plain LoRA can be continued "
            f"exactly: merge it into its base, "
            "and make that the base"
        )
    other, revision = config["base_model_name_or_path"], config.get("revision")
    if not is_base(other, revision, base):
        at = f" at {revision}" if revision else ""
        raise UserError(
            f"{parent}: grown on {other}{at}, this run's base is {base}; use that base or another "
            f"parent"
        )
    if lora.r < config["r"]:
        raise UserError(
            f"{parent}: its adapter has lora.r {config['r']}, this run asks for {lora.r}; a child "
            f"keeps what its parent "
            f"learned: set {config['r']} or more, or start again from the base"
        )
    # The config may name them in any order, by parts of their names, or by a regular expression.
    there = sorted({name.rpartition(".lora_")[0] for name in tensors if ".lora_" in name})
    wanted = there if lora.target_modules == "all-linear" else lora.target_modules
    if not (
        all(is_target(name, wanted) for name in there)
        and all(any(is_target(name, [target]) for name in there) for target in wanted)
    ):
        raise UserError(
            f"{parent}: its adapter has lora.target_modules "
            f"{', '.join(sorted({name.rpartition('.')[2] for name in there}))}, this run asks for "
            f"{', '.join(sorted(wanted))}; set those, or start again from the base"
        )
    if (before := config.get("trainable_token_indices") or []) != added[: len(before)]:
        raise UserError(
            f"{parent}: its adapter has {len(before)} added_tokens that this run does not begin "
            f"with; repeat them in their "
            "order, new ones behind them, or start again from the base"
        )


def continue_adapter(weights: dict[str, Any], parent: Path, lora: Lora) -> None:
    """The parent's adapter into a fresh one of the same or a higher rank, so that every output
    stays what it was.

    W + s' B' A' = W + s B A with A' = [A; random] and B' = [B s/s', 0]: (r', in) and (out, r'), s =
    lora_alpha / r.

    weights: the fresh tensors by PEFT's names, changed in place; where the parent has none they
    stay, and add nothing yet. Raises UserError for a tensor of the parent that has no place among
    them, or another shape.
    """
    import torch
    from safetensors.torch import load_file

    config, old = read(parent)
    if lost := sorted(old.keys() - weights.keys()):
        raise UserError(
            f"{parent}: {len(lost)} of its adapter's tensors have no place in this run's, "
            f"{lost[0]} among them; merge it into "
            "its base, and make that the base"
        )
    rank = config["r"]
    head = load_file(parent / HEAD) if (parent / HEAD).is_file() else {}
    rescale = (config["lora_alpha"] / rank) / (lora.lora_alpha / lora.r)
    with torch.no_grad():
        for name, fresh in weights.items():
            if f".{STEP_HEAD}." in name:
                if head:
                    fresh.copy_(head[_head_name(name)])
            elif name in old:
                # B's first columns; A's first rows, or those of the added tokens that the parent
                # had.
                is_b = "lora_B" in name or "lora_embedding_B" in name
                known = old[name] * rescale if is_b else old[name]
                place = fresh[:, :rank] if is_b else fresh[: len(known)]
                if place.shape != known.shape:
                    raise UserError(
                        f"{parent}: {name} is {tuple(known.shape)}, where this run's base asks for "
                        f"{tuple(place.shape)}; it "
                        "was grown on another base: name that one, or start again from this one"
                    )
                place.copy_(known)


def trainable(model: "PeftModel") -> dict[str, Any]:
    """What learns in a model, by the names that it has in an adapter's file."""
    return {
        name.replace(".default", ""): weights
        for name, weights in model.named_parameters()
        if weights.requires_grad
    }


def config_of(folder: Path) -> dict[str, Any]:
    """An adapter's config in PEFT's terms, mlx-lm's translated."""
    config = adapter_config(folder)
    with loading(folder / ADAPTER_CONFIG, "no config of an adapter", "fetch it again"):
        if mlx_adapters.is_mlx(config):
            names = _tensors(folder / mlx_adapters.MLX_ADAPTER)
            config = mlx_adapters.config_from_mlx(config, folder, names)
    if faults := faults_of(AdapterConfig, config, ""):
        raise UserError("\n".join(f"{folder / ADAPTER_CONFIG}: {fault}" for fault in faults))
    return config


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """An adapter's config and its tensors by PEFT's names, mlx-lm's form translated.

    Raises UserError for a file that cannot be read, and for half of a pair, whose other half nobody
    trained.
    """
    theirs = mlx_adapters.is_mlx(adapter_config(folder))
    tensors = (
        mlx_adapters.from_mlx(_tensors(folder / mlx_adapters.MLX_ADAPTER))
        if theirs
        else _tensors(folder / ADAPTER)
    )
    pairs = Counter(
        re.sub("_[AB]\\b", "", name)
        for name in tensors
        if re.search(r"lora_(embedding_)?[AB]\b", name)
    )
    if halves := sorted(name for name, found in pairs.items() if found == 1):
        raise UserError(f"{folder}: {halves[0]} has one of A and B alone; fetch it again")
    if unsound := sorted(name for name, tensor in tensors.items() if not tensor.isfinite().all()):
        raise UserError(
            f"{folder}: {len(unsound)} of its adapter's tensors hold what is no number, "
            f"{unsound[0]} among them; fetch it again, or train it anew"
        )
    return config_of(folder), tensors


def _tensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: no adapter that can be read: {error}; fetch it again") from None


def write_adapter(folder: Path, model: "PeftModel", base: str) -> None:
    """`adapter_model.safetensors`, a sorted `adapter_config.json` that names the base as
    params.yaml does, and the step head.

    The head is in a file of its own and not in the config: what serves adapters knows nothing of
    it.
    """
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    head = {key: state.pop(key) for key in list(state) if f".{STEP_HEAD}." in key}
    if head:
        write_tensors(folder / HEAD, {_head_name(key): value for key, value in head.items()})
    write_peft(folder, state, model.active_peft_config, base)


def write_peft(folder: Path, state: dict[str, Any], peft_config: "LoraConfig", base: str) -> None:
    """The two files of an adapter, byte for byte the same whichever backend has trained it."""
    write_tensors(folder / ADAPTER, state)
    config = {key: _plain(value) for key, value in peft_config.to_dict().items()}
    ours = {
        "base_model_name_or_path": base,
        "inference_mode": True,
        "modules_to_save": None,
        "exclude_modules": None,
    }
    write_json(folder / ADAPTER_CONFIG, config | ours)


def _head_name(name: str) -> str:
    """`hidden.weight` for any of the names that PEFT gives the head's tensors."""
    return (
        name.rpartition(f"{STEP_HEAD}.")[2].replace("default.", "").removeprefix("modules_to_save.")
    )


def _plain(value: Any) -> Any:
    """A set as a sorted list, an enum as its value: PEFT's config as JSON that does not change
    between processes.
    """
    if isinstance(value, set):
        return sorted(value)
    return value.value if isinstance(value, Enum) else value
