"""A machine with several cards: one process sees one of them."""

import os
from pathlib import Path

import pytest

from stages.backends.shared import cards


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four cards, as the driver's program lists them; the third has the most free memory."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *index,memory.free*noheader*)\n'
        "printf '0, 512\\n1, [N/A]\\n2, 81000\\n3, 40000\\n' ;; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.setenv(name, "")  # so that what the test sets is taken back
        monkeypatch.delenv(name)
    return program


def test_the_card_with_the_most_free_memory_is_the_one(driver):
    assert cards.free_megabytes() == {"0": 512, "1": 0, "2": 81000, "3": 40000}
    cards.choose_one()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@pytest.mark.parametrize(
    ("visible", "card"), [("3, 0", "3"), ("GPU-1f,GPU-2e", "GPU-1f"), ("1", "1"), ("", "")]
)
def test_of_those_that_the_user_lets_a_process_see_it_takes_the_first(
    driver, monkeypatch, visible, card
):
    """With two, transformers would compute in DataParallel."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    cards.choose_one()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == card
    assert "CUDA_DEVICE_ORDER" not in os.environ


def test_all_that_the_user_lets_a_process_see_are_shared_out(driver, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, 3")
    assert cards.free_megabytes() == {"0": 0, "3": 0}


@pytest.mark.parametrize("answer", ["", "echo '0, 512'", "echo No devices were found; exit 6"])
def test_one_card_or_none_is_left_as_it_is(driver, answer):
    driver.write_text(f"#!/bin/sh\n{answer}\n")
    cards.choose_one()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    driver.unlink()
    assert cards.free_megabytes() == {}
