"""params.yaml as types: every option's meaning, unit and bounds; its value is in params.yaml and nowhere else.

A field's default here is the neutral value that old runs keep when an option is added: `configure` leaves values equal
to it out of a run's resolved settings, so that they, and their MD5 in lineage.json, stay as they were.
"""

import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.records import UserError, nearest

NAME = re.compile(r"[a-z][a-z0-9_]*-\d{3}")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(Strict):
    """Low-rank adapters (Hu et al. 2021), named as in PEFT."""

    r: int = Field(16, ge=1, description="rank")
    lora_alpha: int = Field(32, ge=1, description="scaling is lora_alpha / r")
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"] = "all-linear"


class EarlyStopping(Strict):
    patience: int = Field(0, ge=0, description="units without improvement before the run stops; 0 = never")
    unit: Literal["evaluations", "epochs"] = Field("evaluations", description="what patience counts")


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
    method: Literal["lora", "qlora", "full"] = Field("lora", description="qlora: LoRA on a base in 4 bits (NF4)")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the matrix products in training")
    gradient_checkpointing: bool = Field(False, description="recompute activations in the backward pass to save memory")
    offload_activations: bool = Field(False, description="keep activations in the CPU's memory until the backward pass")
    memory_limit_mb: int = Field(0, ge=0, description="what training may take of the device, in 2^20 bytes; 0 = all of it")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto: CUDA or MPS where there is one, else the CPU"
    )
    threads: int = Field(2, ge=1, description="CPU threads; another number gives other last bits, so it is pinned")
    max_length_tokens: int = Field(512, ge=8, description="longer rows are cut from the prompt's middle, texts into windows")
    max_steps_per_example: int = Field(0, ge=0, description="steps of a solution that are scored, from the first; 0 = all")
    added_tokens: list[str] = Field([], description="new tokens of the base's vocabulary; LoRA trains their rows alone")
    learning_rate: float = Field(2e-4, gt=0)
    lr_scheduler_type: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_steps: int = Field(0, ge=0, description="optimizer steps")
    optim: Literal["adamw_torch", "paged_adamw_32bit", "paged_adamw_8bit"] = Field(
        "adamw_torch", description="the paged ones (bitsandbytes) give memory back while a long row needs it; CUDA only"
    )
    weight_decay: float = Field(0.0, ge=0)
    adam_beta2: float = Field(0.999, gt=0, lt=1, description="decay of AdamW's second moment")
    max_grad_norm: float = Field(1.0, gt=0)
    per_device_train_batch_size: int = Field(8, ge=1, description="rows of one forward pass")
    gradient_accumulation_steps: int = Field(1, ge=1, description="forward passes of one optimizer step")
    num_train_epochs: float = Field(1.0, gt=0)
    max_steps: int = Field(0, ge=0, description="optimizer steps; 0 = as many as num_train_epochs needs")
    eval_steps: int = Field(0, ge=0, description="optimizer steps between evaluations and checkpoints; 0 = one an epoch")
    max_eval_batches: int = Field(0, ge=0, description="batches of validation rows, from the first; 0 = all")
    logging_steps: int = Field(25, ge=1, description="optimizer steps")
    save_total_limit: int = Field(2, ge=1, description="checkpoints kept beside the best while training")
    save: list[Literal["best", "last"]] = Field(["best"], description="last: its weights too, as models/RUN/last")
    early_stopping: EarlyStopping = EarlyStopping()
    lora: Lora = Lora()
    generation: Generation = Generation()
    report_to: list[Literal["tensorboard", "wandb"]] = Field([], description="who is told of a training beside logs/RUN.log")


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
    revision: str = Field(pattern="^[0-9a-f]{40}$", description="the 40-digit commit hash; a branch or tag would move")
    name: str = Field("", description="configuration of the data set, where it has several")
    split: str = Field("train", description="the published split, or a part of it: train[:1000]")
    columns: dict[str, str] = Field({}, description="the record's key for each column that is taken; empty = all as they are")


class Augment(Strict):
    """Copies of the training rows with noise in what is given; what should come out stays clean."""

    copies: int = Field(1, ge=1, description="noisy rows beside each row")
    character_noise: float = Field(0.05, gt=0, le=0.5, description="share of characters dropped, doubled, swapped or replaced")
    seed: int = Field(42, ge=0)


class Corpus(Strict):
    """One version of a task's data, or a part of one: two corpora may read one file, for a curriculum."""

    task: str
    file: str
    max_drop_fraction: float = Field(0.2, ge=0, le=1, description="share of rows that cleaning may drop before it stops")
    malformed: Literal["stop", "drop"] = Field("stop", description="what an unreadable line does")
    near_duplicates: float = Field(0.0, ge=0, le=1, description="Jaccard similarity from which a row is dropped; 0 = keep all")
    categories: list[str] = Field([], description="error types, constructs or kinds that are kept; empty = all")
    max_characters: int = Field(0, ge=0, description="of source and target together, for easy rows first; 0 = any")
    max_samples: int = Field(0, ge=0, description="rows kept, from the first; 0 = all")
    instruction: str = Field("", description="what the model is told to do, in place of the task's own words")
    augment: Augment | None = None
    test_only: bool = Field(False, description="every row is a test row, none is trained on")
    valid_only: bool = Field(False, description="every row is a validation row, for runs that name this as their validation")


class Base(Strict):
    """A base model made here: a tokenizer trained on one corpus and an untrained grouped-query Llama."""

    corpus: str
    split: Literal["gpt2", "atoms"] = Field("gpt2", description="what the tokenizer may merge; see stages/text/tokenizer.py")
    vocab_size: int = Field(ge=300, description="tokens, the 256 bytes and the special ones included")
    hidden_size: int = Field(ge=8)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=8)
    max_position_embeddings: int = Field(512, ge=32, description="tokens")
    initializer_range: float = Field(0.02, gt=0, description="standard deviation of the untrained weights")
    seed: int = Field(42, ge=0)


class Run(BaseModel):
    """What a run starts from and learns; its own overrides of Settings stand beside these keys."""

    model_config = ConfigDict(frozen=True, extra="allow")
    task: str
    corpus: str
    base: str
    parent: str
    preset: list[str] | str = []
    mix: dict[str, Annotated[float, Field(gt=0)]] = Field({}, description="other corpora, and how often an epoch has each row")
    replay: float = Field(0.0, ge=0, description="how often an epoch has each row of the corpora of the runs before")
    validation: str = Field(
        "", description="a valid_only corpus that decides which weights are best; empty = the held-out share"
    )


RUN_KEYS = tuple(Run.model_fields)


class Params(Strict):
    allow_outside: bool = Field(False, description="whether corpora and models may lie outside the repository")
    split: Split
    defaults: dict[str, Any]
    presets: dict[str, dict[str, Any]]
    tasks: dict[str, dict[str, Any]]
    synthetic: dict[str, Synthetic]
    sources: dict[str, Source] = {}
    bases: dict[str, Base]
    corpora: dict[str, Corpus]
    runs: dict[str, Run]

    def resolve(self, run: str) -> Settings:
        """defaults < presets, in the order they are named < task < the run's own."""
        spec = self.runs[run]
        presets = [spec.preset] if isinstance(spec.preset, str) else spec.preset
        layers = [
            self.defaults,
            *(self.presets[name] for name in presets),
            self.tasks[spec.task],
            spec.model_extra or {},
        ]
        merged: dict[str, Any] = {}
        for layer in layers:
            merged = _merge(merged, layer)
        return Settings.model_validate(merged)

    def shares(self, run: str) -> dict[str, float]:
        """How often an epoch of a run has each row of each corpus: its own once, those of `replay` and `mix` as they say."""
        spec, shares = self.runs[run], {}
        before = spec
        while (name := before.parent.removeprefix("models/")) in self.runs and self.runs[name].task == spec.task:
            before = self.runs[name]
            if spec.replay:
                shares[before.corpus] = spec.replay
        return {spec.corpus: 1.0} | shares | {spec.corpus: 1.0} | spec.mix


def load(path: Path = Path("params.yaml")) -> Params:
    """The whole file, validated: unknown keys, wrong types and references that lead nowhere are told all at once.

    Raises UserError with a line per fault: the key's path, what is wrong, and the nearest key there is.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run this at the top of the repository") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    raw = {key: {} if value is None else value for key, value in (raw or {}).items()}
    faults = _faults(Params, raw, "")
    if not faults:
        layers = {"defaults": raw["defaults"]}
        layers |= {f"{group}.{name}": layer or {} for group in ("presets", "tasks") for name, layer in raw[group].items()}
        layers |= {f"runs.{name}": _without(run, RUN_KEYS) for name, run in raw["runs"].items()}
        faults = [fault for place, layer in layers.items() for fault in _faults(Settings, layer, place)]
    if faults:
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    params = Params.model_validate(raw)
    if faults := _outside(params) + _dangling(params):
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    return params


def entry(entries: dict[str, Any], name: str, group: str) -> Any:
    """One entry of a map in params.yaml; raises UserError that names the nearest there is."""
    if name not in entries:
        raise UserError(f"params.yaml: no `{name}` under `{group}`{nearest(name, list(entries))}")
    return entries[name]


def _faults(model: type[BaseModel], value: Any, place: str) -> list[str]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        return [_sentence(model, item, place) for item in error.errors()]
    return []


def _sentence(model: type[BaseModel], error: Any, place: str) -> str:
    parts = [str(part) for part in error["loc"]]
    where = ".".join(filter(None, [place, *parts]))
    if error["type"] == "extra_forbidden":
        return f"`{where}` is no option{nearest(parts[-1], _options(model, parts[:-1]))}"
    if error["type"] == "missing":
        return f"`{where}` is missing; add it"
    return f"`{where}`: {error['msg'][0].lower()}{error['msg'][1:]}, not {error['input']!r}; correct the value"


def _options(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that are allowed where `path` leads."""
    for name in path:
        field = model.model_fields.get(name)
        inner = _kinds(field.annotation if field else None)
        if inner:
            model = inner[0]
    return list(model.model_fields)


def _kinds(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for argument in getattr(annotation, "__args__", ()) for kind in _kinds(argument)]


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _without(layer: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in layer.items() if key not in keys}


def _dangling(params: Params) -> list[str]:
    """References between the maps that lead nowhere or in a circle, and names that break the numbering."""
    faults = []
    backends = sorted(path.stem for path in Path(__file__).with_name("backends").glob("*.py") if _is_backend(path))
    for group, entries in (
        ("synthetic", params.synthetic),
        ("sources", params.sources),
        ("corpora", params.corpora),
        ("runs", params.runs),
    ):
        for name, item in entries.items():
            if not NAME.fullmatch(name):
                faults.append(f"`{group}.{name}`: a version is named TASK-NNN with three digits, as in `typst-002`")
            if item.task not in params.tasks:
                faults.append(f"`{group}.{name}.task`: no task `{item.task}`{nearest(item.task, list(params.tasks))}")
    faults += [
        f"`corpora.{name}`: test_only and valid_only at once; a row serves one of the two"
        for name, corpus in params.corpora.items()
        if corpus.test_only and corpus.valid_only
    ]
    for task in params.tasks:
        if not Path(__file__).with_name("tasks").joinpath(task, "corpus.py").is_file():
            faults.append(f"`tasks.{task}`: there is no folder stages/tasks/{task}; write its corpus.py and score.py")
    for name, base in params.bases.items():
        texts = [corpus for corpus, item in params.corpora.items() if item.task == "lm"]
        if base.corpus not in texts:
            faults.append(f"`bases.{name}.corpus`: no corpus of texts `{base.corpus}`{nearest(base.corpus, texts)}")
    for name, run in params.runs.items():
        presets = [run.preset] if isinstance(run.preset, str) else run.preset
        faults += [
            f"`runs.{name}.preset`: no preset `{preset}`{nearest(preset, list(params.presets))}"
            for preset in presets
            if preset not in params.presets
        ]
        for key, other in (("corpus", run.corpus), *(("mix", other) for other in run.mix)):
            of = params.corpora.get(other)
            if of is None:
                faults.append(f"`runs.{name}.{key}`: no corpus `{other}`{nearest(other, list(params.corpora))}")
            elif of.task != run.task:
                faults.append(f"`runs.{name}.{key}`: {other} belongs to task {of.task}, the run to {run.task}")
            elif of.test_only or of.valid_only:
                only = "test_only" if of.test_only else "valid_only"
                faults.append(f"`runs.{name}.{key}`: {other} is {only}; train on another one")
        judges = [corpus for corpus, of in params.corpora.items() if of.valid_only and of.task == run.task]
        if run.validation and run.validation not in judges:
            faults.append(f"`runs.{name}.validation`: no valid_only corpus `{run.validation}`{nearest(run.validation, judges)}")
        faults += [f"`runs.{name}.{key}`: {why}" for key in ("base", "parent") if (why := _no_model(params, run, key))]
    try:
        TopologicalSorter({f"models/{name}": (run.base, run.parent) for name, run in params.runs.items()}).prepare()
    except CycleError as error:
        circle = " → ".join(error.args[1])
        faults.append(f"`runs`: {circle}: a run that continues from itself; give one of them another base or parent")
    if not faults:
        for name in params.runs:
            settings = params.resolve(name)
            if settings.backend not in backends:
                faults.append(f"`runs.{name}`: no backend `{settings.backend}`{nearest(settings.backend, backends)}")
    return faults


def _outside(params: Params) -> list[str]:
    """Files and models that lie elsewhere: another clone would not have them, and a stage could overwrite them."""
    if params.allow_outside:
        return []
    named = [(f"{group}.{name}.file", item.file) for group in ("synthetic", "sources", "corpora")
             for name, item in getattr(params, group).items()]  # fmt: skip
    named += [(f"runs.{name}.{key}", getattr(run, key)) for name, run in params.runs.items() for key in ("base", "parent")]
    here = Path.cwd().resolve()
    return [
        f"`{place}`: {path} lies outside the repository; copy it in, or set `allow_outside: true`"
        for place, path in named
        if not Path(path).resolve().is_relative_to(here)
    ]


def _is_backend(path: Path) -> bool:
    """A backend is a file of backends/ that can train."""
    return "\ndef train(" in path.read_text(encoding="utf-8")


def _no_model(params: Params, run: Run, key: str) -> str:
    """Why `base` or `parent` cannot be started from, or ""."""
    path = getattr(run, key)
    made = {f"models/bases/{name}" for name in params.bases} | {f"models/{name}" for name in params.runs}
    if path not in made and not Path(path).exists():
        return f"no model `{path}`{nearest(path, sorted(made))}"
    grown = params.runs.get(path.removeprefix("models/"))
    if key == "parent" and grown is not None and path != run.base and grown.base != run.base:
        return f"{path} was grown on {grown.base}, this run's base is {run.base}; use the same base or another parent"
    return ""
