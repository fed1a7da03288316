"""Data sets of the hub, fetched at one revision; here from a folder of data files, which the same
loader reads."""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from stages import configure, entries, fetch
from stages.errors import UserError
from tests.conftest import run
from tests.test_settings import GOOD

REVISION = "0123456789abcdef0123456789abcdef01234567"
RECORDS = [
    {"question": f"Ile to {n} + 1?", "answer": str(n + 1), "source": "exam"} for n in range(6)
]


def hub(folder: Path) -> Path:
    folder.mkdir()
    (folder / "train.jsonl").write_text(
        "".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8"
    )
    return folder


def enter(folder: Path, **options: object) -> None:
    source = {
        "task": "polish",
        "file": "data/polish/train_003.jsonl",
        "hub_id": str(folder),
        "revision": REVISION,
        "split": "train",
    }
    params = yaml.safe_load(yaml.safe_dump(GOOD))
    params["tasks"]["polish"] = {}
    params["sources"] = {"polish-003": source | options}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def fetched() -> None:
    configure.main()
    fetch.main("polish-003")


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_a_data_set_becomes_a_corpus_file_with_the_columns_that_are_wanted(inside):
    enter(
        hub(inside / "hub"),
        columns={"question": "instruction", "answer": "output"},
        split="train[:4]",
    )
    fetched()
    lines = Path("data/polish/train_003.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"instruction": f"Ile to {n} + 1?", "output": str(n + 1)} for n in range(4)
    ]
    enter(inside / "hub")
    fetched()
    assert Path("data/polish/train_003.jsonl").read_text(encoding="utf-8").splitlines()[
        0
    ] == json.dumps(RECORDS[0])


def test_times_and_decimals_become_texts_and_what_cannot_is_named(inside):
    hub(inside / "hub")
    values = {"question": ["q"], "at": [datetime(2024, 7, 26, 1, 2)], "price": [Decimal("1.50")]}
    table = pyarrow.table(values | {"raw": [b"x"]})
    pyarrow.parquet.write_table(table, inside / "hub/train.parquet")
    Path(inside / "hub/train.jsonl").unlink()
    enter(inside / "hub", columns={column: column for column in values})
    fetched()
    assert json.loads(Path("data/polish/train_003.jsonl").read_text()) == {
        "question": "q",
        "at": "2024-07-26T01:02:00",
        "price": "1.50",
    }
    enter(inside / "hub")
    with pytest.raises(
        UserError, match="has a value of type bytes, which is no text or number; na"
    ):
        fetched()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"columns": {"query": "instruction"}},
            "has no column query; it has question, answer, source",
        ),
        (
            {"columns": {"question": "output", "answer": "output"}},
            "`sources.polish-003.columns`: two columns would both be 'output'; give one another",
        ),
        ({"split": "validation"}, "could not be had (ValueError: "),
        (
            {"hub_id": "nobody/nothing"},
            "connect to the hub, log in where the data set is gated, or correct hub_id, name",
        ),
        (
            {"file": "data/polish/train_003.tsv"},
            "data/polish/train_003.tsv is written as JSON lines; name it .jsonl",
        ),
        ({"revision": "main"}, "`sources.polish-003.revision`: string should match pattern"),
    ],
)
def test_a_data_set_that_cannot_be_had_writes_nothing(inside, monkeypatch, options, says):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    enter(hub(inside / "hub"), **options)
    with pytest.raises(UserError) as error:
        fetched()
    assert says in str(error.value)
    assert not list(inside.rglob("data/polish/*"))


def test_dvc_fetches_it_as_a_stage(clone, tmp_path):
    params = (clone / "params.yaml").read_text(encoding="utf-8")
    source = {
        "task": "polish",
        "file": "data/polish/train_003.jsonl",
        "hub_id": str(hub(tmp_path / "hub")),
        "revision": REVISION,
        "split": "train",
    }
    (clone / "params.yaml").write_text(
        params.replace("sources: {}", f"sources: {json.dumps({'polish-003': source})}")
    )
    run(clone, "dvc", "repro", "fetch@polish-003")
    assert len(
        (clone / "data/polish/train_003.jsonl").read_text(encoding="utf-8").splitlines()
    ) == len(RECORDS)
    assert entries.Source.model_validate(source)
