"""params.yaml: what is wrong is said with the key's path and the nearest key there is, before anything runs."""

from pathlib import Path

import pytest
import yaml

from stages import settings
from stages.errors import UserError
from stages.params import Params, load_params

GOOD = {
    "split": {"valid": 0.1, "test": 0.1},
    "defaults": {"learning_rate": 1e-3, "lora": {"r": 8, "lora_alpha": 16}},
    "presets": {"large": {"lora": {"r": 32}}, "slow": {"learning_rate": 1e-5}},
    "tasks": {"gec": {"max_steps": 7}, "lm": {}},
    "synthetic": {},
    "bases": {
        "tiny": {
            "corpus": "lm-001",
            "vocab_size": 300,
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 8,
        }
    },
    "corpora": {
        "gec-001": {"task": "gec", "file": "a.tsv"},
        "lm-001": {"task": "lm", "file": "a.txt"},
    },
    "runs": {
        "gec-001": {
            "task": "gec",
            "corpus": "gec-001",
            "base": "models/bases/tiny",
            "parent": "models/bases/tiny",
        },
        "gec-002": {
            "task": "gec",
            "corpus": "gec-001",
            "base": "models/bases/tiny",
            "parent": "models/gec-001",
            "preset": ["large", "slow"],
        },
    },
}


def load(tmp_path: Path, *changes: tuple[str, object]) -> Params:
    params = yaml.safe_load(yaml.safe_dump(GOOD))
    for path, value in changes:
        *above, last = path.split("/")
        at = params
        for key in above:
            at = at[key]
        at[last] = value
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(params), encoding="utf-8")
    return load_params(file)


def test_a_run_overrides_its_task_its_presets_and_the_defaults_in_this_order(tmp_path):
    params = load(tmp_path, ("runs/gec-002/seed", 5))
    chosen = params.resolve("gec-002")
    assert (
        chosen.seed,
        chosen.max_steps,
        chosen.learning_rate,
        chosen.lora.r,
        chosen.lora.lora_alpha,
    ) == (
        5,
        7,
        1e-5,
        32,
        16,
    )
    assert params.resolve("gec-001").lora.r == 8


def test_a_rate_that_dvc_rewrites_as_text_is_a_number(tmp_path):
    # `dvc exp run -S learning_rate=5e-5` writes 5e-05, which YAML 1.1 reads as a string.
    assert (
        load(tmp_path, ("runs/gec-001/learning_rate", "5e-05")).resolve("gec-001").learning_rate
        == 5e-5
    )


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("defaults/learning_rat", 1, "`defaults.learning_rat` is no option; did you mean `learning_rate`?"),
        ("runs/gec-001/lora", {"rr": 4}, "`runs.gec-001.lora.rr` is no option; did you mean `r`?"),
        ("presets/large/loro", {}, "`presets.large.loro` is no option; did you mean `lora`?"),
        ("tasks/gec/max_steps", "many", "`tasks.gec.max_steps`: input should be a valid integer"),
        ("defaults/method", "lora+", "`defaults.method`: input should be 'lora', 'qlora' or 'full', not 'lora+'"),
        ("runs/gec-001/learning_rate", -1, "`runs.gec-001.learning_rate`: input should be greater than 0, not -1"),
        ("corpora/gec-001/fil", "b", "`corpora.gec-001.fil` is no option; did you mean `file`?"),
        ("runs/gec-001/corpus", "gec-01", "`runs.gec-001.corpus`: no corpus `gec-01`; did you mean `gec-001`?"),
        ("runs/gec-001/corpus", "lm-001", "`runs.gec-001.corpus`: lm-001 belongs to task lm, the run to gec"),
        ("runs/gec-001/task", "gecc", "`runs.gec-001.task`: no task `gecc`; did you mean `gec`?"),
        ("runs/gec-001/parent", "models/gec-003", "no model `models/gec-003`; did you mean `models/gec-00"),
        ("runs/gec-001/backend", "pytorsh", "`runs.gec-001`: no backend `pytorsh`; did you mean `pytorch`?"),
        ("runs/gec-002/preset", "larg", "`runs.gec-002.preset`: no preset `larg`; did you mean `large`?"),
        ("tasks/poetry", {}, "`tasks.poetry`: there is no folder stages/tasks/poetry"),
        ("corpora/gec-1", {"task": "gec", "file": "a"}, "`corpora.gec-1`: a version is named TASK-NNN with three digits"),
        ("bases/tiny/corpus", "gec-001", "`bases.tiny.corpus`: no corpus of texts `gec-001`"),
        ("runs/gec-001", {"task": "gec", "corpus": "gec-001", "base": "a"}, "`runs.gec-001.parent` is missing; add it"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_path_and_the_nearest_key(tmp_path, path, value, says):
    with pytest.raises(UserError) as error:
        load(tmp_path, (path, value))
    assert says in str(error.value)
    assert "params.yaml: " in str(error.value)


@pytest.mark.parametrize("name", ["x; touch ran #", "x\n", "$(touch ran)", "../x", "-x", "X", ""])
@pytest.mark.parametrize("group", ["bases", "tasks", "presets"])
def test_a_name_that_a_shell_or_a_path_would_take_for_something_else_is_refused(
    tmp_path, group, name
):
    """dvc.yaml puts the keys into commands and paths."""
    entry = dict(GOOD["bases"]["tiny"]) if group == "bases" else {}
    params = yaml.safe_load(yaml.safe_dump(GOOD))
    params[group][name] = entry
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_params(tmp_path / "params.yaml")
    says = "is no name; write it with lower-case letters, digits, `_`, `.` and `-`"
    assert f"params.yaml: `{group}`: {name!r} {says}" in str(error.value)


@pytest.mark.parametrize("name", ["gec-001; touch ran #", "gec-001\n", "gec-٠٠١"])
@pytest.mark.parametrize("group", ["synthetic", "sources", "corpora", "runs"])
def test_a_version_that_a_shell_would_take_for_something_else_is_refused(tmp_path, group, name):
    entries = {
        "synthetic": {"task": "gec", "file": "b.tsv", "rows": 9},
        "sources": {"task": "gec", "file": "b.tsv", "hub_id": "a/b", "revision": "0" * 40},
        "corpora": GOOD["corpora"]["gec-001"],
        "runs": GOOD["runs"]["gec-001"],
    }
    params = {**GOOD, "sources": {}}
    params[group] = {**params[group], name: entries[group]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_params(tmp_path / "params.yaml")
    says = "a version is named TASK-NNN with three digits"
    assert f"params.yaml: `{group}.{name}`: {says}" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "circle"),
    [
        ([("runs/gec-002/parent", "models/gec-002")], "models/gec-002 → models/gec-002"),
        ([("runs/gec-001/parent", "models/gec-002")], "models/gec-00"),
        (
            [("runs/gec-001/base", "models/gec-001"), ("runs/gec-002/base", "models/gec-001")],
            "models/gec-001 → models/gec-001",
        ),
    ],
)
def test_a_run_that_continues_from_itself_is_refused(tmp_path, changes, circle):
    with pytest.raises(UserError) as error:
        load(tmp_path, *changes)
    assert f"`runs`: {circle}" in str(error.value)
    assert "a run that continues from itself; give one of them another base or parent" in str(
        error.value
    )


def test_a_parent_grown_on_another_base_is_refused(tmp_path):
    other = dict(GOOD["bases"]["tiny"])
    with pytest.raises(
        UserError,
        match=r"models/gec-001 was grown on models/bases/tiny, this run's base is models/bases/other",
    ):
        load(tmp_path, ("bases/other", other), ("runs/gec-002/base", "models/bases/other"))


def test_every_mistake_is_told_at_once(tmp_path):
    with pytest.raises(UserError) as error:
        load(tmp_path, ("defaults/seeed", 1), ("runs/gec-001/treads", 1))
    assert str(error.value).count("\n") == 1


def test_every_option_says_what_it_is_or_is_named_as_in_transformers_and_peft():
    from peft import LoraConfig
    from transformers import TrainingArguments

    known = set(TrainingArguments.__dataclass_fields__) | set(LoraConfig.__dataclass_fields__)
    unexplained = {
        name
        for model in (settings.Settings, settings.Lora, settings.EarlyStopping, settings.Generation)
        for name, field in model.model_fields.items()
        if not field.description and name not in known and not isinstance(field.annotation, type)
    }
    assert unexplained <= {"method", "top_p"}


DEFAULTS = {
    "Lora.r": 16,
    "Lora.lora_alpha": 32,
    "Lora.lora_dropout": 0.0,
    "Lora.target_modules": "all-linear",
    "EarlyStopping.patience": 0,
    "EarlyStopping.unit": "evaluations",
    "Generation.max_new_tokens": 128,
    "Generation.temperature": 0.0,
    "Generation.top_p": 1.0,
    "Generation.batch_size": 64,
    "Settings.seed": 42,
    "Settings.backend": "pytorch",
    "Settings.method": "lora",
    "Settings.precision": "float32",
    "Settings.gradient_checkpointing": False,
    "Settings.offload_activations": False,
    "Settings.memory_limit_mb": 0,
    "Settings.device": "auto",
    "Settings.threads": 2,
    "Settings.max_length_tokens": 512,
    "Settings.max_steps_per_example": 0,
    "Settings.added_tokens": [],
    "Settings.learning_rate": 0.0002,
    "Settings.lr_scheduler_type": "cosine",
    "Settings.warmup_steps": 0,
    "Settings.optim": "adamw_torch",
    "Settings.weight_decay": 0.0,
    "Settings.adam_beta2": 0.999,
    "Settings.max_grad_norm": 1.0,
    "Settings.per_device_train_batch_size": 8,
    "Settings.gradient_accumulation_steps": 1,
    "Settings.num_train_epochs": 1.0,
    "Settings.max_steps": 0,
    "Settings.eval_steps": 0,
    "Settings.max_eval_batches": 0,
    "Settings.logging_steps": 25,
    "Settings.save_total_limit": 2,
    "Settings.save": ["best"],
    "Settings.early_stopping": settings.EarlyStopping(),
    "Settings.lora": settings.Lora(),
    "Settings.generation": settings.Generation(),
    "Settings.report_to": [],
    "Split.valid": 0.1,
    "Split.test": 0.1,
    "Synthetic.level": 1,
    "Synthetic.seed": 0,
    "Source.name": "",
    "Source.split": "train",
    "Source.columns": {},
    "Augment.copies": 1,
    "Augment.character_noise": 0.05,
    "Augment.seed": 42,
    "Corpus.max_drop_fraction": 0.2,
    "Corpus.malformed": "stop",
    "Corpus.near_duplicates": 0.0,
    "Corpus.categories": [],
    "Corpus.max_characters": 0,
    "Corpus.max_samples": 0,
    "Corpus.instruction": "",
    "Corpus.augment": None,
    "Corpus.test_only": False,
    "Corpus.valid_only": False,
    "Base.split": "gpt2",
    "Base.max_position_embeddings": 512,
    "Base.initializer_range": 0.02,
    "Base.seed": 42,
    "Run.preset": [],
    "Run.mix": {},
    "Run.replay": 0.0,
    "Run.validation": "",
}


def test_a_default_is_for_ever():
    """No config holds a value that is its default, so that nothing would rerun where a default is changed."""
    models = [
        model
        for model in vars(settings).values()
        if getattr(model, "__module__", "") == settings.__name__
    ]
    now = {
        f"{model.__name__}.{name}": repr(field.default)
        for model in models
        for name, field in model.model_fields.items()
        if not field.is_required()
    }
    was = {name: repr(value) for name, value in DEFAULTS.items()}
    assert now == was, (
        "a default is for ever: old runs do not name it, so that another value would change what they mean and rerun none of "
        "them. Set the value in params.yaml; enter here the neutral default of an option that is new"
    )


def test_the_repositorys_own_params_are_sound():
    assert len(load_params(Path(__file__).parents[1] / "params.yaml").runs) >= 7
