"""The fast norms and attention on a CPU beside transformers' own, which they replace."""

import random
from copy import deepcopy
from functools import partial
from statistics import mean

import pytest
import torch
from peft import LoraConfig, get_peft_model
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

from stages.backends.pytorch import attention, fused, models, step_head
from stages.backends.pytorch import backend as pytorch
from stages.backends.pytorch.loss import causal_model, isolates_packed_rows, outputs, summed_nats
from stages.text import batches, joined_rows
from stages.text.chat import IGNORE, Encoded
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
    assert fast.config._attn_implementation == attention.NAME
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


def rows_that_begin_alike(shared, seed=0):
    rng = random.Random(seed)
    opening = [rng.randrange(1, 97) for _ in range(shared)]
    return [
        Encoded(
            str(n), [*opening, *(rng.randrange(1, 97) for _ in range(2 + 9 * n % 31))], shared + 1
        )
        for n in range(11)
    ]


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("shared", [0, 1, 13])
@pytest.mark.parametrize("autocast", [False, True])
def test_rows_joined_in_one_line_give_the_loss_and_gradients_of_each_alone(
    architecture, shared, autocast
):
    slow, fast = pair(architecture)
    assert attention.joins_rows(fast)
    rows = rows_that_begin_alike(shared)
    batch = joined_rows.joined(rows, 0)
    assert joined_rows.shared_ids(rows) == shared
    assert (batch["labels"] != IGNORE).sum() == sum(len(row.ids) - row.given for row in rows)
    wanted, of_slow = 0.0, None
    for row in rows:
        nats, found = gradients(slow, batches.pad([row], 0))
        wanted += nats
        of_slow = (
            found if of_slow is None else {name: of_slow[name] + found[name] for name in found}
        )
    found, of_fast = gradients(fast, batch, autocast)
    assert found == pytest.approx(wanted, rel=0.02 if autocast else 1e-5)
    assert distance(of_fast, of_slow) < (0.05 if autocast else 1e-5)


def test_joined_rows_take_no_more_tokens_than_there_are():
    rows = rows_that_begin_alike(13)
    rows += [Encoded("long", [*rows[0].ids[:13], *range(1, 97), *range(1, 97)], 14)]
    tokens = 13 + sum(len(row.ids) - 13 for row in rows)
    batch = joined_rows.joined(rows, 0)
    assert batch["input_ids"].shape == (1, batches.round_up(tokens))
    assert len(batch["joined"].groups) > 1  # rows of like length attend together
    assert sum(group.numel() for group in batch["joined"].groups) < len(rows) * max(
        len(row.ids) for row in rows
    )


def test_models_whose_layers_would_see_other_rows_are_not_given_joined_ones():
    assert not attention.joins_rows(pair("mistral")[1])  # a window
    slow, fast = pair("llama")
    assert not attention.joins_rows(slow)  # its own attention
    fast.config.attention_dropout = 0.1
    assert not attention.joins_rows(fast)


@pytest.mark.parametrize("shared", [0, 1, 6])
def test_what_rows_begin_with_is_shared_only_as_far_as_it_is_not_learned(shared):
    rows = [
        Encoded("a", [1, 2, 3, 4, 5, 6, 7, 8], given=shared + 1),
        Encoded("b", [1, 2, 3, 4, 5, 6, 7, 9], given=7),
    ]
    assert joined_rows.shared_ids(rows) == shared
    assert joined_rows.shared_ids(rows[:1]) == 0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_joined_rows_come_out_alike_where_layers_are_computed_again(checkpointing):
    _, fast = pair("llama")
    exact = gradients(fast, joined_rows.joined(rows_that_begin_alike(5), 0))
    if checkpointing:
        fast.activation_checkpointing_enable({"use_reentrant": False})
    found = gradients(fast, joined_rows.joined(rows_that_begin_alike(5), 0))
    assert found[0] == exact[0]
    assert distance(found[1], exact[1]) < 1e-6


def test_steps_are_scored_alike_in_one_line_and_each_in_its_own():
    _, model = pair("llama")
    step_head.attach(model)
    rows = [
        Encoded(str(n), [1, 2, 3, *range(4, 14 + n)], 4, (8, 12 + n), (1.0, None)) for n in range(5)
    ]
    together = step_head.step_scores(model, rows, 5, 0, joins=True)
    alone = [step_head.step_scores(model, [row], 1, 0)[0] for row in rows]
    torch.testing.assert_close(torch.tensor(together), torch.tensor(alone))
    batch = joined_rows.joined(rows, 0)
    assert batch["step_labels"].isnan().tolist() == [False, True] * 5
    assert step_head.summed_step_nats(model, batch).item() == pytest.approx(
        sum(step_head.summed_step_nats(model, batches.pad([row], 0)).item() for row in rows),
        rel=1e-5,
    )


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
        isinstance(module, fused.Dropout) and module.p == SETTINGS.lora.lora_dropout
        for module in dropouts
    )
    assert causal_model(model).config._attn_implementation == attention.NAME


def test_what_answers_has_the_fused_attention_and_says_the_same(tmp_path):
    base = checkpoint(tmp_path / "base", "qwen3")
    answerer = pytorch.Answerer(base, base, SETTINGS.model_copy(update={"device": "cpu"}))
    assert answerer.model.config._attn_implementation == attention.NAME
    answers = answerer.predict(tiny.ROWS)
    answerer.model.set_attn_implementation("eager")
    assert answerer.joins
    answerer.joins = False
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
        attention.attention(
            layer, query, key, value, None, 0.5, position_ids=torch.arange(3), softcap=None
        )
        assert not told
        attention.attention(layer, query, key, value, None, 0.5, softcap=50.0)
    finally:
        modeling_llama.eager_attention_forward = kept
    assert told == [{"scaling": 0.5, "dropout": 0.0, "softcap": 50.0}]


def grafted(**more):
    torch.manual_seed(0)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", **more
    )
    model = get_peft_model(MADE["llama"](), config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:  # which begin at zero, where an adapter adds nothing
                weights.normal_(0, 0.1)
    return model


def test_merged_adapters_give_pefts_loss_and_gradients():
    slow, fast = grafted(), grafted()
    fused.fuse(fast, "cpu")
    batch = batches.pad(ROWS, 0)
    merged = [module for module in fast.modules() if "forward" in vars(module)]
    assert len(merged) == 14  # seven matrices in each of two layers
    (wanted, of_slow), (found, of_fast) = gradients(slow, batch), gradients(fast, batch)
    learned = [name for name, gradient in of_slow.items() if gradient is not None]
    assert len(learned) == 28
    assert found == pytest.approx(wanted, rel=1e-5)
    assert distance(*({name: one[name] for name in learned} for one in (of_fast, of_slow))) < 1e-5


def test_in_half_the_precision_an_adapter_stays_beside_its_matrix():
    slow, fast = grafted(), grafted()
    for model in (slow, fast):
        attention.fuse(model, "cpu")
    for module in fast.modules():
        if fused.adds_a_product_alone(module):
            module.forward = partial(fused.adapted, module)
    batch = batches.pad(ROWS, 0)
    assert gradients(fast, batch, autocast=True)[0] == gradients(slow, batch, autocast=True)[0]


@pytest.mark.parametrize(
    "more",
    [{"lora_dropout": 0.1}, {"use_dora": True}, {"init_lora_weights": "mica"}],
    ids=str,
)
def test_adapters_that_are_more_than_a_product_are_left_to_peft(more):
    model = grafted(**more)
    fused.fuse(model, "cpu")
    assert not [module for module in model.modules() if "forward" in vars(module)]
