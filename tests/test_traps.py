"""What other training scripts get wrong without saying so, each shown to be absent; every test is
named after its trap."""

import ast
import json
import os
import pty
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken

from stages.backends.mlx import models as mlx_models
from stages.backends.pytorch import backend as pytorch
from stages.backends.pytorch import models
from stages.backends.pytorch.loss import isolates_packed_rows, row_nats, summed_nats
from stages.backends.shared import adapters, model_folders
from stages.backends.shared.tokenizers import load_tokenizer
from stages.entries import Run
from stages.errors import UserError
from stages.text import batches, chat, tokenizer
from stages.text.chat import IGNORE
from tests.tiny import ROWS, SETTINGS, TEXTS, checkpoint, grow

SHIPPED = Path(
    find_spec("trl").submodule_search_locations[0], "chat_templates"
)  # in the trl package, and nowhere else offline
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}{% endif "
    "%}{% endfor %}"
)
TEMPLATES = {
    "qwen3": ("<|im_end|>", ("<|im_start|>", "<|im_end|>", "<think>", "</think>")),
    "llama3": (
        "<|eot_id|>",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "llama3_2": (
        "<|eot_id|>",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "mistral": ("</s>", ("<s>", "</s>", "[INST]", "[/INST]")),
}
CONVERSATIONS = {
    "gec": [
        ("user", "次の文の誤りを直してください。\n私は本が読みます。"),
        ("assistant", "私は本を読みます。"),
    ],
    "typst": [("user", "Convert:\n\\frac{a}{b}"), ("assistant", "a/b")],
    "polish": [("user", "Odmień.\nkot: dopełniacz"), ("assistant", "kota")],
    "several turns": [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "  spaces around\n"),
    ],
}


@pytest.fixture(params=TEMPLATES)
def templated(request):
    """(a tokenizer with a real chat template, the token that ends its turns)"""
    end, special = TEMPLATES[request.param]
    fast = tokenizer.train(TEXTS, 400, "gpt2")
    fast.add_special_tokens(
        {"additional_special_tokens": [AddedToken(token, special=True) for token in special]}
    )
    fast.bos_token = special[0] if request.param != "qwen3" else None
    fast.eos_token = end
    fast.chat_template = (
        MISTRAL if request.param == "mistral" else (SHIPPED / f"{request.param}.jinja").read_text()
    )
    return fast, end


def row(turns):
    return {
        "id": "1", "category": "", "source": "", "messages": [{"role": role, "content": content} for role, content in turns],
    }  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("base") / "llama", "llama")


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Labels


@pytest.mark.parametrize("task", CONVERSATIONS)
def test_assistant_masks_that_are_empty_or_shifted_by_a_think_block(templated, task):
    fast, end = templated
    conversation = row(CONVERSATIONS[task])
    (encoded,) = chat.encode(fast, conversation, 300)
    learned = fast.decode([token for token in encoded.labels if token != IGNORE])
    assert learned.removesuffix(end).strip() == conversation["messages"][-1]["content"].strip()
    assert learned.endswith(end)
    assert fast.decode(encoded.ids).count(conversation["messages"][-1]["content"].strip()) == 1


def test_a_prompt_that_is_tokenized_otherwise_in_prediction(templated):
    fast, _ = templated
    for turns in CONVERSATIONS.values():
        conversation = row(turns)
        (encoded,) = chat.encode(fast, conversation, 300)
        assert chat.prompt_ids(fast, conversation["messages"][:-1]) == encoded.ids[: encoded.given]


def test_two_tokens_at_the_beginning(templated):
    fast, _ = templated
    (encoded,) = chat.encode(fast, row(CONVERSATIONS["gec"]), 300)
    assert encoded.ids.count(fast.bos_token_id) == (0 if fast.bos_token_id is None else 1)


def test_a_prompt_with_todays_date_in_it(templated):
    fast, _ = templated
    messages = row(CONVERSATIONS["gec"])["messages"]
    said = fast.decode(chat.prompt_ids(fast, messages[:-1]))
    years = {word for word in said.split() if word.isdigit() and len(word) == 4}
    assert years <= {
        "2023",
        "2024",
    }  # Llama 3.2: "Cutting Knowledge Date: December 2023", and a day in July 2024
    fast.chat_template = "{{ strftime_now('%d %B %Y') }} {{ messages[0]['content'] }}"
    assert fast.decode(chat.prompt_ids(fast, messages[:1])).startswith("26 July 2024")


def test_a_pad_token_that_is_the_end_of_the_turn_masks_it(inside):
    folder = checkpoint(inside / "base", "llama")
    fast = load_tokenizer(folder, folder)
    fast.pad_token = fast.eos_token
    rows = [sequence for each in ROWS[:4] for sequence in chat.encode(fast, each, 64)]
    batch = batches.pad(rows, fast.pad_token_id)
    ends = (batch["labels"] == fast.eos_token_id).sum(dim=1)
    assert ends.tolist() == [1] * 4  # learned once in each row, though padding has the same id
    model = models.load_weights(Path(folder)).eval()
    alone = sum(summed_nats(model, batches.pad([each], fast.pad_token_id)).item() for each in rows)
    assert summed_nats(model, batch).item() == pytest.approx(alone, rel=1e-5)


def test_a_row_that_was_cut_until_no_label_is_left(base):
    fast = load_tokenizer(base, base)
    long = row([("user", "x " * 300), ("assistant", "猫")])
    (encoded,) = chat.encode(fast, long, 40)
    assert len(encoded.ids) == 40
    assert [token for token in encoded.labels if token != IGNORE]
    assert chat.encode(fast, row([("user", "x"), ("assistant", "猫" * 300)]), 40) == []


# Loss


def test_gradients_that_depend_on_how_a_batch_is_divided(base):
    """Packed, padded, sorted and one by one, with unequal lengths, a last partial window too: the
    same gradient."""
    fast = load_tokenizer(base, base)
    rows = [sequence for each in ROWS[:7] for sequence in chat.encode(fast, each, 64)]
    labels = sum(sum(token != IGNORE for token in each.labels) for each in rows)

    def gradient(parts, packed=False):
        model = models.load_weights(Path(base)).train()
        for part in parts:
            (summed_nats(model, batches.pad(part, 0, packed)) / labels).backward()
        return torch.cat(
            [weights.grad.flatten() for weights in model.parameters() if weights.grad is not None]
        )

    whole = gradient([rows])
    bucketed = sorted(rows, key=lambda each: len(each.ids))
    for parts in (
        [[each] for each in rows],
        [rows[:4], rows[4:]],
        [bucketed[at : at + 3] for at in (0, 3, 6)],
    ):
        torch.testing.assert_close(gradient(parts), whole, rtol=1e-5, atol=1e-7)
    assert "position_ids" in batches.pad(rows, 0, packed=True)
    torch.testing.assert_close(gradient([rows], packed=True), whole, rtol=1e-5, atol=1e-7)


def test_texts_in_one_line_that_see_each_other(base):
    """Each of the texts of a line costs what it costs alone, and a row is never more than one
    document."""
    fast = load_tokenizer(base, base)
    texts = [
        {"id": str(n), "category": "", "source": "", "text": text}
        for n, text in enumerate(TEXTS[:4])
    ]
    rows = [sequence for each in texts for sequence in chat.encode(fast, each, 64)]
    assert [each.id for each in rows] == ["0", "1", "2", "3"]
    model = models.load_weights(Path(base)).eval()
    alone = [summed_nats(model, batches.pad([each], 0)).item() for each in rows]
    assert [nats for nats, _ in row_nats(model, rows, 4, 0)] == pytest.approx(alone, rel=1e-5)
    packed = batches.pad(rows, 0, packed=True)
    assert len(packed["input_ids"]) < len(rows)
    assert summed_nats(model, packed).item() == pytest.approx(sum(alone), rel=1e-5)
    del packed["position_ids"]  # the same line, its texts not told apart
    assert summed_nats(model, packed).item() != pytest.approx(sum(alone), rel=1e-3)


ATTENDING = {
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}


@pytest.mark.parametrize(
    ("architecture", "apart", "more"),
    [
        ("Llama", True, ATTENDING),
        ("Mistral", True, ATTENDING | {"sliding_window": 4}),
        ("Gemma3Text", True, ATTENDING),
        ("Mixtral", True, ATTENDING | {"num_local_experts": 2}),
        ("Mamba", False, {"state_size": 4}),  # a state that runs through the line
        (
            "Lfm2",
            False,
            {
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "layer_types": ["conv", "full_attention"],
            },
        ),
        ("Bloom", False, {"n_head": 2}),  # positions are its own affair
    ],
)
def test_texts_are_put_in_one_line_only_where_the_architecture_keeps_them_apart(
    architecture, apart, more
):
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, **more
    )
    model = transformers.AutoModelForCausalLM.from_config(config).train()
    assert isolates_packed_rows(model) is apart
    assert model.training


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("Gemma2", ATTENDING | {"final_logit_softcapping": 0.5}),
        ("Cohere", ATTENDING | {"logit_scale": 0.0625}),
        ("Granite", ATTENDING | {"logits_scaling": 8.0}),
    ],
)
def test_a_base_whose_logits_are_more_than_its_heads_product_is_refused(inside, architecture, more):
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, **more
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained("base")
    reason = rf"base: {config.model_type} caps or scales its logits, and the loss here is computed without that; use a base of"
    with pytest.raises(UserError, match=reason):
        models.load_weights(Path("base"))
    told = json.loads(Path("base/config.json").read_text())
    Path("base/config.json").write_text(
        json.dumps(told | {"rope_theta": 1e4})
    )  # where mlx-lm looks for Granite's
    with pytest.raises(UserError, match=reason):
        mlx_models.load_weights("base")


MATRIX = "model.layers.1.mlp.up_proj.weight"
LACKING = (
    rf"base: 1 of the weights that config.json asks for are not in its safetensors or have another shape there, {MATRIX} among "
    "them; fetch it again, or mend config.json"
)
NO_NUMBERS = "base: its logits are not numbers, so some of its weights are not either; fetch it again, or use another base"


def damaged(weights: dict[str, torch.Tensor]) -> None:
    """A checkpoint in the folder `base`, one of whose matrices is another one, or is left out."""
    path = Path(checkpoint(Path("base"), "llama"), "model.safetensors")
    rest = {name: tensor for name, tensor in load_file(path).items() if name != MATRIX}
    save_file(rest | weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize("quantized", ["", "bfloat16"])
def test_weights_that_are_missing_and_drawn_at_random(inside, quantized):
    damaged({})
    with pytest.raises(UserError, match=LACKING):
        models.load_weights(Path("base"), quantized)
    with pytest.raises(
        UserError, match=f"base: mlx-lm does not load it: Missing 1 parameters: {MATRIX}"
    ):
        mlx_models.load_weights("base")


def test_weights_of_another_shape_that_are_drawn_at_random(inside):
    damaged({MATRIX: torch.zeros(5, 32)})
    with pytest.raises(UserError, match=LACKING):
        models.load_weights(Path("base"))


def test_weights_that_are_not_numbers(inside):
    damaged({MATRIX: torch.full((64, 32), torch.nan)})
    for quantized in ("", "bfloat16"):
        with pytest.raises(UserError, match=NO_NUMBERS):
            models.load_weights(Path("base"), quantized)
    with pytest.raises(UserError, match=NO_NUMBERS):
        mlx_models.load_weights("base")


def test_a_file_of_weights_that_is_cut_short(inside):
    path = Path(checkpoint(Path("base"), "llama"), "model.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        UserError,
        match=r"base: not a causal language model .*: .*not fully covered; fetch it again, or name another base",
    ):
        models.load_weights(Path("base"))
    with pytest.raises(
        UserError, match=r"base: mlx-lm does not load it: \[load_safetensors\] Tensor .* invalid"
    ):
        mlx_models.load_weights("base")


# Evaluation


def test_an_evaluation_that_drops_the_rows_behind_the_last_full_batch(base):
    fast = load_tokenizer(base, base)
    rows = [sequence for each in ROWS[:7] for sequence in chat.encode(fast, each, 64)]
    model = models.load_weights(Path(base)).eval()
    found = row_nats(model, rows, 3, 0)
    assert [tokens for _, tokens in found] == [
        sum(token != IGNORE for token in each.labels) for each in rows
    ]


# Adapters


def test_a_resumed_child_that_goes_on_with_its_parents_schedule(base, inside):
    """A child takes the weights and starts at step 0 with its own warm-up."""
    parent = grow(base, base, inside / "parent")
    spec = Run(task="gec", corpus="gec-002", base=base, parent=parent)
    settings = SETTINGS.model_copy(update={"learning_rate": 1e-3, "warmup_steps": 3})
    child = pytorch.train("child", spec, settings, ROWS[:16], ROWS[16:], inside / "scratch-child")
    rates = [entry["learning_rate"] for entry in child.history if "learning_rate" in entry]
    assert len(rates) == child.steps == 6
    assert rates[0] < rates[1] < max(rates) <= 1e-3


@pytest.mark.parametrize(
    ("changed", "more"),
    [
        ({"use_rslora": True}, "use_rslora True"),
        ({"use_dora": True, "bias": "all"}, "bias all, use_dora True"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern {'q_proj': 2}"),
        (
            {"init_lora_weights": "pissa_niter_4"},
            "init_lora_weights pissa_niter_4, which changes the base or what of it learns",
        ),
        (
            {"init_lora_weights": "lora_ga"},
            "init_lora_weights lora_ga, which changes the base or what of it learns",
        ),
        (
            {"init_lora_weights": "mica"},
            "init_lora_weights mica, which changes the base or what of it learns",
        ),
        ({"peft_type": "IA3"}, "peft_type IA3"),
    ],
)
def test_a_parent_whose_adapter_is_more_than_lora(base, inside, changed, more):
    config = Path(grow(base, base, inside / "run"), model_folders.ADAPTER_CONFIG)
    config.write_text(json.dumps(json.loads(config.read_text()) | changed))
    told = (
        rf"run: its adapter has {re.escape(more)}; only plain LoRA can be continued exactly: merge"
    )
    with pytest.raises(UserError, match=told):
        models.model_for_training(base, "run", SETTINGS)


FIRST = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"base_model.model.lm_head.weight": torch.ones(2, 2)},
            "run: 1 of its adapter's tensors have no place in this run's, base_",
        ),
        (
            {FIRST: torch.ones(4, 5)},
            rf"run: {FIRST} is \(4, 5\), where this run's base asks for \(4, 64\); it was grown on another base: name",
        ),
    ],
)
def test_a_parent_whose_tensors_do_not_all_go_into_its_child(base, inside, changes, told):
    path = Path(grow(base, base, inside / "run"), adapters.ADAPTER)
    save_file(load_file(path) | changes, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=told):
        models.model_for_training(base, "run", SETTINGS)


def test_an_adapter_that_lacks_a_tensor_or_is_cut_short(base, inside):
    path = Path(grow(base, base, inside / "run"), adapters.ADAPTER)
    whole, kept = (
        path.read_bytes(),
        {name: tensor for name, tensor in load_file(path).items() if name != FIRST},
    )
    save_file(kept, path, metadata={"format": "pt"})
    half = "run: base_model.model.model.layers.0.mlp.down_proj.lora.weight has one of A and B alone; fetch it again"
    cut = r"run/adapter_model.safetensors: no adapter that can be read: .*not fully covered; fetch it again"
    for content, told in ((path.read_bytes(), half), (whole[:-50], cut)):
        path.write_bytes(content)
        for load in (
            lambda: models.model_for_training(base, "run", SETTINGS),
            lambda: models.model_for_answering("run", base),
        ):
            with pytest.raises(UserError, match=told):
                load()


def test_an_adapter_that_a_merge_into_4_bits_rounds_away(base, inside):
    """In 4 bits the adapter stays beside the base; in float32 the merged model says what base and
    adapter say."""
    settings = SETTINGS.model_copy(update={"method": "qlora"})
    run = grow(base, base, inside / "run", settings)
    beside = models.model_for_answering(run, base, quantized="bfloat16")
    assert hasattr(beside, "peft_config")
    merged = models.model_for_answering(run, base)
    assert not hasattr(merged, "peft_config")
    from peft import PeftModel

    ids = torch.tensor([[5, 6, 7, 8]])
    apart = PeftModel.from_pretrained(models.load_weights(Path(base)), run).eval()
    plain = models.load_weights(Path(base)).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            merged.eval()(ids).logits, apart(ids).logits, rtol=1e-4, atol=1e-5
        )
        assert not torch.allclose(merged(ids).logits, plain(ids).logits, atol=1e-3)


# Reproducibility


def test_bytes_that_depend_on_the_process_or_on_the_order_of_a_set(base, inside):
    script = (
        "import sys; from pathlib import Path; from tests.tiny import grow; "
        "grow(sys.argv[1], sys.argv[1], Path(sys.argv[2]).absolute())"
    )
    found = []
    for seed in ("0", "1"):
        environment = os.environ | {
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        subprocess.run(
            [sys.executable, "-c", script, base, f"seed{seed}"],
            check=True,
            env=environment,
            capture_output=True,
        )
        found.append({path.name: path.read_bytes() for path in Path(f"seed{seed}").iterdir()})
    assert found[0] == found[1]
    assert adapters.ADAPTER in found[0]


# Safety


def test_weights_that_are_a_pickle_are_never_loaded(base, inside):
    folder = Path(checkpoint(inside / "pickled", "llama"))
    torch.save({"weights": torch.zeros(1)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        UserError, match="not a causal language model that transformers loads from safetensors"
    ):
        models.load_weights(folder)


def test_code_that_a_checkpoint_brings_is_never_run(inside):
    folder = Path(checkpoint(inside / "remote", "llama"))
    (folder / "evil.py").write_text("open('ran', 'w').close()\n")
    config = folder / "config.json"
    evil = '"model_type": "evil", "auto_map": {"AutoConfig": "evil.E"}'
    config.write_text(config.read_text().replace('"model_type": "llama"', evil))
    with pytest.raises(UserError, match=OWN_CODE):
        models.load_weights(folder)
    assert not Path("ran").exists()


OWN_CODE = (
    "the base brings its own code, which is never run; "
    "name a base of an architecture that transformers knows"
)
BRINGS_CODE = {
    "config.json": {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.E", "AutoModelForCausalLM": "evil.E"},
    },
    "tokenizer_config.json": {
        "tokenizer_class": "Evil",
        "auto_map": {"AutoTokenizer": [None, "evil.E"]},
    },
}
LOADERS = """
import sys
from pathlib import Path
from stages.backends.pytorch import models
from stages.backends.shared import tokenizers
from stages.backends.shared.outline import outline
from stages.errors import UserError
folder = sys.argv[1]
loaders = {
    "tokenizer": lambda: tokenizers.load_tokenizer(folder, folder),
    "weights": lambda: models.load_weights(Path(folder)),
    "outline": lambda: outline(Path(folder)),
}
for name in sys.argv[2:]:
    try:
        loaders[name]()
    except UserError as error:
        print(name, "refused:", error)
"""


@pytest.mark.parametrize(
    ("file", "loaders"),
    [("config.json", ("weights", "outline")), ("tokenizer_config.json", ("tokenizer",))],
)
def test_nobody_at_a_terminal_is_asked_whether_to_run_a_checkpoints_code(inside, file, loaders):
    """transformers asks wherever it is not told; this terminal has `y` typed ahead for every
    question."""
    folder = Path(checkpoint(inside / "remote", "llama"))
    (folder / "evil.py").write_text("open('ran', 'w').close()\n")
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | BRINGS_CODE[file]))
    ours, theirs = pty.openpty()
    os.write(ours, b"y\n" * 8)
    done = subprocess.run(
        [sys.executable, "-c", LOADERS, str(folder), *loaders],
        stdin=theirs,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        timeout=300,
    )
    os.close(ours)
    os.close(theirs)
    assert not Path("ran").exists()
    assert "[y/N]" not in done.stdout
    said = "".join(f"{name} refused: {folder}: {OWN_CODE}\n" for name in loaders)
    assert done.stdout == said, done.stderr


def test_a_model_file_that_mlx_would_load_as_code_is_refused(inside):
    folder = Path(checkpoint(inside / "remote", "llama"))
    (folder / "evil.py").write_text("open('ran', 'w').close()\n")
    config = json.loads((folder / "config.json").read_text()) | {"model_file": "evil.py"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=OWN_CODE):
        mlx_models.load_weights(str(folder), SETTINGS)
    assert not Path("ran").exists()


def test_every_loader_in_stages_is_told_to_run_no_code():
    """PEFT's own from_pretrained has no such option: it reads an adapter's tensors into a model
    that is there."""
    loads = {"from_pretrained", "from_config", "load_checkpoint"}
    found = 0
    for path in sorted((Path(__file__).parents[1] / "stages").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            called = ast.unparse(call.func)
            if called.rpartition(".")[2] not in loads or called.startswith("PeftModel."):
                continue
            found += 1
            told = {key.arg: ast.unparse(key.value) for key in call.keywords}
            assert told.get("trust_remote_code") == "False", f"{path}:{call.lineno}: {called}"
    assert found >= 5
