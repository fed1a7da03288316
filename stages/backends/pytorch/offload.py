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
from stages.backends.shared.outline import outline
from stages.errors import UserError


@dataclass
class Moved:
    """A matrix that is elsewhere.   module, name: whose it is.

    empty: what the module has meanwhile, of its shape, its type and its device.
    file, stored_name: where it is stored.   pinned: a copy for a device that copies from memory.
    """

    module: nn.Module
    name: str
    empty: nn.Parameter
    file: str
    stored_name: str
    pinned: Tensor | None = None

    def bring(self, opened: Callable[[str], Any]) -> None:
        device, dtype = self.empty.device, self.empty.dtype
        stored = self.pinned
        if stored is None:
            stored = opened(self.file).get_tensor(self.stored_name)
            if device.type == "cuda":
                self.pinned = stored = stored.to(dtype).pin_memory()
        # A parameter of its own each time: what the backward pass holds on to must stay what it is.
        here = nn.Parameter(in_place(stored, device, dtype), requires_grad=False)
        self.module.register_parameter(self.name, here)

    def send_away(self) -> None:
        self.module.register_parameter(self.name, self.empty)


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
    (name,) = (name for name, module in model.named_modules() if module is layers)
    inside = {*layers.modules()}
    outside = {
        name: "cpu"
        for name, module in model.named_modules()
        if name and inside.isdisjoint(module.modules())
    }
    return {"device_map": outside | {name: "disk"}}


def move(weights: Any, folder: Path) -> None:
    """Let each layer of what `left_on_disk` has read have its matrices while it computes."""
    weights.moved = []
    for layer in layers_of(weights, folder):
        # Of the layer itself no hook runs again in the backward pass: what is repeated there is
        # its `forward`, which calls its parts, attention and feed-forward.
        for part in layer.children():
            moved = [each for module in part.modules() for each in _moved(module)]
            part.register_forward_pre_hook(partial(_bring, moved))
            # Also where it ends early, as one that is repeated does when it has all it is for.
            part.register_forward_hook(partial(_send_away, moved), always_call=True)
            weights.moved += moved
        _bring(_moved(layer))  # what it has beside its parts, if anything, stays
    remove_hook_from_submodules(weights)
    del weights.hf_device_map  # else the Trainer takes it for a model on several devices


def _moved(module: Any) -> list[Moved]:
    """The matrices of a module without its parts, which are put elsewhere; its vectors are read."""
    moved = []
    for name, parameter in [*module.named_parameters(recurse=False)]:
        stored = module._hf_hook.weights_map  # accelerate's, which transformers has it make
        if parameter.dim() < 2:
            module.register_parameter(name, nn.Parameter(stored[name].clone()))
            continue
        empty = nn.Parameter(nothing(parameter.shape, parameter.dtype, torch.device("cpu")))
        found = stored.dataset.index[stored.prefix + name]
        moved.append(Moved(module, name, empty, found["safetensors_file"], found["weight_name"]))
        moved[-1].send_away()
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
    shapes = [each.empty.shape for each in moved]
    for each in moved:
        each.empty.data = each.empty.data.new_empty(0)
    yield
    for each, shape in zip(moved, shapes, strict=True):
        each.empty.data = nothing(shape, each.empty.dtype, each.empty.device)


def to_device(model: nn.Module, *where: Any, **options: Any) -> nn.Module:
    """`model.to`, as the Trainer calls it."""
    with set_aside(model):
        return type(model).to(model, *where, **options)
