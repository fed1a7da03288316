"""The PyTorch backend: transformers trains what `pytorch_model` grafts. The methods differ there alone."""

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from stages.backends import adapter, decoding, fused, planning, reward_head
from stages.backends.labelled import causal_model, device, row_nats, step_likelihoods
from stages.backends.pytorch_model import add_tokens, graft, load_model, load_tokenizer
from stages.errors import UserError
from stages.records import Answer, Message, Row
from stages.settings import Run, Settings
from stages.text.chat import Encoded, encode, end_of_turn, opening_ids, prompt_ids, scored_steps, windows

TOLD = 50_000  # rows: some seconds of short ones, a minute of long ones
OPENING_TOKENS = 16  # of a held-out text, which a language model continues to show how it writes


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
    # What is imported and tokenised is used to the end: looking through it for garbage took 6 % of a short training.
    gc.freeze()
    encoded, too_long = encoded_parts(tokenizer, spec, settings, {"train": train_rows, "valid": valid_rows})
    gc.freeze()
    planned = planning.require_room(adapter.locate(spec.base), settings, encoded["train"])
    model = graft(spec.base, spec.parent, settings, scores_steps="completions" in train_rows[0])
    fused.fuse(model, device(settings.device))
    progress = Progress(run, [len(row.ids) for row in encoded["train"]], report_to)
    progress.left_out(too_long, settings.max_length_tokens)
    progress.plan_memory(planned.total, settings)
    state, last = fitting.fit(
        model, encoded["train"], encoded["valid"], settings, tokenizer.pad_token_id, checkpoints, progress
    )
    gc.unfreeze()
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
                print(f"{part}: {number:,} of {len(rows):,} rows tokenised", flush=True)
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
        where = device(settings.device)
        self.model.to(where)
        fused.fuse_attention(self.model, where)
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
