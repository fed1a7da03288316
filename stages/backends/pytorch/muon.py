"""Muon for the matrices of a model's layers, AdamW for all else: fewer tokens to the same loss.

PyTorch's own Muon orthogonalises in bfloat16, which a processor without instructions for it takes
a hundred times as long for, and which rounds otherwise on another; here it is float32.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration; they bring singular values near 1 in five steps (Jordan et al. 2024,
Muon: An optimizer for hidden layers in neural networks)."""
ITERATIONS = 5
LIKE_ADAMW = 0.2
"""The root mean square of an update of AdamW, which Muon's is scaled to, so that both do with one
learning rate and weight decay (Liu et al. 2025, Muon is scalable for LLM training, section 2.2)."""


class MuonAdamW(Optimizer):
    """One optimizer with two kinds of groups: `matrices` are Muon's."""

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float, beta2: float, weight_decay: float
    ) -> None:
        defaults = {"lr": lr, "betas": (0.9, beta2), "eps": 1e-8, "weight_decay": weight_decay}
        super().__init__(list(groups), defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            learned = [weights for weights in group["params"] if weights.grad is not None]
            if group["matrices"]:
                for weights in learned:
                    self._turn(weights, group["lr"], group["weight_decay"])
            else:
                self._adamw(learned, group)

    def _turn(self, weights: Tensor, rate: float, decay: float) -> None:
        gradient, state = weights.grad, self.state[weights]
        assert gradient is not None
        momentum = state.setdefault("momentum", torch.zeros_like(weights))
        momentum.lerp_(gradient, 1 - MOMENTUM)
        update = orthogonal(torch.lerp(gradient, momentum, MOMENTUM))  # Nesterov's look ahead
        weights.mul_(1 - rate * decay)
        weights.add_(update, alpha=-rate * LIKE_ADAMW * math.sqrt(max(weights.shape)))

    def _adamw(self, learned: list[Tensor], group: dict[str, Any]) -> None:
        for weights in learned:
            state = self.state[weights]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=weights.device)
                state["exp_avg"] = torch.zeros_like(weights)
                state["exp_avg_sq"] = torch.zeros_like(weights)
        states = [self.state[weights] for weights in learned]
        adamw(
            learned,
            [weights.grad for weights in learned],  # type: ignore[misc]  # all have one
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonal(matrix: Tensor) -> Tensor:
    """(M, N) -> (M, N), its singular values brought near 1, by Newton and Schulz's iteration."""
    a, b, c = COEFFICIENTS
    turned = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    turned = turned / (turned.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = turned @ turned.T
        turned = torch.addmm(turned, torch.addmm(gram, gram, gram, beta=b, alpha=c), turned, beta=a)
    return turned if matrix.shape[0] <= matrix.shape[1] else turned.T


def groups(model: nn.Module) -> list[dict[str, Any]]:
    """What is learned, divided: the matrices inside layers; embeddings and heads; norms and biases,
    which never decay.
    """
    named = [(name, weights) for name, weights in model.named_parameters() if weights.requires_grad]
    matrices = [weights for name, weights in named if weights.ndim == 2 and ".layers." in name]
    inside = {id(weights) for weights in matrices}
    others = [weights for _, weights in named if id(weights) not in inside]
    embeddings = [weights for weights in others if weights.ndim == 2]
    vectors = [weights for weights in others if weights.ndim != 2]
    return [
        {"params": matrices, "matrices": True},
        {"params": embeddings, "matrices": False},
        {"params": vectors, "matrices": False, "weight_decay": 0.0},
    ]
