"""W6. One optimizer step of QLoRA, of two large models on a CUDA device and of two small ones
anywhere: the same checkpoint, rows, settings and steps. The smaller one has matrices so small that
what is left is the processor's own work for a step, which a fast card waits for.

Rows are conversations of 70 to 500 tokens, a third of them answer. Both sides train on the same 64
rows; tokens are the rows' own, padding left out, over the steps after the second. Memory is what
PyTorch reserved of the device, else the process's. The share is of the rate that products of square
matrices reach here, and counts each weight of the layers once forward and once for the gradient of
what it was multiplied by: not what checkpointing computes again, nor attention, adapters and the
head."""

import itertools
import json
import os
import random
import shutil
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.turns import Work, Workload
from stages.entries import Run
from stages.params import load_params
from stages.settings import Options
from stages.text.chat import encode

SMALL = ("qwen3-1m", "qwen3-250m")
# Whose preset each shape is trained with.
SHAPES = dict.fromkeys((*SMALL, "llama-3.2-3b"), "llama-3.2-3b") | {"mistral-7b": "mistral-7b"}
STEPS, MICRO, ACCUMULATION = 8, 2, 4
THREADS = os.cpu_count() or 1


def make(folder: Path, architecture: str) -> None:
    from bench import memory

    memory.make(folder / "base", architecture)


def rows() -> list[Any]:
    rng = random.Random(1)
    words = ["quick", "brown", "fox", "lazy", "dog", "jumps", "over"]

    def text(tokens: int) -> str:
        return " ".join(rng.choice(words) for _ in range(tokens))

    made = []
    for number in range(STEPS * MICRO * ACCUMULATION):
        length = rng.randrange(64, 480)
        messages = [
            {"role": "user", "content": text(2 * length // 3)},
            {"role": "assistant", "content": text(length // 3)},
        ]
        made.append({"id": str(number), "category": "", "source": "", "messages": messages})
    return made


def options(architecture: str) -> Options:
    from stages.backends.shared.devices import device
    from stages.backends.shared.precision import settled

    short = {
        "threads": THREADS,
        "exact": "machine",
        "max_steps": STEPS,
        "eval_steps": STEPS,
        "logging_steps": 1,
        "warmup_steps": 0,
        "memory_limit_mb": 0,
    }
    short |= {
        "per_device_train_batch_size": MICRO,
        "gradient_accumulation_steps": ACCUMULATION,
        "num_train_epochs": 1,
    }
    chosen = load_params().options(["card-8gb", SHAPES[architecture]], short)
    return settled(chosen, device("auto"))


def work(base: str, precision: str, tokens: float, seconds: float, loss: float) -> Work:
    import torch

    reserved = torch.cuda.max_memory_reserved() / 2**20 if torch.cuda.is_available() else 0.0
    share = tokens / seconds * flop_a_token(base) / peak(precision)
    return Work(
        tokens,
        seconds,
        reserved,
        {"mean loss": round(loss, 4)},
        {f"share of the {precision} peak": share},
    )


def flop_a_token(base: str) -> int:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        layers = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base)).get_decoder()
    return 4 * sum(
        module.weight.numel() for module in layers.modules() if isinstance(module, torch.nn.Linear)
    )


def peak(precision: str) -> float:
    """FLOP/s of products of square matrices on the device, the best of ten."""
    import torch

    device, size, wait = (
        ("cuda", 8192, torch.cuda.synchronize)
        if torch.cuda.is_available()
        else ("cpu", 2048, lambda: None)
    )
    matrix, seconds = torch.ones((size, size), dtype=getattr(torch, precision), device=device), []
    for _ in range(10):
        wait()
        begun = time.monotonic()
        matrix @ matrix
        wait()
        seconds.append(time.monotonic() - begun)
    return 2 * size**3 / min(seconds)


def ours(folder: Path, architecture: str) -> Work:
    from stages.backends.pytorch import backend as pytorch
    from stages.backends.pytorch import trainer

    trainer.LabelledTrainer._save_checkpoint = lambda *_, **__: None  # type: ignore[assignment]
    base, chosen, scratch = str(folder / "base"), options(architecture), folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    Path("logs/bench.jsonl").unlink(missing_ok=True)
    spec = Run(task="lm", corpus="lm-001", base=base, parent=base)
    trained = pytorch.train("bench", spec, chosen, rows(), rows()[:1], scratch)
    records = [json.loads(line) for line in Path("logs/bench.jsonl").read_text().splitlines()]
    logged = [record for record in records if "tokens_per_second" in record]
    spans = [
        after["timestamp"] - before["timestamp"] for before, after in itertools.pairwise(logged)
    ][1:]
    tokens = [
        record["tokens_per_second"] * span for record, span in zip(logged[2:], spans, strict=True)
    ]
    losses = [entry["loss"] for entry in trained.history if "loss" in entry]
    return work(base, chosen.precision, sum(tokens), sum(spans), statistics.mean(losses))


def trl(folder: Path, architecture: str) -> Work:
    """SFTTrainer as its documentation has QLoRA: prompt and completion, the loss on the completion,
    no packing."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        BitsAndBytesConfig,
        TrainerCallback,
    )
    from trl import SFTConfig, SFTTrainer

    base, chosen = str(folder / "base"), options(architecture)
    tokenizer = AutoTokenizer.from_pretrained(base)
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, chosen.precision),
    )
    where = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(THREADS)
    model = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=getattr(torch, chosen.precision),
        quantization_config=four_bits,
        device_map={"": where},
    )
    data = [{"prompt": row["messages"][:1], "completion": row["messages"][1:]} for row in rows()]
    lengths = [len(encode(tokenizer, row, chosen.max_length_tokens)[0].ids) for row in rows()]
    arguments = SFTConfig(
        output_dir=str(folder / "trl"),
        max_steps=STEPS,
        per_device_train_batch_size=MICRO,
        gradient_accumulation_steps=ACCUMULATION,
        gradient_checkpointing=True,
        bf16=chosen.precision == "bfloat16",
        learning_rate=chosen.learning_rate,
        lr_scheduler_type=chosen.lr_scheduler_type,
        optim=chosen.optim if where == "cuda" else "adamw_torch_fused",
        use_cpu=where == "cpu",
        max_length=chosen.max_length_tokens,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        dataloader_drop_last=False,
    )
    seconds: list[float] = []
    wait = torch.cuda.synchronize if where == "cuda" else lambda: None

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            wait()
            self.begun = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            wait()
            seconds.append(time.monotonic() - self.begun)

    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", **chosen.lora.model_dump()),
        callbacks=[Clock()],
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return work(
        base,
        chosen.precision,
        sum(lengths) * (STEPS - 2) / STEPS,
        sum(seconds[2:]),
        statistics.mean(losses),
    )


WORKLOADS = {
    f"qlora-{architecture}": Workload(
        f"QLoRA steps of {architecture}, {MICRO} x {ACCUMULATION} rows",
        "tokens",
        partial(make, architecture=architecture),
        {
            "ours": partial(ours, architecture=architecture),
            "TRL": partial(trl, architecture=architecture),
        },
        {"TRL": 1.2},
        memory_goal=1.0,
        tolerance={"mean loss": 0.05},
        needs_cuda=architecture not in SMALL,
    )
    for architecture in SHAPES
}
