"""The fast norms and attention on a CPU beside transformers' own, which they replace."""

from copy import deepcopy
from statistics import mean

import pytest
import torch
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.llama import modeling_llama

from stages.backends.pytorch import backend as pytorch
from stages.backends.pytorch import fused, models
from stages.backends.pytorch.loss import causal_model, isolates_packed_rows, outputs, summed_nats
from stages.text import batches
from stages.text.chat import Encoded
from tests import tiny
from tests.tiny import SETTINGS, checkpoint

SHAPE = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.2, "pad_token_id": 0, "attn_implementation": "eager",
}  # fmt: skip
MADE = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=4)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE)),
}
NORMS = {
    "llama": 5,
    "mistral": 5,
    "qwen3": 9,
}  # two a layer and one at the end; Qwen3's queries and keys have their own
ROWS = [
    Encoded(str(n), [(7 * n + 3 * at) % 96 + 1 for at in range(3 + 5 * n % 11)], given=1)
    for n in range(9)
]


def pair(architecture, seed=5):
    """(as transformers made it, the same with fused layers), norms of all sizes."""
    torch.manual_seed(seed)
    slow = MADE[architecture]().train()
    with torch.no_grad():
        for name, weights in slow.named_parameters():
            if "norm" in name:
                weights.uniform_(0.5, 2.0)
    fast = deepcopy(slow)
    fused.fuse(fast, "cpu")
    return slow, fast


def gradients(model, batch, autocast=False):
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = summed_nats(model, batch)
    loss.backward()
    return loss.item(), {name: weights.grad for name, weights in model.named_parameters()}


def distance(some, exact):
    """The mean over all weights of how far their gradients are apart, relative."""
    assert list(some) == list(exact)
    return mean(((some[name] - exact[name]).norm() / exact[name].norm()).item() for name in exact)


@pytest.mark.parametrize("architecture", MADE)
@pytest.mark.parametrize("packed", [False, True])
def test_loss_and_gradients_are_those_of_transformers_own_layers(architecture, packed):
    slow, fast = pair(architecture)
    batch = batches.pad(ROWS, 0, packed=packed)
    assert (
        sum(isinstance(module, fused.RMSNorm) for module in fast.modules()) == NORMS[architecture]
    )
    assert fast.config._attn_implementation == fused.NAME
    (wanted, of_slow), (found, of_fast) = gradients(slow, batch), gradients(fast, batch)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert distance(of_fast, of_slow) < 1e-5


@pytest.mark.parametrize("architecture", MADE)
def test_in_bfloat16_they_are_no_further_from_float32_than_what_they_replace(architecture):
    batch, apart = batches.pad(ROWS, 0, packed=True), []
    for seed in range(8):
        slow, fast = pair(architecture, seed)
        exact = gradients(slow, batch)[1]
        apart.append(
            [distance(gradients(model, batch, autocast=True)[1], exact) for model in (slow, fast)]
        )
    of_slow, of_fast = map(mean, zip(*apart, strict=True))
    assert 1e-3 < of_fast < 1.1 * of_slow


def test_rows_of_a_line_do_not_see_each_other():
    assert isolates_packed_rows(pair("llama")[1])


def test_frozen_norms_get_no_gradient():
    slow, fast = pair("llama")
    for model in (slow, fast):
        for name, weights in model.named_parameters():
            weights.requires_grad_("proj" in name)
    batch = batches.pad(ROWS, 0)
    of_slow, of_fast = gradients(slow, batch)[1], gradients(fast, batch)[1]
    assert of_fast["model.norm.weight"] is None
    learned = [name for name, gradient in of_slow.items() if gradient is not None]
    assert len(learned) == 14
    assert (
        distance(
            {name: of_fast[name] for name in learned}, {name: of_slow[name] for name in learned}
        )
        < 1e-5
    )


def test_attention_with_dropout_is_the_models_own():
    torch.manual_seed(5)
    slow = LlamaForCausalLM(LlamaConfig(**SHAPE, attention_dropout=0.5)).train()
    fast = deepcopy(slow)
    fused.fuse(fast, "cpu")
    batch = batches.pad(ROWS, 0)
    seen = []
    for model in (slow, fast):
        torch.manual_seed(6)
        seen.append(outputs(model, batch))
    torch.testing.assert_close(seen[1], seen[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(outputs(slow.eval(), batch), seen[0], atol=1e-2)


@pytest.mark.parametrize(
    "made",
    [
        lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, attn_logit_softcapping=0.5)),
        lambda: GPT2LMHeadModel(
            GPT2Config(vocab_size=97, n_embd=32, n_layer=1, n_head=2, attn_implementation="eager")
        ),
    ],
)
def test_what_another_formula_computes_stays(made):
    torch.manual_seed(5)
    model, ids = made().eval(), torch.arange(12).reshape(2, 6)
    kinds, before = [type(module) for module in model.modules()], model(ids).logits
    fused.fuse(model, "cpu")
    assert [
        nn.Dropout if isinstance(module, fused.Dropout) else type(module)
        for module in model.modules()
    ] == kinds
    torch.testing.assert_close(model(ids).logits, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_cuda_the_norm_is_pytorchs_with_the_same_gradients(dtype):
    torch.manual_seed(5)
    slow = modeling_llama.LlamaRMSNorm(32, eps=1e-5).to(dtype)
    with torch.no_grad():
        slow.weight.uniform_(0.5, 2.0)
    weight, seen = slow.weight.detach().clone().requires_grad_(), []
    hidden = torch.randn(3, 7, 32).to(dtype)
    for norm in (slow, lambda x: fused.one_kernel(x, weight, 1e-5, dtype)):
        given = hidden.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = norm(given)
        (out.float() * torch.arange(32)).sum().backward()
        assert out.dtype == dtype
        seen.append((out, given.grad))
    allowed = 1e-6 if dtype == torch.float32 else 1e-2
    for found, wanted in zip((*seen[1], weight.grad), (*seen[0], slow.weight.grad), strict=True):
        assert (found - wanted).norm() < allowed * wanted.norm()


def test_dropout_leaves_out_its_share_and_scales_the_rest():
    torch.manual_seed(5)
    dropout = fused.Dropout(0.1)
    values = torch.rand(400, 1003, requires_grad=True)
    torch.manual_seed(6)
    out = dropout(values)
    kept = out != 0
    torch.testing.assert_close(out[kept], values[kept] / 0.9)
    out.sum().backward()
    torch.testing.assert_close(values.grad, kept / 0.9)
    # Each of the four that one random number decides, and what two of them share: 100,000 draws spread by 0.001.
    lanes = (~kept).flatten().unflatten(0, (-1, 4)).float()
    assert lanes.mean(0).tolist() == pytest.approx([0.1] * 4, abs=5e-3)
    assert (lanes.T @ lanes / len(lanes)).fill_diagonal_(0.01).tolist() == [
        pytest.approx([0.01] * 4, abs=2e-3)
    ] * 4
    torch.manual_seed(6)
    assert torch.equal(dropout(values), out)
    assert dropout.eval()(values) is values


def test_adapters_dropout_is_replaced_too(tmp_path):
    base = checkpoint(tmp_path / "base", "llama")
    model = models.model_for_training(base, base, SETTINGS)
    fused.fuse(model, "cpu")
    dropouts = [
        module for name, module in model.named_modules() if name.endswith("lora_dropout.default")
    ]
    assert len(dropouts) == 14
    assert all(
        isinstance(module, fused.Dropout) and module.share == SETTINGS.lora.lora_dropout
        for module in dropouts
    )
    assert causal_model(model).config._attn_implementation == fused.NAME


def test_what_answers_has_the_fused_attention_and_says_the_same(tmp_path):
    base = checkpoint(tmp_path / "base", "qwen3")
    answerer = pytorch.Answerer(base, base, SETTINGS.model_copy(update={"device": "cpu"}))
    assert answerer.model.config._attn_implementation == fused.NAME
    answers = answerer.predict(tiny.ROWS)
    answerer.model.set_attn_implementation("eager")
    own = answerer.predict(tiny.ROWS)
    assert [answer.answer for answer in answers] == [answer.answer for answer in own]
    assert [answer.nats for answer in answers] == pytest.approx(
        [answer.nats for answer in own], rel=1e-5
    )


def test_on_mps_everything_stays():
    model = MADE["llama"]()
    kinds = [type(module) for module in model.modules()]
    fused.fuse(model, "mps")
    assert [type(module) for module in model.modules()] == kinds


def test_on_cuda_attention_is_left_to_pytorch():
    model = MADE["llama"]()
    fused.fuse(model, "cuda")
    assert sum(isinstance(module, fused.RMSNorm) for module in model.modules()) == NORMS["llama"]
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("shift", "scale", "replaced"), [(0.0, 1.0, True), (1.0, 1.0, False), (0.0, 1.01, False)]
)
def test_a_norm_is_replaced_where_it_computes_the_same_whatever_its_code(shift, scale, replaced):
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.variance_epsilon = nn.Parameter(torch.rand(8)), 1e-6

        def forward(self, hidden):
            sizes = (hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon * scale).sqrt()
            return hidden / sizes * (self.weight + shift)

    assert fused.is_rms_norm(Norm()) is replaced
    assert not fused.is_rms_norm(nn.LayerNorm(8))


def test_attention_that_is_told_more_than_is_known_here_is_the_models_own():
    layer = MADE["llama"]().model.layers[0].self_attn
    query, key, value = torch.randn(1, 4, 3, 8), torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8)
    told = []
    modeling_llama.eager_attention_forward, kept = (
        lambda *_, **others: (told.append(others), None),
        modeling_llama.eager_attention_forward,
    )
    try:
        fused.attention(
            layer, query, key, value, None, 0.5, position_ids=torch.arange(3), softcap=None
        )
        assert not told
        fused.attention(layer, query, key, value, None, 0.5, softcap=50.0)
    finally:
        modeling_llama.eager_attention_forward = kept
    assert told == [{"scaling": 0.5, "dropout": 0.0, "softcap": 50.0}]
