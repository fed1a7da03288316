"""Layers whose frozen matrices are in place only while they compute: the same training, in less
memory."""

import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from stages.backends import mlx
from stages.backends.pytorch import models, offload, refuses
from stages.backends.shared import memory
from stages.backends.shared.adapters import ADAPTER
from stages.backends.shared.outline import outline
from stages.backends.shared.remedies import remedies
from stages.errors import UserError
from tests.tiny import SETTINGS, checkpoint, grow, settings_with


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def base(request, tmp_path_factory):
    """In bfloat16, as most are published: what is brought is a copy of another type."""
    folder = tmp_path_factory.mktemp("base") / request.param
    checkpoint(folder, request.param)
    weights = load_file(folder / "model.safetensors")
    halves = {name: weight.bfloat16() for name, weight in weights.items()}
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Resident:
    """Bytes that matrices take which have been brought, whoever holds on to them."""

    def __init__(self) -> None:
        self.now = self.most = self.brought = 0

    def in_place(self, stored: torch.Tensor, device: torch.device, dtype: torch.dtype):
        """As offload.in_place; PyTorch lets go of an array with the last tensor that has it."""
        array = stored.to(dtype).float().numpy().copy()
        weakref.finalize(array, self._gone, array.nbytes)
        self.now += array.nbytes
        self.most = max(self.most, self.now)
        self.brought += 1
        return torch.from_numpy(array).to(dtype)

    def _gone(self, size: int) -> None:
        self.now -= size


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lora": {"lora_dropout": 0.0}},
        {"added_tokens": ["<new>"], "per_device_train_batch_size": 2},
        {"precision": "bfloat16"},
        {"offload_activations": True},
    ],
)
def test_the_same_weights_come_of_it(base, inside, changes):
    plain = settings_with(gradient_checkpointing=True, **changes)
    one = grow(base, base, inside / "one", plain)
    other = grow(base, base, inside / "other", plain.model_copy(update={"offload_weights": True}))
    assert Path(one, ADAPTER).read_bytes() == Path(other, ADAPTER).read_bytes()
    # and a child of it
    child = grow(base, other, inside / "child", plain.model_copy(update={"offload_weights": True}))
    again = grow(base, one, inside / "again", plain)
    assert Path(child, ADAPTER).read_bytes() == Path(again, ADAPTER).read_bytes()


def test_one_layer_is_in_place_at_a_time_and_autograd_holds_no_other(base, monkeypatch):
    resident = Resident()
    monkeypatch.setattr(offload, "in_place", resident.in_place)
    settings = settings_with(
        gradient_checkpointing=True, offload_weights=True, lora={"lora_dropout": 0.0}
    )
    gradients = []
    for each in (settings, settings.model_copy(update={"offload_weights": False})):
        model = models.model_for_training(base, base, each).train()
        decoder = model.base_model.model.get_decoder()
        count = sum(
            parameter.numel() * 4
            for parameter in decoder.layers.parameters()
            if parameter.dim() == 2 and not parameter.requires_grad
        )
        hidden = decoder(input_ids=torch.arange(12)[None], use_cache=False).last_hidden_state
        assert resident.now == 0
        hidden.square().sum().backward()
        assert resident.now == 0
        named = model.named_parameters()
        gradients.append({name: weight.grad for name, weight in named if weight.requires_grad})
        if each.offload_weights:
            assert resident.brought > 2 * len(
                model.base_model.model.moved
            )  # tried when loaded, too
            assert 0 < resident.most <= count / len(decoder.layers)
            empty = decoder.layers[0].self_attn.q_proj.base_layer.weight
            assert empty.untyped_storage().nbytes() == 4
            assert empty.isnan().all()  # what is used while it is away is no number, which stops
    moved, plain = gradients
    assert moved.keys() == plain.keys()
    assert all(torch.equal(moved[name], plain[name]) for name in plain)


def test_a_model_that_changes_its_device_or_type_takes_no_memory_for_what_is_elsewhere(base):
    settings = settings_with(
        gradient_checkpointing=True, offload_weights=True, precision="bfloat16"
    )
    model = models.model_for_training(base, base, settings)
    moved = model.base_model.model.moved
    assert {each.empty.dtype for each in moved} == {torch.bfloat16}
    sizes = [each.empty.numel() for each in moved]
    assert model.to(torch.float64) is model  # as the Trainer moves it to a card
    for each in moved:
        assert getattr(each.module, each.name) is each.empty
        assert each.empty.untyped_storage().nbytes() == 8
    assert [each.empty.numel() for each in moved] == sizes
    assert model.base_model.model.model.norm.weight.dtype == torch.float64


def test_what_cannot_be_moved_is_refused_in_a_sentence(base, inside, monkeypatch):
    def fault(**changes):
        (said,) = refuses(settings_with(offload_weights=True, **changes), False)
        return said

    assert fault() == (
        "offload_weights: without gradient_checkpointing the backward pass would keep what each "
        "layer has used; set gradient_checkpointing: true"
    )
    assert fault(method="qlora", gradient_checkpointing=True) == (
        "offload_weights: it moves frozen weights in full precision, and method qlora holds them "
        "in 4 bits; set method: lora, or leave it out"
    )
    assert "method full trains them all; set method: lora" in fault(
        method="full", gradient_checkpointing=True
    )
    assert not refuses(settings_with(offload_weights=True, gradient_checkpointing=True), False)
    assert mlx.refuses(settings_with(backend="mlx", offload_weights=True), False) == [
        "offload_weights: backend mlx has one memory; leave it out"
    ]
    with monkeypatch.context() as patched:
        patched.setattr(models, "device", lambda _: "mps")
        with pytest.raises(UserError) as caught:
            models.load_weights(Path(base), offloads=True)
    assert str(caught.value) == (
        "offload_weights: mps has one memory with the processor; leave it out"
    )
    with monkeypatch.context() as patched:
        patched.setattr(models, "is_in_4_bits", lambda _: True)
        with pytest.raises(UserError) as caught:
            models.load_weights(Path(base), offloads=True)
    assert str(caught.value) == (
        f"offload_weights: the weights of {base} are in 4 bits; leave it out"
    )


@pytest.mark.parametrize(
    ("model", "config", "says"),
    [
        (
            MixtralForCausalLM,
            MixtralConfig(num_local_experts=2, num_key_value_heads=2, intermediate_size=32),
            "not a causal language model that transformers loads from safetensors layer by layer: "
            "The current `device_map` had weights offloaded to the disk, which needed to be "
            "re-saved.",
        ),
        (
            GPT2LMHeadModel,
            GPT2Config(),
            "offload_weights: this architecture has no list of layers; leave it out",
        ),
    ],
)
def test_an_architecture_without_layers_as_they_are_stored_is_refused(inside, model, config, says):
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        setattr(config, name, {"hidden_size": 16, "vocab_size": 32}.get(name, 2))
    model(config).save_pretrained("base")
    with pytest.raises(UserError) as caught:
        models.load_weights(Path("base"), offloads=True)
    assert str(caught.value).startswith(f"base: {says}")
    assert str(caught.value).endswith("leave it out") or str(caught.value).endswith(
        "; leave offload_weights out, or name another base"
    )


def test_it_is_planned_with_one_layer_and_advised_before_shorter_rows(base):
    model = outline(Path(base))
    plain = settings_with(gradient_checkpointing=True)

    def weights(settings, where):
        return memory.need(model, settings, 4, 64, where, True).weights

    moved = plain.model_copy(update={"offload_weights": True})
    matrices = sum(each.weight.numel() for each in memory.layer_matrices(model).values())
    for where in ("cuda", "cpu"):
        # of two layers, in float32
        assert weights(plain, where) - weights(moved, where) == 4 * matrices // 2
    assert weights(plain, "mps") == weights(moved, "mps")

    def order(settings):
        return [
            next(key for key in ("max_length_tokens", "offload_weights", "method", "") if key in (*change, ""))
            for change in remedies(settings)
        ]  # fmt: skip

    for method in ("lora", "full"):
        seen = list(dict.fromkeys(order(settings_with(method=method))))
        assert seen == ["", "method", "offload_weights", "max_length_tokens"]
    assert "offload_weights" not in order(settings_with(method="qlora"))
    offers = [change for change in remedies(SETTINGS) if "offload_weights" in change]
    assert offers[0] == {"gradient_checkpointing": True, "offload_weights": True}
    full = [
        change for change in remedies(settings_with(method="full")) if "offload_weights" in change
    ]
    assert all(not refuses(settings_with(**change), False) for change in offers)
    assert full[0] == {"method": "lora", "gradient_checkpointing": True, "offload_weights": True}
