"""What is trained beside a plain adapter: a head for steps, rows of added tokens, a base in 4
bits."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from stages.backends.pytorch import backend as pytorch
from stages.backends.pytorch import fused, loss, models, step_head
from stages.backends.pytorch.loss import row_nats, summed_nats, token_nats
from stages.backends.shared import adapters, model_folders
from stages.backends.shared.answering import step_nats
from stages.backends.shared.tokenizers import load_tokenizer
from stages.errors import UserError
from stages.text import batches
from stages.text.chat import encode, scored_steps
from tests.tiny import ROWS, SETTINGS, checkpoint, grow, lora, settings_with

SOLUTIONS = [
    {
        "id": str(n),
        "category": "",
        "source": f"{n}",
        "prompt": f"What is {n} + 1?",
        "completions": [f"{n} + 1 = {n + wrong}.", f"The answer is {n + wrong}."],
        "labels": [1.0 - wrong / 2, None if n % 5 == 0 else float(wrong == 1)],
    }
    for n in range(24)
    for wrong in (1, 2)
]
PLAIN = SETTINGS.model_copy(update={"lora": lora(r=4, lora_alpha=8)})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return checkpoint(
        tmp_path_factory.mktemp("base") / "qwen3", "qwen3", width=64
    )  # tied embeddings; 4 bits come in blocks of 64


def scores(run: str, base: str) -> list:
    return [
        list(answer.step_scores)
        for answer in pytorch.Answerer(run, base, SETTINGS).predict(SOLUTIONS)
    ]


# Steps


def test_a_step_is_all_its_tokens_with_the_line_break_and_keeps_its_soft_label(base):
    tokenizer = load_tokenizer(base, base)
    row = SOLUTIONS[1] | {"labels": [0.7, None]}
    solution = scored_steps(tokenizer, row, 64)
    ends = [0, *(end + 1 for end in solution.step_ends)]
    assert tokenizer.decode(solution.ids[solution.given : ends[1]]) == "0 + 1 = 2.\n"
    assert tokenizer.decode(solution.ids[ends[1] : ends[2]]) == "The answer is 2.\n"
    assert solution.step_labels == (0.7, None)
    batch = batches.pad([solution], 0)
    assert (batch["labels"] != -100).nonzero().tolist() == [[0, solution.step_ends[0]]]
    assert batch["step_labels"][0].item() == pytest.approx(0.7)
    assert batch["step_labels"][1].isnan()
    assert [int((batch["steps"] == step).sum()) for step in (0, 1)] == [
        ends[1] - solution.given,
        ends[2] - ends[1],
    ]


def test_only_whole_steps_are_kept_and_a_row_without_a_label_in_them_gives_nothing(base):
    tokenizer = load_tokenizer(base, base)
    whole = scored_steps(tokenizer, SOLUTIONS[1], 200)
    short = scored_steps(tokenizer, SOLUTIONS[1], len(whole.ids) - 1)
    assert short.ids == whole.ids[: whole.step_ends[0] + 1]
    assert short.step_ends == whole.step_ends[:1]
    assert (
        scored_steps(tokenizer, SOLUTIONS[1], 200, max_steps_per_example=1).step_ends
        == whole.step_ends[:1]
    )
    assert encode(tokenizer, SOLUTIONS[1] | {"labels": [None, 1.0]}, 200, 1) == []
    assert encode(tokenizer, SOLUTIONS[1] | {"prompt": "x " * 500}, 64)[0].ids[-1] == whole.ids[-1]


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_a_head_is_trained_saved_reloaded_and_continued_exactly(base, inside, method):
    settings = PLAIN.model_copy(update={"method": method, "max_steps": 12, "eval_steps": 4})
    run = grow(base, base, inside / "one", settings, SOLUTIONS[:32], SOLUTIONS[32:])
    assert set(load_file(Path(run, model_folders.HEAD))) == {
        "hidden.weight", "hidden.bias", "score.weight", "score.bias", "surprise",
    }  # fmt: skip
    assert not any(
        model_folders.STEP_HEAD in name
        for file in Path(run).glob("*model*.safetensors")
        for name in load_file(file)
    )

    answerer = pytorch.Answerer(run, base, settings)
    answers = answerer.predict(SOLUTIONS)
    alone = [answerer.predict([row])[0] for row in SOLUTIONS]
    for one, other in zip(answers, alone, strict=True):
        assert one.step_scores == pytest.approx(
            other.step_scores, rel=0.2 if method == "qlora" else 1e-3
        )
    assert {len(answer.step_scores) for answer in answers} == {2}
    assert answers[0].tokens == 1  # of its two steps one is labelled

    parent_base = run if method == "full" else base
    started = models.model_for_training(parent_base, run, settings, scores_steps=True)
    tokenizer = load_tokenizer(base, base)
    rows = [scored_steps(tokenizer, row, 192) for row in SOLUTIONS]
    begun = step_head.step_scores(started, rows, 8, 0)
    for answer, of_row in zip(answers, begun, strict=True):
        assert of_row == pytest.approx(answer.step_scores, rel=0.2 if method == "qlora" else 1e-3)
    assert [s for s in begun if s != begun[0]]


def test_a_batch_of_solutions_costs_what_they_cost_one_by_one(base):
    model = models.model_for_training(base, base, PLAIN, scores_steps=True)
    tokenizer = load_tokenizer(base, base)
    rows = [row for solution in SOLUTIONS for row in encode(tokenizer, solution, 64)]
    rows += [
        scored_steps(tokenizer, solution, 64, max_steps_per_example=1) for solution in SOLUTIONS[:9]
    ]
    together = step_head.summed_step_nats(model, batches.pad(rows, 0)).item()
    in_lines = batches.pad(rows, 0, packed=True)
    alone = [step_head.summed_step_nats(model, batches.pad([row], 0)).item() for row in rows]
    assert together == pytest.approx(sum(alone), rel=1e-5)
    assert "position_ids" in in_lines
    assert step_head.summed_step_nats(model, in_lines).item() == pytest.approx(sum(alone), rel=1e-5)
    found = step_head.step_scores(model, rows, 5, 0)
    costs = [step_nats(scores, row.step_labels) for scores, row in zip(found, rows, strict=True)]
    assert [nats for nats, _ in costs] == pytest.approx(alone, rel=1e-3, abs=1e-5)


def test_a_step_is_as_wrong_as_the_softest_maximum_over_its_tokens(base):
    head = step_head.StepHead(8)
    outputs, nats, steps = torch.randn(5, 8), torch.rand(5) * 9, torch.tensor([0, 0, 0, 1, 1])
    judged = [
        head(outputs[at : at + 1], nats[at : at + 1], torch.tensor([0])).item() for at in range(5)
    ]
    expected = [
        -torch.tensor([-logit for logit in judged[a:b]]).logsumexp(0).item()
        for a, b in ((0, 3), (3, 5))
    ]
    assert head(outputs, nats, steps).tolist() == pytest.approx(expected, rel=1e-5)


def test_an_untuned_base_scores_a_step_by_its_mean_token_probability(base):
    tokenizer = load_tokenizer(base, base)
    row = scored_steps(tokenizer, SOLUTIONS[1], 64)
    model = models.load_weights(Path(base)).eval()
    with torch.no_grad():
        logs = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
    ids = row.ids[row.given : row.step_ends[0] + 1]
    wanted = sum(logs[row.given + at - 1, token] for at, token in enumerate(ids)) / len(ids)
    assert scores(base, base)[1][0] == pytest.approx(wanted.exp().item(), rel=1e-4)


# Added tokens


def test_only_the_rows_of_added_tokens_are_trained_and_reload_exactly(base, inside):
    settings = PLAIN.model_copy(update={"added_tokens": ["<formal>", "<polish>"]})
    asked = [{"role": "user", "content": "<formal> say it <polish>"}]
    rows = [row | {"messages": [*asked, row["messages"][-1]]} for row in ROWS]
    run = grow(base, base, inside / "one", settings, rows[:16], rows[16:])

    trained = models.model_for_training(base, run, settings)
    learned = [
        name
        for name, weights in trained.named_parameters()
        if weights.requires_grad and "lora" not in name
    ]
    assert learned == [
        "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta.default"
    ]
    tokenizer = load_tokenizer(run, base)
    sequences = [sequence for row in rows for sequence in encode(tokenizer, row, 64)]
    assert tokenizer.convert_tokens_to_ids("<formal>") in sequences[0].ids
    started, reloaded = (
        [nats for nats, _ in row_nats(m, sequences, 8, 0)]
        for m in (trained, models.model_for_answering(run, base))
    )
    assert reloaded == pytest.approx(started, rel=1e-5)

    size = Path(run, adapters.ADAPTER).stat().st_size
    plain = grow(base, base, inside / "plain", PLAIN)
    assert (
        size < Path(plain, adapters.ADAPTER).stat().st_size + 2_000
    )  # two rows of 64 floats, not the embedding twice
    merged = models.model_for_answering(run, base)
    assert merged.get_output_embeddings().weight is merged.get_input_embeddings().weight
    untouched = models.load_weights(Path(base)).get_input_embeddings().weight
    torch.testing.assert_close(merged.get_input_embeddings().weight[: len(untouched)], untouched)

    longer = settings.model_copy(update={"added_tokens": ["<formal>", "<polish>", "<answer>"]})
    child = grow(base, run, inside / "two", longer, rows[:16], rows[16:])
    assert json.loads(Path(child, model_folders.ADAPTER_CONFIG).read_text())[
        "trainable_token_indices"
    ] == [load_tokenizer(child, base).convert_tokens_to_ids(token) for token in longer.added_tokens]


def test_added_tokens_that_do_not_fit_are_refused(base, inside):
    with pytest.raises(
        UserError, match=r"added_tokens: the base's vocabulary has <\|end\|> already; leave it out"
    ):
        models.model_for_training(
            base, base, PLAIN.model_copy(update={"added_tokens": ["<|end|>"]})
        )
    settings = PLAIN.model_copy(update={"added_tokens": ["<formal>", "<polish>"]})
    run = grow(base, base, inside / "one", settings)
    with pytest.raises(
        UserError,
        match=r"its adapter has 2 added_tokens that this run does not begin with; repeat them",
    ):
        models.model_for_training(
            base, run, PLAIN.model_copy(update={"added_tokens": ["<formal>"]})
        )


# Quantised bases


def test_a_base_in_4_bits_trains_its_adapter_alone_and_answers_with_it(base, inside):
    settings = PLAIN.model_copy(
        update={
            "method": "qlora",
            "gradient_checkpointing": True,
            "max_steps": 20,
            "eval_steps": 10,
        }
    )
    model = models.model_for_training(base, base, settings)
    four = [module for module in model.modules() if hasattr(module, "quant_state")]
    assert len(four) == 14
    assert {module.weight.quant_type for module in four} == {"nf4"}
    assert all(module.weight.quant_state.nested for module in four)
    assert all(
        "lora" in name for name, weights in model.named_parameters() if weights.requires_grad
    )

    run = grow(base, base, inside / "one", settings)
    whole = models.model_for_training(base, base, PLAIN)
    sizes = [(weights.numel(), weights.requires_grad) for weights in whole.parameters()]
    every, trained = sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns)
    assert f"{every:,} parameters, {trained:,} of them trained" in Path("logs/one.log").read_text()
    tokenizer = load_tokenizer(run, base)
    sequences = [sequence for row in ROWS for sequence in encode(tokenizer, row, 64)]
    before = sum(
        nats
        for nats, _ in row_nats(
            models.model_for_answering(base, base, quantized="bfloat16"), sequences, 8, 0
        )
    )
    after = sum(
        nats
        for nats, _ in row_nats(
            models.model_for_answering(run, base, quantized="bfloat16"), sequences, 8, 0
        )
    )
    assert after < 0.9 * before
    answerer = pytorch.Answerer(run, base, settings_with(method="qlora"))
    assert (
        len(answerer.respond([row | {"messages": row["messages"][:-1]} for row in ROWS[:3]])) == 3
    )


def test_an_evaluation_between_two_steps_changes_no_gradient_of_a_base_in_4_bits(base):
    model = models.model_for_training(base, base, PLAIN.model_copy(update={"method": "qlora"}))
    tokenizer = load_tokenizer(base, base)
    sequences = [sequence for row in ROWS for sequence in encode(tokenizer, row, 64)]
    gradients = []
    for _ in range(2):
        model.train()
        model.zero_grad()
        batch = {
            key: tensor.to(next(model.parameters()).device)
            for key, tensor in batches.pad(sequences, 0).items()
        }
        summed_nats(model, batch).backward()
        gradients.append(
            {
                name: weights.grad
                for name, weights in model.named_parameters()
                if weights.grad is not None
            }
        )
        row_nats(model, sequences, 8, 0)
    assert len(gradients[0]) == 28
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


# Memory


def test_recomputed_activations_and_logits_in_parts_change_no_gradient(base, monkeypatch):
    tokenizer = load_tokenizer(base, base)
    batch = batches.pad([sequence for row in ROWS for sequence in encode(tokenizer, row, 64)], 0)
    gradients = []
    for checkpointing, at_once in [(False, loss.LOGITS_AT_ONCE), (True, 7 * len(tokenizer))]:
        monkeypatch.setattr(loss, "LOGITS_AT_ONCE", at_once)
        model = models.model_for_training(
            base, base, PLAIN.model_copy(update={"gradient_checkpointing": checkpointing})
        )
        model.train()
        summed_nats(model, batch).backward()
        gradients.append(
            {
                name: weights.grad
                for name, weights in model.named_parameters()
                if weights.grad is not None
            }
        )
    assert len(gradients[0]) == 28
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


class Logits(TorchDispatchMode):
    """Sizes of all tensors with a place for each of 11 tokens that are made; (8, 11) is the head,
    turned."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.shape[-1:] == (11,) and found.shape != (8, 11):
            self.made.append(found.numel())
        return found


@pytest.mark.parametrize(("bias", "learns"), [(False, False), (False, True), (True, True)])
def test_logits_are_never_made_for_more_positions_than_agreed(monkeypatch, bias, learns):
    head = torch.nn.Linear(8, 11, bias=bias).requires_grad_(learns)
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 50)
    with Logits() as logits:
        token_nats(
            torch.randn(3, 9, 8, requires_grad=True), head, torch.ones(3, 9, dtype=torch.long)
        ).sum().backward()
    assert 44 <= max(logits.made) <= 50


@pytest.mark.parametrize(
    ("dropout", "added", "trained"),
    [(0.0, [], 28), (0.25, [], 28), (0.0, ["<formal>", "<polish>"], 29)],
)
def test_bfloat16_without_conversions_changes_no_gradient_under_autocast(
    base, dropout, added, trained
):
    tokenizer = load_tokenizer(base, base)
    batch = batches.pad([sequence for row in ROWS for sequence in encode(tokenizer, row, 64)], 0)
    changes, gradients = (
        {"lora": lora(r=4, lora_alpha=8, lora_dropout=dropout), "added_tokens": added},
        [],
    )
    for precision in ("float32", "bfloat16"):
        settings = PLAIN.model_copy(update=changes | {"precision": precision})
        model = models.model_for_training(base, base, settings).train()
        fused.fuse(model, "cpu")
        dtype, given = (
            {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision],
            set[torch.dtype](),
        )
        for name, module in model.named_modules():
            if name.endswith("lora_dropout.default"):
                module.register_forward_pre_hook(
                    lambda _, inputs, given=given: given.add(inputs[0].dtype)
                )
        assert {
            weights.dtype for name, weights in model.named_parameters() if "proj.base_layer" in name
        } == {dtype}
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            summed_nats(model, batch).backward()
        assert given == {dtype}
        gradients.append(
            {
                name: weights.grad
                for name, weights in model.named_parameters()
                if weights.grad is not None
            }
        )
    assert len(gradients[0]) == trained
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name
