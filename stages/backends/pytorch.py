"""The PyTorch backend: transformers loads and trains, PEFT grafts. LoRA and full training differ in `graft` alone."""

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hub_logging

from stages.backends import adapter
from stages.backends.labelled import row_nats
from stages.records import Message, Row, UserError
from stages.settings import Run, Settings
from stages.text import batches
from stages.text.chat import Encoded, encode, end_of_turn, opening_ids, prompt_ids, windows

# Upstream remarks that a reader can do nothing about: a bar for each of a checkpoint's two files, the tied head that is not in
# a checkpoint, the optional `kernels` package of bitsandbytes, and PEFT 0.21.2 calling an old name of transformers 5.23.
hub_logging.disable_progress_bar()
hub_logging.set_verbosity_error()
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)

OPENING_TOKENS = 16  # of a held-out text, which a language model continues to show how it writes


def load_tokenizer(base: str) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(adapter.locate(base))
    if tokenizer.pad_token_id is None:  # padding is never labelled and never attended to, so any id serves
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_weights(folder: Path) -> PreTrainedModel:
    """Full weights in float32 from safetensors. Raises UserError for weights that transformers cannot read."""
    # On a CPU the flash kernel's backward pass takes 29 % of a step of short rows; eager attention halved the step's time.
    attention = "sdpa" if torch.cuda.is_available() else "eager"
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, attn_implementation=attention
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder}: not a causal language model that transformers loads from safetensors: {str(error).splitlines()[0]}"
        ) from None


def load_model(model: str, base: str) -> PreTrainedModel:
    """The weights that answer: a full checkpoint, or an adapter merged into its base in float32."""
    if not adapter.is_adapter(Path(model)):
        return load_weights(adapter.locate(model))
    from peft import PeftModel

    return PeftModel.from_pretrained(load_weights(adapter.locate(base)), model).merge_and_unload()


def graft(base: str, parent: str, settings: Settings) -> nn.Module:
    """The model as its training begins: the parent's exact weights, and what is trained of them.

    base, parent: as in params.yaml; the same path where a chain starts. Raises UserError where they do not fit together.
    """
    torch.manual_seed(settings.seed)  # before any adapter matrix is made
    if settings.method == "full":
        return load_weights(adapter.locate(parent))
    from peft import LoraConfig, get_peft_model

    if parent != base:
        if not adapter.is_adapter(Path(parent)):
            raise UserError(f"{parent}: full weights, not an adapter on {base}; make it the base as well")
        adapter.check_continues(Path(parent), base, settings.lora)
    weights = load_weights(adapter.locate(base))
    try:
        grafted = get_peft_model(weights, LoraConfig(task_type="CAUSAL_LM", **settings.lora.model_dump()))
    except ValueError as error:
        linear = sorted({name.rsplit(".")[-1] for name, module in weights.named_modules() if isinstance(module, nn.Linear)})
        raise UserError(
            f"lora.target_modules {settings.lora.target_modules}: {error}; this architecture has {', '.join(linear)}"
        ) from None
    if parent != base:
        adapter.continue_adapter(grafted, Path(parent))
    return grafted


@dataclass(frozen=True)
class Trained:
    """A finished training.

    history: the Trainer's log.   steps: optimizer steps made.   rows: sequences trained on.   too_long: rows without room
    for a label.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    history: list[dict[str, float]]
    steps: int
    best_step: int
    rows: int
    too_long: int


def train(run: str, spec: Run, settings: Settings, train_rows: list[Row], valid_rows: list[Row], checkpoints: Path) -> Trained:
    """The parent's weights, trained on the rows."""
    # Here, because transformers' Trainer takes three seconds to import and prediction goes without it.
    from stages.backends import fitting
    from stages.backends.progress import Progress

    torch.set_num_threads(settings.threads)
    tokenizer = load_tokenizer(spec.base)
    encoded: dict[str, list[Encoded]] = {"train": [], "valid": []}
    too_long = 0
    for part, rows in (("train", train_rows), ("valid", valid_rows)):
        for row in rows:
            sequences = encode(tokenizer, row, settings.max_length_tokens)
            encoded[part] += sequences
            too_long += not sequences
        if not encoded[part]:
            raise UserError(
                f"corpus {spec.corpus}: no {part} row has an answer that fits max_length_tokens {settings.max_length_tokens} "
                f"({len(rows)} rows); raise it, or add rows"
            )
    model = graft(spec.base, spec.parent, settings)
    progress = Progress(run, [len(row.ids) for row in encoded["train"]])
    if too_long:
        progress.say(f"{too_long} rows left out: their answers do not fit max_length_tokens {settings.max_length_tokens}")
    state = fitting.fit(model, encoded["train"], encoded["valid"], settings, tokenizer.pad_token_id, checkpoints, progress)
    return Trained(
        model, tokenizer, state.log_history, state.global_step, state.best_global_step, len(encoded["train"]), too_long
    )


def save(trained: Trained, folder: Path, base: str) -> None:
    """`models/RUN`: an adapter, or full weights with their tokenizer."""
    if hasattr(trained.model, "peft_config"):
        adapter.write_adapter(folder, trained.model, base)
    else:
        adapter.write_weights(folder, trained.model, trained.tokenizer)


class Answerer:
    """A model that answers rows: generated text for conversations, and the nats of the reference for all."""

    def __init__(self, model: str, base: str, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        self.tokenizer = load_tokenizer(base)
        self.model = load_model(model, base).eval()
        if torch.cuda.is_available():
            self.model.to("cuda")
        self.settings, self.generation = settings, settings.generation

    def predict(self, rows: Sequence[Row], advance: Callable[[int], None]) -> list[tuple[str, float, int]]:
        """(answer, nats, tokens) of each row, in order."""
        limit = self.settings.max_length_tokens
        sequences = [
            encode(self.tokenizer, row, limit) if "messages" in row else list(windows(self.tokenizer, row, limit, limit // 2))
            for row in rows
        ]
        flat = [sequence for of_row in sequences for sequence in of_row]
        sums = iter(row_nats(self.model, flat, self.generation.batch_size, self.tokenizer.pad_token_id))
        nats = [[next(sums) for _ in of_row] for of_row in sequences]
        answers = self.continued([self._given(row) for row in rows], advance)
        return [
            (answer, math.fsum(value for value, _ in of_row), sum(tokens for _, tokens in of_row))
            for answer, of_row in zip(answers, nats, strict=True)
        ]

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

    @torch.no_grad()
    def continued(self, prompts: Sequence[list[int]], advance: Callable[[int], None]) -> list[str]:
        """What follows each sequence of ids. Those of like length are computed together, padded on the left.

        advance: told how many rows have just been answered.
        """
        room = self.settings.max_length_tokens
        ids = [prompt[-room:] for prompt in prompts]
        answers = [""] * len(ids)
        end, pad = end_of_turn(self.tokenizer), self.tokenizer.pad_token_id
        for chosen in batches.by_length([len(prompt) for prompt in ids], self.generation.batch_size):
            longest = len(ids[chosen[0]])
            batch = torch.tensor([[pad] * (longest - len(ids[at])) + ids[at] for at in chosen], device=self.model.device)
            lengths = torch.tensor([len(ids[at]) for at in chosen], device=self.model.device)
            mask = torch.arange(longest, device=self.model.device) >= longest - lengths[:, None]  # (B, T), padding on the left
            output = self.model.generate(batch, attention_mask=mask.long(), generation_config=self._generation_config(end, pad))
            for at, tokens in zip(chosen, output[:, longest:].tolist(), strict=True):
                tokens = tokens[: tokens.index(end)] if end in tokens else tokens
                answers[at] = self.tokenizer.decode(tokens, skip_special_tokens=True)
            advance(len(chosen))
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
