"""The files that people have are read as records, whichever of the usual forms they are in, and what
cannot be read says where and why."""

import bz2
import gzip
import json
import lzma
import random
import tracemalloc
from pathlib import Path

import pandas
import pytest

from stages import tasks
from stages.commands.read_corpus import named_columns, read_corpus
from stages.corpus import clean, formats, source_files
from stages.corpus.candidates import prepared as prepared_row
from stages.corpus.examples import BadLine
from stages.entries import Corpus
from stages.errors import UserError
from stages.params import load_params
from stages.records import target
from tests.test_curriculum import enter

ROWS = [
    {"instruction": "Odmień.", "input": "kot, dopełniacz", "output": "kota"},
    {"instruction": 'W "cudzysłowie",\nw dwóch wierszach', "output": "tak;\tjest"},
]


def written(folder: Path, form: str) -> Path:
    path = folder / f"corpus{form}"
    inner, _, packed = form[1:].partition(".")
    frame = pandas.DataFrame(ROWS)
    text = {
        "jsonl": "\n".join(json.dumps(row) for row in ROWS),
        "ndjson": "\ufeff" + "\r\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS),
        "json": json.dumps(ROWS, indent=2, ensure_ascii=False),
        "csv": frame.to_csv(index=False),
        "tsv": frame.to_csv(index=False, sep="\t"),
    }.get(inner, "")
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "": bytes}[packed]
    if inner == "parquet":
        frame.to_parquet(path)
    else:
        path.write_bytes(pack(text.encode()))
    return path


@pytest.mark.parametrize(
    "form",
    [".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".json.bz2", ".csv.xz"],
)
def test_one_corpus_is_the_same_examples_in_every_form(tmp_path, form):
    path = written(tmp_path, form)
    assert [record for _, record in source_files.records(path, {})] == ROWS
    read = list(tasks.corpus("polish").read(path, {}))
    assert [(item.source, item.target) for item in read] == [
        ("Odmień.\nkot, dopełniacz", "kota"),
        ('W "cudzysłowie",\nw dwóch wierszach', "tak;\tjest"),
    ]
    assert {item.form for item in read} == {"instruction records"}
    assert source_files.suffixes_of(path) == form


def test_the_case_of_a_suffix_decides_nothing(tmp_path):
    path = tmp_path / "A.JSONL.GZ"
    path.write_bytes(gzip.compress(b'{"a": 1}\n'))
    assert list(source_files.records(path, {})) == [(1, {"a": 1})]
    assert source_files.suffixes_of(path) == ".jsonl.gz"


def test_an_array_tells_the_line_of_each_record(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('\n[\n {"a": 1},\n\n {"b":\n 2}, 7\n]\n', encoding="utf-8")
    assert list(source_files.records(path, {})) == [
        (3, {"a": 1}),
        (5, {"b": 2}),
        (6, "7 is no object"),
    ]


def test_a_json_file_may_hold_its_list_under_a_key_or_be_json_lines(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"version": 1, "data": [{"a": 1}]}', encoding="utf-8")
    assert list(source_files.records(path, {})) == [(1, {"version beside data": 1, "a": 1})]
    path.write_text(
        '{"v": 1, "data": [{"latex": "x", "typst": "x"}, 7, {"latex": "y", "typst": "y"}]}'
    )
    one, bad, two = tasks.corpus("typst").read(path, {})
    assert (one.unused, two.unused) == (("v beside data",), ())
    assert bad.reason == "7 is no object"
    path.write_text('{"a": 1}\n{"a": 2}\n', encoding="utf-8")
    assert list(source_files.records(path, {})) == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"x", "files of records end with .jsonl, .ndjson, .json, .parquet, .csv, .tsv, and may be compressed (.gz, .bz2, .xz); convert it"),
        ("a.json", b'[{"a": 1}, {]', "a.json line 1: not JSON: "),
        ("a.json", b'[{"a": 1}', "a.json line 1: the array is not closed; a .json file is a list of objects"),
        ("a.json", b"7", "a.json: not JSON: it begins with '7'; a .json file is a list of objects"),
        ("a.json", b"{}", "a.json: one object, and none of its keys holds a list; a .json file"),
        ("a.json", b'{"a": [], "b": []}', "a.json: one object, and 2 of its keys hold a list; a .json file"),
        ("a.csv", b"a,a\n1,2\n", "a.csv line 1: two columns are named 'a'; a table begins with a line of names, each once"),
        ("a.csv", b'a,b\n"1,2\n', "a.csv line 2: unexpected end of data; correct the quotes there"),
        ("a.jsonl", "é".encode("latin-1"), "a.jsonl line 1: not UTF-8 (byte 1 of the line); convert the file"),
        ("a.jsonl", "é".encode("utf-16"), "a.jsonl: UTF-16; convert it: `iconv -f UTF-16 -t UTF-8`"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "a.jsonl: compressed by gzip; let its name end with .gz"),
        ("a.csv", b"\x28\xb5\x2f\xfd\xff", "a.csv: compressed by Zstandard; unpack it: `zstd -d`"),
        ("a.jsonl.gz", b"no gzip", "a.jsonl.gz: cannot be read: Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 99, mtime=0)[:-9], "a.jsonl.gz: cannot be read: "),
        ("a.parquet", b"no parquet", "a.parquet: no Parquet file: "),
        ("a.parquet", None, "a.parquet: no such file; write the corpus there"),
        ("a.csv", None, "a.csv: no such file; write the corpus there"),
        ("a.json", b'[{"a": 1}] garbage', "a.json line 1: 'garbage' behind the end of the array; a .json file is a list of objects"),
        ("a.json", b'[{"a": 1}]\n[{"a": 1}]', "a.json line 2: '[{\"a\": 1}]' behind the end of the array; a .json"),
        ("a.csv", b"a;b\n1;2\n", "a.csv line 1: its columns are divided by ';', those of a .csv file by ','; save it so, or name it .csv or .tsv"),
        ("a.tsv", b"a,b\n1,2\n", "a.tsv line 1: its columns are divided by ',', those of a .tsv file by '\\t'; save it so"),
        ("a.csv", b'"a,b\n1,2\n', "a.csv line 2: unexpected end of data; correct the quotes there"),
        ("a.csv", "text,b\n".encode("utf-16-le"), "a.csv: UTF-16 without a byte-order mark; convert it: `iconv -f UTF-16LE -t UTF-8`"),
        ("a.csv", b"a,b\r1,2\r", "a.csv line 1: new-line character seen in unquoted field - do you need to open the file in universal-newline mode?; let lines end with LF or CR LF"),
        ("a.csv", b"PK\x03\x04\n\xff", "a.csv: a zip archive, as .xlsx files are too; unpack it, or save the table as .csv"),
        ("a.xlsx", b"PK\x03\x04\n\xff", "a.xlsx: a zip archive, as .xlsx files are too; unpack it, or save the table as .csv; files of records end with .jsonl"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd\xff", "a.jsonl.zst: compressed by Zstandard; unpack it: `zstd -d`; files of records end"),
        ("a.jsonl", lzma.compress(b"{}"), "a.jsonl: compressed by xz; let its name end with .xz"),
        ("a.jsonl", bz2.compress(b"{}"), "a.jsonl: compressed by bzip2; let its name end with .bz2"),
        ("a.jsonl", b"PAR1\x15\x04\n", "a.jsonl: Parquet; let its name end with .parquet"),
        ("a.jsonl.gz", gzip.compress(bytes(range(256)) * 99, mtime=0)[:60] + bytes(60), "a.jsonl.gz: cannot be read: "),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_says_where_and_why(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        list(source_files.records(tmp_path / name, {}))
    assert says in str(error.value)


def test_what_looks_like_records_under_another_name_is_not_learned_as_a_text(tmp_path):
    for name in ("a.txt", "a"):
        (tmp_path / name).write_text('\n{"text": "a"}\n{"text": "b"}\n', encoding="utf-8")
        with pytest.raises(UserError, match=f"{name}: JSON lines; let its name end with .jsonl"):
            list(tasks.corpus("lm").read(tmp_path / name, {}))
    for task in ("lm", "gec"):
        for text, form in (
            ('\n{"source": "He go.", "target": "He goes."}\n', "JSON lines; let its name end with .jsonl"),
            ('[\n  {\n    "source": "He go."\n  }\n]\n', "a JSON array; let its name end with .json"),
            ('[{"source": "He go."}]\n' * 2, "a JSON array; let its name end with .json"),
        ):  # fmt: skip
            (tmp_path / "b.txt").write_text(text, encoding="utf-8")
            with pytest.raises(UserError, match=f"b.txt: {form}"):
                list(tasks.corpus(task).read(tmp_path / "b.txt", {}))
    (tmp_path / "a").write_text("{a}\n", encoding="utf-8")
    assert [example.target for example in tasks.corpus("lm").read(tmp_path / "a", {})] == ["{a}"]


@pytest.mark.parametrize(
    "text", ['[{"text": "a"}]', '[\n {"text": "a"}\n]', '[{"text": "a"},\n{"text": "b"}]']
)
def test_an_array_under_the_name_of_json_lines_is_told_once(tmp_path, text):
    path = tmp_path / "a.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"a.jsonl: a JSON array; let its name end with .json$"):
        list(source_files.records(path, {}))
    path.write_text('[{"text": "a"}]\n' * 2, encoding="utf-8")
    records = [record for _, record in source_files.records(path, {})]
    assert records == ["a JSON list; a record is an object"] * 2


def test_json_lines_under_the_name_of_an_array_are_read_line_by_line(tmp_path):
    path = tmp_path / "a.json.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n")
        for number in range(20_000):
            file.write(json.dumps({"text": f"{number:0500}"}) + "\n")
    tracemalloc.start()
    assert sum(len(record["text"]) for _, record in source_files.records(path, {})) == 10_000_000
    assert tracemalloc.get_traced_memory()[1] < 5_000_000  # bytes
    tracemalloc.stop()


def test_a_conversation_that_is_null_is_none(tmp_path):
    path = tmp_path / "a.jsonl"
    records = (
        {"text": "abc def", "messages": None},
        {"text": None, "question": "a", "answer": "b", "conversations": None},
        {"messages": None, "x": 1},
    )
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    one, other, bad = tasks.corpus("lm").read(path, {})
    assert (one.target, other.target) == ("abc def", "a\nb")
    assert bad.reason.startswith('no "text" (or "question" and "answer", or "messages")')


def test_nulls_of_other_rows_are_not_in_the_objects_of_a_parquet_file(tmp_path):
    rows = [
        {"at": [{"city": "Kyoto", "in": {"x": 1}}], "labels": [1.0, None]},
        {"at": [{"symbol": "A", "in": {"y": None}}], "labels": None},
    ]
    pandas.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    found = [record for _, record in source_files.records(tmp_path / "a.parquet", {})]
    assert found == [
        {"at": [{"city": "Kyoto", "in": {"x": 1}}], "labels": [1.0, None]},
        {"at": [{"symbol": "A", "in": {}}]},
    ]


def test_small_signs_of_a_wrong_file_say_what_to_do(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,b\na,b\nc,d\re,f\n")
    with pytest.raises(UserError, match="; let lines end with LF or CR LF"):
        list(source_files.records(path, {}))
    path.write_text(",text\n0,a\n", encoding="utf-8")
    (example,) = tasks.corpus("lm").read(path, {})
    assert example.unused == ("a key without a name",)
    path = tmp_path / "a.json"
    path.write_text(" \n", encoding="utf-8")
    assert list(source_files.records(path, {})) == []
    path = tmp_path / "a.parquet"
    pandas.DataFrame([{"text": "a", "category": pandas.Timestamp("2020-01-01")}]).to_parquet(path)
    (bad,) = tasks.corpus("lm").read(path, {})
    assert bad.reason == '"category" is of type datetime; it is a word, or left out'


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.csv").mkdir()
    says = "a.csv: a folder; give the file of it that is the corpus"
    with pytest.raises(UserError, match=says):
        list(source_files.records(tmp_path / "a.csv", {}))


def test_texts_of_parquet_that_are_not_utf_8_are_told(tmp_path):
    import pyarrow
    import pyarrow.parquet

    broken = pyarrow.array([b"a", b"\xff"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": broken}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"behind row 0 is not UTF-8 .*; write the file again from"):
        list(source_files.records(tmp_path / "a.parquet", {}))


def test_a_category_of_parquet_is_its_text(tmp_path):
    frame = pandas.DataFrame({"text": pandas.Categorical(["a", "b", "a"])})
    frame.to_parquet(tmp_path / "a.parquet")
    assert [record for _, record in source_files.records(tmp_path / "a.parquet", {})] == [
        {"text": "a"}, {"text": "b"}, {"text": "a"},
    ]  # fmt: skip


def test_a_key_that_is_given_twice_is_a_fault_of_its_line(tmp_path):
    twice = "the key 'a' is given twice; keep one"
    for name, text in (
        ("a.jsonl", '{"a": 1, "a": 2}\n{"b": [{"a": 1, "a": 1}]}\n{"a": 1}'),
        ("a.json", '[{"a": 1, "a": 2},\n {"b": [{"a": 1, "a": 1}]},\n {"a": 1}]'),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert list(source_files.records(tmp_path / name, {})) == [
            (1, twice),
            (2, twice),
            (3, {"a": 1}),
        ]
    (tmp_path / "a.jsonl").write_text('{"a": 1} {"a": 2}\n"a"\n', encoding="utf-8")
    assert list(source_files.records(tmp_path / "a.jsonl", {})) == [
        (1, "not JSON: '{\"a\": 2}' behind the object; each stands in a line"),
        (2, "'a' is no object"),
    ]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": []},
        {"instruction": "q", "output": "a", "history": [["b", "c"]]},
        {"instruction": "q", "output": "a"},
        {"problem": "p", "steps": ["a"], "labels": [1]},
    ],
)  # fmt: skip
def test_a_json_file_may_be_one_record(tmp_path, record):
    path = tmp_path / "a.json"
    for indent in (None, 1):
        path.write_text(json.dumps(record, indent=indent), encoding="utf-8")
        assert list(source_files.records(path, {})) == [(1, record)]
    path.write_text(json.dumps({"conversations": [record, record]}), encoding="utf-8")
    if "messages" in record or "steps" in record:
        assert [found for _, found in source_files.records(path, {})] == [record, record]


def test_columns_that_would_have_one_name_are_an_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("instruction,question,output\na,b,c\n", encoding="utf-8")
    says = (
        "'instruction' and 'question' would both be 'instruction'; correct `columns`, --columns "
        "with `new`: the one that has no use can be given another name"
    )
    with pytest.raises(UserError, match=says):
        list(source_files.records(path, {"question": "instruction"}))
    apart = {"question": "instruction", "instruction": "other"}
    assert list(source_files.records(path, apart)) == [
        (2, {"other": "a", "instruction": "b", "output": "c"})
    ]
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "a", "question": "b"}\n{"question": "b"}', encoding="utf-8")
    (bad, good) = source_files.records(path, {"question": "instruction"})
    assert bad[1].startswith("'instruction' and 'question' would both be 'instruction'; correct")
    assert good == (2, {"instruction": "b"})
    with pytest.raises(UserError, match="'a' and 'b' would both be 'output'; correct `columns`"):
        list(source_files.records(path, {"a": "output", "b": "output"}))


def test_an_empty_cell_of_a_named_column_is_a_fault_of_its_row(tmp_path):
    rows = {"question": ["a", None, "c"], "answer": ["x", "y", "z"]}
    named = {"question": "instruction", "answer": "output"}
    pandas.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    pandas.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    for name, line in (("a.csv", 3), ("a.parquet", 2)):
        one, bad, two = tasks.corpus("polish").read(tmp_path / name, named)
        assert (one.source, two.source) == ("a", "c")
        assert bad == BadLine(line, 'no "input"; see data/polish/README.md#formats')


def test_lists_in_cells_are_lists_and_those_of_python_are_refused(tmp_path):
    path = tmp_path / "a.csv"

    def read(task: str, **cells: str) -> list:
        pandas.DataFrame([cells]).to_csv(path, index=False)
        return list(tasks.corpus(task).read(path, {}))

    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    (example,) = read("polish", messages=json.dumps(turns))
    assert (example.source, example.target) == ("q", "a")
    found = read("gec", source="本読む。", references='["本を読む。", "本は読む。"]')
    assert [example.target for example in found] == ["本を読む。", "本は読む。"]
    (example,) = read("reward", problem="p", steps='["a", "b"]', labels="[1, null]")
    assert (example.steps, example.labels) == (("a", "b"), (1.0, None))
    (example,) = read("polish", instruction="As JSON?", output='["a", {"b": 1}]')
    assert example.target == '["a", {"b": 1}]'
    (example,) = read("polish", prompt="[1, 2]", completion="[0, 1)")
    assert (example.source, example.target) == ("[1, 2]", "[0, 1)")
    for cells in (
        {"prompt": str(turns), "completion": "a"},
        {"instruction": "q", "output": str({"a": 1})},
    ):
        (bad,) = read("polish", **cells)
        assert (
            "is a list or an object as Python writes it, and no text; write the file as .jsonl, in pandas by"
            in bad.reason
        )
    (bad,) = read("gec", source="本読む。", target="['本を読む。', '本は読む。']")
    assert bad.reason.startswith('"target": "[\'本を読む。')


def test_the_header_again_is_no_row(tmp_path):
    (tmp_path / "a.csv").write_text("text,category\na,b\ntext, category\n", encoding="utf-8")
    assert list(source_files.records(tmp_path / "a.csv", {})) == [
        (2, {"text": "a", "category": "b"}),
        (3, "the header again; remove the line"),
    ]


def test_a_fault_in_an_array_on_one_line_says_which_record_it_is(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"latex": "x", "typst": "x"}, {"latex": "x"}, 7]', encoding="utf-8")
    _, *bad = tasks.corpus("typst").read(path, {})
    assert [item.reason for item in bad] == [
        'record 2 in this line: no "typst"; see data/typst/README.md#formats',
        "record 3 in this line: 7 is no object",
    ]


def test_a_row_with_a_missing_cell_is_a_bad_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n"x\ny"\n3,4\n', encoding="utf-8")
    assert list(source_files.records(path, {})) == [
        (2, {"a": "1", "b": "2"}),
        (3, "1 cells, and the header names 2 columns"),
        (5, {"a": "3", "b": "4"}),
    ]


def test_columns_of_other_names_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question,answer,level\nile?,dwa,1\n", encoding="utf-8")
    columns = named_columns(["question=instruction", "answer=output,level=category"])
    (example,) = tasks.corpus("polish").read(path, columns)
    assert (example.source, example.target, example.category) == ("ile?", "dwa", "1")
    with pytest.raises(
        UserError,
        match="no column ask; there are: question, answer, level; correct `columns`, --col",
    ):
        list(tasks.corpus("polish").read(path, {"ask": "instruction"}))
    with pytest.raises(UserError, match="--columns question: write COLUMN=KEY, such as question="):
        named_columns(["question"])
    (bad,) = tasks.corpus("polish").read(path, {})
    assert "'question', 'answer', 'level': none of the forms of an instruction" in bad.reason


@pytest.mark.parametrize(
    ("record", "prompt", "answer", "form", "unused"),
    [
        (
            {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "id": "7"},
            [("system", "s"), ("user", "q")], "a", "ShareGPT conversations", ("id",),
        ),
        (
            {"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 1}]},
            [("user", "q")], "a", "ShareGPT conversations", (),
        ),
        (
            {"instruction": "i", "input": "", "output": "o", "history": [["q", "a"]]},
            [("user", "q"), ("assistant", "a"), ("user", "i")], "o", "instruction records", (),
        ),
        (
            {"messages": [{"role": "user", "content": "q", "name": "n"}, {"role": "assistant", "content": "w", "weight": 0}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "refusal": "r"}], "parallel_tool_calls": True, "images": []},
            [("user", "q"), ("assistant", "w"), ("user", "q")], "a", "conversations", ("parallel_tool_calls", "messages.name", "messages.refusal"),
        ),
        (
            {"conversations": None, "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": None, "train": 1}]},
            [("user", "q")], "a", "conversations", (),
        ),
        ({"conversations": ["q", "a", "r", "b"], "source": "lima"}, [("user", "q"), ("assistant", "a"), ("user", "r")], "b", "ShareGPT conversations", ("source",)),
        ({"prompt": "q", "completion": "a", "source": "q", "score": 0.5}, [("user", "q")], "a", "prompts with their completion", ("score",)),
    ],
)  # fmt: skip
def test_published_forms_become_turns_and_what_has_no_use_is_named(tmp_path, record, prompt, answer, form, unused):  # fmt: skip
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record), encoding="utf-8")
    (example,) = tasks.corpus("polish").read(path, {})
    assert [(turn["role"], turn["content"]) for turn in example.prompt] == prompt
    assert (example.target, example.form, example.unused) == (answer, form, unused)


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": "t"}]},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a ", "reasoning": "t "}]},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "thinking": "t"}]},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>\nt\n</think>\n\na"}]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "<think>t</think>a"}]},
        {"prompt": "q", "completion": " <think>t</think>a"},
        {"instruction": "q", "output": "<think>\nt</think>\na"},
        {"input": "q", "output": "<think>\nt</think>\na"},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>t</think>a", "reasoning": " t"}]},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "t\n</think>\n\na", "thinking": " "}]},
        {"latex": "q", "typst": "<think>t</think>a"},
    ],
)  # fmt: skip
def test_what_was_thought_is_kept_apart_from_the_answer(tmp_path, record):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record), encoding="utf-8")
    of_one = {"instruction": ("polish",), "input": ("polish", "gec"), "latex": ("typst",)}
    for task in of_one.get(next(iter(record)), ("polish", "gec", "typst")):
        (example,) = tasks.corpus(task).read(path, {})
        shown = tasks.corpus(task).show(example)["messages"]
        assert shown[-1] == {"role": "assistant", "content": "a", "reasoning_content": "t"}
        assert (example.target, example.unused) == ("a", ())
        again = tmp_path / "b.jsonl"
        again.write_text(json.dumps({"messages": shown}), encoding="utf-8")
        (read_back,) = tasks.corpus(task).read(again, {})
        assert tasks.corpus(task).show(read_back)["messages"] == shown


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"messages": [{"role": "user", "content": "q", "reasoning": "t"}, {"role": "assistant", "content": "a"}]}, '"messages" message 1: its reasoning is a text, in a message of the assistant'),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "thinking": ["t"]}]}, '"messages" message 2: its reasoning is a text, in a message of the assistant'),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>t</think>"}]}, '"messages" message 2 is empty'),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "thinking": "t", "reasoning": "u"}]}, '"messages" message 2: its reasoning is given twice and differs; keep one'),
        ({"instruction": "q", "output": "a", "history": [["p", "<think>t</think>"]]}, '"history" turn 1 ends with its reasoning; the answer comes after it'),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "thinking": "\ud800"}]}, "half a surrogate pair (\\ud800) in it; write the whole character"),
        ({"instruction": "q", "output": "<think>t</think>\n"}, '"output" ends with its reasoning; the answer comes after it'),
    ],
)  # fmt: skip
def test_reasoning_without_an_answer_or_elsewhere_is_refused(tmp_path, record, reason):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record), encoding="utf-8")
    (bad,) = tasks.corpus("polish").read(path, {})
    assert bad.reason == reason


def test_nested_columns_of_parquet_are_records_inside_records(tmp_path):
    turns = [
        {"role": "user", "content": "q", "tool_calls": None},
        {"role": "assistant", "content": "a", "tool_calls": None},
    ]
    path = tmp_path / "a.parquet"
    pandas.DataFrame([{"messages": turns, "meta": {"n": 1}}]).to_parquet(path)
    (example,) = tasks.corpus("polish").read(path, {})
    assert (example.source, example.target, example.unused) == ("q", "a", ("meta",))
    pandas.DataFrame([{"instruction": {"text": "q"}, "output": "a"}]).to_parquet(path)
    (bad,) = tasks.corpus("polish").read(path, {})
    assert bad.reason == '"instruction" is an object; it is a text'


CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Kyoto"}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "its name"}},
            "required": ["city"],
        },
    },
}


@pytest.mark.parametrize(
    "record",
    [
        {
            "messages": [
                {"role": "developer", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "q"}]},
                {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": '{"city": "Kyoto"}'}}]},
                {"role": "tool", "content": "rain"},
                {"role": "assistant", "content": "It rains."},
            ],
            "tools": [TOOL],
        },
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city": "Kyoto"}'}},
                {"role": "function", "content": "rain"},
                {"role": "assistant", "content": "It rains."},
            ],
            "functions": [TOOL["function"]],
        },
        {
            "system": "s",
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Kyoto"}}'},
                {"from": "observation", "value": "rain"},
                {"from": "gpt", "value": "It rains."},
            ],
            "tools": json.dumps([TOOL["function"]]),
        },
    ],
    ids=["tools", "functions", "ShareGPT"],
)  # fmt: skip
def test_calls_of_tools_come_out_in_one_form_and_are_read_back_from_what_prepare_writes(record):
    corpus = tasks.corpus("polish")
    parsed = formats.parse(record, "see")
    assert parsed.unused == ()
    asked, called = {"role": "user", "content": "q"}, {"role": "assistant", "content": ""}
    assert list(parsed.before) == [
        {"role": "system", "content": "s"},
        asked,
        {**called, "tool_calls": [CALL]},
        {"role": "tool", "content": "rain"},
    ]
    assert parsed.tools == (TOOL,)
    (example,) = corpus._examples(1, record)
    (again,) = corpus._examples(1, {**corpus.show(example), "id": "0", "source": "q"})
    assert corpus.show(again) == corpus.show(example)
    assert corpus.show(again)["tools"] == [TOOL]


def test_queries_with_calls_and_calls_in_hermes_tags_come_out_in_the_same_form():
    call = CALL["function"]
    query = {"query": "q", "answers": json.dumps([call]), "tools": json.dumps([TOOL["function"]])}
    tagged = f"Let me see.\n<tool_call>\n{json.dumps(call)}\n</tool_call>\n"
    hermes = {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "gpt", "value": tagged},
            {"from": "tool", "value": "<tool_response>\nrain\n</tool_response>"},
            {"from": "gpt", "value": "It rains: <tool_call>no JSON</tool_call>."},
        ],
        "tools": [TOOL],
    }
    parsed = formats.parse(query, "see")
    assert parsed.form == "queries with the calls that answer them"
    assert parsed.answer == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert (parsed.tools, parsed.unused) == ((TOOL,), ())
    parsed = formats.parse(hermes, "see")
    assert parsed.before[1:] == (
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
        {"role": "tool", "content": "rain"},
    )
    assert parsed.answer["content"] == "It rains: <tool_call>no JSON</tool_call>."
    del hermes["tools"]  # what the system says may define them: then all of it is text
    (_, called, result) = formats.parse(hermes, "see").before
    assert called == {"role": "assistant", "content": tagged.strip()}
    assert result["content"] == "<tool_response>\nrain\n</tool_response>"


def called(*calls, **others):
    asked = {"role": "user", "content": "q"}
    answer = {"role": "assistant", "content": "", "tool_calls": list(calls)}
    return {"messages": [asked, answer], **others}


@pytest.mark.parametrize(
    ("record", "arguments"),
    [
        (called({"function": {"name": "f", "parameters": {"a": 1}}}), [{"a": 1}]),
        (called({"name": "f", "input": {"a": 1}}), [{"a": 1}]),
        (called({"function": {"name": "f", "arguments": None}}), [{}]),
        (called({"function": {"name": "f", "arguments": ""}}), [{}]),
        (called() | {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": '[{"name": "f", "arguments": {"a": 1}}]'}]}, [{"a": 1}]),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 1}}'}, {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 2}}'}]}, [{"a": 1}, {"a": 2}]),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "<tool_call>\n{'arguments': {'a': None}, 'name': 'f'}\n</tool_call>"}], "tools": json.dumps([json.dumps(TOOL)])}, [{"a": None}]),
    ],
)  # fmt: skip
def test_calls_are_read_whatever_their_arguments_are_named(record, arguments):
    answer = formats.parse(record, "see").answer
    assert [call["function"]["arguments"] for call in answer["tool_calls"]] == arguments


def test_several_results_in_tags_are_several_and_calls_that_are_spoken_have_results_too():
    results = "<tool_response>\nrain\n</tool_response>\n<tool_response>sun</tool_response>"
    talk = [
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "[Weather API(city='Kyoto')]"},
        {"from": "tool", "value": results},
        {"from": "gpt", "value": "a"},
    ]
    *_, spoken = formats.parse({"conversations": talk}, "see").before
    assert spoken["content"] == results
    talk[1]["value"] = f"<tool_call>{json.dumps(CALL['function'])}</tool_call>"
    *_, one, two = formats.parse({"conversations": talk, "tools": [TOOL]}, "see").before
    assert (one["content"], two["content"]) == ("rain", "sun")


@pytest.mark.parametrize("task", ["polish", "lm", "gec", "typst"])
def test_where_a_conversation_was_found_is_told_and_its_source_as_prepare_writes_it_is_not(task):
    said = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    found = [
        next(iter(tasks.corpus(task)._examples(1, {"messages": said, "source": source}))).unused
        for source in ("wiki", "x")
    ]
    assert found == [("source",), ()]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {"prompt": "q", "completion": "a"},
    ],
)
def test_what_the_system_says_beside_the_messages_stands_before_them(record):
    parsed = formats.parse({"system": "Be brief.", **record}, "see")
    assert parsed.before[0] == {"role": "system", "content": "Be brief."}
    assert parsed.unused == ()


def test_damage_in_an_earlier_answer_is_found_because_it_is_learned(inside):
    said = ["q", "wrongly decoded \ufffd", "q", "a"]
    roles = ["user", "assistant"] * 2
    record = {
        "messages": [
            {"role": role, "content": text} for role, text in zip(roles, said, strict=True)
        ]
    }
    report = clean.Report(inside / "a.jsonl")
    assert not [*clean.readable(tasks.corpus("polish")._examples(1, record), report)]
    assert report.bad[0].reason.startswith("U+FFFD in it: the text was decoded wrongly before")


def test_an_answer_that_only_calls_a_tool_has_its_call_as_its_text():
    call = {**CALL, "id": "c1"}
    record = {
        "prompt": "q",
        "completion": [{"role": "assistant", "content": "", "tool_calls": [call]}],
        "tools": [TOOL],
    }
    (example,) = tasks.corpus("polish")._examples(1, record)
    assert example.target == '{"name": "weather", "arguments": {"city": "Kyoto"}}'
    shown = tasks.corpus("polish").show(example)
    assert shown["messages"][-1]["tool_calls"] == [call]
    assert target(shown) == example.target


def test_what_is_excluded_is_no_answer_that_is_learned_and_nothing_after_the_last_is_kept():
    def turns(*answers):
        return [
            message
            for answer in answers
            for message in ({"role": "user", "content": "q"}, {"role": "assistant", **answer})
        ]

    said = {"content": "a"}
    excluded = turns({**said, "weight": 0}, said, {**said, "train": 0})
    parsed = formats.parse({"messages": excluded}, "see")
    assert [message.get("train", True) for message in parsed.before] == [True, False, True]
    assert parsed.answer == {"role": "assistant", "content": "a"}
    # TRL: only the completion is learned
    given = turns(said)
    parsed = formats.parse({"prompt": [*given, given[0]], "completion": "b"}, "see")
    assert [message.get("train", True) for message in parsed.before] == [True, False, True]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"conversations": [{"from": "gpt", "value": "a"}]}, "message 1, the assistant's, comes first; put before it what it answers"),
        ({"conversations": [{"from": "dog", "value": "a"}]}, "\"conversations\" turn 1: from 'dog'; it is one of system, human,"),
        ({"conversations": "q"}, '"conversations" is a text; it is a list of turns'),
        ({"conversations": ["q", 1]}, '"conversations" turn 1 is a text; it has from and value'),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": None}]}, '"conversations" message 2: content is null; it is a text'),
        ({"instruction": "i", "output": "o", "history": "q"}, '"history" is a text; it is a list of [question, answer]'),
        ({"instruction": "i", "output": "o", "history": [["q"]]}, '"history" turn 1 is no [question, answer] of two texts'),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "train": False}]}, 'every answer has weight 0, so that nothing is learned of the conversation'),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0.5}]}, '"messages" message 2: weight 0.5; an answer is learned, 1 or true, or not, 0 or false'),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "train": "false"}]}, "\"messages\" message 2: train 'false'; an answer is learned, 1 or true, or not"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]}, '"messages" message 1: the text of a part is null; it is a text'),
        ({"conversations": [{"from": "human", "value": "q", "content": "other"}]}, '"conversations" turn 1 has "value" and "content"; keep one of them'),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": [TOOL], "functions": [TOOL]}, 'both "tools" and "functions"; keep the one that may be called'),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "user", "content": "q"}]}, "message 2, the user's, comes after the user's; join them, or put the answer between them"),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "system", "content": "s"}]}, "message 2, the system's, comes after the user's; only the first message is the system's"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, '"messages" message 1: a part of type \'image_url\'; only texts are read here'),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "x"}}]}]}, '"messages" message 2: the arguments of f are no JSON object'),
        ({"messages": [{"role": "user", "content": "q", "tool_calls": [1]}]}, '"messages" message 1: tool_calls is a list, in a message of the assistant'),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": "f"}, '"tools" is a text; it is a list of definitions'),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "functions": [{"type": "function"}]}, '"functions" definition 1 has no function with a name'),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [{}]}]}, '"messages" message 2: a call of a tool has a function with a name and arguments'),
        (called({"function": {"name": "f", "args": {"a": 1}}}), "\"messages\" message 2: the call of f has 'args'; it has arguments"),
        (called({"name": "f", "arguments": {}, "input": {}}), '"messages" message 2: the call of f has arguments and input; keep one of them'),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "<tool_call>{f</tool_call>"}], "tools": [TOOL]}, "message 2: '{f' in <tool_call> is no JSON"),
        ({"query": "q", "answers": "[]", "tools": []}, '"answers" is empty; it is a list of calls, or one in JSON'),
        ({"system": "s", "messages": [{"role": "system", "content": "t"}, {"role": "user", "content": "q"}]}, "message 2, the system's, comes after the system's; only the first message is the system's"),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "tool", "content": "r"}]}, "message 2, the tool's, comes after the user's; a result comes after the answer that calls the tool"),
    ],
)  # fmt: skip
def test_what_is_no_conversation_says_why(record, says):
    with pytest.raises(formats.Malformed) as error:
        formats.parse(record, "see")
    assert str(error.value).startswith(says)


M2 = """S 本 が 読む 。
A 1 2|||Particle|||を|||REQUIRED|||-NONE-|||0
A 1 2|||Particle|||は|||REQUIRED|||-NONE-|||1
A 1 2|||Particle|||を|||REQUIRED|||-NONE-|||2

S This are right .
A 1 2|||Verb|||is|||REQUIRED|||-NONE-|||0
A 3 3|||Word|||here|||REQUIRED|||-NONE-|||0

S 水 だ 。
A -1 -1|||noop|||-NONE-|||REQUIRED|||-NONE-|||0

S 悪い 。
A 0 2|||X|||a|||REQUIRED|||-NONE-|||0
A 1 2|||X|||b|||REQUIRED|||-NONE-|||0

S 悪い 。
A x

no block
"""


def test_the_forms_of_corrections(tmp_path):
    def read(name: str, text: str) -> list:
        (tmp_path / name).write_text(text, encoding="utf-8")
        found = tasks.corpus("gec").read(tmp_path / name, {})
        return [
            item.reason if isinstance(item, BadLine) else (item.source, item.target, item.category)
            for item in found
        ]

    assert read("a.m2", M2) == [
        ("本が読む。", "本を読む。", "Particle"),
        ("本が読む。", "本は読む。", "Particle"),
        ("This are right .", "This is right here .", "Substitution"),
        ("水だ。", "水だ。", "Correct"),
        "the edit of 1 to 2 overlaps another, or is outside",
        "'A x' is no edit of the M2 form",
        "a block begins with `S `, the sentence; its edits begin with `A `",
    ]
    assert read("a.txt", M2) == read("b.tsv", M2) == read("a.m2", M2)
    assert read("a.txt", "S席です。\nA席です。\n")[0] == ("S席です。", "S席です。", "Correct")
    quoted = [
        ('"本が""読む""。"\t本を読む。', '本が"読む"。', "本を読む。"),
        ('"本が"\t"本を"', "本が", "本を"),
        ('"本が"と\t"本を"と', '"本が"と', '"本を"と'),
        ('"7"\t"水<が"">（を""）"\t"Particle"', '水が"', '水を"'),
    ]
    for line, source, right in quoted:
        assert read("a.tsv", line)[0][:2] == (source, right)
    assert read("a.tsv", "本が読む。\t本を読む。\n") == [
        ("本が読む。", "本を読む。", "Substitution")
    ]
    assert read("b.tsv", "source\ttarget\n本読む。\t本を読む。\n") == [
        ("本読む。", "本を読む。", "Insertion")
    ]
    records = [
        {"input": "本が読む。", "output": "本を読む。", "category": "P"},
        {"source": "本が。", "references": ["本を。", "本だ。"]},
        {"source": "本が。", "target": 7},
        {"sentence": "本が。"},
    ]
    text = "\n".join(json.dumps(record) for record in records)
    assert read("a.jsonl", text) == [
        ("本が読む。", "本を読む。", "P"),
        ("本が。", "本を。", "Substitution"),
        ("本が。", "本だ。", "Substitution"),
        '"target" is a number; it is a text',
        "'sentence': no source with its target; see data/gec/README.md#formats",
    ]


def test_the_forms_of_labelled_solutions(tmp_path):
    records = [
        {"prompt": "1 + 1 + 1", "completions": ["1 + 1 = 2", "3"], "labels": [True, False]},
        {"input": "x ки", "label": "Add 1 and 2. Step 1: 1 + 2 = 3 +\nStep 2: it is 4 -", "task": "GSM8K"},
        {"input": "x ки", "label": "no steps"},
        {"problem": "p", "steps": ["s"], "label": 0},
    ]  # fmt: skip
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    trl, shepherd, bad, bench = tasks.corpus("reward").read(path, {})
    assert (trl.source, trl.steps, trl.labels) == ("1 + 1 + 1", ("1 + 1 = 2", "3"), (1.0, 0.0))
    assert (shepherd.source, shepherd.labels) == ("Add 1 and 2.", (1.0, 0.0))
    assert shepherd.steps == ("Step 1: 1 + 2 = 3", "Step 2: it is 4")
    assert bad.reason == '"label" has no steps that end with + or -, as Math-Shepherd\'s have'
    assert bench.labels == (0.0,)


def test_a_line_break_inside_a_cell_of_reveal_stays_one(tmp_path):
    path = tmp_path / "reveal.csv"
    path.write_text(
        "answer_id,question,step,correctness_label,answer_is_logically_correct\n"
        '1,q,"one\ntwo",correct,True\n',
        encoding="utf-8",
    )
    (example,) = tasks.corpus("reward").read(path, {})
    assert example.steps == ("one\ntwo",)


def test_unused_keys_are_counted_and_can_stop(inside):
    lines = [
        json.dumps({"latex": f"x_{n}", "typst": f"x_{n}", "id": n, "kind": "a"}) for n in range(9)
    ]
    enter(gec_001={})
    Path("corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    params = load_params()
    found = read_corpus(params, Corpus(task="typst", file="corpus.jsonl"))
    assert found.report.unused == {"id": 9, "kind": 9}
    says = (
        "corpus.jsonl: keys of the records that nothing here has a use for: id (9), kind (9); take"
    )
    with pytest.raises(UserError) as error:
        read_corpus(params, Corpus(task="typst", file="corpus.jsonl", unknown_keys="stop"))
    assert says in str(error.value)


@pytest.mark.parametrize("task", tasks.names())
def test_what_prepare_writes_is_read_back_without_loss(inside, task):
    reader = tasks.corpus(task)
    suffix = "tsv" if task == "gec" else "jsonl"
    lines = list(tasks.synthetic(task).lines(random.Random(3), 40, 2))
    raw = Path(f"raw.{suffix}")
    raw.write_text("\n".join(lines) + "\n", encoding="utf-8")
    corpus = Corpus(task=task, file=str(raw))
    once = [
        prepared_row(reader.show, corpus, example, clean.digests(example)[0])
        for example in clean.readable(reader.read(raw, {}), clean.Report(raw))
    ]
    assert len(once) >= 40
    again = Path("prepared.jsonl")
    again.write_text("\n".join(json.dumps(row) for row in once), encoding="utf-8")
    report = clean.Report(again)
    twice = [
        prepared_row(reader.show, corpus, example, clean.digests(example)[0])
        for example in clean.readable(reader.read(again, {}), report)
    ]
    assert twice == once
    assert not report.unused
    assert not report.bad


def test_records_of_lima_and_xlam_are_conversations(tmp_path):
    path = tmp_path / "a.jsonl"
    function = {"name": "weather", "description": "d", "parameters": {"city": {"type": "str"}}}
    calls = [{"name": "weather", "arguments": {"city": "Kyoto"}}]
    records = [
        {"conversations": ["q", "a", "r", "b"], "source": "web"},
        {"id": 3, "query": "q", "answers": json.dumps(calls), "tools": json.dumps([function])},
        {"query": "q", "answers": calls, "tools": [function]},
        {"query": "q", "answers": "none", "tools": "[]"},
        {"query": "q", "answers": "[1]", "tools": "[]"},
        {"conversations": ["q"]},
    ]
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    lima, one, two, *bad = tasks.corpus("polish").read(path, {})
    assert [message["content"] for message in lima.prompt] == ["q", "a", "r"]
    assert (lima.target, lima.unused) == ("b", ("source",))
    for task in ("gec", "typst"):
        assert next(tasks.corpus(task).read(path, {})).unused == ("source",)
    for example in (one, two):
        assert example.answer["tool_calls"] == [CALL]
        schema = {"type": "object", "properties": function["parameters"]}
        assert example.tools == (
            {"type": "function", "function": {**function, "parameters": schema}},
        )
    assert [item.reason for item in bad] == [
        '"answers" is a text; it is a list of calls, or one in JSON',
        '"messages" message 2: a call of a tool has a function with a name and arguments',
        "the conversation ends with the user; its last message is the answer of the assistant",
    ]


def test_a_key_without_a_use_that_cannot_be_printed_is_escaped(tmp_path):
    path = tmp_path / "a.jsonl"
    record = {"latex": "x", "typst": "x", "\ud800\n": 1, "k" * 99: 1, "名": 1}
    path.write_text(json.dumps(record), encoding="utf-8")
    (example,) = tasks.corpus("typst").read(path, {})
    assert example.unused == ("\\ud800\\n", "k" * 59 + "…", "名")


@pytest.mark.parametrize(
    "records",
    [
        [{"text": "\ud800"}],
        [{"text": " = T = "}, {"text": "a \udfff"}],
        [{"question": "\ud800", "answer": "a"}],
        [{"text": "a", "category": "\ud800"}],
        [{"messages": [{"role": "user", "content": "\ud800"}, {"role": "assistant", "content": "a"}]}],
    ],
)  # fmt: skip
def test_half_a_surrogate_pair_in_a_text_is_a_fault_of_its_line(tmp_path, records):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    (bad,) = tasks.corpus("lm").read(path, {})
    assert bad.reason.startswith("half a surrogate pair (\\ud")


def test_a_category_of_a_text_that_is_no_word_is_told(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "a", "category": {"a": 1}}), encoding="utf-8")
    (bad,) = tasks.corpus("lm").read(path, {})
    assert bad.reason == '"category" is an object; it is a word, or left out'


def test_a_table_of_instructions_is_no_list_of_inflections(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("instruction\tinput\tresponse\ni\tq\ta\n", encoding="utf-8")
    (bad,) = tasks.corpus("polish").read(path, {})
    assert bad.reason == 'no "output"; see data/polish/README.md#formats'
    (example,) = tasks.corpus("polish").read(path, {"response": "output"})
    assert (example.source, example.target) == ("i\nq", "a")
    path.write_text("ask\tanswer\tfrom\nkot\tkota\tN;GEN;SG\ninput\tinputu\tN;GEN;SG\n")
    bad, one, two = tasks.corpus("polish").read(path, {})
    assert (one.target, two.target) == ("kota", "inputu")
    assert bad.reason == (
        "'from' are no tags such as N;GEN;PL; where the first line names the columns, say which "
        "is which: --columns COLUMN=instruction --columns COLUMN=output"
    )


TURNS = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": " q "},
    {"role": "assistant", "content": "w", "weight": 0},
    {"role": "user", "content": "猫が\n本読む。"},
    {"role": "assistant", "content": "<think>t</think>本を読む。"},
]
OF_THEIR_OWN = {
    "gec": [
        {"source": " 本読む。", "target": "本を読む。", "category": "P"},
        {"source": "本読む。", "target": ["", "本を読む。", "本は読む。"]},
        {"messages": TURNS, "source": "web"},
    ],
    "typst": [
        {"instruction": "Übersetze", "input": "\\frac{a}{b}", "output": "a/b"},
        {"instruction": "Rewrite:", "input": "a\n\nb", "output": "a", "system": "s", "history": [["q", "a"]]},
        {"instruction": "", "input": "x", "output": "x"},
        {"latex": "x: y", "typst": "<think>t</think>x", "category": "c"},
        {"prompt": "Please convert this LaTeX:\n\\sum", "completion": "sum"},
        {"messages": TURNS, "source": "web"},
    ],
    "polish": [
        {"instruction": "i", "input": "a\nb", "output": "o", "system": "s", "history": [["q", "a"]]},
        {"text": "Instruction: i\n\nInput: j\n\nOutput: o"},
        {"conversations": [{"from": "human", "value": "q\n"}, {"from": "gpt", "value": "a"}], "tools": [TOOL]},
        {"messages": TURNS},
    ],
    "lm": [{"question": " a ", "answer": "b"}, {"text": "\n a\nb "}, {"messages": TURNS}],
    "reward": [
        {"problem": " p", "steps": [" a ", "b\nc"], "labels": [True, None], "category": "c"},
        {"input": "x", "label": "p Step 1: a +\nStep 2: b -"},
        {"input": "p", "steps": ["a", "b", "c"], "mistake_index": 1},
        {"problem": "p", "steps": ["a"], "label": -1},
    ],
}  # fmt: skip


@pytest.mark.parametrize("task", OF_THEIR_OWN)
def test_what_prepare_writes_of_any_form_is_read_back_without_loss(tmp_path, task):
    reader = tasks.corpus(task)

    def prepared(records: list[dict]) -> list[dict]:
        path = tmp_path / "a.jsonl"
        path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
        corpus, report = Corpus(task=task, file=str(path)), clean.Report(path)
        rows = [
            prepared_row(reader.show, corpus, example, clean.digests(example)[0])
            for example in clean.readable(reader.read(path, {}), report)
        ]
        assert not report.bad
        assert report.unused.keys() <= {"source"}
        return rows

    once = prepared(OF_THEIR_OWN[task])
    assert len(once) >= len(OF_THEIR_OWN[task])
    assert prepared(once) == once


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path
