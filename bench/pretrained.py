"""W7. A pretrained model as people have it: the architecture of SmolLM2-135M (134.5 million
parameters, a vocabulary of 49,152, 30 layers), and rows as long as real formulas with their
conversion.

Where .scratch/bench/smollm2 is a checkpoint of SmolLM2-135M-Instruct, its weights and tokenizer are
used; else random weights of that architecture, the demo's tokenizer, and rows that have, in its
tokens, the lengths of 2,243 formulas of im2latex in SmolLM2's: 158 in the mean, 48 of them the
answer, 42 the same opening in all. Training is timed as in W1, answers as in W3."""

import json
import random
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from bench import finetune, predict
from bench.turns import Workload
from stages.records import Row, read_rows

CHECKPOINT = Path(".scratch/bench/smollm2").absolute()
ROWS, HELD_OUT, ASKED = 64, 8, 64
CHOSEN = {"batch": 8, "limit": 1024}
PROMPT_TOKENS, ANSWER_TOKENS = (68, 32), (48, 26)
"""Mean and standard deviation of what follows the opening, and of the answer."""


def make(folder: Path) -> None:
    base = folder / "base"
    shutil.rmtree(base, ignore_errors=True)
    if CHECKPOINT.is_dir():
        shutil.copytree(CHECKPOINT, base)
    else:
        make_base(base)
    rows = made_rows(base, ROWS + HELD_OUT + ASKED)
    for name, part in (
        ("train", rows[:ROWS]),
        ("valid", rows[ROWS : ROWS + HELD_OUT]),
        ("asked", rows[ROWS + HELD_OUT :]),
    ):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    prompts = [row["messages"][:-1] for row in rows[ROWS + HELD_OUT :]]
    (folder / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
    (folder / "answers.json").unlink(missing_ok=True)


def make_base(base: Path) -> None:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, head_dim=64, tie_word_embeddings=True, max_position_embeddings=8192,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(base)
    AutoTokenizer.from_pretrained("models/bases/tiny").save_pretrained(base)


def made_rows(base: Path, count: int) -> list[Row]:
    """Formulas of the demo, several joined to a row of a drawn length."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    pairs = [
        (row["source"], row["messages"][-1]["content"])
        for row in read_rows(Path("data/prepared/typst/train/typst-003.jsonl"))
    ]
    rng = random.Random(0)

    def joined(side: int, mean: float, deviation: float) -> str:
        wanted, text = max(8, rng.gauss(mean, deviation)), ""
        while len(tokenizer(text, add_special_tokens=False)["input_ids"]) < wanted:
            text += (" + " if text else "") + rng.choice(pairs)[side]
        return text

    opening = ""
    while len(tokenizer(opening, add_special_tokens=False)["input_ids"]) < 36:
        opening += rng.choice(pairs)[0] + "; "
    return [
        {
            "id": str(number),
            "category": "",
            "source": "",
            "messages": [
                {"role": "user", "content": f"{opening}\n{joined(0, *PROMPT_TOKENS)}"},
                {"role": "assistant", "content": joined(1, *ANSWER_TOKENS)},
            ],
        }
        for number in range(count)
    ]


def answering(folder: Path) -> dict[str, Any]:
    return {"model": str(folder / "base"), "base": str(folder / "base")}


WORKLOADS = {
    "pretrained": Workload(
        "LoRA on a model as large as SmolLM2-135M, 64 rows as long as real formulas, rank 16 on "
        "all linear layers, 8 rows a step, one epoch",
        "examples",
        make,
        {"ours": partial(finetune.ours, **CHOSEN), "TRL": partial(finetune.trl, **CHOSEN)},
        {"TRL": 2.5},
        memory_goal=0.6,
        # TRL also learns the line break that ChatML writes after the end of a turn.
        tolerance={"labelled tokens": 0.03, "held-out loss": 0.1},
    ),
    "pretrained-answers": Workload(
        "64 rows answered by a model as large as SmolLM2-135M",
        "rows",
        make,
        {
            "ours": lambda folder: predict.ours(folder, **answering(folder), limit=CHOSEN["limit"]),
            "generate, by 64 in file order": lambda folder: predict.generate(
                folder, ASKED, **answering(folder)
            ),
        },
        {"generate, by 64 in file order": 1.3},
        tolerance={"the same answers": 0.05, "characters": 0.05},
    ),
}
