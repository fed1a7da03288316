"""What a training tells, and what other trainers make of the rows that it reads."""

import json
import re
import shutil
from pathlib import Path

import pytest

from stages.backends.pytorch import backend as pytorch
from stages.backends.shared.tokenizers import load_tokenizer
from stages.entries import Run
from stages.settings import EarlyStopping
from stages.text.chat import encode
from tests.tiny import ROWS, SETTINGS, checkpoint


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("base") / "qwen3", "qwen3")


def train(
    base: str, report_to: tuple[str, ...] = (), rows: list | None = None, **changes: object
) -> pytorch.Trained:
    spec = Run(task="gec", corpus="gec-001", base=base, parent=base)
    settings = SETTINGS.model_copy(update=changes)
    return pytorch.train(
        "gec-001", spec, settings, rows or ROWS[:16], ROWS[16:], Path("scratch"), report_to
    )


def test_a_training_is_told_to_tensorboard_and_without_an_account_to_an_offline_wandb(
    base, inside, monkeypatch
):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(base, ("tensorboard", "wandb"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next(Path("logs/tensorboard/gec-001").rglob("events*")).parent))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert len(list(Path("logs/wandb").glob("offline-run-*/*.wandb"))) == 1


def test_each_report_has_loss_rate_speed_and_perplexity_as_a_line_and_as_a_record(base, inside):
    train(base)
    lines = Path("logs/gec-001.log").read_text().splitlines()
    pattern = r"Iter 3/6: Train loss [\d.]+, ppl [\d.]+, Learning Rate [\d.e-]+, It/sec [\d.]+, Tokens/sec \d+"
    assert len([line for line in lines if re.fullmatch(pattern, line)]) == 1
    assert any(line.startswith("Iter 4/6: Val loss") and ", ppl " in line for line in lines)
    records = [json.loads(line) for line in Path("logs/gec-001.jsonl").read_text().splitlines()]
    assert all("timestamp" in record for record in records)
    assert {"step", "train/loss", "train/learning_rate", "tokens_per_second"} <= set(records[2])
    assert any({"step", "val/loss"} <= set(record) for record in records)


def test_a_gap_between_training_and_validation_is_warned_of_once_with_its_figures(base, inside):
    train(base, rows=[ROWS[3]] * 16, max_steps=40, eval_steps=4, learning_rate=5e-2)
    warnings = [
        line
        for line in Path("logs/gec-001.log").read_text().splitlines()
        if line.startswith("overfitting")
    ]
    assert len(warnings) == 1
    assert " above training loss " in warnings[0]
    assert (
        "the best weights are kept. Fewer epochs, more data, a lower rank or more dropout close "
        "the gap" in warnings[0]
    )


def test_patience_is_counted_in_evaluations_or_in_epochs(base, inside):
    rows = [ROWS[3]] * 16  # 4 steps an epoch
    steps = {}
    for unit in ("evaluations", "epochs"):
        patience = EarlyStopping(patience=2, unit=unit)
        steps[unit] = train(
            base,
            rows=rows,
            max_steps=400,
            eval_steps=1,
            learning_rate=5e-2,
            early_stopping=patience,
        )
        shutil.rmtree("scratch")
    assert steps["evaluations"].best_step + 2 == steps["evaluations"].steps
    assert steps["epochs"].best_step + 8 == steps["epochs"].steps


@pytest.mark.filterwarnings(
    "ignore:`gradient_checkpointing` is deprecated:FutureWarning"
)  # TRL 1.16 under transformers 5.23
def test_trl_reads_the_prepared_rows_and_makes_the_same_tokens_of_them(base, inside):
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    Path("train.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    )
    data = load_dataset("json", data_files="train.jsonl", split="train", cache_dir="cache")
    tokenizer = load_tokenizer(base, base)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=SFTConfig(output_dir="trl", report_to=[], use_cpu=True, bf16=False, max_length=128),
        train_dataset=data.select_columns(["messages"]),
        processing_class=tokenizer,
    )
    ours = [encode(tokenizer, row, 128)[0].ids for row in ROWS]
    assert [list(row["input_ids"]) for row in trainer.train_dataset] == ours
