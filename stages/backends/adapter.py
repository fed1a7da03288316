"""Model folders: what a base, an adapter and full weights look like on disk, read and written byte for byte alike.

An adapter is in PEFT's format. PEFT's own writer puts a set in random order, an absolute path and a README beside the
weights; two identical trainings would differ by them, so the two files are written here.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.backends import conversion
from stages.errors import UserError
from stages.files import write_json
from stages.settings import Base, Lora

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAPTER, ADAPTER_CONFIG, LINEAGE = "adapter_model.safetensors", "adapter_config.json", "lineage.json"
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")  # never a pickle
CONFIG_FILES = ("config.json",)
PLAIN_LORA = {
    "peft_type": "LORA", "bias": "none", "lora_bias": False, "use_rslora": False, "use_dora": False, "use_qalora": False,
    "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None, "alora_invocation_tokens": None, "arrow_config": None,
    "monteclora_config": None,
}  # fmt: skip
"""What makes an adapter W + s B A and nothing more; `continue_adapter` knows no other."""
HEAD, STEP_HEAD = "reward_head.safetensors", "step_head"  # the file, and the part of the model that it fills


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()


def locate(base: str, files: Sequence[str] = MODEL_FILES) -> Path:
    """The folder of a base checkpoint. A `models/bases/NAME.json` is a hub reference: {"hub_id": …, "revision": 40 hex digits}.

    Raises UserError for a folder without weights, an adapter, a reference without a pinned revision, a hub out of reach.
    """
    path = Path(base)
    if path.suffix == ".json":
        return _snapshot(path, files)
    if is_adapter(path):
        raise UserError(
            f"{base}: an adapter cannot be a base; name the base it was grown on, {origin(path)}, and make this the parent"
        )
    if not (path / "config.json").is_file():
        raise UserError(
            f"{base}: no config.json in it; a base is a checkpoint folder of transformers or a models/bases/NAME.json"
        )
    return path


def _snapshot(reference: Path, files: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    identity = _reference(reference)
    try:
        return Path(snapshot_download(identity["hub_id"], revision=identity["revision"], allow_patterns=list(files)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{reference}: {identity['hub_id']} at {identity['revision'][:12]} could not be had ({type(error).__name__}); "
            "connect to the hub, log in where the model is gated, or name a local checkpoint folder as the base"
        ) from None


def _reference(path: Path) -> dict[str, str]:
    try:
        identity = json.loads(path.read_text(encoding="utf-8"))
        hub_id, revision = identity["hub_id"], identity["revision"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f'{path}: a base reference is {{"hub_id": "OWNER/NAME", "revision": "40 hex digits"}}; write it so'
        ) from None
    if len(revision) != 40 or set(revision) - set("0123456789abcdef"):
        raise UserError(f"{path}: revision {revision!r} is not pinned; write the 40-digit commit hash, never a branch or tag")
    return {"hub_id": hub_id, "revision": revision}


def identity(base: str) -> dict[str, str]:
    """What lineage.json says of a base: its path, or its hub id and revision."""
    return _reference(Path(base)) if base.endswith(".json") else {"path": base}


def origin(folder: Path) -> str:
    """The base that an adapter was grown on, as params.yaml named it."""
    return str(config_of(folder)["base_model_name_or_path"])


def check_continues(parent: Path, base: str, lora: Lora, added: list[int]) -> None:
    """Raise UserError where an adapter cannot be continued as the settings ask: another base, other targets, a lower rank, more
    than LoRA.

    added: ids of this run's added tokens; the parent's are the first of them.
    """
    config = config_of(parent)
    more = [f"{key} {config[key]}" for key, plain in PLAIN_LORA.items() if (config.get(key) or plain) != plain]
    if (begun := str(config.get("init_lora_weights"))).startswith(("pissa", "olora", "corda", "loftq")):
        more.append(f"init_lora_weights {begun}, which changes the base")
    if more:
        raise UserError(
            f"{parent}: its adapter has {', '.join(more)}; only plain LoRA can be continued exactly: merge it into its base, "
            "and make that the base"
        )
    if (other := config["base_model_name_or_path"]) != base:
        raise UserError(f"{parent}: grown on {other}, this run's base is {base}; use that base or another parent")
    if lora.r < config["r"]:
        raise UserError(
            f"{parent}: its adapter has lora.r {config['r']}, this run asks for {lora.r}; a child keeps what its parent "
            f"learned: set {config['r']} or more, or start again from the base"
        )
    if lora.target_modules != "all-linear" and sorted(lora.target_modules) != config["target_modules"]:
        raise UserError(
            f"{parent}: its adapter has lora.target_modules {', '.join(config['target_modules'])}, this run asks for "
            f"{', '.join(sorted(lora.target_modules))}; set those, or start again from the base"
        )
    if (before := config.get("trainable_token_indices") or []) != added[: len(before)]:
        raise UserError(
            f"{parent}: its adapter has {len(before)} added_tokens that this run does not begin with; repeat them in their "
            "order, new ones behind them, or start again from the base"
        )


def continue_adapter(weights: dict[str, Any], parent: Path, lora: Lora) -> None:
    """The parent's adapter into a fresh one of the same or a higher rank, so that every output stays what it was.

    W + s' B' A' = W + s B A with A' = [A; random] and B' = [B s/s', 0]: (r', in) and (out, r'), s = lora_alpha / r.

    weights: the fresh tensors by PEFT's names, changed in place; where the parent has none they stay, and add nothing yet.
    Raises UserError for a tensor of the parent that has no place among them, or another shape.
    """
    import torch
    from safetensors.torch import load_file

    config, old = read(parent)
    if lost := sorted(old.keys() - weights.keys()):
        raise UserError(
            f"{parent}: {len(lost)} of its adapter's tensors have no place in this run's, {lost[0]} among them; merge it into "
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
                # B's first columns; A's first rows, or those of the added tokens that the parent had.
                known = old[name] * rescale if "lora_B" in name else old[name]
                place = fresh[:, :rank] if "lora_B" in name else fresh[: len(known)]
                if place.shape != known.shape:
                    raise UserError(
                        f"{parent}: {name} is {tuple(known.shape)}, where this run's base asks for {tuple(place.shape)}; it "
                        "was grown on another base: name that one, or start again from this one"
                    )
                place.copy_(known)


def trainable(model: "PeftModel") -> dict[str, Any]:
    """What learns in a model, by the names that it has in an adapter's file."""
    return {name.replace(".default", ""): weights for name, weights in model.named_parameters() if weights.requires_grad}


def config_of(folder: Path) -> dict[str, Any]:
    """An adapter's config in PEFT's terms, mlx-lm's translated."""
    config = _config(folder)
    theirs = conversion.is_mlx(config)
    return conversion.config_from_mlx(config, folder, _tensors(folder / conversion.MLX_ADAPTER)) if theirs else config


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """An adapter's config and its tensors by PEFT's names, mlx-lm's form translated.

    Raises UserError for a file that cannot be read, and for half of a pair, whose other half nobody trained.
    """
    theirs = conversion.is_mlx(_config(folder))
    tensors = conversion.from_mlx(_tensors(folder / conversion.MLX_ADAPTER)) if theirs else _tensors(folder / ADAPTER)
    pairs = Counter(re.sub("lora_[AB]", "lora", name) for name in tensors if re.search("lora_[AB]", name))
    if halves := sorted(name for name, found in pairs.items() if found == 1):
        raise UserError(f"{folder}: {halves[0]} has one of A and B alone; fetch it again")
    return config_of(folder), tensors


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    return config


def _tensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: no adapter that can be read: {error}; fetch it again") from None


def write_adapter(folder: Path, model: "PeftModel", base: str) -> None:
    """`adapter_model.safetensors`, a sorted `adapter_config.json` that names the base as params.yaml does, and the step head.

    The head is in a file of its own and not in the config: what serves adapters knows nothing of it.
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
    ours = {"base_model_name_or_path": base, "inference_mode": True, "modules_to_save": None, "exclude_modules": None}
    write_json(folder / ADAPTER_CONFIG, config | ours)


def _head_name(name: str) -> str:
    """`hidden.weight` for any of the names that PEFT gives the head's tensors."""
    return name.rpartition(f"{STEP_HEAD}.")[2].replace("default.", "").removeprefix("modules_to_save.")


def write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in sorted(tensors.items())}, path, metadata={"format": "pt"})


def _plain(value: Any) -> Any:
    """A set as a sorted list, an enum as its value: PEFT's config as JSON that does not change between processes."""
    if isinstance(value, set):
        return sorted(value)
    return value.value if isinstance(value, Enum) else value


def write_weights(folder: Path, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """A full checkpoint that transformers, PEFT and mlx-lm load; a step head beside it."""
    head = getattr(model, STEP_HEAD, None)
    if head is not None:
        write_tensors(folder / HEAD, head.state_dict())
    model.config._name_or_path = ""
    state = {name: weights for name, weights in model.state_dict().items() if not name.startswith(f"{STEP_HEAD}.")}
    model.save_pretrained(folder, state_dict=state)
    write_tokenizer(folder, tokenizer)


def write_tokenizer(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    tokenizer.name_or_path = ""
    tokenizer.save_pretrained(folder)


def write_base(folder: Path, tokenizer: "PreTrainedTokenizerBase", base: Base) -> None:
    """An untrained grouped-query Llama (Ainslie et al. 2023) in `folder`, with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(base.seed)
    architecture = base.model_dump(exclude={"corpus", "seed", "split", "vocab_size"})
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **architecture, **special)
    write_weights(folder, LlamaForCausalLM(config), tokenizer)
