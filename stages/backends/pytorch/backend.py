"""What stages.backends.Backend asks for, in PyTorch: transformers' Trainer trains what `models`
makes.
"""

import gc
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from stages import backends
from stages.backends.pytorch import attention, decoding, fused, refuses, step_head
from stages.backends.pytorch.lines import Lines
from stages.backends.pytorch.loss import causal_model, row_nats, step_likelihoods
from stages.backends.pytorch.models import (
    model_for_answering,
    model_for_training,
    share_tensors,
)
from stages.backends.pytorch.process_group import ProcessGroup
from stages.backends.shared import adapters, memory, model_folders, process
from stages.backends.shared.answering import ModelAnswerer
from stages.backends.shared.devices import description, device, own_device, use_threads
from stages.backends.shared.fingerprint import fingerprint
from stages.backends.shared.precision import Precision, choose, native, settled
from stages.backends.shared.tokenizers import add_tokens, load_tokenizer
from stages.backends.shared.training_plan import encode_parts
from stages.entries import Run
from stages.errors import UserError
from stages.records import Row
from stages.settings import Answering, Settings
from stages.text.chat import Encoded, end_of_turn
from stages.text.spoken import Speech
from stages.text.token_files import lengths


@dataclass(frozen=True)
class Trained(backends.Trained):
    """base: as in params.yaml.   last: the trained weights of the last step by name, where
    settings.save wants them too.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    base: str
    last: dict[str, torch.Tensor]

    def save(self, folder: Path) -> None:
        """As stages.backends.Trained; the tokenizer too where it has tokens that the base's has
        not.

        Where they are kept, the weights of the last step are in its folder `last`, in the same
        form.
        """
        self._save_weights(folder)
        if self.last:
            with torch.no_grad():
                for name, weights in self.model.named_parameters():
                    if name in self.last:
                        weights.copy_(self.last[name])
            self._save_weights(folder / "last")

    def _save_weights(self, folder: Path) -> None:
        model: Any = self.model
        if hasattr(model, "peft_config"):
            adapters.write_adapter(folder, model, self.base)
            known = load_tokenizer(self.base, self.base)
            ours = self.tokenizer
            if len(ours) > len(known) or ours.chat_template != known.chat_template:
                model_folders.write_tokenizer(folder, self.tokenizer)
        else:
            model_folders.write_weights(folder, model, self.tokenizer)


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
    """As stages.backends.Backend."""
    where = own_device(settings.device)  # before the imports: bitsandbytes starts CUDA
    # Here, because transformers' Trainer takes three seconds to import and prediction goes without
    # it.
    from stages.backends.pytorch.fit import fit
    from stages.backends.shared.progress import Progress

    use_threads(settings.threads)
    group = ProcessGroup.join(where, settings.launch.nodes)
    numbers = precision(settings)
    settings = settings.model_copy(update={"precision": numbers.name})
    scores_steps = "completions" in train_rows[0]
    if faults := refuses(settings, scores_steps):  # of a precision that was auto
        raise UserError(faults[0])
    if where == "cuda":
        limit_memory(settings.memory_limit_mb)
    tokenizer = load_tokenizer(spec.base, spec.base, settings)
    add_tokens(tokenizer, settings.added_tokens)
    # What is imported and tokenised is used to the end: looking through it for garbage took 6 % of
    # a short training.
    gc.freeze()
    if not group.leads:
        group.meet()  # the first process tokenises, and the others find what it has kept
    encoded, too_long = encode_parts(
        tokenizer, spec, settings, {"train": train_rows, "valid": valid_rows}
    )
    if group.leads:
        group.meet()
    gc.freeze()
    group.require_alike(seen(spec, settings, encoded))
    rows = min(len(encoded["train"]), settings.per_device_train_batch_size)
    tokens = max(lengths(encoded["train"]))
    planned = plan_memory(model_folders.locate(spec.base), settings, rows, tokens)
    planned.require_room()

    def make_model() -> nn.Module:
        made = model_for_training(spec.base, spec.parent, settings, scores_steps)
        fused.fuse(made, where)
        return made

    progress = Progress(run, lengths(encoded["train"]), report_to, tells=group.leads)
    progress.precision_is_chosen(numbers)
    progress.rows_are_left_out(too_long, settings.max_length_tokens)
    # On CUDA PyTorch itself refuses what goes past the limit.
    progress.memory_is_planned(
        planned.need.total, settings.memory_limit_mb if where == "cpu" else 0
    )
    fitted = fit(
        make_model,
        encoded["train"],
        encoded["valid"],
        settings,
        tokenizer.pad_token_id,
        checkpoints,
        progress,
        first_steps_only,
        group,
    )
    gc.unfreeze()
    return Trained(
        history=fitted.state.log_history,
        steps=fitted.state.global_step,
        best_step=fitted.state.best_global_step,
        rows=len(encoded["train"]),
        rows_too_long=too_long,
        first_steps_md5=fitted.first_steps_md5,
        precision=numbers.name,
        computed_on=description(where),
        model=fitted.model,
        tokenizer=tokenizer,
        base=spec.base,
        last=fitted.last,
    )


def seen(spec: Run, settings: Settings, encoded: Mapping[str, Sequence[Encoded]]) -> dict[str, str]:
    """What machines that train together must have alike, as checksums; the processes of one read
    the same files.
    """
    if settings.launch.nodes == 1:
        return {}
    rows, project = hashlib.md5(usedforsecurity=False), Path(backends.__file__).parents[1]
    for part in encoded.values():
        for row in part:
            rows.update(f"{row}\n".encode())
    base = model_folders.locate(spec.base)
    return {
        "version of this project's code": fingerprint(*sorted(project.rglob("*.py"))),
        "version of PyTorch or transformers": f"{torch.__version__} {transformers.__version__}",
        "value of a setting": f"{settings}",
        "list of rows": rows.hexdigest(),
        "base": fingerprint(base),
        "parent": fingerprint(base if spec.parent == spec.base else Path(spec.parent)),
    }


def precision(settings: Settings) -> Precision:
    """As stages.backends.Backend."""
    return choose(settings, device(settings.device))


def plan_memory(folder: Path, settings: Settings, rows: int, tokens: int) -> memory.MemoryPlan:
    """As stages.backends.Backend."""
    settings = settled(settings, device(settings.device))
    return memory.plan(folder, settings, rows, tokens, attention.attention_is_plain, refuses)


def limit_memory(megabytes: int) -> None:
    """What PyTorch may take of the CUDA device; more is an out-of-memory error instead of another
    program's crash.
    """
    if megabytes:
        _, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(min(1.0, megabytes * 2**20 / total))


def answerer(model: str, base: str, settings: Answering) -> "Answerer":
    """As stages.backends.Backend."""
    return Answerer(model, base, settings)


class Answerer(ModelAnswerer):
    """A run, or its base, that answers by PyTorch."""

    def __init__(self, model: str, base: str, settings: Answering) -> None:
        use_threads(settings.threads)
        where = own_device(settings.device)
        self.name = model
        self.tokenizer = load_tokenizer(model, base, settings)
        quantized = native(settings.exact, where).name if settings.method == "qlora" else ""
        self.model: Any = model_for_answering(model, base, quantized, where).eval()
        self.model.to(where)
        attention.fuse(self.model, where)
        self.joins = attention.joins_rows(self.model)
        self.settings = settings

    def share(self, other: Any) -> None:
        share_tensors(self.model, other.model)
        process.give_back_freed_memory()

    def nats(
        self, sequences: Sequence[Encoded], advance: Callable[[int], None]
    ) -> list[tuple[float, int]]:
        size, pad = self.generation.batch_size, self.tokenizer.pad_token_id
        return row_nats(self.model, sequences, size, pad, advance, self.joins)

    def step_scores(
        self, solutions: Sequence[Encoded], advance: Callable[[int], None]
    ) -> list[list[float]]:
        """By the run's head; without one, how likely: the mean probability of a step's tokens."""
        has_head = hasattr(causal_model(self.model), model_folders.STEP_HEAD)
        score = step_head.step_scores if has_head else step_likelihoods
        size, pad = self.generation.batch_size, self.tokenizer.pad_token_id
        return score(self.model, solutions, size, pad, advance, self.joins)

    def continued(
        self,
        prompts: Sequence[list[int]],
        advance: Callable[[int], None],
        watch: Callable[[int, int], bool] | None = None,
    ) -> list[str]:
        torch.manual_seed(self.settings.seed)  # what is sampled twice with one seed is the same
        ids = [prompt[-self.settings.max_length_tokens :] for prompt in prompts]
        answers, spoken = [""] * len(ids), Speech(self.tokenizer)
        config = self._generation_config(end_of_turn(self.tokenizer), self.tokenizer.pad_token_id)
        for rows, continued in decoding.continuations(
            self.model, ids, self.generation.batch_size, config, watch
        ):
            for row, tokens in zip(rows, continued, strict=True):
                answers[row] = spoken.text(tokens)
            advance(len(rows))
        return answers

    def lines(self) -> Lines:
        return Lines(self.model, self.tokenizer.pad_token_id)

    def _generation_config(self, end: int, pad: int) -> GenerationConfig:
        """Ours alone: a checkpoint's own generation_config.json may sample, penalise or stop in its
        own ways.
        """
        sampling = {
            "do_sample": True,
            "temperature": self.generation.temperature,
            "top_p": self.generation.top_p,
        }
        return GenerationConfig(
            max_new_tokens=self.generation.max_new_tokens,
            eos_token_id=end,
            pad_token_id=pad,
            **(sampling if self.generation.temperature else {"do_sample": False}),
        )
