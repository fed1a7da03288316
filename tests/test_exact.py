"""`exact: portable`: other instructions and another number of threads write the same bytes."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages.backends.shared import process
from tests.tiny import checkpoint

TRAIN = """
import sys
from pathlib import Path
from tempfile import mkdtemp

from stages import backends
from stages.settings import Run, Settings

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
    # What a machine without more than AVX2 computes, whatever it is asked for.
    assert trained(base, "machine", 1, **process.AVX2) == one
    others = trained(base, "machine", 1)
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert others[0] != one[0]
        assert others[1] != one[1]


def test_another_kind_of_processor_is_left_as_it_is(monkeypatch):
    for name in process.AVX2:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(process.platform, "machine", lambda: "arm64")
    process.set_up("portable")
    assert not process.AVX2.keys() & os.environ.keys()
