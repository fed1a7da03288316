"""Which operations of PyTorch have the same bytes on another processor, as MD5s to compare.

    python -m bench.operations              those that `exact: portable` promises, against bench/operations.csv
    python -m bench.operations --plain      all, as PyTorch computes them with the same instructions, to standard output
    python -m bench.operations --write      bench/operations.csv

Run `--plain` on two kinds of processor, or on one and `qemu-x86_64 -cpu Haswell`, and compare what it prints: an operation
that differs is one that a training must not use, or a product that needs another shape. Exit code 1 where one differs from
bench/operations.csv. The number of threads is OMP_NUM_THREADS: with another number than 1, functions differ where a
thread's share of the values is no multiple of 32, which the demo's shapes are."""

import csv
import hashlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from stages.backends.shared.process import AVX2

if __name__ == "__main__":
    os.environ |= AVX2  # which PyTorch reads while it is imported

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.backends.shared import portable_products

RESULT = Path(__file__).with_suffix(".csv")
BY_VENDOR = ("acos", "asin", "atan", "erf", "erfc", "erfinv", "exp", "log", "log10", "log2", "logsumexp", "sqrt", "tan")  # fmt: skip
"""Functions that MKL computes otherwise on another processor. What trains and answers calls none of them."""
ROWS, TERMS, COLUMNS = (3, 4, 64), (8, 192, 193, 383, 384, 2500), (11, 12, 64)
OF_A_STEP = ((1000, 128, 384), (1000, 384, 128), (1000, 128, 1792), (128, 1000, 384))
"""Rows, terms and columns of products in a step of the demo."""


def md5(*tensors: Tensor) -> str:
    total = hashlib.md5(usedforsecurity=False)
    for tensor in tensors:
        total.update(tensor.detach().contiguous().numpy().tobytes())
    return total.hexdigest()


def main() -> None:
    if sys.argv[1:] not in ([], ["--plain"], ["--write"]):
        raise SystemExit(__doc__)
    if sys.argv[1:] == ["--plain"]:
        found = dict(operations()) | functions(BY_VENDOR)
        print(*(f"{name},{value}" for name, value in found.items()), sep="\n")
        return
    portable_products.install()
    found = dict(operations())
    if sys.argv[1:]:
        lines = ["operation,md5", *(f"{name},{value}" for name, value in found.items())]
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        with RESULT.open(encoding="utf-8", newline="") as file:
            known = {row["operation"]: row["md5"] for row in csv.DictReader(file)}
        other = [name for name in known | found if known.get(name) != found.get(name)]
        for name in other:
            print(f"{name}: another MD5 than in {RESULT.name}")
        same = len(known | found) - len(other)
        print(f"{same} of {len(known | found)} operations have the bytes of {RESULT.name}")
        raise SystemExit(bool(other))


def operations() -> Iterator[tuple[str, str]]:
    yield from products()
    yield from functions(
        ("cos", "exp2", "expm1", "log1p", "rsqrt", "sigmoid", "sin", "tanh")
    ).items()
    yield rotary()
    yield from of_layers()
    yield from drawn()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def products() -> Iterator[tuple[str, str]]:
    """Of one, two and three dimensions, each matrix as it is and transposed."""
    for rows, terms, columns in (*itertools.product(ROWS, TERMS, COLUMNS), *OF_A_STEP):
        a, b = normal(3, rows, terms), normal(3, terms, columns, seed=1)
        given = normal(rows, columns, seed=2)
        ways = list(itertools.product((a, a.mT.contiguous().mT), (b, b.mT.contiguous().mT)))
        yield (
            f"{rows}×{terms} · {terms}×{columns}",
            md5(
                *(left @ right for left, right in ways),
                *(left[0] @ right[0] for left, right in ways),
                F.linear(a[0], b[0].T.contiguous(), given[0]),
                torch.addmm(given, a[0], b[0], beta=-4.5, alpha=2.25),
                torch.baddbmm(given, a, b, beta=0.5, alpha=2),
            ),
        )
    for terms in TERMS:
        yield f"64×{terms} · {terms}", md5(normal(64, terms) @ normal(terms, seed=1))
        yield f"{terms} · {terms}", md5(normal(terms) @ normal(terms, seed=1))


def functions(names: tuple[str, ...]) -> dict[str, str]:
    """Of small numbers, as they come, and large ones; none is negative where there is no value."""
    of_shares = {"acos", "asin", "atan", "erfinv"}
    found = {}
    for name in names:
        for scale in (1e-3, 1.0, 30.0):
            values = normal(3000, 97) * scale
            if name.startswith("log") or name.endswith("sqrt"):
                values = values.abs() + 1e-9
            elif name in of_shares:
                values = values.sigmoid()
            function = getattr(torch, name)
            made = function(values, -1) if name == "logsumexp" else function(values)
            found[f"{name} {scale:g}"] = md5(made)
    return found


def rotary() -> tuple[str, str]:
    """The angles of positions (Su et al. 2021, RoFormer, equation 15) and their cosines and sines."""
    rates = 1.0 / 1e4 ** (torch.arange(0, 64, 2).float() / 64)
    angles = torch.outer(torch.arange(8192.0), rates)
    return "rotary", md5(angles, angles.cos(), angles.sin())


def of_layers() -> Iterator[tuple[str, str]]:
    """What layers, losses and the optimizer are made of, forward and backward."""
    layers = {
        "softmax": lambda x: F.softmax(x, -1),
        "log_softmax": lambda x: F.log_softmax(x, -1),
        "silu": F.silu,
        "gelu": F.gelu,
        "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
        "softplus": F.softplus,
        "layer_norm": lambda x: F.layer_norm(x, (97,)),
        "rms_norm": lambda x: F.rms_norm(x, (97,)),
        "cross_entropy": lambda x: F.cross_entropy(x, torch.arange(len(x)) % 97, reduction="none"),
        "binary_cross_entropy": lambda x: F.binary_cross_entropy_with_logits(x, normal(len(x), 97, seed=2).sigmoid()),
        "norm": lambda x: torch.linalg.vector_norm(x, dim=-1),
        "norm of all": torch.linalg.vector_norm,
        "sum of rows": lambda x: x.sum(0),
        "sum of all": torch.sum,
        "mean": torch.mean,
        "cumsum": lambda x: x.cumsum(0),
        "embedding": lambda x: F.embedding(torch.arange(5000) % len(x), x) * normal(5000, 97, seed=2),
    }  # fmt: skip
    for name, layer in layers.items():
        values = normal(1000, 97).requires_grad_()
        made = layer(values)
        (made * normal(*made.shape, seed=3)).sum().backward()
        yield name, md5(made)
        yield f"{name} backward", md5(values.grad)
    weights = torch.nn.Parameter(normal(300, 17))
    optimizer = torch.optim.AdamW([weights], lr=1e-3, betas=(0.9, 0.98), fused=True)
    for step in range(3):
        weights.grad = normal(300, 17, seed=step)
        optimizer.step()
    yield "AdamW", md5(weights)


def drawn() -> Iterator[tuple[str, str]]:
    """What a generator draws."""
    generator = torch.Generator().manual_seed(0)
    yield "normal", md5(torch.empty(1000).normal_(generator=generator))
    yield "few normal", md5(torch.empty(7).normal_(generator=generator))
    yield "uniform", md5(torch.rand(999, generator=generator))
    yield "bernoulli", md5(torch.empty(999).bernoulli_(0.3, generator=generator))
    yield "multinomial", md5(torch.multinomial(normal(99, 50).sigmoid(), 2, generator=generator))


if __name__ == "__main__":
    main()
