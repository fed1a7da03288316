"""The PyTorch backend: transformers trains, PEFT grafts, bitsandbytes quantises. The methods differ in `graft` alone."""

import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hub_logging

from stages.backends import adapter, decoding, planning, reward_head
from stages.backends.labelled import causal_model, device, row_nats, step_likelihoods
from stages.records import Answer, Message, Row, UserError
from stages.settings import Run, Settings
from stages.text.chat import Encoded, encode, end_of_turn, opening_ids, prompt_ids, scored_steps, windows

# Upstream remarks that a reader can do nothing about: a bar for each of a checkpoint's two files, the tied head that is not in
# a checkpoint, the optional `kernels` package of bitsandbytes, and PEFT 0.21.2 calling an old name of transformers 5.23.
hub_logging.disable_progress_bar()
hub_logging.set_verbosity_error()
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)

# Read when CUDA starts: segments that grow leave 5 to 10 % less of the device's memory in unusable pieces.
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
# Each shape of a product keeps a primitive and its buffers on the CPU, 1,024 by default: a quarter of a training's memory with
# rows of many lengths (bench/NOTES.md, W1). 128 cost no time.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")

TOLD = 50_000  # rows: some seconds of short ones, a minute of long ones
OPENING_TOKENS = 16  # of a held-out text, which a language model continues to show how it writes


def load_tokenizer(model: str, base: str) -> PreTrainedTokenizerBase:
    """The tokenizer that a run brings with it, else its base's."""
    own = Path(model, "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(model if own else adapter.locate(base))
    if tokenizer.pad_token_id is None:  # padding is never labelled and never attended to, so any id serves
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: list[str]) -> list[int]:
    """The ids of a run's added tokens. Raises UserError for one that the base's vocabulary has already."""
    earlier = {str(token) for token in tokenizer.added_tokens_decoder.values() if not token.special}
    if known := [token for token in tokens if token in tokenizer.get_vocab() and token not in earlier]:
        raise UserError(f"added_tokens: the base's vocabulary has {', '.join(known)} already; leave it out")
    tokenizer.add_tokens(tokens)
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


def load_weights(folder: Path, quantize: bool = False, where: str = "auto") -> PreTrainedModel:
    """Full weights in float32 from safetensors, or in 4 bits with the rest in bfloat16.   where: as settings.device.

    4 bits: NF4 with double quantisation (Dettmers et al. 2023, QLoRA, section 3); products in bfloat16.
    Raises UserError for weights that transformers cannot read.
    """
    cuda = (where := device(where)) == "cuda"
    if cuda:  # cuDNN's attention makes a plan for every new length, 1.5 ms a call on an H200; the flash kernel needs none
        torch.backends.cuda.enable_cudnn_sdp(False)
    options: dict[str, Any] = {"dtype": torch.float32}
    if quantize:
        four_bits = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        options = {"dtype": torch.bfloat16, "quantization_config": four_bits, "device_map": {"": where}}
    # On a CPU the flash kernel's backward pass takes 29 % of a step of short rows; eager attention halved the step's time.
    if "quantization" in json.loads((folder / "config.json").read_text(encoding="utf-8")):
        raise UserError(f"{folder}: quantised for MLX; use backend: mlx, or a base in full precision with method: qlora")
    options["attn_implementation"] = "eager" if where == "cpu" else "sdpa"
    try:
        weights = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder}: not a causal language model that transformers loads from safetensors: {str(error).splitlines()[0]}"
        ) from None
    for module in weights.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes 0.50.2 repacks the weights at the first evaluation on such a CPU, and the packed product has no
            # backward pass: later gradients were off by 97 % and nothing said so.
            module.support_avx512bf16_for_cpu = False
    return weights


def load_model(model: str, base: str, quantize: bool = False, where: str = "auto") -> nn.Module:
    """What answers: a full checkpoint, or a base with its adapter, merged in float32, beside it where the base has 4 bits."""
    folder = Path(model)
    if adapter.is_adapter(folder):
        from peft import PeftModel

        weights = load_weights(adapter.locate(base), quantize, where)
        make_room(weights, load_tokenizer(model, base))
        grafted: Any = PeftModel.from_pretrained(weights, model)
        # Merged into 4 bits, an adapter's small differences would be rounded away.
        loaded = grafted if quantize else grafted.merge_and_unload()
    else:
        loaded = load_weights(adapter.locate(model), quantize, where)
    if (folder / adapter.HEAD).is_file():
        reward_head.load(causal_model(loaded), folder)
    return loaded


def make_room(weights: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Rows for added tokens; many bases have spare ones, which stay."""
    if len(tokenizer) > weights.get_input_embeddings().num_embeddings:
        weights.resize_token_embeddings(len(tokenizer))


def graft(base: str, parent: str, settings: Settings, scores_steps: bool = False) -> nn.Module:
    """The model as its training begins: the parent's exact weights, and what is trained of them.

    base, parent: as in params.yaml; the same path where a chain starts. Raises UserError where they do not fit together.
    """
    torch.manual_seed(settings.seed)  # before any adapter matrix is made
    tokenizer = load_tokenizer(base, base)
    added = add_tokens(tokenizer, settings.added_tokens)
    if settings.method == "full":
        weights = load_weights(adapter.locate(parent), where=settings.device)
        make_room(weights, tokenizer)
        if scores_steps:
            reward_head.load(weights, Path(parent)) if Path(parent, adapter.HEAD).is_file() else reward_head.attach(weights)
        return checkpointing(weights, settings)
    from peft import LoraConfig, get_peft_model

    if parent != base:
        if not adapter.is_adapter(Path(parent)):
            raise UserError(f"{parent}: full weights, not an adapter on {base}; make it the base as well")
        adapter.check_continues(Path(parent), base, settings.lora, added)
    weights = checkpointing(load_weights(adapter.locate(base), settings.method == "qlora", settings.device), settings)
    make_room(weights, tokenizer)
    if scores_steps:
        reward_head.attach(weights)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        modules_to_save=[adapter.STEP_HEAD] if scores_steps else None,
        exclude_modules=rf".*\b{adapter.STEP_HEAD}\b.*" if scores_steps else None,
        trainable_token_indices=added or None,
        **settings.lora.model_dump(),
    )
    try:
        grafted = get_peft_model(weights, config)
    except ValueError as error:
        linear = sorted({name.rsplit(".")[-1] for name, module in weights.named_modules() if isinstance(module, nn.Linear)})
        raise UserError(
            f"lora.target_modules {settings.lora.target_modules}: {error}; this architecture has {', '.join(linear)}"
        ) from None
    if added:  # else the Trainer's checkpoints hold the whole embedding twice
        grafted.save_pretrained = partial(grafted.save_pretrained, save_embedding_layers=False)
    if parent != base:
        adapter.continue_adapter(adapter.trainable(grafted), Path(parent), settings.lora)
    if settings.precision == "bfloat16":
        halve(grafted)
    return grafted


def checkpointing(weights: PreTrainedModel, settings: Settings) -> PreTrainedModel:
    if settings.gradient_checkpointing:
        weights.activation_checkpointing_enable()
    return weights


def halve(grafted: nn.Module) -> None:
    """Frozen matrices in bfloat16, which autocast would make of them at every product: the same sums in half the memory."""
    embeddings = causal_model(grafted).get_input_embeddings().weight
    for module in grafted.modules():
        frozen = isinstance(module, nn.Linear) and not module.weight.requires_grad and module.weight is not embeddings
        if frozen and module.weight.dtype == torch.float32:
            module.to(torch.bfloat16)


@dataclass(frozen=True)
class Trained:
    """A finished training.

    history: the Trainer's log.   steps: optimizer steps made.   rows: sequences trained on.   too_long: rows without room
    for a label.   last: the trained weights of the last step by name, where settings.save wants them beside the best.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    history: list[dict[str, float]]
    steps: int
    best_step: int
    rows: int
    too_long: int
    last: dict[str, torch.Tensor]


def train(
    run: str,
    spec: Run,
    settings: Settings,
    train_rows: list[Row],
    valid_rows: list[Row],
    checkpoints: Path,
    report_to: Sequence[str] = (),
) -> Trained:
    """The parent's weights, trained on the rows.

    report_to: "tensorboard", "wandb"; what they are told lies in logs/.
    """
    # Here, because transformers' Trainer takes three seconds to import and prediction goes without it.
    from stages.backends import fitting
    from stages.backends.progress import Progress

    torch.set_num_threads(settings.threads)
    if device(settings.device) == "cuda":
        limit_memory(settings.memory_limit_mb)
    tokenizer = load_tokenizer(spec.base, spec.base)
    add_tokens(tokenizer, settings.added_tokens)
    encoded, too_long = encoded_parts(tokenizer, spec, settings, {"train": train_rows, "valid": valid_rows})
    planned = planning.require_room(adapter.locate(spec.base), settings, encoded["train"])
    model = graft(spec.base, spec.parent, settings, scores_steps="completions" in train_rows[0])
    progress = Progress(run, [len(row.ids) for row in encoded["train"]], report_to)
    progress.left_out(too_long, settings.max_length_tokens)
    progress.plan_memory(planned.total, settings)
    state, last = fitting.fit(
        model, encoded["train"], encoded["valid"], settings, tokenizer.pad_token_id, checkpoints, progress
    )
    return Trained(
        model, tokenizer, state.log_history, state.global_step, state.best_global_step, len(encoded["train"]), too_long, last
    )


def encoded_parts(
    tokenizer: PreTrainedTokenizerBase, spec: Run, settings: Settings, parts: dict[str, list[Row]]
) -> tuple[dict[str, list[Encoded]], int]:
    """The sequences of each part, and how many rows gave none. Raises UserError for a part that is left with nothing."""
    encoded: dict[str, list[Encoded]] = {part: [] for part in parts}
    too_long = 0
    for part, rows in parts.items():
        for number, row in enumerate(rows, start=1):
            sequences = encode(tokenizer, row, settings.max_length_tokens, settings.max_steps_per_example)
            encoded[part] += sequences
            too_long += not sequences
            if number % TOLD == 0:
                print(f"{part}: {number:,} of {len(rows):,} rows made into tokens", flush=True)
        if not encoded[part]:
            raise UserError(
                f"corpus {spec.corpus}: no {part} row has an answer that fits max_length_tokens {settings.max_length_tokens} "
                f"({len(rows)} rows); raise it, or add rows"
            )
    return encoded, too_long


def limit_memory(megabytes: int) -> None:
    """What PyTorch may take of the CUDA device; more is an out-of-memory error instead of another program's crash."""
    if megabytes:
        _, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(min(1.0, megabytes * 2**20 / total))


def save(trained: Trained, folder: Path, base: str) -> None:
    """`models/RUN`: an adapter, or full weights, with the tokenizer where it has tokens that the base's has not.

    Where they are kept, the weights of the last step are in its folder `last`, in the same form.
    """
    save_weights(trained, folder, base)
    if trained.last:
        with torch.no_grad():
            for name, weights in trained.model.named_parameters():
                if name in trained.last:
                    weights.copy_(trained.last[name])
        save_weights(trained, folder / "last", base)


def save_weights(trained: Trained, folder: Path, base: str) -> None:
    if hasattr(trained.model, "peft_config"):
        adapter.write_adapter(folder, trained.model, base)
        if len(trained.tokenizer) > len(load_tokenizer(base, base)):
            adapter.write_tokenizer(folder, trained.tokenizer)
    else:
        adapter.write_weights(folder, trained.model, trained.tokenizer)


class Answerer:
    """A model that answers rows: text for conversations, scores for the steps of solutions, and the nats of the reference."""

    def __init__(self, model: str, base: str, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        self.tokenizer = load_tokenizer(model, base)
        self.model: Any = load_model(model, base, settings.method == "qlora", settings.device).eval()
        self.model.to(device(settings.device))
        self.settings, self.generation = settings, settings.generation

    def predict(self, rows: Sequence[Row], advance: Callable[[int], None]) -> list[Answer]:
        """An answer to each row, in order."""
        if "completions" in rows[0]:
            return self.score_steps(rows, advance)
        limit = self.settings.max_length_tokens
        sequences = [
            encode(self.tokenizer, row, limit) if "messages" in row else list(windows(self.tokenizer, row, limit, limit // 2))
            for row in rows
        ]
        flat = [sequence for of_row in sequences for sequence in of_row]
        sums = iter(self.nats(flat))
        nats = [[next(sums) for _ in of_row] for of_row in sequences]
        answers = self.continued([self._given(row) for row in rows], advance)
        return [
            Answer(answer, math.fsum(value for value, _ in of_row), sum(tokens for _, tokens in of_row))
            for answer, of_row in zip(answers, nats, strict=True)
        ]

    def nats(self, sequences: Sequence[Encoded]) -> list[tuple[float, int]]:
        """(summed nats, labelled tokens) of each sequence."""
        return row_nats(self.model, sequences, self.generation.batch_size, self.tokenizer.pad_token_id)

    def score_steps(self, rows: Sequence[Row], advance: Callable[[int], None]) -> list[Answer]:
        """How right each step is by the run's head; without one, how likely: the mean probability of a step's tokens."""
        limit, most = self.settings.max_length_tokens, self.settings.max_steps_per_example
        solutions = [scored_steps(self.tokenizer, row, limit, most) for row in rows]
        score = reward_head.step_scores if hasattr(causal_model(self.model), adapter.STEP_HEAD) else step_likelihoods
        scores = score(self.model, solutions, self.generation.batch_size, self.tokenizer.pad_token_id)
        advance(len(rows))
        costs = [reward_head.nats(of_row, row["labels"]) for of_row, row in zip(scores, rows, strict=True)]
        return [Answer("", *cost, tuple(of_row)) for cost, of_row in zip(costs, scores, strict=True)]

    def _given(self, row: Row) -> list[int]:
        """What the model is shown before it writes: the prompt of a conversation, the first words of a text."""
        if "messages" in row:
            return prompt_ids(self.tokenizer, row["messages"][:-1])
        return next(windows(self.tokenizer, row, OPENING_TOKENS, OPENING_TOKENS)).ids

    def answer(self, prompts: Sequence[list[Message]], advance: Callable[[int], None]) -> list[str]:
        """Answers to conversations, in their order."""
        return self.continued([prompt_ids(self.tokenizer, prompt) for prompt in prompts], advance)

    def complete(self, texts: Sequence[str], advance: Callable[[int], None]) -> list[str]:
        """Continuations of texts, in their order."""
        start = opening_ids(self.tokenizer)
        return self.continued([start + self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts], advance)

    def continued(self, prompts: Sequence[list[int]], advance: Callable[[int], None]) -> list[str]:
        """What follows each sequence of ids.

        advance: told how many rows have just been answered.
        """
        torch.manual_seed(self.settings.seed)  # what is sampled twice with one seed is the same
        room = self.settings.max_length_tokens
        ids = [prompt[-room:] for prompt in prompts]
        answers = [""] * len(ids)
        config = self._generation_config(end_of_turn(self.tokenizer), self.tokenizer.pad_token_id)
        for rows, continued in decoding.continuations(self.model, ids, self.generation.batch_size, config):
            for row, tokens in zip(rows, continued, strict=True):
                answers[row] = self.tokenizer.decode(tokens, skip_special_tokens=True)
            advance(len(rows))
        return answers

    def _generation_config(self, end: int, pad: int) -> GenerationConfig:
        """Ours alone: a checkpoint's own generation_config.json may sample, penalise or stop in its own ways."""
        sampling = {"do_sample": True, "temperature": self.generation.temperature, "top_p": self.generation.top_p}
        return GenerationConfig(
            max_new_tokens=self.generation.max_new_tokens,
            eos_token_id=end,
            pad_token_id=pad,
            **(sampling if self.generation.temperature else {"do_sample": False}),
        )
