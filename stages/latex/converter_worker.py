"""The worker of stages/latex/kept_converters.py: answers (converter, LaTeX formula) with Typst."""

import contextlib
import sys
from collections.abc import Callable

from stages import confinement

CONVERTERS = ("tylax", "tex2typst")

MEMORY_LIMIT_MB = 256
"""The worker's address space. 8,475 published formulas took 23 MB of it."""


def convert_with(name: str) -> Callable[[str], str]:
    """Raises ImportError where the converter is not installed."""
    if name == "tylax":
        import tylax  # both are imported here, because only the worker needs them

        return lambda formula: tylax.latex_to_typst(formula)
    import tex2typst

    converting: Callable[[str], str] = tex2typst.tex2typst
    return converting


def work(timeout_seconds: float) -> None:
    converters = {}
    for name in CONVERTERS:
        with contextlib.suppress(ImportError):
            converters[name] = convert_with(name)
            # The first conversion starts the JavaScript engine, which cannot start any more once
            # the worker is confined.
            converters[name]("x")

    def answer(request: tuple[str, str]) -> str:
        name, formula = request
        return converters[name](formula)

    confinement.answer_requests(answer, timeout_seconds, MEMORY_LIMIT_MB)


if __name__ == "__main__":
    work(float(sys.argv[2]))
