"""Candidate answers: those of a beam beside a slow twin that looks at all there are, and their
log-probabilities beside a forward pass over each."""

import itertools
import json
import math
import random

import pytest
import torch

from stages.backends.pytorch import backend as pytorch
from stages.backends.pytorch.lines import Lines
from stages.backends.shared import beam_search
from stages.backends.shared.beam_search import Likeliest
from tests.test_decoding import NEW_TOKENS, OTHER, PLAIN, ending, model_of, one_by_one, prompts_of
from tests.tiny import ROWS, checkpoint, grow, settings_with

END = 0


class Chain:
    """Lines whose next token depends on the last one, by a table."""

    def __init__(self, tokens: int, seed: int) -> None:
        draw = random.Random(seed)
        rows = [[draw.random() ** 3 for _ in range(tokens)] for _ in range(tokens)]
        self.nats = [[math.log(value / sum(row)) for value in row] for row in rows]
        self.computed = 0

    def begin(self, prompts, most):
        self.most, self.last = most, [prompt[-1] for prompt in prompts]
        return self.likeliest()

    def go_on(self, lines, tokens):
        assert len(lines) == len(tokens)
        assert all(0 <= at < len(self.last) for at in lines)
        self.last = [*tokens]
        return self.likeliest()

    def likeliest(self):
        self.computed += len(self.last)
        orders = [
            sorted(range(len(self.nats)), key=lambda token: -self.nats[last][token])[: self.most]
            for last in self.last
        ]
        nats = [
            [self.nats[last][token] for token in order]
            for last, order in zip(self.last, orders, strict=True)
        ]
        return Likeliest(orders, nats)


def everything(chain: Chain, first: int, longest: int) -> dict[str, float]:
    """Every answer that there can be, and its log-probability."""
    found = {}
    tokens = range(1, len(chain.nats))
    for length in range(longest + 1):
        for ids in itertools.product(tokens, repeat=length):
            ends = (END,) if length < longest else ()
            steps = itertools.pairwise((first, *ids, *ends))
            found[str([*ids])] = sum(chain.nats[last][token] for last, token in steps)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_beam_as_wide_as_all_answers_finds_the_likeliest_of_all(seed):
    chain, longest, count = Chain(4, seed), 4, 60
    prompts = [[1], [2, 3], [3], [1, 1]]
    found = beam_search.search(chain, prompts, count, END, longest, str)
    for prompt, candidates in zip(prompts, found, strict=True):
        slow = everything(chain, prompt[-1], longest)
        (greedy, nats), others = candidates[0], candidates[1:]
        assert nats == pytest.approx(slow[greedy])
        likeliest = sorted((slow[text] for text in slow if text != greedy), reverse=True)
        assert [nats for _, nats in others] == pytest.approx(likeliest[: count - 1])
        assert [nats for _, nats in others] == pytest.approx([slow[text] for text, _ in others])
        assert len({text for text, _ in candidates}) == count


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_greedy_answer_is_first_however_unlikely_it_becomes(count):
    """Token 1 is the likeliest at first, and what follows it is all alike."""
    chain = Chain(6, 0)
    chain.nats = [
        [math.log(value) for value in row]
        for row in (
            [1 / 6] * 6,
            [0.15, 0.19, 0.16, 0.16, 0.17, 0.17],
            [0.95, *[0.01] * 5],
            [0.02, 0.36, 0.34, 0.26, 0.01, 0.01],
            [0.95, *[0.01] * 5],
            [0.95, *[0.01] * 5],
        )
    ]
    [found] = beam_search.search(chain, [[3]], count, END, 8, str)
    assert found[0] == (str([1] * 8), pytest.approx(math.log(0.36) + 7 * math.log(0.19)))
    assert len(found) == count
    assert [nats for _, nats in found[1:]] == sorted((nats for _, nats in found[1:]), reverse=True)
    if count > 1:
        assert found[1] == (str([2]), pytest.approx(math.log(0.34 * 0.95)))


def test_no_line_is_computed_that_could_only_become_too_unlikely():
    """All of 4 candidates are found after two tokens; only the greedy line goes on."""
    chain = Chain(6, 0)
    endless = [0.01, 0.95, *[0.01] * 4]
    ends = [0.95, *[0.01] * 5]
    first = [0.001, 0.2, 0.199, 0.2, 0.2, 0.2]
    chain.nats = [
        [math.log(value) for value in row] for row in (first, endless, ends, ends, ends, ends)
    ]
    [found] = beam_search.search(chain, [[0]], 4, END, 50, str)
    assert [text for text, _ in found] == [str([1] * 50), "[3]", "[4]", "[5]"]
    assert chain.computed < 70


def test_answers_that_are_the_same_text_are_one_candidate():
    chain = Chain(6, 3)
    found = beam_search.search(chain, [[1]], 8, END, 5, lambda ids: str(len(ids)))
    texts = [text for text, _ in found[0]]
    assert len({*texts}) == len(texts) > 1


def teacher_forced(model, prompt: list[int], answer: list[int], end: int) -> float:
    """The log-probability of an answer, by one forward pass over it; its end too, if it has one."""
    ids = [*prompt, *answer] + ([end] if len(answer) < NEW_TOKENS else [])
    with torch.no_grad():
        nats = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    at = range(len(prompt), len(ids))
    return sum(nats[place - 1, ids[place]].item() for place in at)


@pytest.mark.parametrize("shared", [0, 15])
@pytest.mark.parametrize("name", [*PLAIN, *OTHER])
def test_log_probabilities_are_those_of_a_forward_pass_over_each_answer(name, shared):
    model, prompts = model_of((PLAIN | OTHER)[name]), prompts_of(shared, count=6)
    greedy = one_by_one(model, prompts, None)
    end = ending(greedy)
    greedy = one_by_one(model, prompts, end)

    def searched(some: list[list[int]]) -> list[beam_search.Candidates]:
        return beam_search.search(Lines(model, pad=0), some, 4, end, NEW_TOKENS, json.dumps)

    together = searched(prompts)
    for prompt, own, candidates in zip(prompts, greedy, together, strict=True):
        answers = [json.loads(text) for text, _ in candidates]
        assert answers[0] == own
        assert len(answers) == 4
        slow = [teacher_forced(model, prompt, answer, end) for answer in answers]
        assert [nats for _, nats in candidates] == pytest.approx(slow, abs=1e-5)
    # What is asked beside a prompt changes nothing.
    alone = [searched([prompt])[0] for prompt in prompts]
    assert [[text for text, _ in row] for row in alone] == [
        [text for text, _ in row] for row in together
    ]
    assert [nats for row in alone for _, nats in row] == pytest.approx(
        [nats for row in together for _, nats in row], abs=1e-5
    )


def test_candidates_of_a_run_begin_with_its_greedy_answer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = checkpoint(tmp_path / "base", "llama")
    run = grow(base, base, tmp_path / "run")
    asked = [row | {"messages": row["messages"][:-1]} for row in ROWS]
    answerer = pytorch.Answerer(run, base, settings_with(generation={"max_new_tokens": 12}))
    found = answerer.candidates(asked, 4)
    assert [row[0][0] for row in found] == answerer.respond(asked)
    assert all(1 < len({text for text, _ in row}) == len(row) <= 4 for row in found)
    sampled = settings_with(
        generation={"max_new_tokens": 12, "temperature": 1.0, "batch_size": 3}, seed=7
    )
    other = answerer.asked_with(sampled).candidates(asked[:5], 4)
    assert [[text for text, _ in row] for row in other] == [
        [text for text, _ in row] for row in found[:5]
    ]
