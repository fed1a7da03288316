"""Raw corpora: what is read, what is dropped and counted, what stops with which sentence, and what
is held out."""

import json
import os
import random
import subprocess
import sys
import tracemalloc
import unicodedata
from pathlib import Path

import pandas
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stages import configure, prepare
from stages.corpus import clean, split
from stages.corpus.examples import BadLine, Example
from stages.errors import UserError
from stages.files import atomic_write, read_lines, write_json, write_lines
from stages.records import read_rows
from stages.tasks.lm import corpus as lm
from tests.test_settings import GOOD


def enter(task: str, content: bytes | None, suffix: str = "txt", **options: object) -> None:
    """A params.yaml in the present folder with one corpus, configured, and its file."""
    params = yaml.safe_load(yaml.safe_dump(GOOD))
    params["tasks"].setdefault(task, {})
    params["corpora"][f"{task}-001"] = {"task": task, "file": f"corpus.{suffix}", **options}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    if content is not None:
        Path(f"corpus.{suffix}").write_bytes(content)
    configure.main()


def documents(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [
        " ".join(rng.choices(["the", "cat", "dog", "sees", "a", "river", "old", "small"], k=12))
        + f" {n}."
        for n in range(count)
    ]


def jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def held_out(texts: list[str]) -> set[str]:
    return {text for text in texts if split.part(text, 0.1, 0.1) == "test"}


# The split


def test_a_row_held_out_in_001_is_held_out_in_every_later_version(inside):
    first = documents(300)
    later = [*documents(200, seed=1), *first]
    random.Random(3).shuffle(later)
    tests = []
    for texts in (first, later):
        enter("lm", jsonl(texts), "jsonl")
        prepare.main("lm-001")
        tests.append({row["text"] for row in read_rows(Path("data/prepared/lm/test/lm-001.jsonl"))})
        trained = {row["text"] for row in read_rows(Path("data/prepared/lm/train/lm-001.jsonl"))}
        assert not trained & held_out(first)
    assert tests[0] == held_out(first) <= tests[1]
    assert 0.05 < len(tests[0]) / 300 < 0.15


@given(st.text(max_size=40), st.floats(0.01, 0.2), st.floats(0.01, 0.2))
def test_a_larger_share_holds_out_the_same_items_and_more(key, valid, test):
    if split.part(key, valid, test) == "test":
        assert split.part(key, valid * 2, test * 2) == "test"
    if split.part(key, valid * 2, test * 2) == "train":
        assert split.part(key, valid, test) == "train"


@given(st.text(max_size=30))
def test_white_space_and_width_do_not_move_a_row(text):
    assert split.part(text, 0.3, 0.3) == split.part(f" {text}\n", 0.3, 0.3)
    assert split.part("ＡＢＣ　カ", 0.3, 0.3) == split.part("ABC カ", 0.3, 0.3)


INVISIBLE = st.text("\u200b\u200d\u2060\ufeff\u00ad\ufe0f\u200f", max_size=3)


@given(st.text(max_size=20), INVISIBLE, st.text(max_size=20), st.sampled_from(["NFC", "NFD"]))
def test_twins_that_a_reader_cannot_tell_apart_share_a_part_and_a_question(
    one, hidden, other, form
):
    plain = one + other
    twin = one + hidden + unicodedata.normalize(form, other)
    assert split.normalise(plain) == split.normalise(twin)
    asked = [
        clean.question_digest({"id": "", "category": "", "source": "", "text": text})
        for text in (plain, twin)
    ]
    assert asked[0] == asked[1]


# Cleaning


def test_what_is_dropped_is_counted_by_reason(inside):
    texts = documents(100)
    enter("lm", jsonl([*texts, *texts[:10]]) + b"{]\n", "jsonl", malformed="drop")
    prepare.main("lm-001")
    report = json.loads(Path("metrics/prepare/lm-001.json").read_text())
    assert report["read"] == 111
    assert report["dropped"] == {"duplicate": 10, "malformed": 1}
    assert sum(report["rows"].values()) == 100
    assert report["train_categories"] == {"text": report["rows"]["train"]}


def test_a_training_row_that_asks_what_a_held_out_row_asks_is_dropped(inside):
    # The same sentence corrected in several ways: the corrections decide the part, the question
    # would leak.
    lines = [f"{n}\t水<が{v}>（を{v}）{n}杯飲む。\tVerb\n" for n in range(60) for v in ("a", "b")]
    twice = [
        f"{n}\t<これ>（{word}）は{n}番。\tNoun\n" for n in range(200) for word in ("あれ", "それ")
    ]
    enter("gec", "".join(lines + twice).encode(), "tsv", max_drop_fraction=0.5)
    prepare.main("gec-001")
    parts = {
        part: read_rows(Path(f"data/prepared/gec/{part}/gec-001.jsonl"))
        for part in ("train", "valid", "test")
    }
    asked = {part: {clean.question_digest(row) for row in found} for part, found in parts.items()}
    assert asked["test"]
    assert not asked["train"] & (asked["test"] | asked["valid"])
    report = json.loads(Path("metrics/prepare/gec-001.json").read_text())
    assert report["dropped"]["asked in a held-out row"] > 10


def conversation(system: str, *said: str) -> dict[str, object]:
    roles = ["user", "assistant"] * len(said)
    turns = [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
    return {"messages": [{"role": "system", "content": system}, *turns]}


def test_conversations_are_the_same_only_where_all_that_is_said_is(inside):
    lines = [
        conversation("Be brief.", "q", "a"),
        conversation("Be polite.", "q", "a"),
        conversation("Be brief.", "q", "one", "r", "a"),
        conversation("Be brief.", "q", "two", "r", "a"),
        conversation("Be brief.", "q", "a"),
    ]
    enter("polish", "\n".join(map(json.dumps, lines)).encode(), "jsonl", test_only=True)
    prepare.main("polish-001")
    report = json.loads(Path("metrics/prepare/polish-001.json").read_text())
    assert report["dropped"] == {"duplicate": 1}
    paths = Path("data/prepared/polish").glob("*/polish-001.jsonl")
    rows = [row for path in paths for row in read_rows(path)]
    assert len({row["id"] for row in rows}) == len(rows) == 4


def test_what_is_unsound_is_found_where_a_text_is_only_searched_if_it_is_not_printable():
    unsound = [chr(code) for code in range(0x110000) if clean.UNSOUND.search(chr(code))]
    assert [each for each in unsound if each.isprintable()] == ["\ufffd"]
    report = clean.Report(Path("a.jsonl"))
    assert not [*clean.readable([Example(1, "", f"a{each}", "c") for each in unsound], report)]
    assert report.read == report.dropped["malformed"] == len(unsound) > 100


def test_damage_in_the_arguments_of_an_earlier_call_is_found():
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": ["x\ufffd"]}}}
    prompt = (
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    )
    report = clean.Report(Path("a.jsonl"))
    assert not [*clean.readable([Example(1, "q", "a", "c", prompt)], report)]
    assert report.bad[0].reason.startswith("U+FFFD in it: the text was decoded wrongly before")


def test_an_instruction_of_the_corpus_stands_before_the_first_words_and_takes_nothing_away(inside):
    lines = [conversation("Be brief.", "q", "a"), conversation("Be brief.", "q", "one", "r", "b")]
    enter(
        "polish",
        "\n".join(map(json.dumps, lines)).encode(),
        "jsonl",
        test_only=True,
        instruction="In Polish:",
    )
    prepare.main("polish-001")
    paths = Path("data/prepared/polish").glob("*/polish-001.jsonl")
    said = [
        [turn["content"] for turn in row["messages"]] for path in paths for row in read_rows(path)
    ]
    assert sorted(said) == [
        ["Be brief.", "In Polish:\nq", "a"],
        ["Be brief.", "In Polish:\nq", "one", "r", "b"],
    ]


def test_of_many_keys_without_a_use_the_most_frequent_are_named():
    report = clean.Report(Path("a.jsonl"))
    report.unused.update({f"key{number:03d}": 1 for number in range(500)})
    report.unused.update({"often": 7, "x" * 500: 3})
    said = report.not_used()
    assert "often (7)" in said
    assert said.endswith(", … and 482 more")
    assert len(said) < 500


def test_prepared_rows_are_what_mlx_lm_reads(inside):
    enter(
        "gec",
        "".join(f"{n}\t水<が>（を）{n}杯飲む。\tParticle\n" for n in range(60)).encode(),
        "tsv",
    )
    prepare.main("gec-001")
    from mlx_lm.tuner.datasets import ChatDataset, create_dataset

    dataset = create_dataset(
        read_rows(Path("data/prepared/gec/train/gec-001.jsonl")),
        tokenizer=None,
        config=type("C", (), {"mask_prompt": False})(),
    )
    assert isinstance(dataset, ChatDataset)


# Bad input: one sentence each, exit code 2, nothing half-written


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (None, {}, "corpus.jsonl: no such file; write the corpus there or correct its `file` in params.yaml"),
        (b"", {}, "corpus.jsonl: no records in it; a corpus has at least one line"),
        (b'{"text": "a"}\n\x93\xfa\x96\x7b\n', {}, "corpus.jsonl line 2: not UTF-8 (byte 1 of the line); convert the file"),
        (b'{"text": "a"}\n{"text": \n', {}, "corpus.jsonl line 2: not JSON: "),
        (b'{"text": "a"}\n[1]\n', {}, "corpus.jsonl line 2: a JSON list; a record is an object"),
        (b'{"txt": "a"}\n', {}, 'line 1: no "text" (or "question" and "answer", or "messages") with a string in it'),
        (b'{"text": " "}\n', {}, "corpus.jsonl line 1: nothing to learn: its text is empty; remove the line"),
        ('{"text": "a\ufffd"}\n'.encode(), {}, "corpus.jsonl line 1: U+FFFD in it: the text was decoded wrongly before"),
        (b'{"text": "a\\u0007"}\n', {}, "corpus.jsonl line 1: control character U+0007 in it; remove it"),
        ('{"text": "a\U0010fffe"}\n'.encode(), {}, "corpus.jsonl line 1: no character U+10FFFE in it; remove it"),
        (b'{"text": "a\\ud83d"}\n', {}, "corpus.jsonl line 1: half a surrogate pair (\\ud83d) in it; write the whole"),
        (b'{"text": "a", "category": ["x"]}\n', {}, 'corpus.jsonl line 1: "category" is a list; it is a word, or left out'),
        (b'{"text": "a"}\n' * 4, {}, "cleaning drops 3 of 4 rows (75%: 3 duplicate), more than max_drop_fraction 20%"),
    ],
)  # fmt: skip
def test_a_bad_corpus_is_told_in_a_sentence_and_writes_nothing(inside, content, options, says):
    enter("lm", content, "jsonl", **options)
    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare", "lm-001"],
        env=os.environ | {"PYTHONPATH": str(Path(prepare.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("data/prepared/lm/train/lm-001.jsonl").exists()
    assert not list(Path().rglob(".*.jsonl.*"))


def test_where_no_record_can_be_read_names_of_columns_are_the_remedy(inside):
    enter("lm", b'{"content": "a"}\n{"content": "b"}\n', "jsonl")
    with pytest.raises(UserError, match=r"\(the same in 2\)\nno record can be read; where its keys or columns have other names, say which is which: `columns:` for the corpus in params.yaml, --columns with `new`"):  # fmt: skip
        prepare.main("lm-001")


def test_all_bad_lines_are_listed_up_to_twenty_and_counted(inside):
    enter("lm", jsonl(documents(5)) + b"{\n" * 33, "jsonl")
    with pytest.raises(UserError) as error:
        prepare.main("lm-001")
    lines = str(error.value).splitlines()
    assert lines[0].startswith("corpus.jsonl line 6: not JSON")
    assert lines[0].endswith(f"(the same in {', '.join(map(str, range(7, 26)))})")
    assert lines[1] == "… and 13 more"
    assert (
        lines[2] == "correct these lines, or leave them out: `malformed: drop` for the corpus in "
        "params.yaml, --malformed drop with `new`"
    )


def test_an_unknown_corpus_names_the_nearest(inside):
    enter("lm", b"a")
    with pytest.raises(
        UserError,
        match=r"lm-0001.json: no such file; `dvc repro configure` writes .*; did you mean `lm-001`\?",
    ):
        prepare.main("lm-0001")


def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(inside, monkeypatch):
    write_json(Path("out.json"), {"old": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        UserError, match=r"out.json: not written \(No space left on device\); make room"
    ):
        write_json(Path("out.json"), {"new": 2})
    assert json.loads(Path("out.json").read_text()) == {"old": 1}
    assert [path.name for path in Path().iterdir()] == ["out.json"]


def test_a_file_that_is_interrupted_does_not_appear(inside):
    def broken():
        yield {"a": 1}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_lines(Path("out.jsonl"), broken())
    with pytest.raises(UnicodeEncodeError), atomic_write(Path("other")) as file:
        file.write("half \ud800")
    assert list(Path().iterdir()) == []


# Readers of texts


def test_wikitext_is_divided_by_article_and_other_text_by_blank_lines(inside):
    Path("wiki.tokens").write_text(
        " \n = First = \n \n one . \n \n = = Part = = \n two . \n = Second = \n three . \n",
        encoding="utf-8",
    )
    articles = [example.target.split("\n") for example in lm.read(Path("wiki.tokens"), {})]
    assert [[line.strip() for line in lines] for lines in articles] == [
        ["= First =", "one .", "= = Part = =", "two ."],
        ["= Second =", "three ."],
    ]
    Path("plain.txt").write_text("\ufeffone\ntwo\n\n\nthree\n", encoding="utf-8")
    assert [(example.line, example.target) for example in lm.read(Path("plain.txt"), {})] == [
        (1, "one\ntwo"),
        (5, "three"),
    ]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_records_with_a_line_of_wikitext_each_are_articles(inside, form):
    lines = [
        "",
        " = First = \n",
        "",
        " one . \n",
        " = = Part = = \n",
        " = Second = \n",
        " two . \n",
    ]
    frame, path = pandas.DataFrame({"text": lines}), Path(f"wiki.{form}")
    if form == "parquet":
        frame.to_parquet(path)
    elif form == "csv":
        frame.to_csv(path, index=False)
    else:
        path.write_text(frame.to_json(orient="records", lines=True))
    found = list(lm.read(path, {}))
    articles = [[line.strip() for line in example.target.split("\n")] for example in found]
    assert articles == [["= First =", "one .", "= = Part = ="], ["= Second =", "two ."]]


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_but_never_crashes(tmp_path_factory, text):
    for suffix in ("txt", "jsonl"):
        file = tmp_path_factory.mktemp("any") / f"x.{suffix}"
        file.write_text(text, encoding="utf-8", errors="replace")
        assert all(isinstance(item, Example | BadLine) for item in lm.read(file, {}))


def test_lines_are_numbered_as_an_editor_does(inside):
    Path("x").write_bytes(b"a\r\n\r\nb\n")
    assert list(read_lines(Path("x"))) == [(1, "a"), (3, "b")]


def test_records_of_texts_with_a_category_are_read_one_by_one(monkeypatch):
    read = list[int]()

    def records(path, columns):
        for number in range(1, 1001):
            read.append(number)
            yield number, {"text": f"text {number}", "category": "c"}

    monkeypatch.setattr(lm.source_files, "records", records)
    assert next(iter(lm.read(Path("a.jsonl"), {}))).target == "text 1"
    assert len(read) < 3


def test_memory_stays_flat_as_a_corpus_grows(inside):
    """Eight bytes and a set's slot for each row seen, not the rows: ten times the rows take far
    less than their size."""
    peaks = []
    for count in (4_000, 40_000):
        enter("lm", b"")
        with Path("corpus.txt").open("w") as file:
            file.writelines(
                f"a document of a good hundred characters, so that keeping them all would show: "
                f"{n} {'x' * 40}\n\n"
                for n in range(count)
            )
        tracemalloc.start()
        prepare.main("lm-001")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 36_000 * 130
