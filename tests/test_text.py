"""Conversations and texts as ids and labels, and batches of them."""

import json
import math
import random
import statistics
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.backends.shared.tokenizers import load_tokenizer
from stages.errors import UserError
from stages.text import batches, chat, tokenizer
from stages.text.chat import IGNORE, Encoded

TEXTS = [
    "猫が本を読みます。",
    "\\frac{a}{b} = \\alpha",
    "frac(a, b) = alpha",
    "The old teacher reads a letter.",
] * 20


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


PLANS = given(
    lengths=st.lists(st.integers(2, 300), min_size=1, max_size=300),
    micro=st.integers(1, 8),
    accumulation=st.integers(1, 9),
    seed=st.integers(0, 9),
)


@PLANS
def test_every_row_comes_once_an_epoch(lengths, micro, accumulation, seed):
    steps = batches.steps_in(len(lengths), micro * accumulation, 1)
    plan = batches.plan(lengths, micro, accumulation, steps, seed)
    assert sorted(row for batch in plan.micro_batches for row in batch) == list(range(len(lengths)))
    assert plan.steps == steps == math.ceil(len(lengths) / (micro * accumulation))
    assert all(len(batch) <= micro for batch in plan.micro_batches)


def all_at_once(
    lengths: list[int], micro: int, accumulation: int, steps: int, seed: int
) -> list[list[int]]:
    """A plan as it was made before the steps were made one by one, which the weights of every run
    until then come from."""
    rng, made = random.Random(seed), list[list[int]]()
    while len(made) < steps:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        size = micro * accumulation
        epoch = [order[at : at + size] for at in range(0, len(order), size)]
        made += [sorted(batch, key=lambda row: lengths[row]) for batch in epoch]
    return [
        batch[at * micro : (at + 1) * micro] for batch in made[:steps] for at in range(accumulation)
    ]


@PLANS
def test_steps_that_are_made_one_by_one_are_those_of_a_plan_made_at_once(
    lengths, micro, accumulation, seed
):
    epochs = batches.steps_in(len(lengths), micro * accumulation, 3.5)
    at_once = all_at_once(lengths, micro, accumulation, epochs, seed)
    plan = batches.plan(lengths, micro, accumulation, epochs, seed)
    assert [*plan.micro_batches] == at_once
    assert len(plan.micro_batches) == len(at_once)
    # a training that goes on asks for a step of a late epoch first, and for earlier ones again
    plan = batches.plan(memoryview(array("i", lengths)), micro, accumulation, epochs, seed)
    for number in (epochs - 1, 0, epochs // 2, epochs - 1):
        of_step = slice(number * accumulation, (number + 1) * accumulation)
        assert [*plan.step(number)] == at_once[of_step] == plan.micro_batches[of_step]
    assert plan.micro_batches[-1] == at_once[-1]
    with pytest.raises(IndexError):
        plan.micro_batches[len(at_once)]


@given(lengths=st.lists(st.integers(2, 90), min_size=1, max_size=100), seed=st.integers(0, 9))
def test_one_by_eight_and_eight_by_one_train_on_the_same_rows_in_the_same_steps(lengths, seed):
    def effective(micro: int, accumulation: int) -> list[list[int]]:
        plan = batches.plan(lengths, micro, accumulation, 5, seed)
        return [
            sorted(row for batch in plan.step(number) for row in batch)
            for number in range(plan.steps)
        ]

    assert effective(8, 1) == effective(1, 8) == effective(2, 4)


def test_a_batch_is_drawn_at_random_and_what_is_computed_at_once_is_alike_in_length():
    lengths = [random.Random(1).randint(5, 100) for _ in range(2000)]
    plan = batches.plan(lengths, 4, 8, 62, seed=1)
    steps = [plan.step(number) for number in range(plan.steps)]
    means = [statistics.mean(lengths[row] for batch in step for row in batch) for step in steps]
    # The mean of 32 lengths drawn at random spreads by 28 / sqrt(32) = 5; sorted over an epoch it
    # would spread by 28.
    assert statistics.stdev(means) < 7
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in plan.micro_batches)
    assert 1 - sum(lengths[row] for batch in plan.micro_batches for row in batch) / padded < 0.12
    assert plan == batches.plan(lengths, 4, 8, 62, seed=1)
    assert plan != batches.plan(lengths, 4, 8, 62, seed=2)


@PLANS
def test_packed_a_step_is_the_same_rows_in_no_more_passes_and_no_more_room(
    lengths, micro, accumulation, seed
):
    plan = batches.plan(
        lengths, micro, accumulation, batches.steps_in(len(lengths), micro * accumulation, 1), seed
    )
    fewer = batches.in_fewer_passes(plan, lengths, micro)
    room = micro * (
        max(lengths) + -max(lengths) % batches.WIDTH_MULTIPLE
    )  # tokens of the largest pass that memory is planned for
    assert fewer.room in (0, room)
    assert (fewer.steps, fewer.accumulation) == (plan.steps, plan.accumulation)
    for number in range(plan.steps):
        before, after = plan.step(number), fewer.step(number)
        assert sorted(row for rows in after for row in rows) == sorted(
            row for rows in before for row in rows
        )
        assert 0 < sum(map(bool, after)) <= sum(map(bool, before))
        assert after[0], "the first pass makes the gradients that empty ones leave as they are"
        for rows in after:
            found = [lengths[row] for row in rows]
            assert (
                math.prod(
                    batches.batch_shape(
                        found, batches.pack_lines(found, fewer.room), batches.WIDTH_MULTIPLE
                    )
                )
                <= room
            )
    if accumulation == 1:
        assert fewer == plan


def test_short_rows_share_the_room_of_the_longest():
    lengths = [500] + [50] * 15
    plan = batches.plan(lengths, 1, 16, 1, seed=1)
    fewer = batches.in_fewer_passes(plan, lengths, 1)
    assert [len(rows) for rows in fewer.step(0)] == [1, 10, 5] + [0] * 13
    encoded = [Encoded(str(row), [5] * length, 1) for row, length in enumerate(lengths)]
    drawn = [
        tuple(batches.pad([encoded[row] for row in rows], 0, True, fewer.room)["input_ids"].shape)
        for rows in fewer.step(0)
    ]
    assert drawn[:3] == [
        (1, 512),
        (2, 256),
        (5, 64),
    ]  # no wider than there is need of: attention is computed over whole lines


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(1, 2000))
def test_rows_are_halved_no_further_than_to_so_many_tokens(lengths, most):
    rows = list(range(len(lengths)))
    parts = batches.halved(rows, lengths, most)
    assert [row for part in parts for row in part] == rows
    assert all(len(part) == 1 or sum(lengths[row] for row in part) <= most for part in parts)
    assert batches.halved(rows, lengths, sum(lengths)) == [rows]


def test_where_two_long_rows_need_a_pass_each_many_short_ones_still_share_one():
    lengths = [500, 500] + [20] * 12
    assert batches.halved([0, 1], lengths, 500) == [[0], [1]]
    assert batches.halved(range(2, 14), lengths, 500) == [range(2, 14)]


@given(st.lists(st.integers(1, 300), max_size=40))
def test_rows_in_lines_overlap_nowhere_and_take_no_more_room_than_alone(lengths):
    places = batches.pack_lines(lengths)
    lines, width = batches.batch_shape(lengths, places, batches.WIDTH_MULTIPLE)
    taken = {
        (line, begin + at)
        for length, (line, begin) in zip(lengths, places, strict=True)
        for at in range(length)
    }
    assert len(taken) == sum(lengths)
    longest = max(lengths, default=0)
    assert all(line < lines and at < width for line, at in taken)
    assert (
        lines * width <= len(lengths) * (longest + -longest % batches.WIDTH_MULTIPLE) or not lengths
    )
    assert width <= max(longest + batches.WIDTH_MULTIPLE, batches.MAX_WIDENED_TOKENS)


@given(st.lists(st.integers(1, 200), max_size=9))
def test_rows_are_split_into_the_cheapest_passes(lengths):
    passes = batches.split_by_length(lengths)
    assert sorted(row for chosen in passes for row in chosen) == list(range(len(lengths)))

    def cost(split: list[list[int]]) -> int:
        return sum(len(chosen) * max(chosen) + batches.PASS_OVERHEAD_TOKENS for chosen in split)

    every: list[list[list[int]]] = [[]]
    for length in sorted(lengths):
        every = [
            split
            for known in every
            for split in (
                [*known, [length]],
                *([[*known[:-1], [*known[-1], length]]] if known else []),
            )
        ]
    assert cost([[lengths[row] for row in chosen] for chosen in passes]) == min(map(cost, every))


def test_rows_in_one_line_begin_anew():
    rows = [Encoded("1", list(range(20, 32)), 1), Encoded("2", [5, 6], 1), Encoded("3", [7, 8], 1)]
    batch = batches.pad(rows, pad_id=0, packed=True)
    assert batch["input_ids"].tolist() == [[*range(20, 32), 5, 6, 7, 8]]
    assert batch["position_ids"].tolist() == [[*range(12), 0, 1, 0, 1]]
    assert batch["labels"].tolist() == [[IGNORE, *range(21, 32), IGNORE, 6, IGNORE, 8]]
    alone = batches.pad(
        [Encoded("1", [5] * 300, 1), Encoded("2", [6] * 300, 1)], pad_id=0, packed=True
    )
    assert "position_ids" not in alone


def test_padding_is_neither_learned_nor_attended():
    batch = batches.pad([Encoded("1", [5, 6, 7], 1), Encoded("2", [5, 6], 1)], pad_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 6, 0]]
    assert batch["labels"].tolist() == [[IGNORE, 6, 7], [IGNORE, 6, IGNORE]]
    assert set(batch) == {
        "input_ids",
        "labels",
    }  # causal attention never looks right, so there is nothing to mask


def test_a_tokenizer_without_eos_writes_conversations_and_refuses_texts(tmp_path):
    """ChatML ends a turn with a token of its own."""
    fast = tokenizer.train(TEXTS, 400, "gpt2")
    fast.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["eos_token"] = config["pad_token"] = None
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    bare = load_tokenizer(str(tmp_path), str(tmp_path))
    assert bare.pad_token_id is not None
    conversation = {"id": "1", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}  # fmt: skip
    assert [*chat.encode(bare, conversation, 200)]
    with pytest.raises(UserError, match=r"its tokenizer has no EOS token, by which a text ends; name one in its tokenizer_config.json, or use another base"):  # fmt: skip
        [*chat.encode(bare, {"id": "1", "text": "a"}, 200)]
