"""A model whose layers are shared out among processes by PyTorch's fully_shard (FSDP2; Zhao et al.
2023, "PyTorch FSDP"), and its weights and optimizer as a whole for checkpoints, which so do not
depend on how many processes there are.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from stages.backends.pytorch.loss import causal_model


class Computed(nn.Module):
    """Computes functions of a model as its own forward pass: that is when fully_shard has those
    weights together that belong to no layer.
    """

    def __init__(self, model: nn.Module, keeps: bool) -> None:
        """keeps: whether this process is the one that wants whole weights; the others help to
        gather them and keep none.
        """
        super().__init__()
        self.model, self.keeps = model, keeps
        self.numbers = list[tuple[nn.Module, str]]()

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function: of the model and the arguments."""
        return function(self.model, *arguments)

    def shard(self, processes: int, where: str) -> None:
        """Keep this process's part of every weight.

        A layer is whole while it is computed; embeddings, head and last norm during a pass.
        """
        mesh = init_device_mesh(where, (processes,))
        for module in list(self.model.modules()):
            for name, weights in list(module.named_parameters(recurse=False)):
                if not weights.ndim:  # fully_shard takes no single number, but a list of one
                    one = nn.Parameter(weights.detach().reshape(1), weights.requires_grad)
                    module.register_parameter(name, one)
                    self.numbers.append((module, name))
        names = set(causal_model(self.model)._no_split_modules)
        layers = [each for each in self.model.modules() if type(each).__name__ in names]
        for module in (*layers, self):
            sharded = fully_shard(module, mesh=mesh)
            # A sum: the loss is divided by the labels of all processes already.
            sharded.set_gradient_divide_factor(1.0)
            sharded.set_force_sum_reduction_for_comms(True)

    @property
    def is_sharded(self) -> bool:
        return isinstance(self, FSDPModule)

    def whole_weights(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """What a checkpoint holds, on the CPU: the trained weights of an adapter, all of a full
        training's; a weight with two names once. The same call in every process.

        names: of those that are wanted alone.
        """
        adapter, known = hasattr(self.model, "peft_config"), dict[int, Tensor]()
        kept = self.model.state_dict().keys()  # some buffers are in no checkpoint
        found = {name: each for name, each in self.model.named_buffers() if name in kept}
        for name, weights in self.model.named_parameters(remove_duplicate=False):
            if weights.requires_grad or not adapter:
                if id(weights) not in known:
                    known[id(weights)] = self._gathered(weights.detach(), weights)
                found[name] = known[id(weights)]
        return found if names is None else {name: found[name] for name in names}

    def whole_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer's state_dict as one process would have it; the same call in every one."""
        state, weights = optimizer.state_dict(), weights_of(optimizer)
        return state | {
            "state": {
                number: {
                    name: self._gathered(value, weights[number])
                    if isinstance(value, DTensor)
                    else value
                    for name, value in of_weight.items()
                }
                for number, of_weight in state["state"].items()
            }
        }

    def _gathered(self, values: Tensor, weights: Tensor) -> Tensor:
        """One value for each of these weights, one tensor at a time on the device."""
        full = whole(values)
        if not self.keeps:
            return torch.empty(0)
        is_number = any(getattr(module, name) is weights for module, name in self.numbers)
        # A copy: the gathered one can lie in a buffer that is used again.
        return (full.reshape(()) if is_number else full).cpu().clone()

    def load_whole_state(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Take this process's part of what `whole_state` gave."""
        weights = weights_of(optimizer)
        for number, of_weight in state["state"].items():
            own = weights[number]
            for name, value in of_weight.items():
                if name != "step":
                    of_weight[name] = distribute_tensor(
                        value.to(own.device).reshape(own.shape),
                        own.device_mesh,
                        own.placements,
                        src_data_rank=None,
                    )
        optimizer.load_state_dict(state)


def whole(tensor: Tensor) -> Tensor:
    """All of it, on its device; the same call in every process."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def weights_of(optimizer: Optimizer) -> list[Any]:
    """In the order that its state_dict numbers them."""
    return [each for group in optimizer.param_groups for each in group["params"]]
