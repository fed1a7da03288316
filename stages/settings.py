"""The options of a run as types: every option's meaning, unit and bounds; its value stands in
params.yaml alone.

A field has a default here only where that means off, none or all. `configure` leaves such values
out of what decides a run, so that an option that is added later leaves every run, and the MD5 of
its settings in lineage.json, as they were. Every other option is required, and has its value in
params.yaml: under `defaults`, or in the entry that it belongs to.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Lora(Strict):
    """Low-rank adapters (Hu et al. 2021), named as in PEFT."""

    r: int = Field(ge=1, description="rank")
    lora_alpha: int = Field(ge=1, description="the adapter's output is scaled by lora_alpha / r")
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"]


class EarlyStopping(Strict):
    patience: int = Field(
        0,
        ge=0,
        description="units without a lower validation loss after which training ends; 0 = never",
    )
    unit: Literal["evaluations", "epochs"] = Field(description="what patience counts")


class Generation(Strict):
    """How a run continues a prompt. None of it decides weights, so none of it retrains anything."""

    max_new_tokens: int = Field(ge=1)
    temperature: float = Field(ge=0, description="0 = greedy; above 0 samples")
    top_p: float = Field(
        gt=0, le=1, description="share of the probability that is sampled from; 1 = all of it"
    )
    batch_size: int = Field(ge=1, description="rows answered at once")
    candidates: int = Field(
        1,
        ge=1,
        le=64,
        description="answers of which one is chosen by the task's check, such as whether Typst "
        "compiles: the first one (greedy, or sampled by temperature), unless it does not pass and "
        "another one of a beam of this width does, of these the likeliest; 1 = no check",
    )
    answered_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of the test rows, by a hash of each, that are answered. Less than all "
        "is for tasks whose score is the loss, as lm's: answers only show how the model writes",
    )


Strategy = Literal["ddp", "fsdp"]


class Launch(Strict):
    """Over how many processes a training is spread, and the answers of its run on one machine.
    Rows, steps and rates are those of one process; sums are made in another order, which shows in
    last bits.
    """

    processes: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        1, description="on each machine; auto: one for each card, and one where there is none"
    )
    nodes: int = Field(
        1, ge=1, le=1024, description="machines, on each of which the same command is given"
    )
    strategy: Strategy = Field(
        "ddp",
        description="ddp: each process holds the whole model; fsdp: each holds its part of every "
        "layer, and has a layer whole while it computes it",
    )


class Common(Strict):
    """What decides both a run's weights and its answers."""

    seed: int = Field(
        ge=0,
        le=2**32 - 1,
        description="random seed of initialisation, row order, dropout and sampling",
    )
    backend: str = Field(description="a folder of stages/backends: pytorch or mlx")
    method: Literal["lora", "qlora", "full"] = Field(
        description="lora: an adapter; qlora: an adapter on a base in 4 bits (NF4); "
        "full: all weights"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        description="auto: CUDA or Apple's GPU where there is one, else the CPU"
    )
    exact: Literal["portable", "machine"] = Field(
        description="portable: the same bytes on every x86-64 processor with AVX2, by its "
        "instructions alone and in float32; machine: by all the instructions there are, the same "
        "bytes on processors of one kind"
    )
    chat_template: str = Field(
        "",
        description="how conversations are written: a file of stages/text/chat_templates, in place "
        "of the base's own template",
    )
    enable_thinking: bool = Field(
        False,
        description="let the model reason before it answers, where its chat template has a choice "
        "(Qwen 3); a run that learns reasoning needs it there",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="CPU threads; 0 = one for each core. With exact: machine another number sums "
        "in another order and gives other last bits",
    )
    max_length_tokens: int = Field(
        ge=8,
        description="of a row: a longer conversation loses the middle of its prompt, "
        "a longer text becomes several windows",
    )
    max_steps_per_example: int = Field(
        0, ge=0, description="steps of a solution that are scored, from the first; 0 = all"
    )


class Answering(Common):
    """All that decides how a run answers, in an evaluation and on one's own text alike."""

    generation: Generation


class Settings(Common):
    """All that decides what a run's weights become, but for its data."""

    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        description="floating-point type of the matrix multiplications in training, not of those "
        "in answering. auto: the fastest that the device supports natively, and float32 on a CPU "
        "with exact: portable"
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass to save memory"
    )
    offload_activations: bool = Field(
        False, description="keep activations in the CPU's memory until the backward pass"
    )
    offload_weights: bool = Field(
        False,
        description="keep the layers' frozen matrices in the CPU's memory, or on a CPU in the "
        "base's file, and bring each layer's only while it computes; method lora, with "
        "gradient_checkpointing",
    )
    memory_limit_mb: int = Field(
        0, ge=0, description="of the device's memory, in 2^20 bytes; 0 = all that is free"
    )
    learn: Literal["all", "last"] = Field(
        "all", description="which answers of a conversation of several turns are learned"
    )
    added_tokens: list[Annotated[str, Field(min_length=1)]] = Field(
        [],
        description="new tokens of the vocabulary; beside an adapter, "
        "only their rows of the embedding are trained",
    )
    learning_rate: float = Field(
        gt=0, description="at its peak: reached after warm-up, then decayed by lr_scheduler_type"
    )
    lr_scheduler_type: Literal[
        "cosine",
        "cosine_with_min_lr",
        "linear",
        "constant_with_warmup",
        "polynomial",
        "warmup_stable_decay",
    ]
    lr_scheduler_kwargs: dict[str, float | str] = Field(
        {},
        description="the schedule's own parameters as transformers names them: "
        "min_lr_rate for cosine_with_min_lr, num_decay_steps for warmup_stable_decay",
    )
    warmup_steps: int = Field(
        0, ge=0, description="optimizer steps in which the learning rate rises from 0"
    )
    optim: Literal["adamw_torch", "muon", "paged_adamw_32bit", "paged_adamw_8bit"] = Field(
        description="muon: of method full, for the matrices of the layers, with AdamW for the "
        "rest; paged (bitsandbytes, CUDA only): the optimizer's state moves to the CPU's memory "
        "while a long row needs the room"
    )
    weight_decay: float = Field(0.0, ge=0)
    adam_beta2: float = Field(gt=0, lt=1, description="decay of AdamW's second moment")
    max_grad_norm: float = Field(gt=0, description="longer gradients are scaled down to it")
    per_device_train_batch_size: int = Field(
        ge=1,
        description="rows of a micro-batch. Where rows are short, more of them go into one, as "
        "far as this many of the longest rows would take the memory",
    )
    gradient_accumulation_steps: int = Field(
        ge=1,
        description="an optimizer step trains on this × per_device_train_batch_size rows, "
        "in however many micro-batches",
    )
    num_train_epochs: float = Field(gt=0)
    max_steps: int = Field(
        0, ge=0, description="optimizer steps; 0 = as many as num_train_epochs needs"
    )
    eval_steps: int = Field(
        0,
        ge=0,
        description="optimizer steps from one evaluation and checkpoint to the next; "
        "0 = those of an epoch",
    )
    max_eval_batches: int = Field(
        0,
        ge=0,
        description="validation batches of each evaluation, from the first; 0 = all of them",
    )
    logging_steps: int = Field(ge=1, description="optimizer steps from one report to the next")
    save_total_limit: int = Field(
        ge=1, description="checkpoints that a training keeps beside that of the best weights"
    )
    save: list[Literal["best", "last"]] = Field(
        description="best: the weights of the lowest validation loss, always kept, as models/RUN; "
        "last: those of the last step too, as models/RUN/last"
    )
    early_stopping: EarlyStopping
    lora: Lora | None = Field(None, description="of methods lora and qlora; none of method full")
    launch: Launch = Field(Launch(), description="several processes for one run")


class Options(Settings, Answering):
    """Every option of a run."""

    lora: Lora
    report_to: list[Literal["tensorboard", "wandb"]] = Field(
        [], description="experiment trackers to log to, beside logs/RUN.log"
    )
