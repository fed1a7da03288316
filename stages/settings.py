"""params.yaml as types: every option's meaning, unit and bounds; its value is in params.yaml and nowhere else.

A field's default here is the neutral value that old runs keep when an option is added: `configure` leaves values equal
to it out of a run's resolved settings, so that they, and their MD5 in lineage.json, stay as they were.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(Strict):
    """Low-rank adapters (Hu et al. 2021), named as in PEFT."""

    r: int = Field(16, ge=1, description="rank")
    lora_alpha: int = Field(32, ge=1, description="scaling is lora_alpha / r")
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"] = "all-linear"


class EarlyStopping(Strict):
    patience: int = Field(
        0, ge=0, description="units without improvement before the run stops; 0 = never"
    )
    unit: Literal["evaluations", "epochs"] = Field(
        "evaluations", description="what patience counts"
    )


class Generation(Strict):
    """How a run answers. None of it retrains anything: it is resolved into a file of its own."""

    max_new_tokens: int = Field(128, ge=1)
    temperature: float = Field(0.0, ge=0, description="0 = greedy")
    top_p: float = Field(1.0, gt=0, le=1)
    batch_size: int = Field(64, ge=1, description="rows answered at once")


class Settings(Strict):
    """All that decides what a run's weights become, and how it answers."""

    seed: int = Field(42, ge=0)
    backend: str = "pytorch"
    method: Literal["lora", "qlora", "full"] = Field(
        "lora", description="qlora: LoRA on a base in 4 bits (NF4)"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the matrix products in training"
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass to save memory"
    )
    offload_activations: bool = Field(
        False, description="keep activations in the CPU's memory until the backward pass"
    )
    memory_limit_mb: int = Field(
        0, ge=0, description="what training may take of the device, in 2^20 bytes; 0 = all of it"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto: CUDA or MPS where there is one, else the CPU"
    )
    threads: int = Field(
        2, ge=1, description="CPU threads; another number gives other last bits, so it is pinned"
    )
    max_length_tokens: int = Field(
        512, ge=8, description="longer rows are cut from the prompt's middle, texts into windows"
    )
    max_steps_per_example: int = Field(
        0, ge=0, description="steps of a solution that are scored, from the first; 0 = all"
    )
    added_tokens: list[str] = Field(
        [], description="new tokens of the base's vocabulary; LoRA trains their rows alone"
    )
    learning_rate: float = Field(2e-4, gt=0)
    lr_scheduler_type: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_steps: int = Field(0, ge=0, description="optimizer steps")
    optim: Literal["adamw_torch", "paged_adamw_32bit", "paged_adamw_8bit"] = Field(
        "adamw_torch",
        description="the paged ones (bitsandbytes) give memory back while a long row needs it; CUDA only",
    )
    weight_decay: float = Field(0.0, ge=0)
    adam_beta2: float = Field(0.999, gt=0, lt=1, description="decay of AdamW's second moment")
    max_grad_norm: float = Field(1.0, gt=0)
    per_device_train_batch_size: int = Field(
        8, ge=1, description="rows as long as the longest that memory does for at once"
    )
    gradient_accumulation_steps: int = Field(
        1, ge=1, description="an optimizer step's rows, as a multiple of those"
    )
    num_train_epochs: float = Field(1.0, gt=0)
    max_steps: int = Field(
        0, ge=0, description="optimizer steps; 0 = as many as num_train_epochs needs"
    )
    eval_steps: int = Field(
        0, ge=0, description="optimizer steps between evaluations and checkpoints; 0 = one an epoch"
    )
    max_eval_batches: int = Field(
        0, ge=0, description="batches of validation rows, from the first; 0 = all"
    )
    logging_steps: int = Field(25, ge=1, description="optimizer steps")
    save_total_limit: int = Field(
        2, ge=1, description="checkpoints kept beside the best while training"
    )
    save: list[Literal["best", "last"]] = Field(
        ["best"], description="last: its weights too, as models/RUN/last"
    )
    early_stopping: EarlyStopping = EarlyStopping()
    lora: Lora = Lora()
    generation: Generation = Generation()
    report_to: list[Literal["tensorboard", "wandb"]] = Field(
        [], description="who is told of a training beside logs/RUN.log"
    )


class Split(Strict):
    """Shares of the hash space held out, one pair for all corpora: else a row held out in 001 could be trained on in 002."""

    valid: float = Field(0.1, gt=0, lt=0.5)
    test: float = Field(0.1, gt=0, lt=0.5)


class Synthetic(Strict):
    """A demo corpus that `synthesize` writes from its task's grammar."""

    task: str
    file: str
    rows: int = Field(ge=1)
    level: int = Field(1, ge=1, description="difficulty of the material")
    seed: int = Field(0, ge=0)


class Source(Strict):
    """A data set of the hub that `fetch` writes into a corpus file, at one revision."""

    task: str
    file: str
    hub_id: str = Field(min_length=1, description="OWNER/NAME, or a folder of data files")
    revision: str = Field(
        pattern="^[0-9a-f]{40}$", description="the 40-digit commit hash; a branch or tag would move"
    )
    name: str = Field("", description="configuration of the data set, where it has several")
    split: str = Field("train", description="the published split, or a part of it: train[:1000]")
    columns: dict[str, str] = Field(
        {}, description="the record's key for each column that is taken; empty = all as they are"
    )


class Augment(Strict):
    """Copies of the training rows with noise in what is given; what should come out stays clean."""

    copies: int = Field(1, ge=1, description="noisy rows beside each row")
    character_noise: float = Field(
        0.05, gt=0, le=0.5, description="share of characters dropped, doubled, swapped or replaced"
    )
    seed: int = Field(42, ge=0)


class Corpus(Strict):
    """One version of a task's data, or a part of one: two corpora may read one file, for a curriculum."""

    task: str
    file: str
    max_drop_fraction: float = Field(
        0.2, ge=0, le=1, description="share of rows that cleaning may drop before it stops"
    )
    malformed: Literal["stop", "drop"] = Field("stop", description="what an unreadable line does")
    near_duplicates: float = Field(
        0.0, ge=0, le=1, description="Jaccard similarity from which a row is dropped; 0 = keep all"
    )
    categories: list[str] = Field(
        [], description="error types, constructs or kinds that are kept; empty = all"
    )
    max_characters: int = Field(
        0, ge=0, description="of source and target together, for easy rows first; 0 = any"
    )
    max_samples: int = Field(0, ge=0, description="rows kept, from the first; 0 = all")
    instruction: str = Field(
        "", description="what the model is told to do, in place of the task's own words"
    )
    augment: Augment | None = None
    test_only: bool = Field(False, description="every row is a test row, none is trained on")
    valid_only: bool = Field(
        False,
        description="every row is a validation row, for runs that name this as their validation",
    )


class Base(Strict):
    """A base model made here: a tokenizer trained on one corpus and an untrained grouped-query Llama."""

    corpus: str
    split: Literal["gpt2", "atoms"] = Field(
        "gpt2", description="what the tokenizer may merge; see stages/text/tokenizer.py"
    )
    vocab_size: int = Field(
        ge=300, description="tokens, the 256 bytes and the special ones included"
    )
    hidden_size: int = Field(ge=8)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=8)
    max_position_embeddings: int = Field(512, ge=32, description="tokens")
    initializer_range: float = Field(
        0.02, gt=0, description="standard deviation of the untrained weights"
    )
    seed: int = Field(42, ge=0)


class Run(BaseModel):
    """What a run starts from and learns; its own overrides of Settings stand beside these keys."""

    model_config = ConfigDict(frozen=True, extra="allow")
    task: str
    corpus: str
    base: str
    parent: str
    preset: list[str] | str = []
    mix: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="other corpora, and how often an epoch has each row"
    )
    replay: float = Field(
        0.0, ge=0, description="how often an epoch has each row of the corpora of the runs before"
    )
    validation: str = Field(
        "",
        description="a valid_only corpus that decides which weights are best; empty = the held-out share",
    )


RUN_KEYS = tuple(Run.model_fields)
