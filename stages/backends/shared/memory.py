"""How much memory a training takes, planned from the base's config.json alone.

Nothing else of the base is downloaded and no weights are loaded. Weights, gradients and optimizer
states are counted exactly. For activations, a number of values per token and layer was fitted to
measured trainings: bench/memory.csv (CUDA) and bench/memory_cpu.csv (CPU). All of them took within
a tenth of what is planned here.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from stages.backends.shared import workers
from stages.backends.shared.adapted import adapted, adapter_sizes, inputs_of, layer_matrices
from stages.backends.shared.adapters import lora_of, require_own_weights
from stages.backends.shared.devices import LOGITS_AT_ONCE, device
from stages.backends.shared.model_folders import is_in_4_bits
from stages.backends.shared.outline import outline
from stages.backends.shared.remedies import remedies
from stages.errors import UserError
from stages.settings import Settings

MIB = 2**20
# Of a weight in 4 bits: the weight, an 8-bit scale for each 64 of them, and a float32 scale for
# each 256 of those scales (Dettmers et al. 2023, section 3, double quantisation).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
PAGED_FROM = 100_000  # values; bitsandbytes keeps smaller optimizer states on the device

# Values per token and layer that are kept for the backward pass, as multiples of hidden_size and of
# intermediate_size. LoRA with dropout keeps the input of each adapted matrix too.
KEPT = (7.0, 5.0)
LAYER = re.compile(r".*?\.\d+(?=\.)")  # what the names of a layer's weights begin with


@dataclass(frozen=True)
class DeviceCosts:
    """What a kind of device adds to a plan; fitted to the measured trainings.

    at_work: values of the layer that the backward pass is in, as a multiple of those it keeps.
    logit_bytes: per logit, where its gradient overwrites it (the value for CUDA was measured
    before it did). apart_bytes: per logit, where the two are stored side by side, as under a head
    with added tokens. slack: share of the memory that the allocator holds and cannot use.
    process: bytes of the interpreter and its libraries.   file_bytes: of the checkpoint's file,
    per weight. Both are 0 where they do not share their memory with the training. flash: whether
    attention weights are never made.
    """

    at_work: float
    logit_bytes: int
    apart_bytes: int
    slack: float
    process: int = 0
    file_bytes: int = 0
    flash: bool = True


COSTS = {
    "cuda": DeviceCosts(1.3, 12, 12, 0.045),
    "mps": DeviceCosts(1.3, 12, 12, 0.045),
    "cpu": DeviceCosts(5.0, 6, 16, 0.0, process=650 * MIB, file_bytes=2, flash=False),
}


@dataclass(frozen=True)
class Need:
    """What a training takes of a device, in bytes.

    activations: of the longest batch, kept until the backward pass.
    at_work: of the one layer that the backward pass is in, or that is computed again.
    logits: at labelled positions.   slack_share: see DeviceCosts.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    at_work: int
    logits: int
    process: int
    slack_share: float

    @property
    def total(self) -> int:
        """The fullest of three moments: the loss, a layer's backward pass, the optimizer's step."""
        held = self.process + self.weights + self.adapter + self.optimizer
        most = max(self.activations + self.logits, self.activations + self.at_work, self.gradients)
        return round((held + most) * (1 + self.slack_share))


def need(
    model: Any, settings: Settings, rows: int, tokens: int, where: str, fused_attention: bool
) -> Need:
    """What training takes with micro-batches of so many rows of so many tokens each.

    model: of `outline`.   where: "cuda", "mps" or "cpu".   fused_attention: whether it is computed
    as backends/pytorch/attention.py does, where a device makes attention weights.
    """
    config, full = model.config, settings.method == "full"
    linear = layer_matrices(model)
    trained = (
        [weight.numel() for weight in model.parameters()]
        if full
        else list(adapter_sizes(model, settings))
    )
    elsewhere = settings.offload_weights and where != "mps"  # which has one memory
    of_layers, outside, stored = Counter[str](), 0.0, 0
    for name, weight in model.named_parameters():
        is_linear = name.removesuffix(".weight") in linear
        size = weight.numel() * weight_bytes(is_linear, settings, config)
        if is_linear and (layer := LAYER.match(name)):
            of_layers[layer[0]] += round(size)
            stored += weight.numel() * (not elsewhere)
        else:
            outside, stored = outside + size, stored + weight.numel()
    # A layer has all its matrices at once, until its backward pass has used them.
    largest = max(of_layers.values(), default=0)
    in_layers = largest if elsewhere else of_layers.total()
    costs, batch, layers = COSTS[where], rows * tokens, config.num_hidden_layers
    logit = costs.apart_bytes if settings.added_tokens else costs.logit_bytes
    value = 4.0 if settings.precision == "float32" else 2.0 if settings.method == "qlora" else 2.5
    # Configs name the width of the feed-forward part in their own ways, and some leave it out.
    widest = max(size for module in linear.values() for size in module.weight.shape)
    inside = getattr(config, "intermediate_size", None) or widest
    per_token = KEPT[0] * config.hidden_size + KEPT[1] * inside
    if not full and lora_of(settings).lora_dropout:
        per_token += sum(map(inputs_of, adapted(model, settings))) / layers
    # transformers' own attention keeps its weights in float32, before and after the softmax; ours
    # once, in their own type.
    kept = (
        0
        if costs.flash
        else 8
        if not fused_attention
        else 4
        if settings.precision == "float32"
        else 2
    )
    layer = value * batch * per_token + kept * rows * config.num_attention_heads * tokens**2
    boundary = batch * config.hidden_size * (2 if settings.method == "qlora" else 4)
    activations = layers * (boundary if settings.gradient_checkpointing else layer)
    if settings.offload_activations and where == "cuda":
        activations /= layers
    parts = workers.all_processes(settings.launch, settings.device)
    if settings.launch.strategy == "ddp":
        parts = 1
    # Whole beside the parts: what is in no layer, the layer that is computed, and the next one.
    whole = (outside + 2 * largest) * (parts > 1)
    return Need(
        weights=round((in_layers + outside) / parts + whole),
        adapter=0 if full else round(4 * sum(trained) / parts),
        gradients=round(4 * sum(trained) / parts + whole * full),
        optimizer=sum(round(size * state_bytes(size, settings, where) / parts) for size in trained),
        activations=round(activations),
        at_work=round(
            layer * (costs.at_work if settings.gradient_checkpointing else costs.at_work - 1)
        ),
        logits=min(batch * config.vocab_size, LOGITS_AT_ONCE) * logit,
        process=costs.process + costs.file_bytes * stored,
        slack_share=costs.slack,
    )


def room(settings: Settings) -> tuple[str, int]:
    """(where it would be trained, bytes that each of its processes may take there)."""
    where = device(settings.device)
    if where == "cuda":
        free = torch.cuda.mem_get_info()[0]
    else:  # which the processes of this machine have together
        free = psutil.virtual_memory().available
        free //= workers.processes_here(settings.launch, settings.device)
    return where, min(free, settings.memory_limit_mb * MIB or free)


@dataclass(frozen=True)
class MemoryPlan:
    """What a training takes, where it would be trained, the bytes that it may take there, and the
    cheapest change of settings with which it fits, None where there is none or none is needed.
    """

    need: Need
    where: str
    free: int
    change: dict[str, Any] | None

    @property
    def fits(self) -> bool:
        return self.need.total <= self.free

    @property
    def verdict(self) -> str:
        fits = "fits into" if self.fits else "does not fit into"
        total, free = self.need.total / MIB, self.free / MIB
        return (
            f"memory: {total:,.0f} MB planned, which {fits} the {free:,.0f} MB of the {self.where}"
        )

    @property
    def advice(self) -> str:
        """What to set, in a sentence."""
        if self.change is None:
            return "No setting makes it fit: choose a smaller base, or raise memory_limit_mb"
        return f"Set {written(self.change)} (`python -m stages plan RUN --fit`)"

    def require_room(self) -> None:
        """Raises UserError, with the cheapest change that helps, if it does not fit."""
        if not self.fits:
            raise UserError(f"{self.verdict}. {self.advice}")


def plan(
    folder: Path,
    settings: Settings,
    rows: int,
    tokens: int,
    fuses_attention: Callable[[Any], bool],
    refuses: Callable[[Settings, bool], list[str]],
) -> MemoryPlan:
    """The plan of a training on the base in `folder`, whose micro-batches have so many rows of so
    many tokens.

    fuses_attention: whether the backend computes the attention of such a model itself.
    refuses: as in stages.backends.Limits; what it refuses is not advised.
    """
    model, (where, free) = outline(folder), room(settings)
    require_trainable(model, folder, settings)
    fused = fuses_attention(model)
    wanted = need(model, settings, rows, tokens, where, fused)
    if wanted.total <= free:
        return MemoryPlan(wanted, where, free, None)
    changes = (
        change for change in remedies(settings) if not refuses(with_change(settings, change), False)
    )
    change = remedy(model, settings, changes, tokens, where, free, fused)
    return MemoryPlan(wanted, where, free, change)


def with_change(settings: Settings, change: dict[str, Any]) -> Settings:
    return type(settings).model_validate(settings.model_dump() | change)


def written(change: dict[str, Any]) -> str:
    """As it stands in params.yaml."""
    values = {
        key: f"{{{written(value)}}}" if isinstance(value, dict) else str(value).lower()
        for key, value in change.items()
    }
    return ", ".join(f"{key}: {value}" for key, value in values.items())


def remedy(
    model: Any,
    settings: Settings,
    changes: Iterable[dict[str, Any]],
    tokens: int,
    where: str,
    free: int,
    fused_attention: bool,
) -> dict[str, Any] | None:
    """The first of the changes with which it fits, or None."""
    for change in changes:
        changed = with_change(settings, change)
        tokens_now = min(tokens, changed.max_length_tokens)
        free_now = free
        if "launch" in change and where != "cuda":  # they have the machine's memory together
            here = workers.processes_here(settings.launch, settings.device)
            free_now = free * here // workers.processes_asked(changed.launch, changed.device)
            free_now = min(free_now, changed.memory_limit_mb * MIB or free_now)
        if (
            need(
                model,
                changed,
                changed.per_device_train_batch_size,
                tokens_now,
                where,
                fused_attention,
            ).total
            <= free_now
        ):
            return change
    return None


def require_trainable(model: Any, folder: Path, settings: Settings) -> None:
    """Raise UserError where what would be trained is not what would answer."""
    if settings.method != "full":
        require_own_weights(model, folder, settings)
    elif is_in_4_bits(folder):
        raise UserError(
            f"{folder}: its weights are in 4 bits, which method full cannot train; use method: "
            "qlora, or the model that they were made of"
        )


def weight_bytes(is_linear: bool, settings: Settings, config: Any) -> float:
    """A weight of the base as it is held while training; `is_linear`: of a layer's matrix."""
    # MLX: a scale and a bias in 16 bits for each group
    if quantization := getattr(config, "quantization", None):
        return quantization["bits"] / 8 + 4 / quantization["group_size"]
    if settings.method == "qlora" or hasattr(config, "quantization_config"):
        return NF4_BYTES if is_linear else 4 if settings.precision == "float32" else 2
    return 2 if is_linear and settings.method == "lora" and settings.precision != "float32" else 4


def state_bytes(size: int, settings: Settings, where: str) -> float:
    """AdamW's two moments of a value, as far as they are on the device. Muon's matrices have one of
    them; two are planned.
    """
    if not settings.optim.startswith("paged") or where != "cuda":
        return 8
    return 0 if size >= PAGED_FROM else 8
