"""W3. Prediction: 500 held-out corrections by the default graph's gec-002, greedy, at most 96
tokens each.

Timed from loaded models to decoded answers. Each side's answers are kept, and compared with those
of `generate`, one by one."""

import itertools
import json
from pathlib import Path
from typing import Any

from bench.turns import Work, Workload
from stages import stage_config
from stages.records import Message, Row, read_rows
from stages.settings import Answering

ROWS, NEW_TOKENS, THREADS, BATCH = 500, 96, 2, 64
RUN = Path("models/gec-002")
ONE_BY_ONE = "generate, one by one"


def make(folder: Path) -> None:
    held_out = itertools.chain.from_iterable(
        read_rows(path) for path in sorted(Path("data/prepared/gec/test").glob("gec-*.jsonl"))
    )
    unique = {json.dumps(row["messages"][:-1], ensure_ascii=False): None for row in held_out}
    (folder / "prompts.json").write_text(f"[{','.join(list(unique)[:ROWS])}]", encoding="utf-8")
    (folder / "answers.json").unlink(missing_ok=True)


def options(limit: int = 0) -> Answering:
    """limit: the most tokens of a prompt, if not those of the run."""
    chosen = Answering.model_validate(stage_config.load("predict", "gec-002")["settings"])
    return chosen.model_copy(
        update={
            "threads": THREADS,
            "exact": "machine",
            "max_length_tokens": limit or chosen.max_length_tokens,
            "generation": chosen.generation.model_copy(update={"max_new_tokens": NEW_TOKENS}),
        }
    )


def prompts(folder: Path) -> list[list[Message]]:
    return json.loads((folder / "prompts.json").read_text(encoding="utf-8"))


def of_run() -> str:
    """The base of the run."""
    return str(stage_config.load("predict", "gec-002")["base"])


def report(work: Work, folder: Path, answers: list[str]) -> Work:
    """The share of answers that are those of the first side that answered."""
    path = folder / "answers.json"
    if not path.exists():
        path.write_text(json.dumps(answers, ensure_ascii=False), encoding="utf-8")
    first = json.loads(path.read_text(encoding="utf-8"))
    work.done = len(answers)
    work.same = {
        "the same answers": sum(map(str.__eq__, answers, first)) / len(first),
        "characters": sum(map(len, answers)),
    }
    return work


def asked(prompt: list[Message]) -> Row:
    return {"id": "", "category": "", "source": "", "messages": prompt}


def ours(folder: Path, model: str = str(RUN), base: str = "", limit: int = 0) -> Work:
    from stages.backends.pytorch.backend import Answerer

    answerer, work = Answerer(model, base or of_run(), options(limit)), Work()
    with work.timed():
        answers = answerer.respond([asked(prompt) for prompt in prompts(folder)])
    return report(work, folder, answers)


def generate(folder: Path, size: int, model: str = str(RUN), base: str = "") -> Work:
    """transformers and PEFT as their documentation has it: padded on the left, in the file's
    order."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from stages.text.chat import end_of_turn

    torch.set_num_threads(THREADS)
    base = base or of_run()
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    weights: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if model != base:
        weights = PeftModel.from_pretrained(weights, model)
    weights.eval()
    asked, answers, work = prompts(folder), [], Work()
    with work.timed(), torch.inference_mode():
        for at in range(0, len(asked), size):
            batch = tokenizer.apply_chat_template(
                asked[at : at + size],
                add_generation_prompt=True,
                padding=True,
                return_tensors="pt",
                return_dict=True,
            )
            output = weights.generate(
                **batch,
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                eos_token_id=end_of_turn(tokenizer),
                pad_token_id=tokenizer.pad_token_id,
            )
            answers += tokenizer.batch_decode(
                output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
            )
    return report(work, folder, answers)


def one_by_one(folder: Path) -> Work:
    return generate(folder, 1)


def batched(folder: Path) -> Work:
    return generate(folder, BATCH)


def mlx(folder: Path) -> Work:
    """mlx-lm's batch_generate on the same base with the adapter in mlx-lm's form, fused."""
    import mlx_lm

    from stages.commands import export
    from stages.text.chat import end_of_turn

    exported = folder / "mlx"
    if not exported.exists():
        export.export("gec-002", exported, export.Form.mlx)
    model, tokenizer = mlx_lm.load(of_run(), adapter_path=str(exported))
    tokenizer.add_eos_token(tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer._tokenizer)))
    asked, work = prompts(folder), Work()
    with work.timed():
        ids = [
            tokenizer.apply_chat_template(prompt, add_generation_prompt=True) for prompt in asked
        ]
        texts = mlx_lm.batch_generate(
            model, tokenizer, ids, max_tokens=NEW_TOKENS, completion_batch_size=BATCH
        ).texts
    return report(work, folder, texts)


WORKLOADS = {
    "predict": Workload(
        "500 held-out rows with an adapter",
        "rows",
        make,
        {
            "ours": ours,
            ONE_BY_ONE: one_by_one,
            "generate, by 64 in file order": batched,
            "mlx-lm, batch_generate": mlx,
        },
        {ONE_BY_ONE: 18.0, "generate, by 64 in file order": 1.5},
        tolerance={"the same answers": 0.01, "characters": 0.01},
    ),
}
