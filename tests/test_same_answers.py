"""What trains is what answers: the trained model, the reloaded one and both exports give the same
logits, or the combination is refused before training."""

import itertools
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from stages.backends.pytorch import backend as pytorch
from stages.backends.pytorch import models
from stages.backends.shared import adapted, adapters, memory, model_folders
from stages.backends.shared.outline import outline
from stages.backends.shared.tokenizers import load_tokenizer
from stages.commands import export
from stages.entries import Run
from stages.errors import UserError
from tests.tiny import ROWS, SETTINGS, checkpoint, grow, lora

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
PLAIN = SETTINGS.model_copy(update={"lora": lora(), "max_steps": 3})
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}
IN_BFLOAT16 = {"rtol": 0.05, "atol": 0.15}
"""Of a merged export, whose weights have 8 bits, where logits are about 3."""
TARGETS = {
    "linear": "all-linear",
    "head": ["q_proj", "lm_head"],
    "embedding": ["q_proj", "embed_tokens"],
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, str]:
    """A tied head, an untied one, and the untied one in its own 4 bits."""
    folder = tmp_path_factory.mktemp("bases")
    made = {
        "tied": checkpoint(folder / "tied", "qwen3", 64),
        "untied": checkpoint(folder / "untied", "llama", 64),
        "quantised": str(folder / "quantised"),
    }
    models.load_weights(folder / "untied", "float32").save_pretrained(folder / "quantised")
    model_folders.write_tokenizer(
        folder / "quantised", load_tokenizer(made["untied"], made["untied"])
    )
    return made


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(IDS).logits[..., :300]
    return found.float()


def told(base: str, method: str, targets: str, added: list[str]) -> str:
    """Why the combination is refused; "" where it is not."""
    if base == "tied" and targets != "linear":
        return "shares its weights with the other of head and embedding in .*leave it out, or use"
    if base == "quantised" and method == "full":
        return "its weights are in 4 bits, which method full cannot train; use method: qlora, or"
    if targets == "embedding" and added:
        return "lora.target_modules names all of it, model.embed_tokens; leave out one of the two"
    return ""


@pytest.mark.filterwarnings("ignore:.*quantization_config")
@pytest.mark.parametrize("added", [[], ["<formal>"]], ids=["", "added"])
@pytest.mark.parametrize(
    ("method", "targets"), [*itertools.product(("lora", "qlora"), TARGETS), ("full", "linear")]
)
@pytest.mark.parametrize("base", ["tied", "untied", "quantised"])
def test_what_trains_is_what_answers(bases, inside, base, method, targets, added):
    folder = bases[base]
    settings = PLAIN.model_copy(
        update={
            "method": method,
            "lora": None if method == "full" else lora(target_modules=TARGETS[targets]),
            "added_tokens": added,
        }
    )
    spec = Run(task="gec", corpus="gec-001", base=folder, parent=folder)
    begin = partial(pytorch.train, "one", spec, settings, ROWS[:16], ROWS[16:], Path("scratch"))
    if fault := told(base, method, targets, added):
        with pytest.raises(UserError, match=fault):
            begin()
        return
    trained = begin()
    trained.save(Path("one"))
    learned = logits(trained.model)
    in_bits = "float32" if method == "qlora" else ""
    untouched = logits(models.load_weights(Path(folder), in_bits))
    assert (learned - untouched).abs().max() > 0.01

    torch.testing.assert_close(
        logits(models.model_for_answering("one", folder, in_bits)), learned, **TOLERANCE
    )
    if method == "full":
        export.merged(Path("one"), folder, Path("merged"))
        torch.testing.assert_close(
            logits(AutoModelForCausalLM.from_pretrained("merged", dtype=torch.float32)),
            learned,
            **IN_BFLOAT16,
        )
        return
    export.peft(Path("one"), folder, Path("peft"))
    weights = models.load_weights(Path(folder), in_bits)
    models.resize_for_added_tokens(weights, load_tokenizer("peft", folder))
    torch.testing.assert_close(
        logits(PeftModel.from_pretrained(weights, "peft")), learned, **TOLERANCE
    )
    if base == "quantised":
        with pytest.raises(UserError, match="its own weights are in 4 bits, which would round"):
            export.merged(Path("one"), folder, Path("merged"))
        return
    export.merged(Path("one"), folder, Path("merged"))
    merged = logits(AutoModelForCausalLM.from_pretrained("merged", dtype=torch.float32))
    whole = logits(
        models.model_for_answering("one", folder)
    )  # qlora: on the base in full precision
    torch.testing.assert_close(merged, whole, **IN_BFLOAT16)


def test_an_adapter_of_the_embedding_is_continued_with_another_alpha_and_rank(bases, inside):
    base, targets = bases["untied"], ["q_proj", "embed_tokens"]
    settings = PLAIN.model_copy(update={"lora": lora(target_modules=targets)})
    run = grow(base, base, inside / "one", settings)
    before = logits(models.model_for_answering(run, base))
    for changed in ({"lora_alpha": 16}, {"r": 8}):
        child = settings.model_copy(update={"lora": lora(target_modules=targets, **changed)})
        torch.testing.assert_close(
            logits(models.model_for_training(base, run, child)), before, **TOLERANCE
        )


@pytest.mark.parametrize("targets", [["v_proj", "q_proj"], r".*\.(q|v)_proj", ["self_attn.v_proj", "q_proj"]])  # fmt: skip
def test_targets_are_compared_by_what_they_name(bases, inside, targets):
    base = bases["untied"]
    settings = PLAIN.model_copy(update={"lora": lora(target_modules=["q_proj", "v_proj"])})
    run = Path(grow(base, base, inside / "one", settings))
    config = run / model_folders.ADAPTER_CONFIG
    config.write_text(json.dumps(json.loads(config.read_text()) | {"target_modules": targets}))
    adapters.check_continues(run, base, settings.lora, [])
    for asked in (["q_proj"], ["q_proj", "k_proj", "v_proj"]):
        with pytest.raises(UserError, match=r"has lora.target_modules q_proj, v_proj, this run as"):
            adapters.check_continues(run, base, lora(target_modules=asked), [])


@pytest.mark.parametrize("named", ["base", "base/", "{here}/base", "other"])
def test_a_parents_base_is_compared_by_what_it_is(inside, named):
    run = Path(grow(checkpoint(Path("base"), "llama"), "base", inside / "one", PLAIN))
    config = run / model_folders.ADAPTER_CONFIG
    changed = {"base_model_name_or_path": named.format(here=inside)}
    config.write_text(json.dumps(json.loads(config.read_text()) | changed))
    if named == "other":
        with pytest.raises(UserError, match="one: grown on other, this run's base is base; use th"):
            adapters.check_continues(run, "base", PLAIN.lora, [])
    else:
        adapters.check_continues(run, "base", PLAIN.lora, [])


REVISION = "0123456789abcdef0123456789abcdef01234567"


def test_a_base_of_the_hub_is_known_by_its_id_and_exported_under_it(bases, inside, monkeypatch):
    Path("x.json").write_text(json.dumps({"hub_id": "owner/name", "revision": REVISION}))
    asked = {}

    def snapshot(hub_id, **options):
        asked.update(options)
        return bases["untied"]

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    run = Path(grow("x.json", "x.json", inside / "one", PLAIN))
    from huggingface_hub.utils import filter_repo_objects

    files = ["model.safetensors", "config.json", "consolidated.safetensors", "fp16/model.safetensors",
             "model.fp16.safetensors", "pytorch_model.bin"]  # fmt: skip
    patterns = {key: asked[key] for key in ("allow_patterns", "ignore_patterns")}
    assert list(filter_repo_objects(files, **patterns)) == files[:2]

    export.peft(run, "x.json", Path("peft"))
    export.mlx(run, "x.json", Path("mlx"))
    theirs = json.loads(Path("peft", model_folders.ADAPTER_CONFIG).read_text())
    assert (theirs["base_model_name_or_path"], theirs["revision"]) == ("owner/name", REVISION)
    assert (
        json.loads(Path("mlx", model_folders.ADAPTER_CONFIG).read_text())["model"] == "owner/name"
    )
    adapters.check_continues(Path("peft"), "x.json", PLAIN.lora, [])
    adapters.check_continues(Path("mlx"), "x.json", PLAIN.lora, [])
    config = Path("peft", model_folders.ADAPTER_CONFIG)
    config.write_text(json.dumps(theirs | {"revision": "f" * 40}))
    with pytest.raises(UserError, match=f"grown on owner/name at {'f' * 40}, this run's base is x"):
        adapters.check_continues(Path("peft"), "x.json", PLAIN.lora, [])


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors", "fp8"])
def test_weights_quantised_otherwise_are_refused_before_anything_is_loaded(inside, method):
    folder = Path(checkpoint(Path("base"), "llama"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": method, "bits": 4}})
    )
    for load in (outline, models.load_weights):
        with pytest.raises(
            UserError, match=f"base: its weights are quantised by {method}; use the"
        ):
            load(folder)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_a_base_whose_config_has_names_of_its_own_is_planned_trained_and_answers(bases, inside):
    """GPT-2's has no intermediate_size, and its matrices are turned."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=400, n_embd=64, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained("gpt2")
    model_folders.write_tokenizer(Path("gpt2"), load_tokenizer(bases["untied"], bases["untied"]))
    run = grow("gpt2", "gpt2", inside / "one", PLAIN)
    settings = PLAIN.model_copy(update={"lora": lora(target_modules=["c_attn"])})
    planned = memory.need(outline(Path("gpt2")), settings, 4, 32, "cpu", True)
    assert planned.adapter == 2 * 4 * (64 + 192) * 4
    torch.testing.assert_close(
        logits(models.model_for_answering(run, "gpt2")),
        logits(models.model_for_training("gpt2", run, PLAIN)),
        **TOLERANCE,
    )


def test_targets_named_by_several_parts_are_planned(bases):
    model = outline(Path(bases["untied"]))
    sizes = [
        list(
            adapted.adapter_sizes(
                model, PLAIN.model_copy(update={"lora": lora(target_modules=[name])})
            )
        )
        for name in ("q_proj", "self_attn.q_proj", "lm_head", "embed_tokens")
    ]
    assert sizes[0] == sizes[1] == [256, 256] * 2
    assert sorted(sizes[2]) == sorted(sizes[3]) == [4 * 64, 4 * model.config.vocab_size]
