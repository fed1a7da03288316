"""params.yaml: what is wrong is said with the key's path and the nearest key there is, before
anything runs."""

import copy
from pathlib import Path

import pytest
import yaml

from stages import configure, settings
from stages.commands.edited_params import edited_params
from stages.errors import UserError
from stages.layers import Params, answering
from stages.params import load_params, run_entry
from tests.tiny import OPTIONS

GOOD = {
    "split": {"valid": 0.1, "test": 0.1},
    "defaults": OPTIONS
    | {"max_steps": 0, "eval_steps": 0, "learning_rate": 1e-3}
    | {"lora": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}},
    "presets": {"large": {"lora": {"r": 32}}, "slow": {"learning_rate": 1e-5}},
    "tasks": {"gec": {"max_steps": 7}, "lm": {}},
    "synthetic": {},
    "bases": {
        "tiny": {
            "corpus": "lm-001",
            "split": "gpt2",
            "vocab_size": 300,
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 8,
            "max_position_embeddings": 512,
            "initializer_range": 0.02,
            "seed": 42,
        }
    },
    "corpora": {
        "gec-001": {"task": "gec", "file": "a.tsv"},
        "lm-001": {"task": "lm", "file": "a.txt"},
    },
    "compare": ["gec"],
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
        at[last] = copy.deepcopy(value)
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


def test_no_option_but_a_neutral_one_may_be_missing_from_the_defaults(tmp_path):
    with pytest.raises(UserError) as error:
        load(tmp_path, ("defaults", {}))
    told = str(error.value)
    for name, field in settings.Options.model_fields.items():
        assert (f"`defaults.{name}` is missing" in told) is field.is_required(), name


def configs(params: Params, run: str) -> dict[str, dict]:
    return {made.stage: made.settings for made in configure.decisions_of(params, run)}


def test_what_is_evaluated_is_what_is_applied(tmp_path):
    """Its own seed, and nothing of its training."""
    params = load(tmp_path, ("runs/gec-002/seed", 5), ("runs/gec-002/precision", "bfloat16"))
    evaluated = configs(params, "gec-002")["predict"]["settings"]
    applied = answering(params.resolve("gec-002"))
    assert settings.Answering.model_validate(evaluated) == applied
    assert applied.seed == 5
    neutral = {"max_steps_per_example", "chat_template", "enable_thinking"}
    assert set(evaluated) == set(settings.Answering.model_fields) - neutral


def test_threads_decide_only_what_is_exact_for_one_kind_of_machine(tmp_path):
    changes = [("runs/gec-002/exact", "portable"), ("runs/gec-002/threads", 3)]
    portable = configs(load(tmp_path, *changes), "gec-002")
    machine = configs(load(tmp_path, changes[1]), "gec-002")
    for stage in ("train", "predict"):
        assert "threads" not in portable[stage]["settings"]
        assert machine[stage]["settings"]["threads"] == 3
    launch = {"processes": 1, "nodes": 1, "strategy": "ddp"}
    conduct = {"report_to": [], "threads": 3, "save_total_limit": 2, "launch": launch}
    assert portable["conduct"] == machine["conduct"] == conduct


def test_exact_for_one_kind_of_machine_needs_a_number_of_threads(tmp_path):
    with pytest.raises(UserError) as caught:
        load(tmp_path, ("runs/gec-002/threads", 0))
    assert str(caught.value).endswith(
        "`runs.gec-002`: exact: machine needs a number of threads, by which the last bits differ; "
        "set it"
    )
    load(tmp_path, ("runs/gec-002/exact", "portable"), ("runs/gec-002/threads", 0))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_config_of_a_training_has_all_that_it_needs_and_no_more(tmp_path, method):
    params = load(tmp_path, ("defaults/method", method))
    made = configs(params, "gec-001")
    conduct = {key: value for key, value in made["conduct"].items() if key != "report_to"}
    assert "save_total_limit" not in made["train"]["settings"]
    trained = settings.Settings.model_validate(made["train"]["settings"] | conduct)
    whole = params.resolve("gec-001")
    for name in settings.Settings.model_fields.keys() - {"lora"}:
        assert getattr(trained, name) == getattr(whole, name), name
    assert trained.lora == (whole.lora if method == "lora" else None)


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
        ("runs/gec-001/chat_template", "chatlm", "`runs.gec-001`: no chat template `chatlm` in stages/text/chat_templates; did you mean `chatml`?"),
        ("runs/gec-001/backend", "pytorsh", "`runs.gec-001`: no backend `pytorsh`; did you mean `pytorch`?"),
        ("runs/gec-002/preset", "larg", "`runs.gec-002.preset`: no preset `larg`; did you mean `large`?"),
        ("tasks/poetry", {}, "`tasks.poetry`: there is no folder stages/tasks/poetry"),
        ("corpora/gec-1", {"task": "gec", "file": "a"}, "`corpora.gec-1`: a version is named TASK-NNN with three digits"),
        ("bases/tiny/corpus", "gec-001", "`bases.tiny.corpus`: no corpus of texts `gec-001`"),
        ("runs/gec-001", {"task": "gec", "corpus": "gec-001", "base": "a"}, "`runs.gec-001.parent` is missing; add it"),
        ("split", {"valid": 0.1}, "`split.test` is missing; add it"),
        ("defaults", {}, "`defaults.seed` is missing; every option without a neutral value has one there"),
        ("defaults/lora/r", True, "`defaults.lora.r`: input should be a valid integer, not True"),
        ("defaults/learning_rate", float("inf"), "`defaults.learning_rate`: input should be a finite number, not inf"),
        ("runs/gec-002/mix", {"gec-001": float("inf")}, "`runs.gec-002.mix.gec-001`: input should be a finite number"),
        ("defaults/seed", 2**70, "`defaults.seed`: input should be less than or equal to 4294967295"),
        ("defaults/threads", 10**6, "`defaults.threads`: input should be less than or equal to 1024, not 1000000"),
        ("defaults/added_tokens", [""], "`defaults.added_tokens.0`: string should have at least 1 character, not ''"),
        ("bases/tiny/num_attention_heads", 3, "`bases.tiny.hidden_size`: 8 is no multiple of num_attention_heads 3; correct one"),
        ("synthetic", None, "`synthetic` is empty, which DVC cannot read; write `synthetic: {}`"),
        ("runs/gec-002/parent", "./models/gec-001", "`runs.gec-002.parent`: './models/gec-001': write it as models/gec-001"),
        ("runs/gec-002/parent", "models/gec-001/", "`runs.gec-002.parent`: 'models/gec-001/': write it as models/gec-001"),
        ("corpora/gec-001/file", "", "`corpora.gec-001.file`: '': name a file"),
        ("corpora/gec-001/file", "a" * 300, "is no name that a file can have; correct it"),
        ("runs/gec-001/base", "models/\0", "`runs.gec-001.base`: 'models/\\x00' is no name that a file can have"),
        ("compare", [], "`compare`: gec has runs and does not stand in it; add it"),
        ("compare", ["gec", "lm"], "`compare`: lm has no runs that could be compared; take it out"),
        ("defaults/lora", {"r": 8}, "`defaults.lora.lora_alpha` is missing; every option without a neutral value has"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_path_and_the_nearest_key(tmp_path, path, value, says):
    with pytest.raises(UserError) as error:
        load(tmp_path, (path, value))
    assert says in str(error.value)
    assert "params.yaml: " in str(error.value)


def test_an_edit_of_a_linked_file_leaves_the_link(tmp_path, monkeypatch):
    load(tmp_path)
    (tmp_path / "params.yaml").rename(tmp_path / "own.yaml")
    (tmp_path / "own.yaml").chmod(0o600)
    (tmp_path / "params.yaml").symlink_to("own.yaml")
    monkeypatch.chdir(tmp_path)
    with edited_params() as document:
        document["tasks"]["gec"]["max_steps"] = 8
    assert (tmp_path / "params.yaml").is_symlink()
    assert load_params(tmp_path / "own.yaml").resolve("gec-001").max_steps == 8
    assert (tmp_path / "own.yaml").stat().st_mode & 0o777 == 0o600


def test_two_entries_that_write_one_file_are_refused(tmp_path):
    entry = {"task": "gec", "file": "b.tsv", "rows": 9, "level": 1, "seed": 1}
    with pytest.raises(
        UserError, match=r"`gec-006`: b\.tsv is written by gec-005 too; give one of"
    ):
        load(tmp_path, ("synthetic", {"gec-005": entry, "gec-006": entry}))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"corpora:\n<<<<<<< HEAD\n  typst-004: {}\n=======\n>>>>>>> main\n", "params.yaml line 2: a merge has left both sides here; keep one, and see docs/together.md#two-branches-that-added-a-version where both sides have added a version of one number"),
        (b"corpora:\n  typst-004: {}\n  typst-004: {}\n", '; keep one, and see docs/together.md#two-branches'),
        (b"defaults:\n  seed: 1\n  seed: 2\n", "params.yaml line 3: not YAML: found duplicate key \"seed\""),
        (b"defaults:\n\tseed: 1\n", "params.yaml line 2: not YAML: found character that cannot start any token; correct it"),
        (b"- a\n", "params.yaml: its top level is no map of keys, such as `defaults:`; write them"),
        (b"", "params.yaml: its top level is no map of keys"),
        ("defaults: {seed: é}".encode("latin-1"), "params.yaml: cannot be read as UTF-8 text: "),
        ("defaults: {seed: 1}".encode("utf-16"), "params.yaml: cannot be read as UTF-8 text: "),
        (b"defaults: {seed: 2024-13-45}", "params.yaml: not YAML: month must be in 1..12; correct it"),
        (b"defaults: {seed: " + b"9" * 5000 + b"}", "params.yaml: not YAML: Exceeds the limit"),
        (b"[" * 3000, "params.yaml"),
        (None, "params.yaml: cannot be read as UTF-8 text: [Errno 21] Is a directory"),
    ],
)  # fmt: skip
def test_what_is_no_params_file_is_told_in_a_sentence(tmp_path, content, says):
    file = tmp_path / "params.yaml"
    file.write_bytes(content) if content is not None else file.mkdir()
    with pytest.raises(UserError) as error:
        load_params(file)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


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
        "synthetic": {"task": "gec", "file": "b.tsv", "rows": 9, "level": 1, "seed": 1},
        "sources": {
            "task": "gec",
            "file": "b.tsv",
            "hub_id": "a/b",
            "revision": "0" * 40,
            "split": "train",
        },
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
        for model in (settings.Options, settings.Lora, settings.EarlyStopping, settings.Generation)
        for name, field in model.model_fields.items()
        if not field.description and name not in known and not isinstance(field.annotation, type)
    }
    assert unexplained <= {"method", "top_p"}


def test_the_repositorys_own_params_are_sound():
    assert len(load_params(Path(__file__).parents[1] / "params.yaml").runs) >= 7


VARIANT = {"task": "typst", "model_of": "typst-001", "generation": {"candidates": 4}}
TYPST = (
    ("tasks/typst", {}),
    ("compare", ["gec", "typst"]),
    ("corpora/typst-001", {"task": "typst", "file": "a.jsonl"}),
    ("runs/typst-001", GOOD["runs"]["gec-001"] | {"task": "typst", "corpus": "typst-001"}),
    ("variants", {"typst-001-checked": VARIANT}),
)


def test_a_variant_answers_as_its_run_but_for_what_it_says(tmp_path):
    params = load(tmp_path, *TYPST)
    own, of_run = params.resolve("typst-001-checked"), params.resolve("typst-001")
    assert own.generation == of_run.generation.model_copy(update={"candidates": 4})
    assert own.model_copy(update={"generation": of_run.generation}) == of_run
    made = {(each.stage, each.key): each for each in configure.decisions(params)}
    stages = {stage for stage, key in made if key == "typst-001-checked"}
    assert stages == {"predict", "evaluate", "conduct"}
    asked = made["predict", "typst-001-checked"]
    assert asked.settings["model"] == "models/typst-001"
    assert asked.settings["settings"]["generation"]["candidates"] == 4
    # What checks answers decides them there alone.
    assert (asked.task, made["predict", "typst-001"].task) == ("typst", "")
    assert made["compare", "typst"].settings["variants"] == [
        ["typst-001-checked", "models/typst-001"]
    ]
    assert "variants" not in made["compare", "gec"].settings


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            "variants/typst-001-checked/model_of",
            "typst-01",
            "`variants.typst-001-checked.model_of`: no run `typst-01`; did you mean `typst-001`?",
        ),
        (
            "variants/typst-001-checked/model_of",
            "typst-001-checked",
            "`variants.typst-001-checked.model_of`: typst-001-checked is a variant, which has no weights; name a run",
        ),
        (
            "variants/typst-001-checked/model_of",
            "gec-001",
            "`variants.typst-001-checked.model_of`: gec-001 belongs to task gec, the variant to typst",
        ),
        (
            "variants/typst-001-checked/learning_rate",
            1e-3,
            "`variants.typst-001-checked.learning_rate`: a variant trains nothing and differs in `generation` alone; set learning_rate in a run",
        ),
        (
            "variants/typst-001-checked/parent",
            "models/gec-001",
            "`variants.typst-001-checked.parent`: a variant trains nothing and differs in `generation` alone; set parent in a run",
        ),
        (
            "variants/typst-001-checked/model_off",
            "a",
            "`variants.typst-001-checked.model_off` is no option; did you mean `model_of`?",
        ),
        (
            "variants/typst-001-checked/generation/candidats",
            2,
            "`variants.typst-001-checked.generation.candidats` is no option; did you mean `candidates`?",
        ),
        (
            "variants/typst-001-checked/generation/candidates",
            0,
            "`variants.typst-001-checked.generation.candidates`: input should be greater than or equal to 1, not 0; correct the value",
        ),
        (
            "variants/typst-002",
            VARIANT,
            "`variants.typst-002`: a variant is named TASK-NNN-WORD, as in `typst-002-checked`; give it such a name",
        ),
        (
            "variants/gec-001-checked",
            {"task": "gec", "model_of": "gec-001", "generation": {"candidates": 2}},
            "`variants.gec-001-checked`: generation.candidates: task gec has no check by which one of several answers could be chosen; leave it out",
        ),
        (
            "runs/gec-002/generation",
            {"candidates": 2},
            "`runs.gec-002`: generation.candidates: task gec has no check by which one of several answers could be chosen; leave it out",
        ),
        (
            "runs/typst-001/parent",
            "models/typst-001-checked",
            "`runs.typst-001.parent`: models/typst-001-checked has no weights of its own; name models/typst-001",
        ),
    ],
)
def test_a_variant_that_cannot_be_is_told(tmp_path, path, value, said):
    with pytest.raises(UserError) as caught:
        load(tmp_path, *TYPST, (path, value))
    assert said in str(caught.value)


def test_a_variant_stands_for_no_run_where_weights_are_meant(tmp_path):
    params = load(tmp_path, *TYPST)
    with pytest.raises(UserError) as caught:
        run_entry(params, "typst-001-checked")
    assert str(caught.value) == (
        "typst-001-checked: has no weights of its own; it answers with those of typst-001, so name "
        "typst-001"
    )
    assert run_entry(params, "typst-001").corpus == "typst-001"
