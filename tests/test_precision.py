"""A training multiplies in what its device computes natively, and says what that is."""

import json
from types import SimpleNamespace

import pytest
import torch

from stages.backends.mlx import refuses
from stages.backends.pytorch import backend as pytorch
from stages.backends.shared import kept_state, precision
from stages.backends.shared.kept_state import KeptState
from stages.backends.shared.precision import Precision, choose, native, settled, slow
from stages.errors import UserError
from tests.tiny import SETTINGS

AUTO = SETTINGS.model_copy(update={"precision": "auto", "exact": "machine"})


def machine(monkeypatch, kind: str, bfloat16: bool = False, amx: bool = False) -> None:
    """A CPU that says of itself what it computes natively."""
    monkeypatch.setattr(precision.platform, "machine", lambda: kind)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bfloat16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)


@pytest.mark.parametrize(
    ("bfloat16", "amx", "name"),
    [
        (False, False, "float32"),
        (True, False, "bfloat16"),
        (False, True, "bfloat16"),
    ],
)
def test_an_x86_processor_is_asked_for_its_instructions(monkeypatch, bfloat16, amx, name):
    machine(monkeypatch, "x86_64", bfloat16, amx)
    monkeypatch.setattr(precision, "seconds", lambda product: pytest.fail("nothing is timed"))
    assert native("machine", "cpu").name == name


def test_portable_is_float32_on_every_processor(monkeypatch):
    machine(monkeypatch, "x86_64", True, True)
    assert native("portable", "cpu") == Precision(
        "float32", "exact: portable, and every processor computes it alike"
    )


@pytest.mark.parametrize(
    ("where", "kind"), [("cpu", "arm64"), ("cpu", "aarch64"), ("mps", "arm64")]
)
@pytest.mark.parametrize(("times", "name"), [(0.02, "float32"), (1.2, "float32"), (2, "bfloat16")])
def test_what_says_nothing_of_itself_is_timed(monkeypatch, where, kind, times, name):
    """Apple silicon and ARM Linux, as they would answer."""
    machine(monkeypatch, kind)
    taken = {"float32": 1.0, "bfloat16": 1.0 / times}
    monkeypatch.setattr(precision, "product", lambda name, where: name)
    monkeypatch.setattr(precision, "seconds", lambda product: taken[product])
    assert native("machine", where) == Precision(
        name, f"a product in bfloat16 is {times:.1f} times as fast as in float32 here"
    )


@pytest.mark.parametrize(("supported", "name"), [(True, "bfloat16"), (False, "float16")])
def test_a_card_without_bfloat16_takes_float16(monkeypatch, supported, name):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert native("portable", "cuda").name == name


def test_what_is_set_by_hand_stays_and_float32_is_never_slow():
    set_by_hand = AUTO.model_copy(update={"precision": "float32"})
    assert choose(set_by_hand, "cpu") == Precision("float32", "as params.yaml says", "")
    assert settled(set_by_hand, "cpu") is set_by_hand
    assert settled(AUTO.model_copy(update={"exact": "portable"}), "cpu").precision == "float32"


def test_a_slow_precision_is_told_with_the_ratio(monkeypatch):
    monkeypatch.setattr(precision, "seconds", lambda product: {"bfloat16": 0.4}.get(product, 0.001))
    assert slow("bfloat16", "cpu", lambda name: name) == (
        "precision bfloat16: a product takes 400.0 times as long as in float32 on this cpu "
        "(256 x 256, measured now); set precision: auto"
    )
    assert slow("float16", "cpu", lambda name: name) == ""


def test_a_product_is_timed_for_real():
    assert 0 < precision.seconds(precision.product("float32", "cpu")) < 1


def test_float16_without_scaled_losses_is_refused():
    by_hand = AUTO.model_copy(update={"precision": "float16"})
    with pytest.raises(UserError) as caught:
        pytorch.precision(by_hand.model_copy(update={"device": "cpu"}))
    assert str(caught.value) == (
        "precision float16: on a CUDA card alone, whose losses are scaled for it; this is cpu. "
        "Set precision: auto"
    )
    assert refuses(by_hand, False) == [
        "precision float16: backend mlx scales no losses for it; set precision: auto"
    ]


def test_a_training_is_not_continued_in_another_precision(inside):
    KeptState("bfloat16", {1: 2.5}, "ab").write(inside)
    assert KeptState.read(inside, "bfloat16") == KeptState("bfloat16", {1: 2.5}, "ab")
    with pytest.raises(UserError) as caught:
        KeptState.read(inside, "float32")
    assert str(caught.value) == (
        f"{inside}: this training began with precision bfloat16 and would go on with float32; go on "
        f"where it began, or remove {inside.parent} to begin again here"
    )
    assert json.loads((inside / kept_state.FILE).read_text())["precision"] == "bfloat16"


def test_mlx_multiplies_in_float32_where_there_is_no_metal(monkeypatch):
    from stages.backends.mlx import backend

    assert backend.precision(AUTO).name == "float32"
    monkeypatch.setattr(backend.mx, "default_device", lambda: SimpleNamespace(type=backend.mx.gpu))
    assert backend.precision(AUTO) == Precision("bfloat16", "Metal computes it natively")
