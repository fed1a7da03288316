"""The matrices of a model that get an adapter, and the sizes of its parts."""

from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from stages.backends.shared.adapters import is_target, lora_of
from stages.settings import Settings


def layer_matrices(model: Any) -> dict[str, Any]:
    """The matrices of the layers, by name, which "all-linear" means: all but the head's."""
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }


def adapted(model: Any, settings: Settings) -> list[Any]:
    """The matrices that get an adapter, the embedding among them where it is named."""
    targets = lora_of(settings).target_modules
    if targets == "all-linear":
        return list(layer_matrices(model).values())
    kinds = (nn.Linear, nn.Embedding, Conv1D)
    named = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    return [module for name, module in named if is_target(name, targets)]


def inputs_of(module: Any) -> int:
    """How many values a matrix takes of each token: GPT-2's are turned, an embedding takes none."""
    if isinstance(module, nn.Embedding):
        return 0
    size: int = module.weight.shape[0 if isinstance(module, Conv1D) else 1]
    return size


def adapter_sizes(model: Any, settings: Settings) -> Iterator[int]:
    """How many values each matrix of the adapter has."""
    rank = lora_of(settings).r
    for module in adapted(model, settings):
        yield from (rank * size for size in module.weight.shape)
