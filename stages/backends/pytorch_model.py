"""Models of the PyTorch backend: read, quantised, grafted; as they are when a training begins and when a run answers."""

import json
import logging
import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as hub_logging

from stages.backends import adapter, reward_head
from stages.backends.labelled import causal_model, device, require_head_alone
from stages.errors import UserError
from stages.settings import Settings

# Upstream remarks that a reader can do nothing about: a bar for each of a checkpoint's two files, the tied head that is not in
# a checkpoint, the optional `kernels` package of bitsandbytes, and PEFT 0.21.2 calling an old name of transformers 5.23.
hub_logging.disable_progress_bar()
hub_logging.set_verbosity_error()
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)

# Read when CUDA starts: segments that grow leave 5 to 10 % less of the device's memory in unusable pieces.
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
# Each shape of a product keeps a primitive and its buffers on the CPU, 1,024 by default: a quarter of a training's memory with
# rows of many lengths (bench/NOTES.md, W1). 128 cost no time.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


def load_tokenizer(model: str, base: str) -> PreTrainedTokenizerBase:
    """The tokenizer that a run brings with it, else its base's."""
    own = Path(model, "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(model if own else adapter.locate(base))
    if tokenizer.pad_token_id is None:  # padding is never labelled and never attended to, so any id serves
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: list[str]) -> list[int]:
    """The ids of a run's added tokens. Raises UserError for one that the base's vocabulary has already."""
    earlier = {str(token) for token in tokenizer.added_tokens_decoder.values() if not token.special}
    if known := [token for token in tokens if token in tokenizer.get_vocab() and token not in earlier]:
        raise UserError(f"added_tokens: the base's vocabulary has {', '.join(known)} already; leave it out")
    tokenizer.add_tokens(tokens)
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


def load_weights(folder: Path, quantize: bool = False, where: str = "auto") -> PreTrainedModel:
    """Full weights in float32 from safetensors, or in 4 bits with the rest in bfloat16.   where: as settings.device.

    4 bits: NF4 with double quantisation (Dettmers et al. 2023, QLoRA, section 3); products in bfloat16.
    Raises UserError for weights that transformers cannot read.
    """
    cuda = (where := device(where)) == "cuda"
    if cuda:  # cuDNN's attention makes a plan for every new length, 1.5 ms a call on an H200; the flash kernel needs none
        torch.backends.cuda.enable_cudnn_sdp(False)
    options: dict[str, Any] = {"dtype": torch.float32}
    if quantize:
        four_bits = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        options = {"dtype": torch.bfloat16, "quantization_config": four_bits, "device_map": {"": where}}
    if "quantization" in json.loads((folder / "config.json").read_text(encoding="utf-8")):
        raise UserError(f"{folder}: quantised for MLX; use backend: mlx, or a base in full precision with method: qlora")
    # On a CPU the flash kernel's backward pass takes 29 % of a step of short rows; eager attention halved the step's time.
    options["attn_implementation"] = "eager" if where == "cpu" else "sdpa"
    try:
        weights, told = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(
            f"{folder}: not a causal language model that transformers loads from safetensors: {str(error).splitlines()[0]}; "
            "fetch it again, or name another base"
        ) from None
    # transformers draws these at random and goes on.
    if drawn := sorted([*told["missing_keys"], *(name for name, _, _ in told["mismatched_keys"])]):
        raise UserError(
            f"{folder}: {len(drawn)} of the weights that config.json asks for are not in its safetensors or have another "
            f"shape there, {drawn[0]} among them; fetch it again, or mend config.json"
        )
    for module in weights.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes 0.50.2 repacks the weights at the first evaluation on such a CPU, and the packed product has no
            # backward pass: later gradients were off by 97 % and nothing said so.
            module.support_avx512bf16_for_cpu = False
    require_head_alone(weights, folder)
    return weights


def load_model(model: str, base: str, quantize: bool = False, where: str = "auto") -> nn.Module:
    """What answers: a full checkpoint, or a base with its adapter, merged in float32, beside it where the base has 4 bits."""
    folder = Path(model)
    if adapter.is_adapter(folder):
        from peft import PeftModel

        adapter.read(folder)  # a damaged one is refused; PEFT fills in what is missing
        weights = load_weights(adapter.locate(base), quantize, where)
        make_room(weights, load_tokenizer(model, base))
        grafted: Any = PeftModel.from_pretrained(weights, model)
        # Merged into 4 bits, an adapter's small differences would be rounded away.
        loaded = grafted if quantize else grafted.merge_and_unload()
    else:
        loaded = load_weights(adapter.locate(model), quantize, where)
    if (folder / adapter.HEAD).is_file():
        reward_head.load(causal_model(loaded), folder)
    return loaded


def make_room(weights: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Rows for added tokens; many bases have spare ones, which stay."""
    if len(tokenizer) > weights.get_input_embeddings().num_embeddings:
        weights.resize_token_embeddings(len(tokenizer))


def graft(base: str, parent: str, settings: Settings, scores_steps: bool = False) -> nn.Module:
    """The model as its training begins: the parent's exact weights, and what is trained of them.

    base, parent: as in params.yaml; the same path where a chain starts. Raises UserError where they do not fit together.
    """
    torch.manual_seed(settings.seed)  # before any adapter matrix is made
    tokenizer = load_tokenizer(base, base)
    added = add_tokens(tokenizer, settings.added_tokens)
    if settings.method == "full":
        weights = load_weights(adapter.locate(parent), where=settings.device)
        make_room(weights, tokenizer)
        if scores_steps:
            reward_head.load(weights, Path(parent)) if Path(parent, adapter.HEAD).is_file() else reward_head.attach(weights)
        return checkpointing(weights, settings)
    from peft import LoraConfig, get_peft_model

    if parent != base:
        if not adapter.is_adapter(Path(parent)):
            raise UserError(f"{parent}: full weights, not an adapter on {base}; make it the base as well")
        adapter.check_continues(Path(parent), base, settings.lora, added)
    weights = checkpointing(load_weights(adapter.locate(base), settings.method == "qlora", settings.device), settings)
    make_room(weights, tokenizer)
    if scores_steps:
        reward_head.attach(weights)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        modules_to_save=[adapter.STEP_HEAD] if scores_steps else None,
        exclude_modules=rf".*\b{adapter.STEP_HEAD}\b.*" if scores_steps else None,
        trainable_token_indices=added or None,
        **settings.lora.model_dump(),
    )
    try:
        grafted = get_peft_model(weights, config)
    except ValueError as error:
        linear = sorted({name.rsplit(".")[-1] for name, module in weights.named_modules() if isinstance(module, nn.Linear)})
        raise UserError(
            f"lora.target_modules {settings.lora.target_modules}: {error}; this architecture has {', '.join(linear)}"
        ) from None
    if added:  # else the Trainer's checkpoints hold the whole embedding twice
        grafted.save_pretrained = partial(grafted.save_pretrained, save_embedding_layers=False)
    if parent != base:
        adapter.continue_adapter(adapter.trainable(grafted), Path(parent), settings.lora)
    if settings.precision == "bfloat16":
        spare_conversions(grafted)
    return grafted


def checkpointing(weights: PreTrainedModel, settings: Settings) -> PreTrainedModel:
    if settings.gradient_checkpointing:
        weights.activation_checkpointing_enable()
    return weights


def spare_conversions(grafted: nn.Module) -> None:
    """Frozen matrices in bfloat16, which autocast would make of them at every product: the same sums in half the memory. And an
    adapter's inputs as they are, which PEFT converts to float32 and autocast back: the same bits (bench/NOTES.md, W1).
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    # Embeddings are no product: what a tied head shares with them stays. PEFT wraps both where tokens are added.
    embeddings = {module.weight for module in grafted.modules() if isinstance(module, nn.Embedding)}
    for module in grafted.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False
        frozen = isinstance(module, nn.Linear) and not module.weight.requires_grad and module.weight not in embeddings
        if frozen and module.weight.dtype == torch.float32:
            module.to(torch.bfloat16)
