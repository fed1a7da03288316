"""`new` takes a corpus in whole or not at all, whatever happens meanwhile, in nano clones in which nothing has run."""

from pathlib import Path

import pytest
import yaml

from stages.params import load_params
from tests import nano
from tests.conftest import run

ROW = "1\t水<が>（を）飲む。\tParticle\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = nano.make(tmp_path / "repository")
    (made / "more.tsv").write_text(ROW, encoding="utf-8")
    return made


def add_entry(folder: Path, group: str, name: str, entry: dict[str, object]) -> None:
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    params[group][name] = entry
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


HUB = {"hub_id": "a/b", "revision": "0" * 40}


@pytest.mark.parametrize(
    ("group", "name", "entry"),
    [
        ("corpora", "gec-003", {"task": "typst", "file": "data/typst/train_001.jsonl"}),
        (
            "runs",
            "gec-003",
            {
                "task": "typst",
                "corpus": "typst-001",
                "base": "models/lm-001",
                "parent": "models/lm-001",
            },
        ),
        ("synthetic", "gec-003", {"task": "lm", "file": "data/lm/train_009.jsonl", "rows": 9}),
        ("sources", "gec-003", {"task": "lm", "file": "data/lm/train_009.jsonl", **HUB}),
        ("sources", "lm-009", {"task": "lm", "file": "data/gec/train_003.tsv", **HUB}),
    ],
)
def test_new_replaces_no_entry_and_no_file_of_another_task(folder, group, name, entry):
    add_entry(folder, group, name, entry)
    before = load_params(folder / "params.yaml")
    run(folder, "python", "-m", "stages", "new", "gec", "more.tsv")
    after = load_params(folder / "params.yaml")
    assert getattr(after, group)[name] == getattr(before, group)[name]
    assert after.corpora["gec-004"].file == "data/gec/train_004.tsv"
    assert after.runs["gec-004"].corpus == "gec-004"
