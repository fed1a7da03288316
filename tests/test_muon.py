"""Muon for matrices and AdamW for the rest, beside PyTorch's own of each."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.backends.pytorch import muon, refuses
from stages.backends.pytorch.muon import MuonAdamW, groups, orthogonal
from stages.backends.shared import checkpoints
from tests.tiny import checkpoint, grow, settings_with


@pytest.mark.parametrize("shape", [(24, 64), (64, 24), (32, 32)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5
    assert values.max() < 1.3
    turned = left.T @ found @ right.T  # diagonal: the same singular vectors
    assert (turned - turned.diag().diag()).abs().max() < 1e-4


class Layered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        layers = nn.ModuleList([nn.Linear(16, 24), nn.Linear(24, 8)])
        self.model = nn.ModuleDict({"layers": layers})
        self.head = nn.Linear(8, 5, bias=False)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        one, two = self.model["layers"]
        return self.head(two(one(inputs).tanh()))


def learn(model: nn.Module, *optimizers: torch.optim.Optimizer) -> None:
    generator = torch.Generator().manual_seed(2)
    for _ in range(5):
        model(torch.randn(7, 16, generator=generator)).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def test_it_is_pytorchs_muon_and_pytorchs_adamw(monkeypatch):
    """PyTorch's orthogonalises in bfloat16; with its result they are the same."""
    theirs, ours = Layered(), Layered()
    monkeypatch.setattr(
        muon,
        "orthogonal",
        lambda matrix: torch.optim._muon._zeropower_via_newtonschulz(
            matrix, muon.COEFFICIENTS, muon.ITERATIONS, 1e-7
        ),
    )
    divided = groups(theirs)
    learn(
        theirs,
        torch.optim.Muon(
            divided[0]["params"], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(
            [{key: group[key] for key in group.keys() - {"matrices"}} for group in divided[1:]],
            lr=0.01,
            betas=(0.9, 0.98),
            weight_decay=0.1,
            fused=True,
        ),
    )
    learn(ours, MuonAdamW(groups(ours), 0.01, 0.98, 0.1))
    for name, weights in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], weights, msg=name)


def test_the_parts_are_divided_by_what_they_are():
    model = Layered()
    matrices, embeddings, vectors = groups(model)
    assert [tuple(each.shape) for each in matrices["params"]] == [(24, 16), (8, 24)]
    assert [tuple(each.shape) for each in embeddings["params"]] == [(5, 8)]
    assert [tuple(each.shape) for each in vectors["params"]] == [(24,), (8,)]
    assert vectors["weight_decay"] == 0.0


def test_a_training_with_it_learns_and_goes_on_to_the_same_bytes(inside):
    base = checkpoint(inside / "base", "llama")
    settings = settings_with(method="full", optim="muon", learning_rate=1e-2, max_steps=6)
    whole = grow(base, base, inside / "whole", settings)
    for state in (inside / "scratch-whole").glob("*/trainer_state.json"):
        assert json.loads(state.read_text())["best_metric"] < 6
    shutil.copytree(inside / "scratch-whole", inside / "scratch-again")
    shutil.rmtree(inside / "scratch-again/checkpoint-6")
    for state in (inside / "scratch-again").glob("*/trainer_state.json"):
        state.write_text(state.read_text().replace("scratch-whole", "scratch-again"))
        checkpoints.seal(state.parent)
    again = grow(base, base, inside / "again", settings)
    assert "resumed at step 4" in Path("logs/again.log").read_text()
    name = "model.safetensors"
    assert Path(again, name).read_bytes() == Path(whole, name).read_bytes()


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_adapters_are_refused(method):
    assert refuses(settings_with(method=method, optim="muon"), False) == [
        f"optim muon: it turns whole matrices, and method {method} trains adapters; set method: "
        "full or optim: adamw_torch"
    ]
