"""typst: which published formulas are kept for the benchmark, so that no training takes them.

Where a published set has no test file here, half of it is the benchmark (bench/typst/) and the
other half may be trained on. The half follows from the formula's text alone, so that whoever holds
the file draws the same line, whatever the order of its lines.
"""

import hashlib


def is_in_benchmark(latex: str) -> bool:
    """Whether a LaTeX formula belongs to the benchmark's half. White space does not count."""
    squeezed = "".join(latex.split())
    return hashlib.blake2b(squeezed.encode(), digest_size=8).digest()[0] % 2 == 0
