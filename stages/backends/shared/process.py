"""What a process that trains or answers sets before and after its libraries load: the one place
with such effects.
"""

import ctypes
import logging
import os
import platform
import sys
import warnings

AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    # Without STRICT, Intel's library takes another way on its own processors than on AMD's for most
    # products, and another one with another number of threads (docs/reliability.md).
    "MKL_CBWR": "AVX2,STRICT",
}
"""Instructions that PyTorch's libraries keep to: read while PyTorch is imported, or at their first
operation.
"""


def set_up(exact: str) -> None:
    """Called by stages.backends.load, with one value of `exact` in a process.

    exact: as in stages.settings. PyTorch must not have been imported yet; for portable, its
    products are replaced (portable_products.py).
    """
    if exact == "portable" and platform.machine() in ("x86_64", "AMD64"):
        os.environ |= AVX2
        from stages.backends.shared import portable_products  # imports PyTorch

        portable_products.install()
    # Read when CUDA starts: segments that grow leave 5 to 10 % less of the device's memory in
    # unusable pieces.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    # Each shape of a product keeps a primitive and its buffers on the CPU, 1,024 by default: a
    # quarter of a training's memory with rows of many lengths (bench/NOTES.md, W1). 128 cost no
    # time.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    from transformers.utils import logging as transformers_logging

    # Upstream remarks that a reader can do nothing about: a bar for each of a checkpoint's two
    # files, the tied head that is not in a checkpoint, the optional `kernels` package of
    # bitsandbytes, weights that are left on the disk as asked, and PEFT 0.21.2 calling an old
    # name of transformers 5.23.
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


def give_back_freed_memory() -> None:
    """glibc keeps what was freed in pieces below 32 MB: 400 MB after a model of 135 million
    parameters had taken most tensors of another.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
