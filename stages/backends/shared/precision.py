"""In which numbers a training multiplies: those that its device computes natively."""

import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from stages.errors import UserError
from stages.settings import Settings

SIZE = 256
"""Of the matrices whose product is timed: a tenth of a second at the 0.3 GFLOP/s of a processor
that has no instructions for bfloat16.
"""
WORTH_IT = 1.3  # times as fast as float32, and a busy machine's timing errs by less


class Precision(NamedTuple):
    """name: float32, bfloat16 or float16.   why: for a reader of the log.   warning: a sentence
    where it was set by hand and is slow here, or "".
    """

    name: str
    why: str
    warning: str = ""


def choose(settings: Settings, where: str) -> Precision:
    """The precision of a training's products on a device, "cuda", "mps" or "cpu".

    Raises UserError for float16 where gradients are not scaled for it (Micikevicius et al. 2018,
    section 3.2).
    """
    wanted = settings.precision
    if wanted == "float16" and where != "cuda":
        raise UserError(
            f"precision float16: on a CUDA card alone, whose losses are scaled for it; this is "
            f"{where}. Set precision: auto"
        )
    if wanted != "auto":
        warning = slow(wanted, where, lambda name: product(name, where))
        return Precision(wanted, "as params.yaml says", warning)
    return native(settings.exact, where)


def native(exact: str, where: str) -> Precision:
    """What a device computes natively.   exact: as in stages.settings."""
    if where == "cpu" and exact == "portable":
        return Precision("float32", "exact: portable, and every processor computes it alike")
    if where == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bfloat16", "this card computes it natively")
        return Precision("float16", "this card has no bfloat16; losses are scaled")
    if where == "cpu" and platform.machine() in ("x86_64", "AMD64"):
        if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
            return Precision("bfloat16", "this processor computes it natively")
        return Precision("float32", "this processor has no instructions for bfloat16")
    # No other device says what it computes natively.
    times = seconds(product("float32", where)) / seconds(product("bfloat16", where))
    name = "bfloat16" if times >= WORTH_IT else "float32"
    return Precision(name, f"a product in bfloat16 is {times:.1f} times as fast as in float32 here")


def settled(settings: Settings, where: str) -> Settings:
    """The settings with a precision that is one."""
    if settings.precision != "auto":
        return settings
    return settings.model_copy(update={"precision": native(settings.exact, where).name})


def slow(name: str, where: str, product: Callable[[str], Callable[[], Any]]) -> str:
    """What is to be said of a precision that takes longer than float32 here, or "".

    product: of two matrices in a precision, to be timed.
    """
    times = 1.0 if name == "float32" else seconds(product(name)) / seconds(product("float32"))
    if times < WORTH_IT:
        return ""
    return (
        f"precision {name}: a product takes {times:,.1f} times as long as in float32 on this "
        f"{where} ({SIZE} x {SIZE}, measured now); set precision: auto"
    )


def product(name: str, where: str) -> Callable[[], Any]:
    """Of two matrices, until the device has finished it."""
    matrix = torch.ones((SIZE, SIZE), dtype=getattr(torch, name), device=where)
    return lambda: (matrix @ matrix)[0, 0].item()


def seconds(product: Callable[[], Any]) -> float:
    """The least of three, after one that sets things up."""
    product()
    taken = []
    for _ in range(3):
        begin = time.perf_counter()
        product()
        taken.append(time.perf_counter() - begin)
    return min(taken)
