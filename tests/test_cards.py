"""A machine with several cards: which of them a process has to itself, and that it sees no other."""

import os
import pwd
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.backends.shared import cards, devices
from stages.errors import UserError
from stages.serving import runs
from tests.conftest import ENVIRONMENT
from tests.tiny import SETTINGS, checkpoint

LISTED = "0, 512, GPU-a\\n1, [N/A], GPU-b\\n2, 81000, GPU-c\\n3, 40000, GPU-d\\n"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Four cards, as the driver's program lists them; the third has the most free memory."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f"#!/bin/sh\ncase \"$*\" in *index,memory.free,uuid*noheader*)\nprintf '{LISTED}' ;; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.setenv(name, "")  # so that what the test sets is taken back
        monkeypatch.delenv(name)
    held: list[int] = []
    for name, value in (("FOLDER", tmp_path), ("_mine", []), ("held", held)):
        monkeypatch.setattr(cards, name, value)
    yield program
    for descriptor in held:
        os.close(descriptor)


@pytest.fixture
def begin(driver: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begins a process that takes so many cards and has them until its standard input ends."""
    begun = []

    def process(count: int = 1, visible: str | None = None) -> subprocess.Popen[str]:
        code = (
            f"import sys; from stages.backends.shared import cards; cards.SECONDS = 1; "
            f"print('has', *cards.take({count}), flush=True); sys.stdin.read()"
        )
        begun.append(
            subprocess.Popen(
                [sys.executable, "-c", code],
                env=ENVIRONMENT
                | {"PATH": os.environ["PATH"], "TMPDIR": str(driver.parent)}
                | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return begun[-1]

    yield process
    for each in begun:
        each.kill()
        each.communicate()


def line(process: subprocess.Popen[str], *beginning: str) -> str:
    """The first line that begins so, of those that are still to come."""
    assert process.stdout
    found = next((line for line in process.stdout if line.startswith(beginning)), "")
    assert found, f"ended without a line that begins with {beginning!r}"
    return found.rstrip("\n")


@pytest.mark.parametrize("choose", [cards.choose_one, cards.take])
def test_the_card_with_the_most_free_memory_is_the_one(driver, choose):
    assert cards.free_megabytes() == {"0": 512, "1": 0, "2": 81000, "3": 40000}
    choose()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert cards.take() == ["2"]  # as before, though card 2 is had


@pytest.mark.parametrize("choose", [cards.choose_one, cards.take])
@pytest.mark.parametrize(
    ("visible", "card"),
    [("3, 0", "3"), ("GPU-1f,GPU-2e", "GPU-1f"), ("1", "1"), ("", ""), ("-1", "-1")],
)
def test_of_those_that_the_user_lets_a_process_see_it_takes_the_first(
    driver, monkeypatch, visible, card, choose
):
    """With two, transformers would compute in DataParallel."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    choose()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == card
    assert "CUDA_DEVICE_ORDER" not in os.environ


def test_all_that_the_user_lets_a_process_see_are_shared_out(driver, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, 3")
    assert cards.free_megabytes() == {"0": 0, "3": 0}


@pytest.mark.parametrize("answer", ["", "echo '0, 512'", "echo No devices were found; exit 6"])
def test_one_card_or_none_is_left_as_it_is(driver, answer):
    driver.write_text(f"#!/bin/sh\n{answer}\n")
    cards.choose_one()
    assert cards.take() == (["0"] if "512" in answer else [])
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    driver.unlink()
    assert cards.free_megabytes() == {}


def test_four_trainings_have_a_card_each_and_a_fifth_has_that_of_the_first_that_is_killed(begin):
    """Begun at once, as by `dvc queue start -j 5`, several `dvc repro`, or clones of the project."""
    four = [begin() for _ in range(4)]
    having = {line(process, "has "): process for process in four}
    assert sorted(having) == ["has 0", "has 1", "has 2", "has 3"]
    fifth = begin()
    waits = line(fifth, "waits for a card")
    user = pwd.getpwuid(os.getuid()).pw_name
    for card in range(4):
        process = having[f"has {card}"]
        assert f"card {card} has process {process.pid} ({Path(sys.executable).name} -c " in waits
    assert f", {user}, {Path.cwd()})" in waits
    assert waits.startswith("waits for a card: card 0 has process ")
    assert waits.endswith(". To share instead of waiting: CUDA_VISIBLE_DEVICES=2")
    assert line(fifth, "waits for a card, for ").startswith("waits for a card, for 1 s now: card 0")
    having["has 1"].kill()
    assert line(fifth, "computes on") == "computes on card 1"
    assert line(fifth, "has ") == "has 1"


def test_two_that_want_several_never_wait_for_each_other(begin):
    both = [begin(3), begin(3)]
    lines = [line(each, "has ", "waits for 3 cards: ") for each in both]
    assert sorted(said[:4] for said in lines) == ["has ", "wait"]
    first, second = sorted(both, key=lambda each: lines[both.index(each)])
    single = begin()  # what the other does not have yet is free
    assert line(single, "has ") == "has 1"
    first.kill()
    assert line(second, "has ") == "has 2 3 0"


def test_more_than_there_are_is_refused_and_not_waited_for(driver, monkeypatch):
    with pytest.raises(UserError) as caught:
        cards.take(5)
    assert str(caught.value) == (
        "5 cards are wanted, and this process may use 4 (2, 3, 0, 1); ask for fewer, or name more "
        "in CUDA_VISIBLE_DEVICES"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(
        UserError, match=r"2 cards are wanted, and this process may use 0 \(none\);"
    ):
        cards.take(2)


def test_several_that_are_named_are_had_one_by_one_and_one_that_is_named_is_shared(begin):
    assert line(begin(visible="3,GPU-a"), "has ") == "has 3"
    assert line(begin(visible="3,GPU-a"), "has ") == "has GPU-a"
    third = begin(visible="3,0")  # by whatever name
    assert line(third, "waits for a card").endswith(": CUDA_VISIBLE_DEVICES=3")
    sharing = begin(visible="3")
    assert line(sharing, "shared").startswith(
        "shared, as CUDA_VISIBLE_DEVICES names it: card 3 has process "
    )
    assert line(sharing, "has ") == "has 3"
    assert line(begin(2), "has ") == "has 2 1"


def test_what_a_person_waits_for_takes_no_card_from_a_training(driver, begin, monkeypatch):
    cards.choose_one()
    assert cards.take() == ["2"]  # without its lock
    training = begin()
    assert line(training, "has ") == "has 2"
    monkeypatch.setattr(cards, "_mine", [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    cards.choose_one()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_a_run_that_is_asked_by_hand_is_loaded_without_the_lock_of_a_card(driver, monkeypatch):
    class Backend:
        def answerer(self, *_: object) -> list[str]:
            return cards.take()

    monkeypatch.setattr(runs.backends, "load", lambda *_: Backend())
    assert runs.TrainedRun("gec-001", "gec-001", "gec", "models/base", SETTINGS).load() == ["2"]
    assert not cards.held


def test_a_card_is_free_when_the_last_process_that_was_given_its_lock_has_ended(driver, begin):
    cards.take()
    child = subprocess.Popen(["sleep", "600"], pass_fds=cards.held)
    try:
        # What a parent has, its children have too: here the test itself is one.
        os.pwrite(cards.held[0], f"{child.pid}\n".ljust(10).encode(), 0)
        os.close(cards.held.pop())
        others = [begin() for _ in range(3)]
        assert {line(each, "has ") for each in others} == {"has 0", "has 1", "has 3"}
        last = begin()
        assert f"card 2 has process {child.pid} (sleep 600, " in line(last, "waits for")
    finally:
        child.kill()
        child.wait()
    assert line(last, "has ") == "has 2"


def test_what_a_process_begins_has_the_cards_of_that_process(driver):
    code = "from stages.backends.shared import cards; print(cards.take())"
    assert cards.take(2) == ["2", "3"]
    for card in cards.take():
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": card, "TMPDIR": str(driver.parent)}
        said = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
        assert said == f"['{card}']\n"


def test_one_that_waits_ends_with_its_dvc(driver, begin, tmp_path):
    """Else it would hold the folder of its checkpoints, and the next `dvc repro` waited for it."""
    having = [begin() for _ in range(4)]
    for each in having:
        line(each, "has ")
    dvc = tmp_path / "dvc"
    code = (
        "import subprocess, sys; print('began', subprocess.Popen([sys.executable, '-c', 'from "
        "stages.backends.shared import cards; cards.take()']).pid, flush=True); sys.stdin.read()"
    )
    dvc.write_text(code)
    parent = subprocess.Popen(
        [sys.executable, str(dvc)],
        env=ENVIRONMENT | {"PATH": os.environ["PATH"], "TMPDIR": str(driver.parent), "PYTHONPATH": "."},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    pid = int(line(parent, "began ").split()[1])
    line(parent, "waits for a card")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}/cmdline").is_file() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < until
        time.sleep(0.1)
    parent.communicate()


def test_every_user_of_the_machine_can_lock_a_card(driver):
    before = os.umask(0o077)
    try:
        cards.take()
    finally:
        os.umask(before)
    files = [*driver.parent.glob("tsugiki-card-*")]
    assert sorted(file.name for file in files) == [
        "tsugiki-card-GPU-c.lock", "tsugiki-card-choosing.lock",
    ]  # fmt: skip
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o666}


def test_a_lock_that_cannot_be_made_is_a_sentence(driver, monkeypatch):
    (driver.parent / "tsugiki-card-GPU-c.lock").symlink_to("elsewhere")
    with pytest.raises(UserError) as caught:
        cards.take()
    assert str(caught.value) == (
        f"{driver.parent}/tsugiki-card-GPU-c.lock: Too many levels of symbolic links; it is locked "
        "by who has the card: make room or remove it, or set TMPDIR to a folder that all trainings "
        "of this machine can write to"
    )
    assert not (driver.parent / "elsewhere").exists()


@pytest.mark.parametrize(
    ("wanted", "built", "takes"),
    [("auto", "13.0", True), ("cuda", "13.0", True), ("cpu", "13.0", False), ("auto", None, False)],
)
def test_a_training_on_the_processor_takes_no_card(driver, monkeypatch, wanted, built, takes):
    """Nor does one whose PyTorch knows no CUDA."""
    monkeypatch.setattr(devices.torch.version, "cuda", built)
    if wanted == "cuda":
        monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: True)
    devices.own_device(wanted)
    assert bool(cards.held) == takes
    assert ("CUDA_VISIBLE_DEVICES" in os.environ) == takes


FOUR_CARDS = """
import os, sys
from pathlib import Path
import torch
from stages import backends

seen = []
def there():
    "CUDA reads this when it is first asked, and never again."
    seen.append(os.environ.get("CUDA_VISIBLE_DEVICES", "0,1,2,3"))
    return len(seen[0].split(","))

torch.version.cuda = "13.0"
torch.cuda.mem_get_info = lambda *_: (2**36, 2**36)
torch.cuda.set_device = lambda *_: None
base, verb = sys.argv[1:]
from stages.backends.shared import cards
from stages.entries import Run
choose_one, cards.choose_one = cards.choose_one, lambda: None
from tests.tiny import ROWS, SETTINGS  # which chooses one for the tests
cards.choose_one = choose_one
SPEC = Run(task="gec", corpus="gec-001", base=base, parent=base)
if verb == "first":
    torch.cuda.is_available = lambda: there() < 0
    torch.cuda.device_count = there
    backend = backends.load("pytorch", "machine")
    backend.train("a", SPEC, SETTINGS, ROWS[:16], ROWS[16:], Path("scratch"))
    print("first asked with", seen[0])
else:
    backend = backends.load("pytorch", "machine")
    from stages.backends.pytorch import fit
    torch.cuda.is_available = lambda: there() > 0
    torch.cuda.device_count = there
    if verb == "all":
        cards.take = cards.choose_one = lambda: None

    def trainer(*_, args, **__):
        raise SystemExit(print("n_gpu is", args.n_gpu))
    fit.LabelledTrainer = trainer
    backend.train("a", SPEC, SETTINGS, ROWS[:16], ROWS[16:], Path("scratch"))
"""
"""A training on a machine where PyTorch finds four cards, and no instruction for them is run."""


@pytest.mark.parametrize(
    ("verb", "says"),
    [("first", "first asked with 2"), ("one", "n_gpu is 1"), ("all", "n_gpu is 4")],
)
def test_transformers_trainer_sees_one_card_before_anything_has_asked_for_them(
    driver, tmp_path, verb, says
):
    """bitsandbytes starts CUDA where it is imported, and PEFT imports it. With more than one card
    (n_gpu) the Trainer computes in DataParallel, as it does where nothing is chosen."""
    base = checkpoint(tmp_path / "base", "llama")
    done = subprocess.run(
        [sys.executable, "-c", FOUR_CARDS, base, verb],
        cwd=tmp_path,
        env=ENVIRONMENT
        | {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == [says], done.stderr[-2000:]
