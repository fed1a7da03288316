"""W1. A LoRA fine-tuning: 1,500 correction pairs on a base of 26 million parameters with a
vocabulary of 32,000.

Timed from rows in memory and a base on disk to the trained adapter: loading, tokenising and every
step. All sides train the same rows once, 16 a step, with the same adapter, learning rate and
schedule, in the precision that the device computes natively, on completions only. Then one measure, ours, gives each side's loss
on the same held-out rows.
"""

import math
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from bench.turns import Work, Workload, first_rows
from stages.entries import Run
from stages.params import load_params
from stages.records import Row, read_rows
from stages.settings import Options

ROWS, HELD_OUT, BATCH, THREADS = 1500, 200, 16, 2


def make(folder: Path) -> None:
    """The base, random, with the demo's tokenizer, and the first rows of the default graph's second
    corrections.
    """
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    base = folder / "base"
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=32_000, hidden_size=384, intermediate_size=1152, num_hidden_layers=8, num_attention_heads=6,
        num_key_value_heads=3, head_dim=64, tie_word_embeddings=True, max_position_embeddings=1024,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters")
    model.save_pretrained(base)
    AutoTokenizer.from_pretrained("models/bases/tiny").save_pretrained(base)
    for part, wanted in (("train", ROWS), ("valid", HELD_OUT)):
        first_rows(Path("data/mixed/gec-002", f"{part}.jsonl"), folder / f"{part}.jsonl", wanted)


@cache
def options(batch: int = BATCH, limit: int = 192) -> Options:
    from stages.backends.shared.devices import device
    from stages.backends.shared.precision import settled

    chosen = {
        "per_device_train_batch_size": batch,
        "max_length_tokens": limit,
        "num_train_epochs": 1,
        "learning_rate": 1e-3,
        "eval_steps": 0,
        "threads": THREADS,
        "exact": "machine",
    }
    return settled(load_params().options([], chosen), device("auto"))


def load(folder: Path) -> tuple[list[Row], list[Row]]:
    return read_rows(folder / "train.jsonl"), read_rows(folder / "valid.jsonl")


def report(work: Work, folder: Path, model: Any, labels: float, limit: int = 192) -> Work:
    """Labelled tokens trained on, and the loss on held-out rows, in float32."""
    from stages.backends.pytorch.loss import row_nats
    from stages.backends.shared.tokenizers import load_tokenizer
    from stages.text.chat import encode

    tokenizer = load_tokenizer(str(folder / "base"), str(folder / "base"))
    sequences = [sequence for row in load(folder)[1] for sequence in encode(tokenizer, row, limit)]
    model.eval().float()
    sums = row_nats(model, sequences, BATCH, tokenizer.pad_token_id)
    loss = math.fsum(nats for nats, _ in sums) / sum(tokens for _, tokens in sums)
    work.done = len(load(folder)[0])
    work.same = {"labelled tokens": labels, "held-out loss": round(loss, 4)}
    return work


def ours(folder: Path, **chosen: int) -> Work:
    from stages.backends.pytorch import backend as pytorch
    from stages.backends.pytorch import fit  # noqa: F401 - imported before the clock starts
    from stages.text.chat import encode

    train, valid = load(folder)
    base, work = str(folder / "base"), Work()
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    spec = Run(task="gec", corpus="gec-002", base=base, parent=base)
    # it also looks at a validation row, once, and writes a checkpoint: a training without is not
    # offered
    settings = options(**chosen)
    with work.timed():
        trained = pytorch.train("bench", spec, settings, train, valid[:1], folder / "checkpoints")
    encoded = [
        sequence
        for row in train
        for sequence in encode(trained.tokenizer, row, settings.max_length_tokens)
    ]
    return report(
        work,
        folder,
        trained.model,
        sum(len(row.ids) - row.given for row in encoded),
        settings.max_length_tokens,
    )


def shared(folder: Path, chosen: Options) -> dict[str, Any]:
    """The Trainer's arguments that make the other sides' work the same."""
    batch = chosen.per_device_train_batch_size
    steps = math.ceil(len(load(folder)[0]) / batch)
    return {
        "output_dir": str(folder / "theirs"),
        "num_train_epochs": 1,
        "per_device_train_batch_size": batch,
        "learning_rate": chosen.learning_rate,
        "lr_scheduler_type": chosen.lr_scheduler_type,
        "warmup_steps": min(chosen.warmup_steps, steps),
        "weight_decay": chosen.weight_decay,
        "max_grad_norm": chosen.max_grad_norm,
        "seed": chosen.seed,
        "bf16": chosen.precision == "bfloat16",
        "use_cpu": True,
        "logging_steps": 25,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


def trl(folder: Path, batch: int = BATCH, limit: int = 192, **more: Any) -> Work:
    """SFTTrainer as its documentation has it: the model by its path, prompt and completion,
    everything else its default.
    """
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(THREADS)
    data, _ = load(folder)
    pairs = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in data]
    chosen = (
        shared(folder, options(batch, limit))
        | {"max_length": limit, "gradient_checkpointing": False}
        | more
    )
    work = Work()
    with work.timed():
        trainer = SFTTrainer(
            model=str(folder / "base"),
            args=SFTConfig(**chosen),
            train_dataset=Dataset.from_list(pairs),
            peft_config=LoraConfig(task_type="CAUSAL_LM", **options().lora.model_dump()),
        )
        trainer.train()
    labels = trainer.train_dataset["labels"]
    return report(
        work, folder, trainer.model, sum(label != -100 for row in labels for label in row), limit
    )


def packed(folder: Path) -> Work:
    """The same with packing, and as many rows a step as the others have in as many tokens."""
    from transformers import AutoTokenizer

    from stages.text.chat import encode

    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    limit = options().max_length_tokens
    tokens = sum(
        len(sequence.ids) for row in load(folder)[0] for sequence in encode(tokenizer, row, limit)
    )
    return trl(
        folder, packing=True, per_device_train_batch_size=round(BATCH * tokens / ROWS / limit)
    )


def plain(folder: Path) -> Work:
    """transformers' Trainer and PEFT, with the labels of this project and the collator that pads
    them.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainingArguments,
    )

    from stages.text.chat import encode

    torch.set_num_threads(THREADS)
    data, _ = load(folder)
    work = Work()
    with work.timed():
        tokenizer = AutoTokenizer.from_pretrained(folder / "base")
        encoded = [
            sequence
            for row in data
            for sequence in encode(tokenizer, row, options().max_length_tokens)
        ]
        dataset = [
            {"input_ids": row.ids, "labels": [-100] * row.given + row.ids[row.given :]}
            for row in encoded
        ]
        weights = AutoModelForCausalLM.from_pretrained(folder / "base")
        model = get_peft_model(
            weights, LoraConfig(task_type="CAUSAL_LM", **options().lora.model_dump())
        )
        arguments = TrainingArguments(**shared(folder, options()))
        collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
        Trainer(model=model, args=arguments, train_dataset=dataset, data_collator=collator).train()
    return report(work, folder, model, sum(len(row.ids) - row.given for row in encoded))


WORKLOADS = {
    "finetune": Workload(
        "LoRA on a base of 26 million parameters, 1,500 pairs, rank 16 on all linear layers, 16 "
        "rows a step, one epoch",
        "examples",
        make,
        {"ours": ours, "TRL": trl, "TRL, packing": packed, "Trainer": plain},
        {"TRL": 4.0},
        memory_goal=0.7,
        tolerance={"labelled tokens": 0.0, "held-out loss": 0.1},
    ),
}
