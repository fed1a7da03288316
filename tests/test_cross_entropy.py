"""The loss of a linear head with its gradient, beside PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.backends.pytorch import cross_entropy
from stages.backends.pytorch.loss import LABELS, LOGITS_AT_ONCE

N, D, V = 37, 16, 50


def given(learns=True, seed=5, spread=1.0):
    """hidden, weight, wanted, and how much each row's loss counts."""
    torch.manual_seed(seed)
    hidden, weight = torch.randn(N, D, requires_grad=True), spread * torch.randn(V, D)
    return hidden, weight.requires_grad_(learns), torch.randint(0, V, (N,)), torch.rand(N) + 0.5


def own(hidden, weight, wanted):
    return F.cross_entropy(F.linear(hidden, weight).float(), wanted, reduction="none")


def of(costs, hidden, weight, wanted, counts, autocast=False):
    """(costs, the gradients of what learns)."""
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        nats = costs(hidden, weight, wanted)
    learned = [each for each in (hidden, weight) if each.requires_grad]
    return nats.detach(), torch.autograd.grad((nats * counts).sum(), learned)


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("at_hand", [1, 7 * V, 2**21])
def test_losses_and_gradients_are_pytorchs(monkeypatch, learns, at_hand):
    monkeypatch.setattr(cross_entropy, "LOGITS_IN_CACHE", at_hand)
    problem = given(learns)
    (nats, gradients), (wanted, exact) = of(cross_entropy.nats, *problem), of(own, *problem)
    torch.testing.assert_close(nats, wanted, rtol=1e-5, atol=1e-6)
    assert len(gradients) == 1 + learns
    torch.testing.assert_close(gradients, exact, rtol=1e-4, atol=1e-5)


def test_on_a_card_few_kernels_are_launched_and_a_cpu_stays_near_its_cache():
    labels = LOGITS_AT_ONCE // 128_256 // LABELS * LABELS  # of a call at most
    assert 0 < labels <= 2 * cross_entropy.rows_at_once("cuda", 128_256)
    assert cross_entropy.rows_at_once("cpu", 128_256) * 128_256 <= 2**21
    assert cross_entropy.rows_at_once("cpu", 2**22) == 1


def test_what_is_all_but_impossible_costs_what_it_does_and_what_is_certain_nothing():
    hidden, weight, wanted, counts = given(spread=100.0)
    wanted[::2] = (hidden @ weight.T).argmax(-1)[::2]
    nats, gradients = of(cross_entropy.nats, hidden, weight, wanted, counts)
    true, exact = of(own, hidden, weight, wanted, counts)
    assert (true > 104).any(), "a chance below the smallest float32"
    assert (true == 0).any()
    torch.testing.assert_close(nats, true)
    torch.testing.assert_close(gradients, exact, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("learns", [True, False])
def test_in_bfloat16_they_are_no_further_from_float32(learns):
    apart = torch.zeros(2, 1 + learns)
    for seed in range(8):
        problem = given(learns, seed)
        _, exact = of(own, *problem)
        for costs, row in zip((own, cross_entropy.nats), apart, strict=True):
            _, gradients = of(costs, *problem, autocast=True)
            row += torch.stack(
                [
                    (some - true).norm() / true.norm()
                    for some, true in zip(gradients, exact, strict=True)
                ]
            )
    of_own, ours = apart / 8
    assert (ours > 1e-4).all()
    assert (ours < 1.1 * of_own).all()


def test_nothing_as_wide_as_the_vocabulary_is_kept_for_a_frozen_head():
    kept = {}
    for learns in (True, False):
        hidden, weight, wanted, _ = given(learns)
        kept[learns] = [
            each.shape for each in cross_entropy.nats(hidden, weight, wanted).grad_fn.saved_tensors
        ]
    assert kept[False] == [(N, D)]
    assert (N, V) in kept[True]


def test_only_a_plain_matrix_fits():
    assert cross_entropy.is_plain_matrix(nn.Linear(D, V, bias=False))
    assert not cross_entropy.is_plain_matrix(nn.Linear(D, V))
    assert not cross_entropy.is_plain_matrix(nn.Sequential(nn.Linear(D, V, bias=False)))
