"""One optimizer step of QLoRA, ours beside TRL's, on a CUDA device: the same checkpoint, rows, settings and steps, in turn.

    python -m bench.qlora_step FOLDER             Llama-3.2-3B and Mistral-7B shapes, as bench/qlora_step.csv

Rows are conversations of 128 to 1,024 tokens, a third of them answer. Both sides train A B A B on the same 64 rows; tokens/s
counts the rows' own tokens, padding left out, over the steps after the second.
"""

import csv
import itertools
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bench import memory
from stages import settings
from stages.backends import fitting, pytorch
from stages.settings import Run, Settings
from stages.text.chat import encode

SHAPES = {"llama-3.2-3b": "llama-3.2-3b-8gb", "mistral-7b": "mistral-7b-8gb"}
STEPS, MICRO, ACCUMULATION, ROUNDS = 8, 2, 4, 2


def main(folder: Path) -> None:
    records = []
    for architecture in SHAPES:
        base = folder / architecture
        memory.make(base, architecture)
        for turn in range(ROUNDS):
            for side in ("ours", "trl"):
                command = [sys.executable, "-m", "bench.qlora_step", side, architecture, str(base)]
                done = subprocess.run(command, capture_output=True, text=True)
                last = (done.stdout.strip().splitlines() or [""])[-1]
                record = json.loads(last) if last.startswith("{") else {"error": done.stderr[-400:]}
                records.append({"architecture": architecture, "side": side, "round": turn} | record)
                print(json.dumps(records[-1]), flush=True)
        shutil.rmtree(base)
    columns = ("architecture", "side", "round", "tokens_per_second", "allocated_mb", "reserved_mb", "loss", "error")
    with Path("bench/qlora_step.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def rows() -> list[Any]:
    rng = random.Random(1)
    words = ["quick", "brown", "fox", "lazy", "dog", "jumps", "over"]

    def text(tokens: int) -> str:
        return " ".join(rng.choice(words) for _ in range(tokens))

    made = []
    for number in range(STEPS * MICRO * ACCUMULATION):
        length = rng.randrange(64, 480)
        messages = [{"role": "user", "content": text(2 * length // 3)}, {"role": "assistant", "content": text(length // 3)}]
        made.append({"id": str(number), "category": "", "source": "", "messages": messages})
    return made


def options(architecture: str) -> Settings:
    short = {"threads": 8, "max_steps": STEPS, "eval_steps": STEPS, "logging_steps": 1, "warmup_steps": 0, "memory_limit_mb": 0}
    short |= {"per_device_train_batch_size": MICRO, "gradient_accumulation_steps": ACCUMULATION, "num_train_epochs": 1}
    return Settings.model_validate(settings.load().presets[SHAPES[architecture]] | short)


def figures(tokens: float, seconds: float, loss: float) -> dict[str, Any]:
    return {
        "tokens_per_second": round(tokens / seconds),
        "allocated_mb": round(torch.cuda.max_memory_allocated() / 2**20),
        "reserved_mb": round(torch.cuda.max_memory_reserved() / 2**20),
        "loss": round(loss, 4),
    }


def ours(architecture: str, base: str) -> dict[str, Any]:
    fitting.LabelledTrainer._save_checkpoint = lambda *_, **__: None  # type: ignore[assignment]
    chosen, scratch = options(architecture), Path(base).parent / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    Path("logs/bench.jsonl").unlink(missing_ok=True)
    spec = Run(task="lm", corpus="lm-001", base=base, parent=base)
    trained = pytorch.train("bench", spec, chosen, rows(), rows()[:1], scratch)
    records = [json.loads(line) for line in Path("logs/bench.jsonl").read_text().splitlines()]
    logged = [record for record in records if "tokens_per_second" in record]
    spans = [after["timestamp"] - before["timestamp"] for before, after in itertools.pairwise(logged)][1:]
    tokens = [record["tokens_per_second"] * span for record, span in zip(logged[2:], spans, strict=True)]
    losses = [entry["loss"] for entry in trained.history if "loss" in entry]
    return figures(sum(tokens), sum(spans), statistics.mean(losses))


def trl(architecture: str, base: str) -> dict[str, Any]:
    """SFTTrainer as its documentation has QLoRA: prompt and completion, the loss on the completion, no packing."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    chosen = options(architecture)
    tokenizer = AutoTokenizer.from_pretrained(base)
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.bfloat16, quantization_config=four_bits, device_map={"": "cuda"}
    )
    data = [{"prompt": row["messages"][:1], "completion": row["messages"][1:]} for row in rows()]
    lengths = [len(encode(tokenizer, row, chosen.max_length_tokens)[0].ids) for row in rows()]
    arguments = SFTConfig(
        output_dir=str(Path(base).parent / "trl"),
        max_steps=STEPS,
        per_device_train_batch_size=MICRO,
        gradient_accumulation_steps=ACCUMULATION,
        gradient_checkpointing=True,
        bf16=True,
        learning_rate=chosen.learning_rate,
        lr_scheduler_type=chosen.lr_scheduler_type,
        optim=chosen.optim,
        max_length=chosen.max_length_tokens,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        dataloader_drop_last=False,
    )
    seconds: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            self.begun = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
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
    return figures(sum(lengths) * (STEPS - 2) / STEPS, sum(seconds[2:]), statistics.mean(losses))


if __name__ == "__main__":
    if sys.argv[1] in ("ours", "trl"):
        print(json.dumps({"ours": ours, "trl": trl}[sys.argv[1]](*sys.argv[2:4])))
    else:
        main(Path(sys.argv[1]))
