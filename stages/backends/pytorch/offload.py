"""Frozen matrices of a base that is larger than the device: each layer's are there only while it
computes, read from the checkpoint's file on a CPU and copied from pinned memory elsewhere.

Gradient checkpointing runs a layer's forward pass again in the backward pass, so that they come
back when they are needed. Adapters, norms, embeddings and the head stay. accelerate's own hooks for
this move what is trained too, and leave in place what a forward pass that is ended early has used.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from accelerate.hooks import remove_hook_from_submodules
from safetensors import safe_open
from torch import Tensor, nn

from stages.backends.pytorch.loss import causal_model
from stages.backends.shared.memory import outline
from stages.errors import UserError


@dataclass
class Moved:
    """A matrix that is elsewhere.   parameter: the model's, with no memory of its own meanwhile.

    file, name: where it is stored.   pinned: a copy for a device that copies from memory.
    """

    parameter: nn.Parameter
    shape: torch.Size
    file: str
    name: str
    pinned: Tensor | None = None

    def bring(self, opened: Callable[[str], Any]) -> None:
        device, dtype = self.parameter.device, self.parameter.dtype
        if device.type == "cpu":
            self.parameter.data = in_place(opened(self.file).get_tensor(self.name), device, dtype)
            return
        if self.pinned is None:
            self.pinned = opened(self.file).get_tensor(self.name).to(dtype).pin_memory()
        self.parameter.data = in_place(self.pinned, device, dtype)

    def send_away(self) -> None:
        self.parameter.data = nothing(self.shape, self.parameter.dtype, self.parameter.device)


def in_place(stored: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The tensor to compute with; on a CPU the file's own pages where it has the type."""
    return stored.to(device, dtype, non_blocking=True)


def nothing(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of a shape that takes the memory of one number, and is no number."""
    return torch.full((), torch.nan, dtype=dtype, device=device).expand(shape)


def layers_of(model: nn.Module, folder: Path) -> nn.ModuleList:
    """The decoder's layers. Raises UserError for an architecture that has no such list."""
    layers = getattr(causal_model(model).get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise UserError(
            f"{folder}: offload_weights: this architecture has no list of layers; leave it out"
        )
    return layers


def left_on_disk(folder: Path) -> dict[str, Any]:
    """Options with which from_pretrained reads all but the layers."""
    model = outline(folder)
    layers = layers_of(model, folder)
    outside = {
        name: "cpu"
        for name, module in model.named_modules()
        if not any(each in layers.modules() for each in module.modules()) and name
    }
    (inside,) = (name for name, module in model.named_modules() if module is layers)
    return {"device_map": outside | {inside: "disk"}}


def move(weights: Any, folder: Path) -> None:
    """Let each layer of what `left_on_disk` has read have its matrices while it computes.

    Raises UserError for a checkpoint that stores them otherwise than the model has them.
    """
    weights.moved = []
    for layer in layers_of(weights, folder):
        # Of the layer itself no hook runs again in the backward pass: what is repeated there is
        # its `forward`, which calls its parts, attention and feed-forward.
        for part in layer.children():
            moved = [each for module in part.modules() for each in _moved(module, folder)]
            part.register_forward_pre_hook(partial(_bring, moved))
            # Also where it ends early, as one that is repeated does when it has all it is for.
            part.register_forward_hook(partial(_send_away, moved), always_call=True)
            weights.moved += moved
        _bring(_moved(layer, folder))  # what it has beside its parts, if anything, stays
    remove_hook_from_submodules(weights)
    del weights.hf_device_map  # else the Trainer takes it for a model on several devices


def _moved(module: Any, folder: Path) -> list[Moved]:
    """The matrices of a module without its parts, which are put elsewhere; its vectors are read."""
    moved = []
    for name, parameter in [*module.named_parameters(recurse=False)]:
        stored = module._hf_hook.weights_map  # accelerate's, which transformers has it make
        found = stored.dataset.index[stored.prefix + name]
        if "safetensors_file" not in found:
            raise UserError(
                f"{folder}: offload_weights: {stored.prefix}{name} is stored otherwise than the "
                "model has it; leave it out"
            )
        if parameter.dim() < 2:
            module.register_parameter(name, nn.Parameter(stored[name].clone()))
            continue
        empty = nn.Parameter(nothing(parameter.shape, parameter.dtype, torch.device("cpu")))
        module.register_parameter(name, empty)
        file, stored_name = found["safetensors_file"], found["weight_name"]
        moved.append(Moved(empty, parameter.shape, file, stored_name))
    return moved


def _bring(moved: list[Moved], *_: Any) -> None:
    with ExitStack() as stack:
        opened = cache(lambda file: stack.enter_context(safe_open(file, framework="pt")))
        for each in moved:
            each.bring(opened)


def _send_away(moved: list[Moved], *_: Any) -> None:
    for each in moved:
        each.send_away()


@contextmanager
def set_aside(model: nn.Module) -> Iterator[None]:
    """Inside the block no memory is made of what is elsewhere, whatever type or device the model
    changes to.
    """
    moved: list[Moved] = getattr(causal_model(model), "moved", [])
    for each in moved:
        each.parameter.data = each.parameter.data.new_empty(0)
    yield
    for each in moved:
        each.send_away()


def to_device(model: nn.Module, *where: Any, **options: Any) -> nn.Module:
    """`model.to`, as the Trainer calls it."""
    with set_aside(model):
        return type(model).to(model, *where, **options)
