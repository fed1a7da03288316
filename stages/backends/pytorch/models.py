"""Models of the PyTorch backend: how they are read, quantised, trained from and answered with."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from stages.backends.pytorch import offload, step_head
from stages.backends.pytorch.loss import causal_model, require_plain_head
from stages.backends.shared import adapters
from stages.backends.shared.devices import device
from stages.backends.shared.model_folders import (
    HEAD,
    STEP_HEAD,
    is_adapter,
    is_in_4_bits,
    loading,
    locate,
)
from stages.backends.shared.tokenizers import add_tokens, load_tokenizer
from stages.errors import UserError
from stages.files import read_json
from stages.settings import Settings


def load_weights(
    folder: Path, quantized: str = "", where: str = "auto", offloads: bool = False
) -> PreTrainedModel:
    """Full weights in float32 from safetensors, or in 4 bits.   where: as settings.device.

    quantized: the precision of the products with weights in 4 bits, and of the other weights; "" =
    none in 4 bits, but where the checkpoint's own are. They become NF4 with double quantisation
    (Dettmers et al. 2023, QLoRA, section 3).   offloads: whether the layers' matrices are there
    only while their layer computes. Raises UserError for weights that transformers cannot read.
    """
    cuda = (where := device(where)) == "cuda"
    # cuDNN's attention makes a plan for every new length, 1.5 ms a call on an H200; the flash
    # kernel needs none
    if cuda:
        torch.backends.cuda.enable_cudnn_sdp(False)
    if "quantization" in read_json(folder / "config.json"):
        raise UserError(
            f"{folder}: quantised for MLX; use backend: mlx, or a base in full precision with "
            f"method: qlora"
        )
    options: dict[str, Any] = {"dtype": torch.float32}
    if offloads and (is_in_4_bits(folder) or where == "mps"):
        why = "mps has one memory with the processor"
        if is_in_4_bits(folder):
            why = f"the weights of {folder} are in 4 bits"
        raise UserError(f"offload_weights: {why}; leave it out")
    if is_in_4_bits(folder):
        options["device_map"] = {"": where}
    elif offloads:
        options |= offload.left_on_disk(folder)
    elif quantized:
        compute = getattr(torch, quantized)
        four_bits = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        )
        options = {
            "dtype": compute,
            "quantization_config": four_bits,
            "device_map": {"": where},
        }
    # On a CPU the flash kernel's backward pass takes 29 % of a step of short rows; eager attention
    # halved the step's time.
    options["attn_implementation"] = "eager" if where == "cpu" else "sdpa"
    faults = ["not a causal language model that transformers loads from safetensors"]
    if offloads:  # experts that are merged when they are loaded are not
        faults = [f"{faults[0]} layer by layer", "leave offload_weights out, or name another base"]
    with loading(folder, *faults):
        weights, found = AutoModelForCausalLM.from_pretrained(
            folder,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    # transformers draws these at random and goes on.
    if drawn := sorted(
        [*found["missing_keys"], *(name for name, _, _ in found["mismatched_keys"])]
    ):
        raise UserError(
            f"{folder}: {len(drawn)} of the weights that config.json asks for are not in its "
            f"safetensors or have another "
            f"shape there, {drawn[0]} among them; fetch it again, or mend config.json"
        )
    if offloads:
        offload.move(weights, folder)
    for module in weights.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes 0.50.2 repacks the weights at the first evaluation on such a CPU, and the
            # packed product has no backward pass: later gradients were off by 97 % and nothing said
            # so.
            module.support_avx512bf16_for_cpu = False
    require_plain_head(weights, folder)
    return weights


def model_for_answering(
    model: str, base: str, quantized: str = "", where: str = "auto"
) -> nn.Module:
    """A full checkpoint, or a base with its adapter.

    The adapter is merged in float32, but stays beside a base in 4 bits.   quantized: as in
    load_weights.
    """
    folder = Path(model)
    if is_adapter(folder):
        from peft import PeftModel

        adapters.read(folder)  # a damaged one is refused; PEFT fills in what is missing
        weights = load_weights(locate(base), quantized, where)
        resize_for_added_tokens(weights, load_tokenizer(model, base))
        with loading(folder, "no adapter that PEFT loads", "fetch it again"):
            grafted: Any = PeftModel.from_pretrained(weights, model)
        # Merged into 4 bits, an adapter's small differences would be rounded away.
        in_bits = hasattr(weights.config, "quantization_config")
        loaded = grafted if in_bits else grafted.merge_and_unload()
    else:
        loaded = load_weights(locate(model), quantized, where)
    if (folder / HEAD).is_file():
        step_head.load(causal_model(loaded), folder)
    return loaded


@torch.no_grad()
def share_tensors(model: nn.Module, other: nn.Module) -> None:
    """Take the other model's tensors in place of those that are the same to the last bit."""
    theirs = dict((*other.named_parameters(), *other.named_buffers()))
    for name, own in (*model.named_parameters(), *model.named_buffers()):
        found = theirs.get(name)
        if found is not None and _same_bits(own, found):
            own.data = found.data


def _same_bits(own: torch.Tensor, other: torch.Tensor) -> bool:
    if (own.shape, own.dtype, own.device) != (other.shape, other.dtype, other.device):
        return False
    # As bytes: 0.0 is not -0.0 here, and a NaN is itself.
    mine, theirs = (each.detach().flatten().view(torch.uint8) for each in (own, other))
    return torch.equal(mine, theirs)


def resize_for_added_tokens(weights: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Add rows to the embeddings where added tokens need them: the mean of all others.

    Many bases have more rows than tokens; such rows stay. The rows that transformers would draw
    around the mean take a Cholesky decomposition, which is MKL's.
    """
    rows = weights.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        weights.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        for table in (weights.get_input_embeddings(), weights.get_output_embeddings()):
            table.weight.data[rows:] = table.weight.data[:rows].float().mean(0)


def model_for_training(
    base: str, parent: str, settings: Settings, scores_steps: bool = False
) -> nn.Module:
    """The model as its training begins: the parent's exact weights, and what is trained of them.

    base, parent: as in params.yaml; the same path where a chain starts. Raises UserError where they
    do not fit together.
    """
    torch.manual_seed(settings.seed)  # before any adapter matrix is made
    tokenizer = load_tokenizer(base, base)
    added = add_tokens(tokenizer, settings.added_tokens)
    if settings.method == "full":
        weights = load_weights(locate(parent), where=settings.device)
        resize_for_added_tokens(weights, tokenizer)
        if scores_steps:
            step_head.load(weights, Path(parent)) if Path(
                parent, HEAD
            ).is_file() else step_head.attach(weights)
        return checkpointing(weights, settings)
    from peft import LoraConfig, get_peft_model

    lora = adapters.lora_of(settings)
    if parent != base:
        if not is_adapter(Path(parent)):
            raise UserError(
                f"{parent}: full weights, not an adapter on {base}; make it the base as well"
            )
        adapters.check_continues(Path(parent), base, lora, added)
    weights = checkpointing(
        load_weights(
            locate(base),
            settings.precision if settings.method == "qlora" else "",
            settings.device,
            settings.offload_weights,
        ),
        settings,
    )
    resize_for_added_tokens(weights, tokenizer)
    if scores_steps:
        step_head.attach(weights)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        modules_to_save=[STEP_HEAD] if scores_steps else None,
        exclude_modules=rf".*\b{STEP_HEAD}\b.*" if scores_steps else None,
        trainable_token_indices=added or None,
        **lora.model_dump(),
    )
    try:
        grafted = get_peft_model(weights, config)
    except ValueError as error:
        linear = sorted(
            {
                name.rsplit(".")[-1]
                for name, module in weights.named_modules()
                if isinstance(module, nn.Linear)
            }
        )
        raise UserError(
            f"lora.target_modules {lora.target_modules}: {error}; this architecture has "
            f"{', '.join(linear)}"
        ) from None
    # Else the Trainer's checkpoints hold the whole embedding twice where tokens are added, and once
    # where it has an adapter.
    grafted.save_pretrained = partial(grafted.save_pretrained, save_embedding_layers=False)
    if parent != base:
        adapters.continue_adapter(adapters.trainable(grafted), Path(parent), lora)
    if settings.precision != "float32":
        with offload.set_aside(grafted):
            spare_conversions(grafted, getattr(torch, settings.precision))
    if settings.offload_weights:
        grafted.to = partial(offload.to_device, grafted)
    return grafted


def checkpointing(weights: PreTrainedModel, settings: Settings) -> PreTrainedModel:
    if settings.gradient_checkpointing:
        weights.activation_checkpointing_enable()
    return weights


def spare_conversions(grafted: nn.Module, half: torch.dtype) -> None:
    """Take out conversions that change no bit of the result (bench/NOTES.md, W1).

    Frozen matrices become `half` once; autocast would convert them at every product, from twice
    the memory. Adapters take their inputs as they are; PEFT would convert them to float32, and
    autocast back.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    # Embeddings are no product: what a tied head shares with them stays. PEFT wraps both where
    # tokens are added.
    embeddings = {module.weight for module in grafted.modules() if isinstance(module, nn.Embedding)}
    for module in grafted.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False
        frozen = (
            isinstance(module, nn.Linear)
            and not module.weight.requires_grad
            and module.weight not in embeddings
        )
        if frozen and module.weight.dtype == torch.float32:
            module.to(half)
