"""The container file: what it copies, runs and ends as; no engine is needed to tell."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    """(name, what it says) of each, continued lines joined and comments left out."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line]


def test_it_copies_the_pinned_requirements_alone_and_ends_as_a_user():
    copied = [what for name, what in instructions() if name == "COPY"]
    assert copied == ["requirements.txt /tmp/requirements.txt"]
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in sent if not line.startswith("#")] == ["*", "!requirements.txt"]
    assert [what for name, what in instructions() if name == "USER"][-1] == "1000"
    (base,) = (what for name, what in instructions() if name == "FROM")
    assert re.fullmatch(r"docker\.io/library/python:3\.11\.\d+-slim-bookworm", base)


@pytest.mark.parametrize(("device", "index"), [("cpu", "https://download.pytorch.org/whl/cpu"), ("cuda", ""), ("tpu", None)])  # fmt: skip
def test_the_device_chooses_where_pytorch_comes_from(tmp_path, device, index):
    (script,) = (what for name, what in instructions() if name == "RUN" and "pip install" in what)
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\necho "$PIP_EXTRA_INDEX_URL: $*"\n', encoding="utf-8")
    stub.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DEVICE": device, "VIRTUAL_ENV": "v"}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True)
    if index is None:
        assert (done.returncode, done.stderr) == (2, "DEVICE=tpu: cpu or cuda\n")
        return
    assert done.stdout.splitlines() == [
        f"{index}: -m venv v",
        f"{index}: -m pip install --no-cache-dir --disable-pip-version-check --requirement /tmp/requirements.txt",
    ]
