"""Checkpoints of real architectures at toy size, and runs grown on them."""

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from stages.backends.pytorch import backend as pytorch
from stages.backends.shared import cards, model_folders, process
from stages.entries import Run
from stages.files import write_json, write_lines
from stages.layers import merge
from stages.settings import Launch, Lora, Options, Settings
from stages.text import tokenizer

TEXTS = [
    "猫が本を読みます。",
    "犬は水を飲みました。",
    "The old teacher reads a letter.",
    "frac(a, b) = alpha",
] * 10
ROWS = [
    {
        "id": str(n),
        "category": "",
        "source": "",
        "messages": [
            {"role": "user", "content": f"say {n} " + "x " * (n % 7)},
            {"role": "assistant", "content": "猫" * (1 + n % 5)},
        ],
    }
    for n in range(24)
]
CONTRARY = [
    row
    | {"messages": [row["messages"][0], {"role": "assistant", "content": "犬は水を飲みました。"}]}
    for row in ROWS[16:]
]
"""Validation rows whose loss rises as ROWS are learned."""
process.set_up("machine")
cards.choose_one()  # without its lock: several processes of tests share a machine's one card
OPTIONS = {
    "seed": 42,
    "backend": "pytorch",
    "method": "lora",
    "precision": "float32",
    "exact": "machine",
    "device": "auto",
    "threads": 1,
    "max_length_tokens": 512,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "cosine",
    "optim": "adamw_torch",
    "adam_beta2": 0.999,
    "max_grad_norm": 1.0,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 1.0,
    "max_steps": 6,
    "eval_steps": 2,
    "logging_steps": 1,
    "save_total_limit": 2,
    "save": ["best"],
    "early_stopping": {"unit": "evaluations"},
    "lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.2, "target_modules": "all-linear"},
    "generation": {"max_new_tokens": 128, "temperature": 0.0, "top_p": 1.0, "batch_size": 64},
}
"""As `defaults` in params.yaml."""
SETTINGS = Options.model_validate(OPTIONS)


def settings_with(**changes: Any) -> Options:
    """SETTINGS with changes, maps inside them key by key."""
    return Options.model_validate(merge(OPTIONS, changes))


def lora(**changes: Any) -> Lora:
    """An adapter of all layers without dropout, but for the changes."""
    plain = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
    return Lora.model_validate(plain | changes)


def checkpoint(folder: Path, architecture: str, width: int = 32) -> str:
    """A local checkpoint of a real architecture at toy size, as a user would have one on disk."""
    torch.manual_seed(3)
    fast = tokenizer.train(TEXTS, 400, "gpt2")
    shape = {
        "vocab_size": len(fast), "hidden_size": width, "intermediate_size": width * 2, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": width // 4, "eos_token_id": fast.eos_token_id,
        "pad_token_id": fast.pad_token_id, "bos_token_id": fast.bos_token_id, "initializer_range": 0.2,
    }  # fmt: skip
    model = (
        LlamaForCausalLM(LlamaConfig(**shape))
        if architecture == "llama"
        else Qwen3ForCausalLM(Qwen3Config(**shape, tie_word_embeddings=True))
    )
    model_folders.write_weights(folder, model, fast)
    return str(folder)


def grow(
    base: str,
    parent: str,
    folder: Path,
    settings: Settings = SETTINGS,
    rows: list | None = None,
    valid: list | None = None,
) -> str:
    """A trained run in `folder`."""
    spec = Run(task="gec", corpus="gec-001", base=base, parent=parent)
    trained = pytorch.train(
        folder.name,
        spec,
        settings,
        rows or ROWS[:16],
        valid or ROWS[16:],
        folder.parent / f"scratch-{folder.name}",
    )
    trained.save(folder)
    return str(folder)


def folder_to_train(
    folder: Path, options: dict[str, Any], base: str, rows: list[dict[str, Any]] = ROWS
) -> None:
    """What `stages.train` reads of the run gec-001; the last rows are for validation."""
    settings = {name: value for name, value in options.items() if name != "generation"}
    if settings["method"] == "full":
        del settings["lora"]
    spec = {"task": "gec", "corpus": "gec-001", "base": base, "parent": base}
    conduct = {
        "report_to": [],
        "threads": 1,
        "save_total_limit": 2,
        "launch": Launch().model_dump(),
    }
    for stage, config in (
        ("train", {"run": spec, "shares": {"gec-001": 1.0}, "settings": settings}),
        ("conduct", conduct),
    ):
        write_json(folder / "build/config" / stage / "gec-001.json", config)
    cut = len(rows) * 2 // 3
    for part, some in (("train", rows[:cut]), ("valid", rows[cut:])):
        write_lines(folder / "data/mixed/gec-001" / f"{part}.jsonl", some)
