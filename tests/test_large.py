"""Data that outgrows memory and one core: rows and tokens are read from the disk where they are asked
for, work is divided between processes, and what comes out is the same to the byte."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import psutil
import pytest

from stages import imports, mix, prepare, processes, tasks
from stages.backends.shared import checkpoints, kept_tokens
from stages.backends.shared.tokenizers import load_tokenizer
from stages.backends.shared.training_plan import EncodePart, encode_parts
from stages.corpus import candidates, source_files
from stages.entries import Run
from stages.errors import UserError
from stages.files import digest, write_lines
from stages.records import RowFile, read_rows
from stages.text import token_files
from stages.text.chat import Encoded
from tests.test_prepare import enter, jsonl
from tests.tiny import ROWS, SETTINGS, checkpoint

ROOT = Path(__file__).parents[1]
RUN = Run(task="gec", corpus="gec-001", base="base", parent="base")


# Rows


def test_rows_of_a_file_are_those_that_are_read_at_once(inside):
    Path("rows.jsonl").write_bytes(
        b'\xef\xbb\xbf{"id": "\xe7\x8c\xab"}\n\n  \n{"id": "b"}\r\n{"id": "c"}'
    )
    rows, whole = RowFile(Path("rows.jsonl")), read_rows(Path("rows.jsonl"))
    assert [row["id"] for row in whole] == ["猫", "b", "c"]
    assert [*rows] == whole == [rows[at] for at in range(len(rows))]
    assert (rows[-1], rows[1:]) == (whole[-1], whole[1:])
    with pytest.raises(IndexError):
        rows[3]


def test_mix_goes_through_rows_that_memory_has_no_room_for(inside):
    """Hundred bytes of memory a row would be 2 MB here; all rows at once were 20."""
    rows = 20_000
    for part, count in (("test", 50), ("valid", 50), ("train", rows)):
        Path("data/prepared/lm", part).mkdir(parents=True)
        write_lines(
            Path("data/prepared/lm", part, "lm-001.jsonl"),
            (
                {
                    "id": f"{digest(part, f'{n}'):016x}",
                    "category": "text",
                    "source": "",
                    "text": f"{part} {n} " + "x" * 500,
                }
                for n in range(count)
            ),
        )
    config = {
        "task": "lm",
        "seed": 1,
        "shares": {"train": {"lm-001": 1.0}, "valid": {"lm-001": 1.0}},
        "tests": ["lm-001"],
    }
    Path("build/config/mix").mkdir(parents=True)
    Path("build/config/mix/lm-001.json").write_text(json.dumps(config))
    tracemalloc.start()
    mix.main("lm-001")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert Path("data/mixed/lm-001/train.jsonl").stat().st_size > rows * 500
    assert peak < rows * 100 + 2_000_000  # of a thousand rows at a time


# Tokens


KINDS = [
    Encoded("猫", [1, 2, 3], 1),
    Encoded("", [5], 0),
    Encoded("b", [1, 2, 3, 4, 5, 6, 7], 2, between=((3, 4), (5, 6))),
    Encoded("c", [9, 8, 7, 6], 2, step_ends=(2, 3), step_labels=(0.1, None)),
    Encoded("b", [2**31 - 1] * 300, 299),
]


def test_sequences_of_every_kind_come_back_from_files_as_they_were(tmp_path):
    token_files.write(tmp_path, map(token_files.arrays, ([*KINDS[:2]], [], KINDS[2:])))
    kept = token_files.TokenFiles(tmp_path)
    assert [*kept] == KINDS == [kept[at] for at in range(len(kept))]
    assert [row.labels for row in kept] == [row.labels for row in KINDS]
    assert [*token_files.lengths(kept)] == [3, 1, 7, 4, 300] == token_files.lengths(KINDS)
    assert all(type(length) is int for length in kept.lengths)
    assert [*kept[1:4]] == KINDS[1:4]
    assert [*kept[1:4][::2]] == KINDS[1:4:2]
    assert [*kept[1:4].lengths] == [1, 7, 4]
    assert kept[-1] == KINDS[-1]
    with pytest.raises(IndexError):
        kept[5]
    (tmp_path / "empty").mkdir()
    token_files.write(tmp_path / "empty", [])
    assert not token_files.TokenFiles(tmp_path / "empty")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("base") / "llama", "llama")


@pytest.fixture
def rows(inside):
    write_lines(Path("rows.jsonl"), ROWS)
    return RowFile(Path("rows.jsonl"))


def encoder(base: str) -> EncodePart:
    return EncodePart("train", load_tokenizer(base, base), 64, 0, "last")


class Counting:
    def __init__(self, encode: EncodePart, seconds: float = 0) -> None:
        self.encode, self.seconds, self.rows = encode, seconds, 0

    def __call__(self, row):
        self.rows += 1
        time.sleep(self.seconds)
        return self.encode(row)


def tokenised(rows, encode, *options):
    tokenizer = getattr(encode, "encode", encode).tokenizer
    return kept_tokens.tokenised("tokenising", rows, tokenizer, encode, *options)


def test_rows_are_tokenised_once(base, rows):
    counting = Counting(encoder(base))
    first, left_out = tokenised(rows, counting, 64)
    again, still = tokenised(RowFile(rows.path), counting, 64)
    assert counting.rows == len(ROWS)
    assert [*first] == [*again] == [each for row in ROWS for each in counting.encode(row)]
    assert left_out == still == 0
    # a training asks the same
    settings = SETTINGS.model_copy(update={"max_length_tokens": 12})
    parts = {"train": rows, "valid": RowFile(rows.path)}
    found, too_long = encode_parts(counting.encode.tokenizer, RUN, settings, parts)
    assert [*found["train"]] == [*found["valid"]]
    assert 0 < too_long == 2 * (len(ROWS) - len(found["train"]))
    assert encode_parts(counting.encode.tokenizer, RUN, settings, parts)[1] == too_long


def test_whatever_decides_the_tokens_makes_others(base, rows, monkeypatch):
    counting = Counting(encoder(base))
    tokenised(rows, counting, 64)

    def tokenises_again(*options) -> bool:
        before = counting.rows
        tokenised(RowFile(rows.path), counting, *options or (64,))
        return counting.rows > before

    assert not tokenises_again()
    assert tokenises_again(65)
    template = counting.encode.tokenizer.chat_template
    counting.encode.tokenizer.chat_template = "{# another #}" + template
    assert tokenises_again()
    counting.encode.tokenizer.chat_template = template
    assert not tokenises_again()
    with monkeypatch.context() as patched:
        patched.setattr(imports, "code", lambda files: {"stages/text/chat.py": "other"})
        assert tokenises_again()
    with monkeypatch.context() as patched:
        patched.setattr(imports, "packages", lambda *_: {"tokenizers": "0"})
        assert tokenises_again()
    counting.encode.tokenizer.add_tokens(["<formal>"])
    assert tokenises_again()
    write_lines(rows.path, ROWS[:-1])
    assert tokenises_again()


def test_tokens_that_are_half_written_or_damaged_are_made_anew(base, rows):
    counting = Counting(encoder(base))
    sequences = [*tokenised(rows, counting, 64)[0]]
    (folder,) = kept_tokens.root().iterdir()
    (folder / "ids").write_bytes((folder / "ids").read_bytes()[:-4] + b"\0\0\0\1")
    assert [*tokenised(rows, counting, 64)[0]] == sequences
    assert counting.rows == 2 * len(ROWS)

    def stops(row):
        if row["id"] == "20":
            raise UserError("stopped")
        return counting.encode(row)

    stops.tokenizer = counting.encode.tokenizer
    with pytest.raises(UserError, match=r"^stopped$"):
        tokenised(rows, stops, 32)
    assert [*kept_tokens.root().iterdir()] == [folder]
    # what a kill leaves, which no error has cleared away
    half = kept_tokens.root() / f".{kept_tokens._key(rows, stops.tokenizer, 32)}.partial"
    half.mkdir()
    (half / "ids").write_bytes(b"half")
    assert [*tokenised(rows, counting, 32)[0]] == sequences
    assert not half.exists()


def test_two_trainings_that_begin_at_once_tokenise_once(base, rows):
    counting, found = Counting(encoder(base), seconds=0.02), []
    both = [
        threading.Thread(target=lambda: found.append(tokenised(RowFile(rows.path), counting, 64)))
        for _ in range(2)
    ]
    for each in both:
        each.start()
    for each in both:
        each.join()
    (one, _), (other, _) = found
    assert [*one] == [*other]
    assert counting.rows == len(ROWS) == len(one)


def test_tokens_that_no_training_has_begun_with_for_two_weeks_go_when_others_come(base, rows):
    encode, days = encoder(base), 24 * 60 * 60
    kept, _ = tokenised(rows, encode, 1)
    (old,) = kept_tokens.root().iterdir()
    os.utime(old, (0, time.time() - 15 * days))
    tokenised(rows, encode, 1)  # a training begins with them
    tokenised(rows, encode, 2)
    assert old.exists()
    os.utime(old, (0, time.time() - 15 * days))
    tokenised(rows, encode, 3)
    assert not old.exists()
    assert len([*kept_tokens.root().iterdir()]) == 2
    assert kept[3].ids  # what is mapped stays readable


# Processes


def test_several_processes_make_the_same_files_as_one(base, rows, monkeypatch, inside):
    encode = EncodePart("train", load_tokenizer(base, base), 12, 0, "last")
    tokenised(rows, encode, 12)
    (one,) = kept_tokens.root().iterdir()
    one = one.rename(inside / "one")
    monkeypatch.setattr(kept_tokens, "ROWS_OF_A_PART", 3)
    monkeypatch.setattr(kept_tokens, "ROWS_OF_A_PROCESS", 5)
    monkeypatch.setattr(kept_tokens, "cores", lambda: 3)
    asked = []
    monkeypatch.setattr(
        kept_tokens, "in_order", lambda *asks: (asked.append(asks[2]), processes.in_order(*asks))[1]
    )
    tokenised(RowFile(rows.path), encode, 12)
    (three,) = kept_tokens.root().iterdir()
    assert asked == [3]
    for name in (checkpoints.SEAL, kept_tokens.LEFT_OUT):
        assert (three / name).read_bytes() == (one / name).read_bytes()
    encode.tokenizer.chat_template = None
    write_lines(rows.path, ROWS[7:])
    with pytest.raises(UserError, match=r"^train row 7 \(.*\): .* has no chat template"):
        tokenised(RowFile(rows.path), encode, 12)


def test_work_is_divided_by_the_share_of_the_cores_that_a_stage_has(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    for said, cores in (("", 3), ("2", 2), ("8", 8), ("0", 3), ("2,1", 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert processes.cores() == cores


def halves(number: int) -> float:
    return 1 / number


def test_what_processes_make_comes_in_order_and_what_they_raise_where_it_belongs():
    made = processes.in_order(halves, [4, 2, 1, 0, 5], 2)
    assert [next(made), next(made), next(made)] == [0.25, 0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert [*processes.in_order(halves, [2, 4], 1)] == [0.5, 0.25]


def test_a_process_that_the_system_kills_is_told_of():
    with pytest.raises(
        UserError,
        match=r"^one of 2 processes was killed, as the system does where memory runs out; nothing was written\. Run the same command again",
    ):
        [*processes.in_order(os._exit, [1], 2)]


PARENT = """
import time
from stages import processes

if __name__ == "__main__":
    for _ in processes.in_order(time.sleep, [0, 60, 60], 2):
        print("begun", flush=True)
"""


def test_processes_end_with_the_one_that_waits_for_them(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, env=environment
    ) as parent:
        assert parent.stdout
        parent.stdout.readline()
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 2
        parent.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


REVEAL = [
    {"answer_id": f"a{n // 3}", "question": f"How many, {n // 3}?", "step": f"Step {n}.", "attribution_relevance": "yes",
     "attribution_label": "fully", "logic_relevance": "yes", "logic_label": "correct", "is_final_rated_evidence_for_step": "yes",
     "type": "logical", "step_idx": n % 3}
    for n in range(60)
]  # fmt: skip
FORMS = {
    "gec list": ("gec", "txt", "\n".join(f"文章{n}です。" for n in range(200)).encode(), {}),
    "lm WikiText": ("lm", "jsonl", jsonl([" = Title = \n", *(f" line {n} \n" for n in range(99)), " = Second = \n", " end \n"]), {}),
    "lm text": ("lm", "txt", "\n\n".join(f"A document,\nof {n}." for n in range(200)).encode(), {}),
    "polish lemmas": ("polish", "tsv", "".join(f"kot{n}\tkota{n}\tN;GEN;SG\n" for n in range(200)).encode(), {}),
    "compressed": ("lm", "jsonl.gz", gzip.compress(jsonl([f"text {n}" for n in range(200)])), {}),
    "a title in the middle": ("lm", "jsonl", jsonl([f"a text {n}" for n in range(150)] + [" = Title = ", " one ", " two "] * 50), {}),
}  # fmt: skip
OPTIONS = {
    "augment": {"augment": {"copies": 2, "character_noise": 0.2, "seed": 1}},
    "near-duplicates": {
        "near_duplicates": 0.8,
        "augment": {"copies": 1, "character_noise": 0.2, "seed": 1},
    },
    "categories": {"max_samples": 150, "max_characters": 200, "instruction": "Mend this:"},
}


def damaged(lines: list[str]) -> bytes:
    """Lines that come again far from where they were, unreadable ones, and some without text."""
    half = len(lines) // 2
    broken = [*lines[:half], "{broken", "", *lines[half:], *lines[:30], "{broken as well", "  "]
    return ("\n".join(broken) + "\n").encode()


def demo(task: str) -> tuple[str, str, bytes, dict[str, object]]:
    lines = [*tasks.synthetic(task).lines(random.Random(1), 400, 1)]
    return task, "tsv" if task == "gec" else "jsonl", damaged(lines), {}


@pytest.mark.parametrize("form", [*tasks.names(), *OPTIONS, *FORMS])
def test_prepare_writes_the_same_bytes_by_several_processes(form, inside, monkeypatch):
    task, suffix, content, options = (
        FORMS[form] if form in FORMS else demo("gec" if form in OPTIONS else form)
    )
    alike = {"malformed": "drop", "max_drop_fraction": 0.9, **options, **OPTIONS.get(form, {})}
    enter(task, content, suffix, **alike)

    def written() -> dict[Path, bytes]:
        prepare.main(f"{task}-001")
        files = [*Path("data/prepared").rglob("*.jsonl"), Path(f"metrics/prepare/{task}-001.json")]
        return {path: path.read_bytes() for path in files}

    one = written()
    assert sum(map(len, one.values())) > 1_000
    asked = []
    monkeypatch.setattr(source_files, "SPAN_BYTES", 1_000)
    several = written()
    monkeypatch.setattr(candidates, "BYTES_OF_A_PROCESS", 100)
    monkeypatch.setattr(candidates, "cores", lambda: 3)
    monkeypatch.setattr(
        candidates, "in_order", lambda *asks: (asked.append(asks[2]), processes.in_order(*asks))[1]
    )
    assert written() == several == one
    assert asked == ([] if form in ("lm WikiText", "lm text", "compressed") else [3])


def test_solutions_of_several_lines_are_read_by_one_process(inside):
    Path("corpus.jsonl").write_text("".join(json.dumps(each) + "\n" for each in REVEAL))
    reads = tasks.corpus("reward").reads_lines_alone
    assert not reads(Path("corpus.jsonl"), {})
    assert not reads(Path("corpus.jsonl"), {"number": "answer_id"})
    lines = tasks.synthetic("reward").lines(random.Random(1), 5, 1)
    Path("corpus.jsonl").write_text("\n".join(lines))
    assert reads(Path("corpus.jsonl"), {})
    assert not reads(Path("corpus.jsonl"), {"number": "answer_id"})


def test_what_is_wrong_with_a_line_is_said_alike_by_several_processes(inside, monkeypatch):
    texts = [f"text {n}" for n in range(200)]
    for content in (
        jsonl(texts[:150]) + b'{"text": "\xff"}\n' + jsonl(texts[150:]),
        jsonl(texts[:100]) + b"{broken\n" + jsonl(texts[100:]) + b'{"text": 5}\n{broken\n',
    ):
        said = []
        for cores in (1, 3):
            monkeypatch.setattr(candidates, "BYTES_OF_A_PROCESS", 100)
            monkeypatch.setattr(candidates, "cores", lambda cores=cores: cores)
            monkeypatch.setattr(source_files, "SPAN_BYTES", 500)
            enter("lm", content, "jsonl")
            with pytest.raises(UserError) as error:
                prepare.main("lm-001")
            said.append(str(error.value))
            assert not [*Path("data").rglob("*.jsonl")]
        assert said[0] == said[1]
        assert "line 151: not UTF-8" in said[0] or "line 101" in said[0]
