"""Answers in batches are those of transformers' own `generate`, one by one: with shared beginnings
and rows that leave."""

import copy
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MptConfig,
    Qwen3Config,
)

from stages.backends.pytorch import attention, decoding
from stages.text import batches

PAD, NEW_TOKENS = 0, 24
SHAPE = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3,
}  # fmt: skip
PLAIN = {
    "llama": LlamaConfig(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE),
    "gpt2": GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3),
}
OTHER = {
    "mistral": MistralConfig(**SHAPE, sliding_window=6),
    "mamba": MambaConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=0.3
    ),
}
"""A window, and a recurrent state: nothing is shared."""
UNTOLD = {"mpt": MptConfig(vocab_size=40, d_model=32, n_layers=2, n_heads=4, initializer_range=0.3)}
"""Has no positions but those in its mask; padded on the left, `generate` itself answers otherwise
than one by one."""


def model_of(config: Any) -> Any:
    """In float64, where no tie is broken by how a batch is laid out."""
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config(copy.deepcopy(config)).double().eval()


def prompts_of(shared: int, count: int = 21) -> list[list[int]]:
    generator = torch.Generator().manual_seed(2)
    beginning = torch.randint(1, 40, (shared,), generator=generator).tolist()
    own = [
        torch.randint(1, 40, (1 + row % 9,), generator=generator).tolist() for row in range(count)
    ]
    return [beginning + rest for rest in own]


def options(end: int | None, **more: Any) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=NEW_TOKENS,
        eos_token_id=end,
        pad_token_id=PAD,
        **({"do_sample": False} | more),
    )


def one_by_one(model: Any, prompts: list[list[int]], end: int | None) -> list[list[int]]:
    """The slow twin."""
    answers = []
    for prompt in prompts:
        output = model.generate(torch.tensor([prompt]), generation_config=options(end))[
            0, len(prompt) :
        ].tolist()
        answers.append(output[: output.index(end)] if end in output else output)
    return answers


def in_batches(
    model: Any, prompts: list[list[int]], size: int, config: GenerationConfig
) -> list[list[int]]:
    answers: dict[int, list[int]] = {}
    for rows, continued in decoding.continuations(model, prompts, size, config):
        answers |= dict(zip(rows, continued, strict=True))
    return [answers[row] for row in range(len(prompts))]


def ending(answers: list[list[int]]) -> int:
    """A token that ends the answers at many different lengths."""
    found = {
        token: {answer.index(token) for answer in answers if token in answer}
        for answer in answers
        for token in answer
    }
    return max(found, key=lambda token: (len(found[token]), token))


@pytest.mark.parametrize("shared", [0, decoding.SHORTEST_PREFIX_TOKENS - 1, 15])
@pytest.mark.parametrize("name", [*PLAIN, *OTHER])
def test_answers_in_batches_are_those_of_generate_one_by_one(name, shared):
    model, prompts = model_of((PLAIN | OTHER)[name]), prompts_of(shared)
    end = ending(one_by_one(model, prompts, None))
    slow = one_by_one(model, prompts, end)
    assert len({len(answer) for answer in slow}) > 3
    for kind in ("transformers' own attention", "the one that answers on a CPU"):
        for size in (1, 8, 64):
            assert in_batches(model, prompts, size, options(end)) == slow, kind
        attention.fuse(model, "cpu")


@pytest.mark.parametrize("name", [*PLAIN, *OTHER, *UNTOLD])
def test_what_all_prompts_begin_with_is_computed_once_where_that_is_exact(name):
    model, prompts = model_of((PLAIN | OTHER | UNTOLD)[name]), prompts_of(15)
    assert decoding.shared_prefix(model, prompts)[0] == (15 if name in PLAIN else 0)
    assert decoding.shared_prefix(model, [prompts[0]] * 3)[0] == (
        len(prompts[0]) - 1 if name in PLAIN else 0
    )
    assert decoding.shared_prefix(model, prompts[:1])[0] == 0
    assert decoding.shared_prefix(model, [])[0] == 0


def test_a_row_that_has_ended_is_computed_no_more(monkeypatch):
    monkeypatch.setattr(batches, "PASS_OVERHEAD_TOKENS", 1)
    model, prompts = model_of(PLAIN["llama"]), prompts_of(15)
    end = ending(one_by_one(model, prompts, None))
    computed = []
    model.get_decoder().register_forward_pre_hook(
        lambda _, args, named: computed.append(
            tuple(named["input_ids"].shape if "input_ids" in named else args[0].shape)
        ),
        with_kwargs=True,
    )
    answers = in_batches(model, prompts, 64, options(end))
    assert computed[0] == (1, 15)
    # Prompts of like length together, but for their last token, with which answering begins.
    first = computed.index((len(prompts), 1))
    own = sum(len(prompt) - 16 for prompt in prompts)
    assert sum(rows * tokens for rows, tokens in computed[1:first]) == own
    needed = sum(len(answer) for answer in answers)
    spent = sum(rows for rows, _ in computed[first + 1 :])
    longest = max(map(len, answers))
    assert needed <= spent < needed + len(prompts) * longest * decoding.COMPACTED_SHARE + longest
    assert spent < 0.8 * len(prompts) * longest


def test_a_token_copies_its_own_keys_and_not_those_before(monkeypatch):
    model, prompts = model_of(PLAIN["llama"]), prompts_of(15)
    monkeypatch.setattr(decoding, "ROOM_TOKENS", 5)
    places: dict[int, int] = {}
    own_update = decoding.Roomy.update

    def update(self, *states):
        keys, _ = own_update(self, *states)
        places[keys.data_ptr()] = places.get(keys.data_ptr(), 0) + 1
        return keys, self.values

    monkeypatch.setattr(decoding.Roomy, "update", update)
    # No row ends: then rows leave the batch, and the others are copied together.
    in_batches(model, prompts, 64, options(end=10**6))
    layers = len(model.get_decoder().layers)
    assert sum(places.values()) == NEW_TOKENS * layers
    assert len(places) <= (NEW_TOKENS // 5 + 1) * layers


def test_sampling_draws_what_generate_draws():
    model, prompts = model_of(PLAIN["qwen3"]), prompts_of(0)
    prompts = [prompt for prompt in prompts if len(prompt) == 5]
    config = options(None, do_sample=True, temperature=0.7, top_p=0.9)
    torch.manual_seed(5)
    output = model.generate(torch.tensor(prompts), generation_config=config)[:, 5:].tolist()
    torch.manual_seed(5)
    assert in_batches(model, prompts, 64, config) == output
    assert len(prompts) > 1
    assert output != one_by_one(model, prompts, None)
