"""Conversations and texts as ids and labels, and batches of them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.records import UserError
from stages.text import batches, chat, tokenizer
from stages.text.chat import IGNORE, Encoded

TEXTS = ["猫が本を読みます。", "\\frac{a}{b} = \\alpha", "frac(a, b) = alpha", "The old teacher reads a letter."] * 20


@pytest.fixture(scope="module", params=["gpt2", "atoms"])
def small(request):
    return tokenizer.train(TEXTS, 400, request.param)


def conversation(question: str, answer: str) -> dict:
    turns = zip(("system", "user", "assistant"), ("Be brief.", question, answer), strict=True)
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"id": "1", "category": "", "source": question, "messages": messages}


def test_any_text_comes_back_from_its_ids(small):
    for text in [*TEXTS[:4], "鬱 \t\n naïve 😀", "  two  spaces "]:
        assert small.decode(small(text)["input_ids"]) == text


def test_what_is_learned_is_the_answer_and_the_end_of_the_turn_and_nothing_else(small):
    (row,) = chat.encode(small, conversation("猫が本を読む", "猫が本を読みます。"), 200)
    learned = [token for token in row.labels if token != IGNORE]
    assert small.decode(learned) == "猫が本を読みます。" + tokenizer.END
    assert row.ids.count(small.bos_token_id) == 1
    assert small.pad_token_id != small.eos_token_id


def test_the_prompt_has_the_same_ids_in_training_and_in_prediction(small):
    row = conversation("a", "b")
    (encoded,) = chat.encode(small, row, 200)
    assert chat.prompt_ids(small, row["messages"][:-1]) == encoded.ids[: encoded.given]


def test_a_long_prompt_loses_its_middle_and_a_long_answer_its_row(small):
    (row,) = chat.encode(small, conversation("start " + "a " * 200 + "finish", "猫"), 60)
    assert len(row.ids) == 60
    shown = small.decode(row.ids)
    assert "start" in shown
    assert "finish" in shown
    assert small.decode(row.ids[row.given :]) == "猫" + tokenizer.END
    assert chat.encode(small, conversation("a", "b " * 200), 60) == []


def test_every_token_of_a_text_is_learned_once_whatever_its_windows(small):
    text = {"id": "1", "category": "", "source": "", "text": "The old teacher reads. " * 30}
    whole = small(text["text"], add_special_tokens=False)["input_ids"] + [small.eos_token_id]
    for context, stride in [(50, 25), (50, 49), (1000, 500)]:
        windows = list(chat.windows(small, text, context, stride))
        assert [token for window in windows for token in window.ids[window.given :]] == whole
        assert all(len(window.ids) <= context for window in windows)
        assert all(window.given >= context - stride for window in windows[1:])


def test_a_template_that_does_not_continue_its_own_prompt_is_refused(small):
    import copy

    other = copy.deepcopy(small)
    other.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}>>{% endif %}"
    with pytest.raises(UserError, match="does not continue its own prompt"):
        chat.encode(other, conversation("a", "b"), 50)
    other.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(UserError, match="ends no turn with a special token"):
        chat.encode(other, conversation("a", "b"), 50)


@given(
    lengths=st.lists(st.integers(2, 90), min_size=1, max_size=300),
    micro=st.integers(1, 8),
    accumulation=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_every_row_comes_once_an_epoch(lengths, micro, accumulation, seed):
    steps = batches.steps_in(len(lengths), micro * accumulation, 1)
    plan = batches.plan(lengths, micro, accumulation, steps, seed)
    assert sorted(row for batch in plan.micro_batches for row in batch) == list(range(len(lengths)))
    assert plan.steps == steps == math.ceil(len(lengths) / (micro * accumulation))
    assert all(len(batch) <= micro for batch in plan.micro_batches)


@given(lengths=st.lists(st.integers(2, 90), min_size=1, max_size=100), seed=st.integers(0, 9))
def test_one_by_eight_and_eight_by_one_train_on_the_same_rows_in_the_same_steps(lengths, seed):
    def effective(micro: int, accumulation: int) -> list[list[int]]:
        plan = batches.plan(lengths, micro, accumulation, 5, seed)
        cut = range(0, len(plan.micro_batches), accumulation)
        return [sorted(row for batch in plan.micro_batches[at : at + accumulation] for row in batch) for at in cut]

    assert effective(8, 1) == effective(1, 8) == effective(2, 4)


def test_bucketing_leaves_little_padding_and_the_seed_rules_the_order():
    import random

    lengths = [random.Random(1).randint(5, 100) for _ in range(2000)]
    plan = batches.plan(lengths, 16, 1, 125, seed=1)
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in plan.micro_batches)
    assert 1 - sum(lengths) / padded < 0.05
    assert plan == batches.plan(lengths, 16, 1, 125, seed=1)
    assert plan != batches.plan(lengths, 16, 1, 125, seed=2)


def test_padding_is_neither_learned_nor_attended():
    batch = batches.pad([Encoded("1", [5, 6, 7], 1), Encoded("2", [5, 6], 1)], pad_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 6, 0]]
    assert batch["labels"].tolist() == [[IGNORE, 6, 7], [IGNORE, 6, IGNORE]]
    assert torch.equal(batch["attention_mask"], torch.tensor([[1, 1, 1], [1, 1, 0]]))
