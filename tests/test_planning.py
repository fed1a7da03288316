"""Memory that is planned: beside what was measured, before anything is loaded, with the change that
makes it fit."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

from bench import memory as bench_memory
from stages.backends.pytorch import attention, refuses
from stages.backends.pytorch import backend as pytorch
from stages.backends.shared import memory, model_folders
from stages.backends.shared.outline import outline as outline_of
from stages.backends.shared.remedies import remedies
from stages.entries import Run
from stages.errors import UserError
from stages.params import load_params
from stages.settings import Settings
from tests.conftest import run
from tests.tiny import ROWS, SETTINGS, checkpoint, settings_with

ROOT = Path(__file__).parents[1]
PLAIN = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0}


def outline(architecture):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**bench_memory.ARCHITECTURES[architecture])
        )


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("table", "cases", "where", "measured"),
    [
        ("memory.csv", bench_memory.CUDA, "cuda", "reserved_mb"),
        ("memory_cpu.csv", bench_memory.CPU, "cpu", "resident_mb"),
    ],
)
def test_what_is_planned_is_what_was_measured(monkeypatch, table, cases, where, measured):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(bench_memory, "CASES", cases)
    with (ROOT / "bench" / table).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    compared = 0
    for number, (architecture, presets, changed) in enumerate(cases):
        words = " ".join(f"{key}={value}" for key, value in changed.items())
        asked = (architecture, presets, words)
        (row,) = [
            each
            for each in rows
            if (each["architecture"], each["presets"], each["changed"]) == asked
        ]
        options = bench_memory.chosen(number)
        model = outline(architecture)
        planned = memory.need(
            model,
            options,
            options.per_device_train_batch_size,
            options.max_length_tokens,
            where,
            attention.attention_is_plain(model),
        )
        assert planned.total / memory.MIB == pytest.approx(float(row[measured]), rel=0.10), row
        assert row["planned_mb"] == str(round(planned.total / memory.MIB))
        if row["loaded_mb"]:
            assert (planned.weights + planned.adapter) / memory.MIB == pytest.approx(
                float(row["loaded_mb"]), rel=0.01
            )
        compared += 1
    assert compared >= 6


def test_presets_fit_the_cards_that_they_are_named_after():
    params = load_params(ROOT / "params.yaml")
    for architecture in ("llama-3.2-3b", "llama-3-8b", "mistral-7b"):
        options = params.options(["card-8gb", architecture])
        planned = memory.need(
            outline(architecture),
            options,
            options.per_device_train_batch_size,
            options.max_length_tokens,
            "cuda",
            fused_attention=True,
        )
        assert planned.total / memory.MIB < options.memory_limit_mb


def test_on_a_processor_a_head_with_added_tokens_is_planned_with_its_logits_and_their_gradient_beside_each_other():
    settings = settings_with(lora=PLAIN)
    plain, added = (
        memory.need(outline("llama-100m"), chosen, 4, 512, "cpu", True).logits
        for chosen in (settings, settings.model_copy(update={"added_tokens": ["<formal>"]}))
    )
    assert (plain, added) == (6 * 2**25, 16 * 2**25)


def test_70_billion_parameters_are_planned_in_seconds(inside):
    shape = bench_memory.LLAMA_3 | {
        "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
    }  # fmt: skip
    AutoConfig.for_model(**shape).save_pretrained(inside / "70b")
    begun = time.monotonic()
    planned = memory.need(
        outline_of(inside / "70b"),
        settings_with(method="qlora", lora=PLAIN),
        1,
        1024,
        "cuda",
        True,
    )
    assert time.monotonic() - begun < 20
    assert 35e9 < planned.weights < 45e9


def test_the_cheapest_change_comes_first_and_each_makes_it_smaller():
    model = outline("mistral-7b")
    options = settings_with(
        precision="bfloat16", per_device_train_batch_size=8, max_length_tokens=2048, lora=PLAIN
    )
    whole = memory.need(model, options, 8, 2048, "cuda", True).total

    def helps(free):
        return memory.remedy(model, options, remedies(options), 2048, "cuda", free, True)

    assert helps(whole) == {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    small = helps(round(whole * 0.4))
    assert small == {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    assert helps(18 * 2**30) == {
        "gradient_checkpointing": True,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
    }
    assert helps(8 * 2**30)["method"] == "qlora"
    assert helps(2**30) is None
    for change in remedies(options):
        changed = options.model_copy(update=change)
        assert changed.per_device_train_batch_size * changed.gradient_accumulation_steps == 8


def test_a_full_training_that_has_no_lora_among_its_settings_is_offered_no_adapter():
    full = settings_with(method="full")
    assert {"lora", "qlora"} <= {change.get("method") for change in remedies(full)}
    without = Settings.model_validate(full.model_dump(exclude={"lora", "generation", "report_to"}))
    changes = list(remedies(without))
    assert {"gradient_checkpointing": True} in changes
    assert not [change for change in changes if "method" in change]


def test_training_refuses_what_cannot_fit_and_names_the_change(inside):
    base = checkpoint(inside / "base", "llama")
    spec = Run(task="gec", corpus="gec-001", base=base, parent=base)
    with pytest.raises(
        UserError,
        match=r"memory: [\d,]+ MB planned, which does not fit into the 100 MB of the cpu. No setting",
    ):
        pytorch.train(
            "run",
            spec,
            SETTINGS.model_copy(update={"memory_limit_mb": 100}),
            ROWS[:16],
            ROWS[16:],
            inside / "scratch",
        )
    assert not (inside / "scratch").exists()


def test_the_limit_is_watched_while_training_and_the_measure_is_told_beside_the_plan(
    inside, monkeypatch
):
    base = checkpoint(inside / "base", "llama")
    spec = Run(task="gec", corpus="gec-001", base=base, parent=base)
    pytorch.train("run", spec, SETTINGS, ROWS[:16], ROWS[16:], inside / "scratch")
    record = json.loads(Path("logs/run.jsonl").read_text().splitlines()[-1])
    assert record["memory/planned_bytes"] > 0
    assert record["memory/measured_bytes"] > 10**8
    assert "MB planned, " in Path("logs/run.log").read_text()
    monkeypatch.setattr(memory.MemoryPlan, "require_room", lambda _: None)
    if not torch.cuda.is_available():
        with pytest.raises(
            UserError,
            match=r"step 1: [\d,]+ MB resident, more than memory_limit_mb 50; nothing was written",
        ):
            pytorch.train(
                "run",
                spec,
                SETTINGS.model_copy(update={"memory_limit_mb": 50}),
                ROWS[:16],
                ROWS[16:],
                inside / "again",
            )


def test_of_a_hub_model_only_the_config_is_fetched(inside, monkeypatch):
    import huggingface_hub

    asked = []

    def snapshot_download(hub_id, revision, allow_patterns, ignore_patterns):
        asked.append(allow_patterns)
        return str(inside)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    Path("mistral.json").write_text(json.dumps({"hub_id": "a/b", "revision": "0" * 40}))
    assert model_folders.locate("mistral.json", model_folders.CONFIG_FILES) == inside
    assert asked == [["config.json"]]


def test_plan_prints_the_parts_and_fit_writes_the_change(clone):
    said = run(clone, "python", "-m", "stages", "plan", "gec-002").stdout
    assert "at the fullest moment" in said
    assert "MB planned, which fits into the" in said
    before = yaml.safe_load((clone / "params.yaml").read_text(encoding="utf-8"))
    before["runs"]["gec-002"] |= {
        "per_device_train_batch_size": 4096,
        "max_length_tokens": 512,
        "memory_limit_mb": 2000,
    }
    (clone / "params.yaml").write_text(
        yaml.safe_dump(before, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    refused = run(clone, "python", "-m", "stages", "plan", "gec-002", succeeds=False)
    assert refused.returncode == 2
    assert "does not fit into the 2,000 MB of the cpu" in refused.stdout
    assert "(`python -m stages plan gec-002 --fit`)" in refused.stderr
    run(clone, "python", "-m", "stages", "plan", "gec-002", "--fit")
    entry = yaml.safe_load((clone / "params.yaml").read_text(encoding="utf-8"))["runs"]["gec-002"]
    assert entry["per_device_train_batch_size"] * entry["gradient_accumulation_steps"] == 4096
    run(clone, "python", "-m", "stages", "plan", "gec-002")


def test_what_the_backend_refuses_is_not_advised(inside):
    base = Path(checkpoint(inside / "base", "llama"))
    settings = settings_with(per_device_train_batch_size=64, memory_limit_mb=800)

    def advised(refuses):
        return memory.plan(base, settings, 64, 512, attention.attention_is_plain, refuses).change

    assert not advised(lambda *_: []).keys() & {"gradient_checkpointing"}
    assert advised(lambda changed, _: [] if changed.gradient_checkpointing else ["no"])[
        "gradient_checkpointing"
    ]
    muon = settings_with(method="full", optim="muon")
    assert refuses(muon.model_copy(update={"method": "lora"}), False)


def test_the_bench_measures_on_a_cpu_too(tmp_path):
    """Its smallest case, at two layers."""
    script = """
import sys
from pathlib import Path
from bench import memory as bench_memory
name = "llama-100m"
bench_memory.ARCHITECTURES[name] |= {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64, "vocab_size": 320}
bench_memory.ARCHITECTURES[name] |= {"num_attention_heads": 4, "num_key_value_heads": 2}
bench_memory.make(Path(sys.argv[1], name), name)
record = bench_memory.case(0, sys.argv[1] + "/" + name)
assert record["resident_mb"] > 200, record
assert record["planned_mb"] > 200, record
"""
    if torch.cuda.is_available():
        pytest.skip("the CUDA cases are run at full size")
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
