"""What training really takes, beside what was planned: random weights, and rows of the greatest length.

    python -m bench.memory FOLDER                 every case below: presets at full size on a CUDA device (bench/memory.csv),
                                                  small models on a CPU (bench/memory_cpu.csv)
    python -m bench.memory FOLDER mistral-7b      the cases of one architecture

FOLDER takes the random checkpoints, up to 17 GB at a time. Every labelled position counts: the rows are plain text, so no
step of a real corpus makes more logits. A case runs in a process of its own; its figures are PyTorch's peaks over six steps
and an evaluation, and what the device as a whole has given away; on a CPU, the largest resident set of the process.
"""

import csv
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from stages.backends.pytorch import attention, trainer
from stages.backends.pytorch import backend as pytorch
from stages.backends.shared import memory, model_folders
from stages.entries import Run
from stages.params import load_params
from stages.settings import Options, Settings
from stages.text import tokenizer

LLAMA_3 = {"model_type": "llama", "vocab_size": 128256, "num_key_value_heads": 8, "rope_theta": 5e5}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama-3.2-3b": LLAMA_3 | {
        "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24, "head_dim": 128,
        "tie_word_embeddings": True,
    },
    "llama-3-8b": LLAMA_3 | {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    },
    "mistral-7b": {
        "model_type": "mistral", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "sliding_window": None,
    },
    "qwen3-4b": {
        "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True,
    },
    "pretrain-200m": {
        "model_type": "llama", "vocab_size": 8000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "llama-100m": {
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12,
        "num_attention_heads": 12, "num_key_value_heads": 4, "tie_word_embeddings": True,
    },
    "qwen3-1m": {
        "model_type": "qwen3", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 16,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True,
    },
    "qwen3-250m": {
        "model_type": "qwen3", "vocab_size": 32000, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 16,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": True,
    },
}  # fmt: skip
# (architecture, presets, changes)
CUDA: list[tuple[str, str, dict[str, Any]]] = [
    ("llama-3.2-3b", "card-8gb llama-3.2-3b", {"memory_limit_mb": 5000}),
    ("llama-3.2-3b", "card-8gb llama-3.2-3b", {"max_length_tokens": 2048}),
    ("llama-3.2-3b", "card-8gb generic", {}),
    ("llama-3-8b", "card-8gb llama-3-8b", {}),
    (
        "llama-3-8b",
        "card-8gb llama-3-8b",
        {"per_device_train_batch_size": 2, "memory_limit_mb": 0},
    ),
    ("mistral-7b", "card-8gb mistral-7b", {}),
    (
        "mistral-7b",
        "card-8gb mistral-7b",
        {"gradient_checkpointing": False, "memory_limit_mb": 0},
    ),
    ("qwen3-4b", "reward-4b-lora", {}),
    ("qwen3-4b", "reward-4b-full", {}),
    ("pretrain-200m", "pretrain-200m", {}),
]


def shape(rows: int, tokens: int) -> dict[str, Any]:
    return {"per_device_train_batch_size": rows, "max_length_tokens": tokens}


ON_CPU = {
    "memory_limit_mb": 0,
    "optim": "adamw_torch",
    "precision": "float32",
    "gradient_checkpointing": False,
}
CPU: list[tuple[str, str, dict[str, Any]]] = [
    ("llama-100m", "lora-medium", ON_CPU | shape(4, 256)),
    ("llama-100m", "lora-medium", ON_CPU | shape(4, 512) | {"precision": "bfloat16"}),
    ("llama-100m", "pretrain-200m", ON_CPU | shape(2, 512)),
    ("llama-100m", "lora-medium", ON_CPU | shape(8, 512) | {"gradient_checkpointing": True}),
    ("qwen3-250m", "lora-medium", ON_CPU | shape(2, 512)),
    ("qwen3-250m", "pretrain-200m", ON_CPU | shape(1, 256)),
]
WHERE = "cuda" if torch.cuda.is_available() else "cpu"
CASES, TABLE = {"cuda": (CUDA, "bench/memory.csv"), "cpu": (CPU, "bench/memory_cpu.csv")}[WHERE]
COLUMNS = (
    "architecture", "presets", "changed", "method", "rows", "tokens", "checkpointing", "limit_mb", "planned_mb", "loaded_mb",
    "allocated_mb", "reserved_mb", "device_mb", "resident_mb", "tokens_per_second", "error",
)  # fmt: skip
STEPS = 6 if torch.cuda.is_available() else 2


def main(folder: Path, wanted: str | None) -> None:
    records = []
    for architecture in dict.fromkeys(of for of, _, _ in CASES if wanted in (None, of)):
        base = folder / architecture
        # In a process of its own: those that follow would begin with this one's largest resident set.
        subprocess.run(
            [sys.executable, "-m", "bench.memory", "--make", architecture, str(base)], check=True
        )
        for number, (of, _, _) in enumerate(CASES):
            if of == architecture:
                command = [sys.executable, "-m", "bench.memory", "--case", str(number), str(base)]
                done = subprocess.run(command, capture_output=True, text=True)
                last = (done.stdout.strip().splitlines() or [""])[-1]
                record = json.loads(last) if last.startswith("{") else failed(number, done.stderr)
                records.append(record)
                print(json.dumps(record), flush=True)
        shutil.rmtree(base)
    with Path(TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def make(folder: Path, architecture: str) -> None:
    """A random checkpoint in bfloat16; its tokenizer knows few of the vocabulary's tokens, which changes no shape."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    fast = tokenizer.train(
        ["the quick brown fox jumps over the lazy dog 0123456789"] * 9, 300, "gpt2"
    )
    shape = ARCHITECTURES[architecture]
    config = AutoConfig.for_model(
        **shape, max_position_embeddings=8192, eos_token_id=fast.eos_token_id
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model_folders.write_weights(folder, model, fast)
    del model
    torch.cuda.empty_cache()


def chosen(number: int) -> Options:
    _, presets, changed = CASES[number]
    short = {"threads": 8 if torch.cuda.is_available() else 2}
    short |= {"max_steps": STEPS, "eval_steps": STEPS, "logging_steps": 1, "warmup_steps": 2}
    short |= {"gradient_accumulation_steps": 1, "learning_rate": 1e-5}
    return load_params().options(presets.split(), short | changed)


def case(number: int, base: str) -> dict[str, Any]:
    """The figures of one training."""
    options = chosen(number)
    words = " ".join(f"the quick brown fox {n}" for n in range(options.max_length_tokens))
    row: Any = {"id": "0", "category": "", "source": ""}
    if "reward" in CASES[number][1]:
        steps = words.split(" the")
        row |= {"prompt": "how?", "completions": steps, "labels": [1.0] * len(steps)}
    else:
        row |= {"text": words}
    count = options.per_device_train_batch_size * 2
    loaded = spy_on_loading()
    trainer.LabelledTrainer._save_checkpoint = lambda *_, **__: None  # type: ignore[assignment]  # 50 GB of a full training
    spec = Run(task="lm", corpus="lm-001", base=base, parent=base)
    scratch = Path(base).parent / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    trained = pytorch.train(f"bench-{number}", spec, options, [row] * count, [row], scratch)
    del trained
    lines = (
        Path("logs", f"bench-{number}.jsonl").read_text(encoding="utf-8").splitlines()[-2 * STEPS :]
    )
    speeds = [
        record["tokens_per_second"]
        for line in lines
        if "tokens_per_second" in (record := json.loads(line))
    ]
    if not torch.cuda.is_available():
        record = json.loads(
            Path("logs", f"bench-{number}.jsonl").read_text(encoding="utf-8").splitlines()[-1]
        )
        return named(number) | {"resident_mb": round(record["memory/measured_bytes"] / 2**20)}
    free, total = torch.cuda.mem_get_info()
    figures = {
        "loaded_mb": loaded[0],
        "allocated_mb": torch.cuda.max_memory_allocated() / 2**20,
        "reserved_mb": torch.cuda.max_memory_reserved() / 2**20,
        "device_mb": (total - free) / 2**20,
        "tokens_per_second": statistics.median(speeds[2:]),
    }
    return named(number) | {key: round(value) for key, value in figures.items()}


def spy_on_loading() -> list[float]:
    """What is allocated when the model that is trained stands on the device, before the first step."""
    real, seen = pytorch.model_for_training, []

    def model_for_training(*arguments: Any, **named: Any) -> Any:
        model = real(*arguments, **named)
        if torch.cuda.is_available():
            seen.append(model.to("cuda") and torch.cuda.memory_allocated() / 2**20)
        return model

    pytorch.model_for_training = model_for_training  # type: ignore[assignment]
    return seen


def named(number: int) -> dict[str, Any]:
    architecture, presets, changed = CASES[number]
    options = chosen(number)
    return {
        "architecture": architecture,
        "presets": presets,
        "changed": " ".join(f"{key}={value}" for key, value in changed.items()),
        "method": options.method,
        "rows": options.per_device_train_batch_size,
        "tokens": options.max_length_tokens,
        "checkpointing": options.gradient_checkpointing,
        "limit_mb": options.memory_limit_mb,
        "planned_mb": round(planned(architecture, options).total / memory.MIB),
    }


def planned(architecture: str, options: Settings) -> memory.Need:
    """What `python -m stages plan` says of a case."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**ARCHITECTURES[architecture])
        )
    rows, tokens = options.per_device_train_batch_size, options.max_length_tokens
    return memory.need(model, options, rows, tokens, WHERE, attention.attention_is_plain(model))


def failed(number: int, stderr: str) -> dict[str, Any]:
    return named(number) | {"error": " ".join(stderr.strip().splitlines()[-1:])[:300]}


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make(Path(sys.argv[3]), sys.argv[2])
    elif sys.argv[1] == "--case":
        print(json.dumps(case(int(sys.argv[2]), sys.argv[3])))
    else:
        main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
