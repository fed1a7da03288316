"""W2. Pretraining: the base, settings and first rows of the default graph's lm-001, one epoch.

Tokens are the rows' own, padding left out. The padded side trains on the same rows in the Trainer's
random order. The concatenated side joins the documents with an end token between them and cuts
blocks of 192 tokens, as transformers' own example does: nothing is padded, its documents see each
other, and its rows are not the others'."""

import itertools
import math
import shutil
from pathlib import Path
from typing import Any

from bench.turns import Work, Workload, first_rows
from stages import stage_config
from stages.entries import Run
from stages.records import read_rows
from stages.settings import Settings
from stages.text.chat import Encoded

ROWS, HELD_OUT, THREADS = 8_000, 500, 2
BASE = "models/bases/tiny"


def make(folder: Path) -> None:
    for part, wanted in (("train", ROWS), ("valid", HELD_OUT)):
        first_rows(Path("data/mixed/lm-001", f"{part}.jsonl"), folder / f"{part}.jsonl", wanted)


def options() -> Settings:
    from stages.backends.shared.devices import device
    from stages.backends.shared.precision import settled

    chosen = {"num_train_epochs": 1.0, "eval_steps": 0, "threads": THREADS, "exact": "machine"}
    whole = Settings.model_validate(stage_config.load("train", "lm-001")["settings"])
    return settled(whole.model_copy(update=chosen), device("auto"))


def encoded(folder: Path, part: str) -> list[Encoded]:
    from stages.backends.shared.tokenizers import load_tokenizer
    from stages.text.chat import encode

    tokenizer, limit = load_tokenizer(BASE, BASE), options().max_length_tokens
    return [
        sequence
        for row in read_rows(folder / f"{part}.jsonl")
        for sequence in encode(tokenizer, row, limit)
    ]


def report(work: Work, folder: Path, model: Any, tokens: int) -> Work:
    """Tokens a second, and the loss on held-out rows, each by itself, in float32."""
    from stages.backends.pytorch.loss import row_nats

    sums = row_nats(model.eval().float(), encoded(folder, "valid"), 64, 0)
    loss = math.fsum(nats for nats, _ in sums) / sum(tokens for _, tokens in sums)
    work.done, work.same = tokens, {"tokens": tokens, "held-out loss": round(loss, 4)}
    return work


def ours(folder: Path) -> Work:
    from stages.backends.pytorch import backend as pytorch
    from stages.backends.pytorch import fit  # noqa: F401 - imported before the clock starts

    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    spec, work = Run(task="lm", corpus="lm-001", base=BASE, parent=BASE), Work()
    train, valid = read_rows(folder / "train.jsonl"), read_rows(folder / "valid.jsonl")[:1]
    with work.timed():
        trained = pytorch.train("bench", spec, options(), train, valid, folder / "checkpoints")
    return report(
        work, folder, trained.model, sum(len(row.ids) for row in encoded(folder, "train"))
    )


def trainer(folder: Path, concatenated: bool) -> Work:
    """transformers' Trainer; its defaults but for what makes the work the same."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainingArguments,
    )

    chosen, work = options(), Work()
    torch.set_num_threads(THREADS)
    with work.timed():
        torch.manual_seed(chosen.seed)
        tokenizer = AutoTokenizer.from_pretrained(BASE)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        sequences = [row.ids for row in encoded(folder, "train")]
        tokens = sum(map(len, sequences))
        batch = chosen.per_device_train_batch_size
        steps = math.ceil(len(sequences) / batch)
        if concatenated:
            stream, block = list(itertools.chain.from_iterable(sequences)), chosen.max_length_tokens
            sequences = [stream[at : at + block] for at in range(0, len(stream) - block + 1, block)]
            batch = max(1, round(len(sequences) / steps))  # as many tokens a step
        arguments = TrainingArguments(
            output_dir=str(folder / "theirs"), num_train_epochs=1, per_device_train_batch_size=batch,
            learning_rate=chosen.learning_rate, lr_scheduler_type=chosen.lr_scheduler_type, warmup_steps=chosen.warmup_steps,
            adam_beta2=chosen.adam_beta2, weight_decay=chosen.weight_decay, max_grad_norm=chosen.max_grad_norm,
            seed=chosen.seed, bf16=chosen.precision == "bfloat16", use_cpu=True, logging_steps=25, save_strategy="no", report_to=[], disable_tqdm=True,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(BASE)
        dataset = [{"input_ids": ids} for ids in sequences]
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
        Trainer(model=model, args=arguments, train_dataset=dataset, data_collator=collator).train()
    return report(work, folder, model, tokens)


def padded(folder: Path) -> Work:
    return trainer(folder, concatenated=False)


def concatenated(folder: Path) -> Work:
    return trainer(folder, concatenated=True)


WORKLOADS = {
    "pretrain": Workload(
        "pretraining the default lm-001, one epoch of 8,000 rows",
        "tokens",
        make,
        {"ours": ours, "Trainer, padded": padded, "Trainer, concatenated": concatenated},
        {"Trainer, padded": 1.5, "Trainer, concatenated": 1.5},
        tolerance={"held-out loss": 0.1},
    ),
}
