"""The PyTorch backend: transformers loads and trains, PEFT grafts. LoRA and full training differ in `graft` alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    EarlyStoppingCallback,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging

from stages.backends import adapter
from stages.backends.labelled import LabelledTrainer, row_nats
from stages.backends.progress import Progress
from stages.records import Message, Row, UserError
from stages.settings import Run, Settings
from stages.text import batches
from stages.text.chat import Encoded, encode, end_of_turn, opening_ids, prompt_ids, windows

logging.disable_progress_bar()  # a bar for each of a checkpoint's two files says nothing

OPENING_TOKENS = 16  # of a held-out text, which a language model continues to show how it writes


def load_tokenizer(base: str) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(adapter.locate(base))
    if tokenizer.pad_token_id is None:  # padding is never labelled and never attended to, so any id serves
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_weights(folder: Path) -> PreTrainedModel:
    """Full weights in float32 from safetensors. Raises UserError for weights that transformers cannot read."""
    # On a CPU the flash kernel's backward pass takes 29 % of a step of short rows; eager attention made such steps 2.0 x as fast.
    attention = "sdpa" if torch.cuda.is_available() else "eager"
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, attn_implementation=attention)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: not a causal language model that transformers loads from safetensors: {str(error).splitlines()[0]}") from None


def load_model(model: str, base: str) -> PreTrainedModel:
    """The weights that answer: a full checkpoint, or an adapter merged into its base in float32."""
    if not adapter.is_adapter(Path(model)):
        return load_weights(adapter.locate(model))
    return PeftModel.from_pretrained(load_weights(adapter.locate(base)), model).merge_and_unload()


def graft(base: str, parent: str, settings: Settings) -> nn.Module:
    """The model as its training begins: the parent's exact weights, and what is trained of them.

    base, parent: as in params.yaml; the same path where a chain starts. Raises UserError where they do not fit together.
    """
    torch.manual_seed(settings.seed)  # before any adapter matrix is made
    if settings.method == "full":
        return load_weights(adapter.locate(parent))
    weights = load_weights(adapter.locate(base))
    if parent == base:
        config = LoraConfig(task_type="CAUSAL_LM", **settings.lora.model_dump())
        try:
            return get_peft_model(weights, config)
        except ValueError as error:
            linear = sorted({name.rsplit(".")[-1] for name, module in weights.named_modules() if isinstance(module, nn.Linear)})
            raise UserError(f"lora.target_modules {settings.lora.target_modules}: {error}; this architecture has {', '.join(linear)}") from None
    if not adapter.is_adapter(Path(parent)):
        raise UserError(f"{parent}: full weights, not an adapter on {base}; make it the base as well")
    adapter.check_continues(Path(parent), base, settings.lora)
    grafted = PeftModel.from_pretrained(weights, parent, is_trainable=True)
    grafted.active_peft_config.lora_dropout = settings.lora.lora_dropout
    for module in grafted.modules():
        if isinstance(dropout := getattr(module, "lora_dropout", None), nn.ModuleDict):
            dropout["default"] = nn.Dropout(settings.lora.lora_dropout) if settings.lora.lora_dropout else nn.Identity()
    return grafted


@dataclass(frozen=True)
class Trained:
    """A finished training.   history: the Trainer's log.   steps: optimizer steps made.   too_long: rows without room for a label."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    history: list[dict[str, float]]
    steps: int
    best_step: int
    rows: int
    too_long: int


def train(run: str, spec: Run, settings: Settings, train_rows: list[Row], valid_rows: list[Row], checkpoints: Path) -> Trained:
    """The parent's weights, trained on the rows."""
    torch.set_num_threads(settings.threads)
    tokenizer = load_tokenizer(spec.base)
    encoded = {"train": [], "valid": []}
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
    state = fit(model, encoded["train"], encoded["valid"], settings, tokenizer.pad_token_id, checkpoints, progress)
    return Trained(model, tokenizer, state.log_history, state.global_step, state.best_global_step, len(encoded["train"]), too_long)


def save(trained: Trained, folder: Path, base: str) -> None:
    """`models/RUN`: an adapter, or full weights with their tokenizer."""
    if isinstance(trained.model, PeftModel):
        adapter.write_adapter(folder, trained.model, base)
    else:
        adapter.write_weights(folder, trained.model, trained.tokenizer)


def fit(
    model: nn.Module,
    train_rows: Sequence[Encoded],
    valid_rows: Sequence[Encoded],
    settings: Settings,
    pad_id: int,
    checkpoints: Path,
    progress: Progress,
) -> TrainerState:
    """Train in place; at the end the model holds its weights of the lowest validation loss.

    checkpoints: a training that was killed goes on from the last one there, to the same bytes.
    """
    accumulation = settings.gradient_accumulation_steps
    effective = settings.per_device_train_batch_size * accumulation
    steps = settings.max_steps or batches.steps_in(len(train_rows), effective, settings.num_train_epochs)
    plan = batches.plan([len(row.ids) for row in train_rows], settings.per_device_train_batch_size, accumulation, steps, settings.seed)
    every = settings.eval_steps or min(steps, batches.steps_in(len(train_rows), effective, 1))
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        seed=settings.seed,
        max_steps=steps,
        per_device_train_batch_size=settings.per_device_train_batch_size,
        per_device_eval_batch_size=settings.per_device_train_batch_size,
        gradient_accumulation_steps=accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=min(settings.warmup_steps, steps),
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        max_grad_norm=settings.max_grad_norm,
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=settings.save_total_limit,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=min(settings.logging_steps, steps),
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=[],
        remove_unused_columns=False,
    )
    patience = settings.early_stopping.patience
    trainer = LabelledTrainer(
        plan,
        valid_rows,
        pad_id,
        settings.precision,
        model=model,
        args=arguments,
        train_dataset=train_rows,
        eval_dataset=valid_rows,
        callbacks=[progress, *([EarlyStoppingCallback(patience)] if patience else [])],
    )
    trainer.pop_callback(PrinterCallback)
    progress.begin(plan, model)
    trainer.train(resume_from_checkpoint=latest(checkpoints))
    return trainer.state


def latest(folder: Path) -> str | None:
    """The newest complete checkpoint: the Trainer writes trainer_state.json last."""
    complete = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(complete, key=lambda path: int(path.name.rsplit("-")[-1]))) if complete else None


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
