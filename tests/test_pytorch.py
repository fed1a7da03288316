"""The PyTorch backend on tiny models: exact losses, chains that continue, batches that answer like
single rows."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from stages import progress_lines
from stages.backends.pytorch import backend as pytorch
from stages.backends.pytorch import models
from stages.backends.pytorch.loss import row_nats, summed_nats, token_nats
from stages.backends.shared import adapters, checkpoints, model_folders, training_plan
from stages.backends.shared.tokenizers import load_tokenizer
from stages.entries import Run
from stages.errors import UserError
from stages.files import digest
from stages.settings import EarlyStopping
from stages.text import batches
from stages.text.chat import encode
from tests.tiny import CONTRARY, ROWS, SETTINGS, TEXTS, checkpoint, grow, lora, settings_with


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def base(request, tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("base") / request.param, request.param)


def sequences(base: str) -> list:
    fast = load_tokenizer(base, base)
    return [sequence for row in ROWS for sequence in encode(fast, row, 64)]


# Loss


def test_the_loss_at_labelled_positions_equals_that_of_full_logits():
    torch.manual_seed(0)
    hidden, head = torch.randn(3, 7, 8), torch.nn.Linear(8, 11, bias=False)
    labels = torch.randint(0, 11, (3, 7)).masked_fill(torch.rand(3, 7) < 0.5, -100)
    full = torch.nn.functional.cross_entropy(
        head(hidden)[:, :-1].reshape(-1, 11),
        labels[:, 1:].reshape(-1),
        ignore_index=-100,
        reduction="sum",
    )
    torch.testing.assert_close(token_nats(hidden, head, labels).sum(), full)


def test_a_padded_batch_costs_what_its_rows_cost_one_by_one(base):
    model, rows = models.load_weights(Path(base)).eval(), sequences(base)
    alone = [summed_nats(model, batches.pad([row], 0)).item() for row in rows]
    together = summed_nats(model, batches.pad(rows, 0)).item()
    assert together == pytest.approx(sum(alone), rel=1e-5)
    assert [nats for nats, _ in row_nats(model, rows, 5, 0)] == pytest.approx(alone, rel=1e-4)


def test_one_by_eight_and_eight_by_one_give_the_same_weights(base, inside):
    plain = SETTINGS.model_copy(
        update={"lora": lora(r=4, lora_alpha=8), "max_steps": 2, "eval_steps": 2}
    )
    states = []
    for micro, accumulation in [(8, 1), (1, 8)]:
        cut = plain.model_copy(
            update={
                "per_device_train_batch_size": micro,
                "gradient_accumulation_steps": accumulation,
            }
        )
        folder = inside / f"cut-{micro}"
        grow(
            base, base, folder, cut, rows=ROWS[:13]
        )  # the second step has 5 rows, so three of its micro-batches are empty
        states.append(models.model_for_answering(str(folder), base).state_dict())
    assert "2 steps of 8 x 1 rows\n" in Path("logs/cut-8.log").read_text()
    # Short rows share the longest one's room.
    assert re.search(
        r"2 steps of 1 x 8 rows, in [3-6]\.\d passes each\n", Path("logs/cut-1.log").read_text()
    )
    for name in states[0]:
        torch.testing.assert_close(states[0][name], states[1][name], rtol=1e-4, atol=1e-6)


# Chains


def test_a_child_starts_from_its_parents_exact_weights_and_its_own_schedule(base, inside):
    parent = grow(base, base, inside / "one")
    rows = sequences(base)
    before = row_nats(models.model_for_answering(parent, base), rows, 8, 0)
    wider = SETTINGS.model_copy(update={"lora": lora(r=6, lora_alpha=24)})
    for settings in (SETTINGS, wider):  # a higher rank and another scaling change no output either
        started = row_nats(models.model_for_training(base, parent, settings), rows, 8, 0)
        assert [nats for nats, _ in started] == pytest.approx(
            [nats for nats, _ in before], rel=1e-5
        )
    untuned = row_nats(models.load_weights(Path(base)), rows, 8, 0)
    assert sum(nats for nats, _ in started) < sum(nats for nats, _ in untuned)

    grow(base, parent, inside / "two")
    log = [json.loads(line) for line in Path("logs/two.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log if "train/loss" in record] == [1, 2, 3, 4, 5, 6]
    assert (inside / "two" / adapters.ADAPTER).read_bytes() != (
        inside / "one" / adapters.ADAPTER
    ).read_bytes()


def test_training_twice_writes_the_same_bytes_and_another_seed_others(base, inside):
    first, second = (Path(grow(base, base, inside / name)) for name in ("one", "two"))
    other = Path(grow(base, base, inside / "three", SETTINGS.model_copy(update={"seed": 7})))
    for name in (adapters.ADAPTER, model_folders.ADAPTER_CONFIG):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert (first / adapters.ADAPTER).read_bytes() != (other / adapters.ADAPTER).read_bytes()


def test_a_killed_training_goes_on_to_the_same_bytes(base, inside):
    whole = Path(grow(base, base, inside / "whole"))
    # As if killed after step 4: the checkpoints of a finished training without the last one.
    shutil.copytree(inside / "scratch-whole", inside / "scratch-resumed")
    shutil.rmtree(inside / "scratch-resumed" / "checkpoint-6")
    for state in (inside / "scratch-resumed").glob("*/trainer_state.json"):
        state.write_text(state.read_text().replace("scratch-whole", "scratch-resumed"))
        checkpoints.seal(state.parent)
    resumed = Path(grow(base, base, inside / "resumed"))
    assert "resumed at step 4" in Path("logs/resumed.log").read_text()
    assert (resumed / adapters.ADAPTER).read_bytes() == (whole / adapters.ADAPTER).read_bytes()


def test_tokenising_says_how_far_it_is(base, monkeypatch, capsys):
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr(progress_lines, "monotonic", lambda: next(clock))
    spec = Run(task="gec", corpus="gec-001", base=base, parent=base)
    parts = {"train": ROWS[:12], "valid": ROWS[:4]}
    encoded, _ = training_plan.encode_parts(load_tokenizer(base, base), spec, SETTINGS, parts)
    assert [len(of_part) for of_part in encoded.values()] == [12, 4]
    assert capsys.readouterr().err.splitlines() == [
        "tokenising train: 2 of 12 rows (17%), about 40 s left",
        "tokenising valid: 2 of 4 rows (50%), about 8 s left",
    ]


def test_an_adapter_folder_holds_the_peft_format_and_no_path_of_this_machine(base, inside):
    from peft import PeftModel

    folder = Path(grow(base, base, inside / "one"))
    assert sorted(path.name for path in folder.iterdir()) == [
        model_folders.ADAPTER_CONFIG,
        adapters.ADAPTER,
    ]
    loaded = PeftModel.from_pretrained(models.load_weights(Path(base)), str(folder))
    assert loaded.peft_config["default"].r == 4
    assert json.loads((folder / model_folders.ADAPTER_CONFIG).read_text())[
        "target_modules"
    ] == sorted(json.loads((folder / model_folders.ADAPTER_CONFIG).read_text())["target_modules"])


def test_full_training_writes_a_checkpoint_that_can_be_a_base(base, inside):
    full = grow(
        base,
        base,
        inside / "full",
        SETTINGS.model_copy(update={"method": "full", "learning_rate": 1e-3}),
    )
    assert not model_folders.is_adapter(Path(full))
    AutoTokenizer.from_pretrained(full)
    child = grow(full, full, inside / "child")
    assert model_folders.origin(Path(child)) == full


def test_early_stopping_keeps_the_best_and_not_the_last(base, inside):
    settings = SETTINGS.model_copy(
        update={"max_steps": 60, "early_stopping": EarlyStopping(patience=2, unit="evaluations")}
    )
    spec = Run(task="gec", corpus="gec-001", base=base, parent=base)
    trained = pytorch.train("early", spec, settings, ROWS[:16], CONTRARY, inside / "scratch")
    losses = {
        entry["step"]: entry["eval_loss"] for entry in trained.history if "eval_loss" in entry
    }
    assert trained.steps < 60
    assert trained.best_step == min(losses, key=lambda step: losses[step])
    valid = [
        sequence
        for row in CONTRARY
        for sequence in encode(trained.tokenizer, row, settings.max_length_tokens)
    ]
    sums = row_nats(trained.model, valid, 8, 0)
    assert sum(nats for nats, _ in sums) / sum(tokens for _, tokens in sums) == pytest.approx(
        losses[trained.best_step], rel=1e-4
    )


# Answers


def test_batched_answers_equal_those_given_one_by_one(base, inside):
    run = grow(base, base, inside / "one")
    settings = settings_with(generation={"max_new_tokens": 12})
    prompts = [row | {"messages": row["messages"][:-1]} for row in ROWS]
    together = pytorch.Answerer(run, base, settings).respond(prompts)
    single = pytorch.Answerer(
        run,
        base,
        settings_with(generation={"max_new_tokens": 12, "batch_size": 1}),
    )
    assert together == single.respond(prompts)
    assert len({*together}) > 1


def test_the_nats_of_a_text_do_not_depend_on_what_it_is_computed_beside(base):
    answerer = pytorch.Answerer(base, base, settings_with(max_length_tokens=16))
    rows = [
        {"id": str(n), "category": "", "source": "", "text": TEXTS[n % 4] * (n + 1)}
        for n in range(6)
    ]
    together = answerer.predict(rows)
    alone = [answerer.predict([row])[0] for row in rows]
    assert [nats for _, nats, *_ in together] == pytest.approx(
        [nats for _, nats, *_ in alone], rel=1e-5
    )
    assert [tokens for _, _, tokens, _ in together] == [
        len(answerer.tokenizer(row["text"])["input_ids"]) + 1 for row in rows
    ]


# Bad input


def test_what_does_not_fit_together_is_refused_with_the_remedy(base, inside):
    run = grow(base, base, inside / "one")
    narrower = SETTINGS.model_copy(update={"lora": lora(r=2, lora_alpha=8)})
    with pytest.raises(
        UserError,
        match=r"its adapter has lora.r 4, this run asks for 2; a child keeps what its parent learned: set 4",
    ):
        models.model_for_training(base, run, narrower)
    fewer = SETTINGS.model_copy(update={"lora": lora(r=4, lora_alpha=8, target_modules=["q_proj"])})
    with pytest.raises(
        UserError, match=r"this run asks for q_proj; set those, or start again from the base"
    ):
        models.model_for_training(base, run, fewer)
    with pytest.raises(
        UserError, match=r"an adapter cannot be a base; name the base it was grown on"
    ):
        model_folders.locate(run)
    other = checkpoint(inside / "other", "llama")
    with pytest.raises(
        UserError, match=r"this run's base is .*other; use that base or another parent"
    ):
        models.model_for_training(other, run, SETTINGS)
    with pytest.raises(UserError, match=r"full weights, not an adapter on"):
        models.model_for_training(base, other, SETTINGS)
    with pytest.raises(
        UserError,
        match=r"this architecture has down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj",
    ):
        models.model_for_training(
            base, base, SETTINGS.model_copy(update={"lora": lora(r=4, target_modules=["query"])})
        )
    (inside / "empty").mkdir()
    with pytest.raises(UserError, match=r"no config.json in it"):
        model_folders.locate(str(inside / "empty"))
    answer = {"role": "assistant", "content": "猫" * 30}
    long = [row | {"messages": [*row["messages"][:-1], answer]} for row in ROWS[:16]]
    short = SETTINGS.model_copy(update={"max_length_tokens": 8})
    with pytest.raises(
        UserError, match=r"no train row has an answer that fits max_length_tokens 8 \(16 rows\)"
    ):
        grow(base, base, inside / "long", short, long)


def test_a_loss_that_is_no_number_stops_at_its_step_and_writes_nothing(base, inside, monkeypatch):
    from stages.backends.pytorch import trainer

    real, calls = trainer.summed_nats, []
    monkeypatch.setattr(
        trainer,
        "summed_nats",
        lambda *a: (calls.append(1), real(*a) * (float("nan") if len(calls) == 3 else 1))[1],
    )
    with pytest.raises(
        UserError,
        match=r"step 3: the loss is nan; nothing was written. Lower learning_rate \(now 0.01\)",
    ):
        grow(base, base, inside / "one")
    assert not (inside / "one").exists()


def test_a_second_trainer_on_the_same_checkpoints_is_refused(inside, monkeypatch):
    monkeypatch.setattr(checkpoints, "WAIT_SECONDS", 1)
    with checkpoints.locked_folder("abc") as folder:
        assert folder.is_dir()
        with (
            pytest.raises(UserError, match=r"another process is training this run"),
            checkpoints.locked_folder("abc"),
        ):
            pass
    assert not folder.exists()


# Hub references


def test_one_that_waits_for_checkpoints_does_not_hinder_their_removal(inside, monkeypatch):
    """Two queued experiments that begin with the same training: the first failed at its end."""
    folder = Path(".scratch/abc")

    def removed(path: Path) -> None:
        """As shutil.rmtree, with another process that tries between any two of its steps."""
        for file in path.iterdir():
            file.unlink()
            waiting.append(checkpoints._locked(folder))
        path.rmdir()

    waiting: list = []
    monkeypatch.setattr(checkpoints.shutil, "rmtree", removed)
    with checkpoints.locked_folder("abc"):
        pass
    assert [path.name for path in Path(".scratch").iterdir()] == ["abc"]  # the other's now
    assert waiting[0] is not None
    waiting[0].close()


def test_whether_the_hub_may_be_asked_decides_no_byte_of_a_tokenizer(base, inside, monkeypatch):
    for offline in (False, True):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        tokenizer = load_tokenizer(base, base)
        model_folders.write_tokenizer(inside / str(offline), tokenizer)
    first, second = (inside / each / "tokenizer_config.json" for each in ("False", "True"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            '{"hub_id": "a/b", "revision": "main"}',
            "revision 'main' is not pinned; write the 40-digit commit hash",
        ),
        ('{"hub_id": "a/b"}', "a base reference is"),
        ("no json", "a base reference is"),
    ],
)
def test_a_reference_without_a_pinned_revision_is_refused(inside, content, says):
    (inside / "x.json").write_text(content)
    with pytest.raises(UserError, match=says):
        model_folders.locate("x.json")


def test_a_pinned_reference_is_loaded_from_the_hubs_cache(base, inside, monkeypatch):
    revision = "0123456789abcdef0123456789abcdef01234567"
    snapshot = inside / "hub" / "models--owner--name" / "snapshots" / revision
    shutil.copytree(base, snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(inside / "hub"))
    (inside / "name.json").write_text(json.dumps({"hub_id": "owner/name", "revision": revision}))
    run = grow("name.json", "name.json", inside / "one")
    assert model_folders.origin(Path(run)) == "name.json"
    assert model_folders.identity("name.json") == {"hub_id": "owner/name", "revision": revision}

    (inside / "absent.json").write_text(
        json.dumps({"hub_id": "owner/absent", "revision": revision})
    )
    with pytest.raises(UserError, match=r"owner/absent at 0123456789ab could not be had"):
        model_folders.locate("absent.json")


def test_a_share_of_the_rows_is_answered_by_their_hash_and_all_cost_what_they_cost(base):
    answerer = pytorch.Answerer(base, base, SETTINGS)
    rows = [row | {"id": f"{number}"} for number, row in enumerate(ROWS)]
    whole = answerer.predict(rows)
    few = SETTINGS.generation.model_copy(update={"answered_share": 0.4})
    answerer.settings = SETTINGS.model_copy(update={"generation": few})
    part = answerer.predict(rows)
    assert [(answer.nats, answer.tokens) for answer in part] == [
        (answer.nats, answer.tokens) for answer in whole
    ]
    answered = {row["id"] for row, answer in zip(rows, part, strict=True) if answer.answer}
    assert 0 < len(answered) < len(rows)
    again = answerer.predict(rows[5:12])  # whatever else is asked with it
    assert [answer.answer for answer in again] == [answer.answer for answer in part[5:12]]
    for row, answer in zip(rows, part, strict=True):
        assert (digest(row["id"]) / 2**64 < 0.4) == (row["id"] in answered) or not answer.answer
