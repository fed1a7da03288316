"""What stages.backends.Backend asks for, in MLX: mlx-lm has the models, the LoRA layers and the
batched generation.
"""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import torch
from mlx_lm.generate import batch_generate
from mlx_lm.sample_utils import make_sampler
from transformers import PreTrainedTokenizerBase

from stages import backends
from stages.backends.mlx import refuses
from stages.backends.mlx.lines import Lines
from stages.backends.mlx.loop import Loop, row_nats
from stages.backends.mlx.models import (
    attach,
    load_state,
    load_weights,
    model_for_training,
    peft_state,
    share_arrays,
)
from stages.backends.shared import adapters, memory, model_folders
from stages.backends.shared.answering import ModelAnswerer
from stages.backends.shared.precision import SIZE, Precision, slow
from stages.backends.shared.progress import Progress
from stages.backends.shared.tokenizers import load_tokenizer
from stages.backends.shared.training_plan import encode_parts
from stages.entries import Run
from stages.errors import UserError
from stages.records import Row
from stages.settings import Answering, Lora, Settings
from stages.text.chat import Encoded, end_of_turn
from stages.text.spoken import Speech
from stages.text.token_files import lengths


@dataclass(frozen=True)
class Trained(backends.Trained):
    """base: as in params.yaml.   last: the adapter of the last step, where settings.save wants it
    too.   tokenizer: where it writes conversations otherwise than the base's.
    """

    model: Any
    base: str
    last: dict[str, torch.Tensor]
    tokenizer: PreTrainedTokenizerBase | None

    def save(self, folder: Path) -> None:
        """As stages.backends.Trained, in the files that the PyTorch backend writes."""
        for place, state in ((folder, peft_state(self.model)), (folder / "last", self.last)):
            if state:
                adapters.write_peft(place, state, self.model.peft_config, self.base)
                if self.tokenizer:
                    model_folders.write_tokenizer(place, self.tokenizer)


def train(
    run: str,
    spec: Run,
    settings: Settings,
    train_rows: Sequence[Row],
    valid_rows: Sequence[Row],
    checkpoints: Path,
    report_to: Sequence[str] = (),
    first_steps_only: bool = False,
) -> Trained:
    """As stages.backends.Backend; `report_to` is told nothing beyond logs/."""
    use_device(settings.device)
    numbers = precision(settings)
    settings = settings.model_copy(update={"precision": numbers.name})
    if settings.memory_limit_mb:
        mx.set_memory_limit(settings.memory_limit_mb * 2**20)
    tokenizer = load_tokenizer(spec.base, spec.base, settings)
    encoded, too_long = encode_parts(
        tokenizer, spec, settings, {"train": train_rows, "valid": valid_rows}
    )
    rows = min(len(encoded["train"]), settings.per_device_train_batch_size)
    tokens = max(lengths(encoded["train"]))
    planned = plan_memory(model_folders.locate(spec.base), settings, rows, tokens)
    planned.require_room()
    model = model_for_training(spec.base, spec.parent, settings)
    progress = Progress(run, lengths(encoded["train"]))
    progress.precision_is_chosen(numbers)
    progress.rows_are_left_out(too_long, settings.max_length_tokens)
    progress.memory_is_planned(planned.need.total, 0)  # MLX has the limit as its own
    if report_to:
        progress.say(f"report_to {', '.join(report_to)}: backend mlx reports to logs/ alone")
    loop = Loop(
        model,
        encoded["train"],
        encoded["valid"],
        settings,
        tokenizer.pad_token_id,
        checkpoints,
        progress,
    )
    loop.run(first_steps_only)
    return Trained(
        history=loop.state.log_history,
        steps=loop.state.global_step,
        best_step=loop.state.best_global_step,
        rows=len(encoded["train"]),
        rows_too_long=too_long,
        first_steps_md5=loop.kept.first_steps_md5,
        precision=numbers.name,
        computed_on=f"mlx, {platform.machine()} {mx.default_device().type.name}",
        model=model,
        base=spec.base,
        last=loop.last,
        tokenizer=tokenizer if settings.chat_template or settings.enable_thinking else None,
    )


def precision(settings: Settings) -> Precision:
    """As stages.backends.Backend."""
    use_device(settings.device)
    if settings.precision != "auto":
        warning = slow(settings.precision, "device", product)
        return Precision(settings.precision, "as params.yaml says", warning)
    if mx.default_device().type == mx.gpu:
        return Precision("bfloat16", "Metal computes it natively")
    return Precision("float32", "MLX has no fast bfloat16 on a CPU")


def product(name: str) -> Callable[[], Any]:
    """Of two matrices, to be timed."""
    matrix = mx.ones((SIZE, SIZE), dtype=getattr(mx, name))
    return lambda: mx.eval(matrix @ matrix)


def plan_memory(folder: Path, settings: Settings, rows: int, tokens: int) -> memory.MemoryPlan:
    """As stages.backends.Backend."""
    settings = settings.model_copy(update={"precision": precision(settings).name})
    return memory.plan(folder, settings, rows, tokens, lambda model: True, refuses)


def use_device(device: str) -> None:
    """device: "cpu", or "auto" for Metal where there is one."""
    if device == "cpu":
        mx.set_default_device(mx.Device(mx.cpu))


def answerer(model: str, base: str, settings: Answering) -> "Answerer":
    """As stages.backends.Backend."""
    return Answerer(model, base, settings)


class Answerer(ModelAnswerer):
    """A run, or its base, that answers by MLX."""

    def __init__(self, model: str, base: str, settings: Answering) -> None:
        use_device(settings.device)
        self.settings = settings
        self.name = model
        self.tokenizer = load_tokenizer(model, base, settings)
        if not model_folders.is_adapter(Path(model)):
            self.model = load_weights(model)
        else:
            config, state = adapters.read(Path(model))
            self.model = load_weights(base)
            attach(self.model, Lora(**{key: config[key] for key in Lora.model_fields}))
            load_state(self.model, state)
        self.model.eval()

    def share(self, other: Any) -> None:
        share_arrays(self.model, other.model)

    def nats(
        self, sequences: Sequence[Encoded], advance: Callable[[int], None]
    ) -> list[tuple[float, int]]:
        size, pad = self.generation.batch_size, self.tokenizer.pad_token_id
        return row_nats(self.model, sequences, size, pad, advance)

    def step_scores(
        self, solutions: Sequence[Encoded], advance: Callable[[int], None]
    ) -> list[list[float]]:
        raise UserError("task reward: backend mlx has no head for steps; use backend: pytorch")

    def lines(self) -> Lines:
        return Lines(self.model)

    def continued(
        self,
        prompts: Sequence[list[int]],
        advance: Callable[[int], None],
        watch: Callable[[int, int], bool] | None = None,
    ) -> list[str]:
        """By mlx-lm's continuous batches, which tell of an answer when it is whole."""
        mx.random.seed(self.settings.seed)
        room = self.settings.max_length_tokens
        tokenizer: Any = SimpleNamespace(
            eos_token_ids=[end_of_turn(self.tokenizer)],
            decode=Speech(self.tokenizer).text,
        )
        sampler = make_sampler(temp=self.generation.temperature, top_p=self.generation.top_p)
        size = self.generation.batch_size
        options: Any = {
            "max_tokens": self.generation.max_new_tokens,
            "sampler": sampler,
            "completion_batch_size": size,
            "return_token_ids": True,
        }
        answers: list[str] = []
        for begin in range(0, len(prompts), size):
            ids = [prompt[-room:] for prompt in prompts[begin : begin + size]]
            answered = batch_generate(self.model, tokenizer, ids, **options)
            if watch:
                for row, tokens in enumerate(answered.token_ids, start=begin):
                    all(watch(row, token) for token in tokens)
            answers += answered.texts
            advance(len(ids))
        return answers
