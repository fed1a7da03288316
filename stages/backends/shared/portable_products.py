"""Matrix products in shapes that MKL computes alike on the processors of every vendor.

PyTorch leaves a product to MKL, which looks at the processor's vendor even where it is told which
instructions to use. With `MKL_CBWR=AVX2,STRICT` a product of float32 has the same bytes on Intel's
processors and AMD's, unless it has fewer than 4 rows, fewer than 12 columns, or sums of 193 to 383
terms (docs/reliability.md has the measurement). Such a product is given rows, columns or terms of
zeros here, which add nothing, and none is shared between threads in parts of so few columns.
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, library

ROWS, COLUMNS = 4, 12
TERMS = range(193, 384)
"""Numbers of terms that are made TERMS.stop."""

_replaced = library.Library("aten", "IMPL")


@cache
def install() -> None:
    """Replace PyTorch's products on a CPU by those here, for all that this process computes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators", UserWarning)
        for product in (mm, addmm, bmm, baddbmm, mv, addmv, dot):
            _replaced.impl(product.__name__, product, "CPU")


def mm(self: Tensor, mat2: Tensor) -> Tensor:
    return _padded(_mm, self, mat2) if _is_short(self, mat2) else _mm(self, mat2)


def bmm(self: Tensor, mat2: Tensor) -> Tensor:
    return _padded(_bmm, self, mat2) if _is_short(self, mat2) else _bmm(self, mat2)


def addmm(self: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return _added(self, mm(mat1, mat2), beta, alpha)


def baddbmm(
    self: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    return _added(self, bmm(batch1, batch2), beta, alpha)


def mv(self: Tensor, vec: Tensor) -> Tensor:
    return mm(self, vec[:, None])[:, 0]


def addmv(self: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return _added(self, mv(mat, vec), beta, alpha)


def dot(self: Tensor, tensor: Tensor) -> Tensor:
    return mm(self[None], tensor[:, None])[0, 0]


def _is_short(a: Tensor, b: Tensor) -> bool:
    """Whether the bytes of a @ b would depend on the vendor. What is no product of float32 is left
    to PyTorch, which also refuses what does not fit together.
    """
    return (
        a.dtype == b.dtype == torch.float32
        and a.dim() == b.dim() > 1
        and a.shape[-1] == b.shape[-2]
        and (a.shape[-2] < ROWS or b.shape[-1] < COLUMNS or a.shape[-1] in TERMS)
    )


def _padded(product: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """(…, M, K), (…, K, N) -> (…, M, N)."""
    (rows, terms), columns = a.shape[-2:], b.shape[-1]
    more = TERMS.stop - terms if terms in TERMS else 0
    wide = product(
        _with_zeros(a, max(0, ROWS - rows), more), _with_zeros(b, more, max(0, COLUMNS - columns))
    )
    return wide[..., :rows, :columns].contiguous()


def _with_zeros(matrix: Tensor, rows: int, columns: int) -> Tensor:
    # F.pad copies where there is nothing to add, too.
    return F.pad(matrix, (0, columns, 0, rows)) if rows or columns else matrix


def _mm(a: Tensor, b: Tensor) -> Tensor:
    """PyTorch's own: the variants with `out` are not replaced."""
    (rows, terms), columns, threads = a.shape, b.shape[1], torch.get_num_threads()
    few = rows < 16 * threads and columns < COLUMNS * threads
    if threads > 1 and few and rows * terms * columns > 512:  # smaller ones are not shared
        # Shared between threads, each would have too few columns. Of a batch of two each is
        # computed by one.
        return _bmm(a.expand(2, rows, terms), b.expand(2, terms, columns))[0]
    return torch.mm(a, b, out=a.new_empty(rows, columns))


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(a, b, out=a.new_empty(*a.shape[:2], b.shape[2]))


def _added(given: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    if alpha != 1:
        product *= alpha
    # Where beta is 0, what is given may be NaN, and 0 · NaN is NaN.
    return product.add_(given, alpha=beta) if beta else product
