"""`exact: portable`: other instructions and another number of threads write the same bytes."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bench.operations import BY_VENDOR
from stages.backends.pytorch import backend as pytorch
from stages.backends.shared import portable_products, process
from stages.entries import Run
from tests.tiny import ROWS, checkpoint, settings_with

TRAIN = """
import sys
from pathlib import Path
from tempfile import mkdtemp

from stages import backends
from stages.entries import Run
from stages.settings import Settings

exact, base, threads = sys.argv[1:]
backend = backends.load("pytorch", exact)

from tests.tiny import OPTIONS, ROWS

settings = Settings.model_validate(
    {key: value for key, value in OPTIONS.items() if key in Settings.model_fields}
    | {"exact": exact, "precision": "auto" if exact == "portable" else "float32"}
    | {"threads": int(threads), "device": "cpu"}
)
spec = Run(task="gec", corpus="gec-001", base=base, parent=base)
for method in ("lora", "full"):
    settings = settings.model_copy(update={"method": method})
    trained = backend.train("run", spec, settings, ROWS[:16], ROWS[16:], Path(mkdtemp()))
    print("trained:", trained.first_steps_md5)
print("trained:", trained.precision, trained.computed_on)
"""
ROOT = Path(__file__).parents[1]
X86 = platform.machine() in ("x86_64", "AMD64")


def trained(base: str, exact: str, threads: int, **environment: str) -> list[str]:
    """The checksums of an adapter's weights and of full weights, and with what they were made."""
    clean = {name: value for name, value in os.environ.items() if name not in process.AVX2}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, exact, base, str(threads)],
        env=clean | environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("trained:")]


@pytest.mark.skipif(not X86, reason="pins are for x86-64 processors")
def test_instructions_and_threads_change_no_byte(inside):
    base = checkpoint(inside / "base", "llama", 128)
    one = trained(base, "portable", 1)
    assert one[2] == f"trained: float32 cpu, {platform.machine()} AVX2"
    assert trained(base, "portable", 2) == one
    assert trained(base, "portable", 3, ATEN_CPU_CAPABILITY="default") == one
    others = trained(base, "machine", 1)
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert others[0] != one[0]
        assert others[1] != one[1]


@pytest.mark.skipif(not X86, reason="pins are for x86-64 processors")
def test_every_operation_has_the_bytes_that_are_committed():
    """Whoever makes this processor: bench/operations.csv was the same on those that docs/reliability.md
    lists."""
    command = [sys.executable, "-m", "bench.operations"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "operations have the bytes of operations.csv" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout


INSTALLED = """
from stages.backends.shared import process

process.set_up("portable")

import torch
from stages.backends.shared import portable_products

def refuse(*_):
    raise ZeroDivisionError

x, layer = torch.ones(2, 3, requires_grad=True), torch.nn.Linear(3, 2)
made = layer(x).sum()
portable_products._mm = portable_products._bmm = refuse
many = x.expand(4, 2, 3)
for product in (
    lambda: x @ x.T, lambda: layer(x), lambda: layer(many), lambda: x @ x[0], lambda: x[0] @ x[0],
    lambda: many @ many.mT, lambda: torch.addmm(x, x, torch.eye(3)), made.backward,
):
    try:
        product()
    except ZeroDivisionError:
        print("replaced")
"""


@pytest.mark.skipif(not X86, reason="pins are for x86-64 processors")
def test_every_product_of_a_portable_process_is_ours():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", INSTALLED],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "replaced\n" * 8, done.stderr


class Called(TorchDispatchMode):
    """The names of all operations of PyTorch that are called, in backward passes too."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name().removeprefix("aten::").partition(".")[0].rstrip("_"))
        return func(*args, **kwargs or {})


DECOMPOSITIONS = {
    *("_linalg_eigh", "_linalg_solve_ex", "_linalg_svd", "linalg_cholesky_ex", "linalg_lu_factor_ex", "linalg_qr"),
}  # fmt: skip
"""MKL's too."""
STEPS = [
    {
        "id": str(n),
        "category": "",
        "source": "",
        "prompt": f"say {n}",
        "completions": ["猫", "犬", "水"][: 1 + n % 3],
        "labels": [1.0, 0.0, 1.0][: 1 + n % 3],
    }
    for n in range(24)
]


@pytest.mark.parametrize(
    ("changes", "rows", "task"),
    [
        ({"lora": {"lora_dropout": 0.1}}, ROWS, "gec"),
        ({"added_tokens": ["<a>", "</a>"]}, ROWS, "gec"),
        ({"method": "full"}, ROWS, "gec"),
        ({"method": "full", "optim": "muon"}, ROWS, "gec"),
        ({}, STEPS, "reward"),
    ],
)
def test_no_operation_of_a_training_or_an_answer_is_one_that_vendors_compute_otherwise(
    inside, changes, rows, task
):
    base = checkpoint(inside / "base", "llama", 128)
    spec = Run(task=task, corpus=f"{task}-001", base=base, parent=base)
    settings = settings_with(**changes)
    with Called() as called:
        trained = pytorch.train("run", spec, settings, rows[:16], rows[16:], inside / "scratch")
        trained.save(inside / "run")
        pytorch.answerer(str(inside / "run"), base, settings).predict(rows[16:])
    assert {"mm", "_softmax", "_fused_adamw"} <= called.names
    assert not called.names & {*BY_VENDOR, *DECOMPOSITIONS}


@pytest.mark.parametrize("columns", [1, 8, 11, 12, 40])
@pytest.mark.parametrize("terms", [0, 7, 192, 193, 300, 383, 384])
@pytest.mark.parametrize("rows", [0, 1, 3, 4, 20])
def test_products_with_zeros_are_those_without(rows, terms, columns):
    a, b = torch.randn(5, rows, terms), torch.randn(5, terms, columns)
    bias = torch.randn(columns)

    def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
        assert ours.is_contiguous()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

    ours = portable_products
    same(ours.bmm(a, b), a @ b)
    same(ours.mm(a[0], b[0]), a[0] @ b[0])
    same(ours.mm(a[0], b[0].T.contiguous().T), a[0] @ b[0])
    same(ours.addmm(bias, a[0], b[0]), bias + a[0] @ b[0])
    same(ours.addmm(bias, a[0], b[0], beta=0.5, alpha=2), 0.5 * bias + 2 * (a[0] @ b[0]))
    same(ours.addmm(bias * torch.nan, a[0], b[0], beta=0), a[0] @ b[0])
    same(ours.baddbmm(bias, a, b, beta=0.5, alpha=2), 0.5 * bias + 2 * (a @ b))
    vector = b[0, :, 0]
    torch.testing.assert_close(ours.mv(a[0], vector), a[0] @ vector, rtol=1e-4, atol=1e-4)
    added = ours.addmv(bias[:1], a[0], vector, beta=0.5, alpha=2)
    torch.testing.assert_close(added, 0.5 * bias[:1] + 2 * (a[0] @ vector), rtol=1e-4, atol=1e-4)
    if rows:
        dot = ours.dot(a[0, 0], vector)
        torch.testing.assert_close(dot, a[0, 0] @ vector, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_products_of_few_rows_and_columns_are_not_shared_between_threads(threads, monkeypatch):
    a, b = torch.randn(7, 384), torch.randn(384, 12)
    one = portable_products.mm(a, b)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.testing.assert_close(portable_products.mm(a, b), one, rtol=1e-4, atol=1e-4)
    called, bmm = [], portable_products._bmm
    monkeypatch.setattr(
        portable_products, "_bmm", lambda a, b: called.append(tuple(a.shape)) or bmm(a, b)
    )
    portable_products.mm(a, b)
    portable_products.mm(a[:, :5], b[:5])  # so little that no thread takes a part of it
    portable_products.mm(a, torch.randn(384, 12 * threads))
    assert called == [(2, 7, 384)]


@pytest.mark.parametrize("dtype", [torch.int32, torch.float64, torch.bfloat16, torch.complex64])
def test_products_of_other_types_are_pytorchs(dtype):
    a = torch.arange(6).view(2, 3).to(dtype)
    for ours, theirs in (
        (portable_products.mm(a, a.T), a @ a.T),
        (portable_products.dot(a[0], a[1]), a[0] @ a[1]),
        (portable_products.bmm(a[None], a.T[None]), a[None] @ a.T[None]),
    ):
        assert ours.dtype == dtype
        assert torch.equal(ours, theirs)


def test_products_that_do_not_fit_together_are_refused_as_pytorch_refuses_them():
    a = torch.ones(2, 3)
    for product, left, right in (
        (portable_products.mm, a, a),
        (portable_products.mm, a, a[0]),
        (portable_products.mv, a, a[:, 0]),
        (portable_products.dot, a[0], a[0, :1]),
        (portable_products.bmm, a[None], a[None]),
    ):
        with pytest.raises((RuntimeError, IndexError)):
            product(left, right)


def test_another_kind_of_processor_is_left_as_it_is(monkeypatch):
    for name in process.AVX2:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(process.platform, "machine", lambda: "arm64")
    process.set_up("portable")
    assert not process.AVX2.keys() & os.environ.keys()
