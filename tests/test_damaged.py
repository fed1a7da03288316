"""A hundred damaged files from outside: what reads them says so in a sentence, or reads them
rightly."""

import csv
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from safetensors.torch import load_file, save_file

from stages import configure, mix, prepare, train
from stages.__main__ import main
from stages.backends.shared import model_folders, process
from stages.commands import new
from stages.errors import UserError
from stages.layers import merge
from tests import damage
from tests.tiny import OPTIONS, checkpoint, grow, settings_with

SECONDS = 20
FEW = {"max_steps": 1, "eval_steps": 1, "generation": {"max_new_tokens": 4}}
BASE, PARENT = "models/bases/given", "models/gec-001"
PAIRS = [{"instruction": f"Ile to {n}?", "output": f"Liczba {n}."} for n in range(8)]
TURNS = [
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "x"}]}
    for n in range(8)
]
SOLUTIONS = [
    {"problem": f"{n} + 1?", "steps": ["a", "b"], "labels": [1, 0.5], "category": "sum"} for n in range(8)
]  # fmt: skip
MARKS = "".join(f"{n}\t水<が>（を）{n}杯飲む。\tParticle\n" for n in range(40))
M2 = "".join(
    f"S 水 が {n} 杯\nA 1 2|||R:PARTICLE|||を|||REQUIRED|||-NONE-|||0\n\n" for n in range(8)
)


def lines(records: list[dict]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def table(delimiter: str) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(PAIRS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(PAIRS)
    return file.getvalue()


CORPORA = {
    "gec/marks.tsv": MARKS,
    "gec/annotated.m2": M2,
    "gec/pairs.jsonl": lines([{"source": f"水が{n}", "target": f"水を{n}"} for n in range(8)]),
    "lm/texts.txt": "".join(f"The {n} old teachers read.\n\n" for n in range(8)),
    "lm/texts.jsonl": lines([{"text": f"The {n} old teachers read."} for n in range(8)]),
    "polish/pairs.csv": table(","),
    "polish/pairs.json": json.dumps(PAIRS),
    "polish/turns.jsonl": lines(TURNS),
    "polish/pairs.parquet": "",
    "typst/pairs.jsonl": lines([{"latex": f"x_{n}", "typst": f"x_{n}"} for n in range(8)]),
    "reward/solutions.jsonl": lines(SOLUTIONS),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a base, a run, its child that is yet to be trained, and corpora."""
    folder = tmp_path_factory.mktemp("damaged")
    before = Path.cwd()
    os.chdir(folder)
    try:
        checkpoint(Path(BASE), "llama")
        grow(BASE, BASE, Path(PARENT), settings_with(max_steps=1))
        for name, content in CORPORA.items():
            file = Path("given", name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(PAIRS), "given/polish/pairs.parquet")
        corpus = Path("data/gec/train_001.tsv")
        corpus.parent.mkdir(parents=True)
        corpus.write_text(MARKS, encoding="utf-8")
        corpus.with_name("README.md").write_text("| gec-001 | train_001.tsv |\n", encoding="utf-8")
        Path("requirements.txt").touch()
        run = {"task": "gec", "corpus": "gec-001", "base": BASE}
        params = {
            "split": {"valid": 0.2, "test": 0.2},
            "base": BASE,
            "defaults": merge(OPTIONS, FEW),
            "presets": {"small": {"lora": {"r": 4}}},
            "tasks": {task: {} for task in ("lm", "gec", "typst", "polish", "reward")},
            "compare": ["gec"],
            "synthetic": {},
            "bases": {},
            "corpora": {"gec-001": {"task": "gec", "file": str(corpus)}},
            "runs": {
                "gec-001": run | {"parent": BASE},
                "gec-002": run | {"parent": PARENT, "preset": "small"},
            },
        }
        Path("params.yaml").write_text(json.dumps(params, indent=1), encoding="utf-8")
        configure.main()
        prepare.main("gec-001")
        mix.main("gec-002")
        score = dict.fromkeys(("score", "low", "high", "baseline", "base"), 0.5) | {"n": 9}
        Path("metrics/evaluate/gec").mkdir(parents=True)
        Path("metrics/evaluate/gec/gec-001.json").write_text(json.dumps(score))
        Path(PARENT, "lineage.json").write_text(
            json.dumps(
                {
                    "base": {"path": BASE},
                    "corpus": {"shares": {"gec-001": 1}, "train_md5": "", "valid_md5": ""},
                    "parent": {"path": BASE, "md5": ""},
                    "config_md5": "",
                    **dict.fromkeys(("rows", "steps", "best_step"), 1),
                }
            )
        )
    finally:
        os.chdir(before)
    return folder


def verb(*arguments: str) -> Callable[[], None]:
    """A command, in this process."""

    def called() -> None:
        sys.argv = ["stages", *arguments]
        main()

    return called


COMMANDS = {
    "check": verb("check", "gec-002"),
    "plan": verb("plan", "gec-002"),
    "apply": verb("apply", "gec-001", "--text", "水が"),
    "export": verb("export", "gec-001", "-o", "out/it"),
    "peft": verb("export", "gec-001", "-o", "out/it", "--form", "peft"),
    "mlx": verb("export", "gec-001", "-o", "out/it", "--form", "mlx"),
    "new": verb("new", "gec", "given/gec/marks.tsv"),
    "configure": configure.main,
    "prepare": lambda: prepare.main("gec-001"),
    "train": lambda: train.main("gec-002"),
}
OF_BASE = ("check", "plan", "apply", "export", "train")
OF_ADAPTER = ("check", "apply", "export", "peft", "mlx", "train")
READERS = {
    f"{BASE}/config.json": OF_BASE,
    f"{BASE}/tokenizer.json": OF_BASE,
    f"{BASE}/tokenizer_config.json": OF_BASE,
    f"{BASE}/chat_template.jinja": OF_BASE,
    f"{BASE}/generation_config.json": OF_BASE,
    f"{BASE}/model.safetensors": OF_BASE,
    f"{PARENT}/adapter_config.json": OF_ADAPTER,
    f"{PARENT}/adapter_model.safetensors": OF_ADAPTER,
    f"{PARENT}/lineage.json": ("peft",),
    "metrics/evaluate/gec/gec-001.json": ("peft",),
    "data/gec/train_001.tsv": ("check", "prepare"),
    "params.yaml": ("check", "plan", "new", "apply", "export", "configure"),
    **{f"given/{name}": ("take",) for name in CORPORA},
}
"""Each file from outside, and what reads it."""


class Hangs(BaseException):
    """Nothing that the code under test would catch."""


def too_long(*_: object) -> None:
    raise Hangs


def answer_of(call: Callable[[], None]) -> int:
    """The exit code of a command or stage, which may not take longer than SECONDS."""
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        call()
    except SystemExit as end:
        return int(end.code or 0)
    except UserError:
        return 2
    finally:
        signal.alarm(0)
    return 0


def files_of(folder: Path) -> dict[str, str]:
    """All that is there but for what is rebuilt or thrown away, by its MD5."""
    return {
        str(file.relative_to(folder)): hashlib.md5(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file() and file.relative_to(folder).parts[0] not in ("build", "logs", ".scratch")
    }


CASES = [(target, seed) for target in READERS for seed in range(5)]


@pytest.mark.parametrize(("target", "seed"), CASES)
def test_a_damaged_file_is_read_rightly_or_refused_in_a_sentence(
    made, tmp_path, monkeypatch, capsys, target, seed
):
    """Exit code 0 or 2, never a traceback; what is refused leaves nothing; nothing hangs."""
    monkeypatch.setattr(process, "set_up", lambda exact: None)  # of this process, for other tests
    monkeypatch.setattr(new, "keep", lambda path: None)  # dvc, which takes a second
    folder = shutil.copytree(made, tmp_path / "repository")
    monkeypatch.chdir(folder)
    done = damage.damage(Path(target), random.Random(f"{target} {seed}"))
    before = files_of(folder)
    for reader in READERS[target]:
        call = verb("new", target.split("/")[1], target) if reader == "take" else COMMANDS[reader]
        code = answer_of(call)
        said = capsys.readouterr()
        assert code in (0, 2), f"{done}: {reader}: {said.err}"
        assert "Traceback" not in said.err
        if code == 2:
            assert files_of(folder) == before, f"{done}: {reader}"
        shutil.rmtree("out", ignore_errors=True)
        if reader == "train":
            shutil.rmtree("models/gec-002", ignore_errors=True)


def test_an_undamaged_repository_is_taken_by_all_that_reads_it(made, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "set_up", lambda exact: None)
    monkeypatch.setattr(new, "keep", lambda path: None)
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "repository"))
    for name, call in COMMANDS.items():
        assert answer_of(call) == 0, name
        shutil.rmtree("out", ignore_errors=True)


@pytest.mark.parametrize(
    ("target", "content", "call", "says"),
    [
        (f"{PARENT}/adapter_config.json", "[]", "apply", "adapter_config.json: no JSON object; fetch it again"),
        (f"{PARENT}/adapter_config.json", "{", "apply", "adapter_config.json: not JSON: Expecting property name"),
        (f"{PARENT}/adapter_config.json", '{"r": "x"}', "apply", "`r`: input should be a valid integer, not 'x'"),
        (f"{PARENT}/adapter_config.json", '{"r": 0}', "mlx", "`base_model_name_or_path` is missing; add it"),
        (f"{BASE}/tokenizer.json", "{}", "apply", "given: no tokenizer that transformers reads: "),
        (f"{BASE}/config.json", "[]", "plan", "given: no causal language model that transformers knows: "),
        ("metrics/evaluate/gec/gec-001.json", "{}", "peft", "the run's scores are not as `train` and `evaluate` write them"),
        ("metrics/evaluate/gec/gec-001.json", None, "peft", "gec-001.json: not there; `dvc repro evaluate@gec-001` scores the run first"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_from_outside(
    made, tmp_path, monkeypatch, capsys, target, content, call, says
):
    monkeypatch.setattr(process, "set_up", lambda exact: None)
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "repository"))
    Path(target).unlink() if content is None else Path(target).write_text(content)
    assert answer_of(COMMANDS[call]) == 2
    assert says in capsys.readouterr().err


def test_an_adapter_with_what_is_no_number_is_refused_by_name(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(process, "set_up", lambda exact: None)
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "repository"))
    path = Path(PARENT, "adapter_model.safetensors")
    tensors = load_file(path)
    name = min(tensors)
    tensors[name][0, 0] = float("nan")
    save_file(tensors, path)
    assert answer_of(COMMANDS["apply"]) == 2
    assert f"1 of its adapter's tensors hold what is no number, {name} among" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("key", ["category", "steps"])
def test_a_control_character_in_a_category_or_a_step_is_told(
    tmp_path, monkeypatch, made, capsys, key
):
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "repository"))
    harmed = SOLUTIONS[0] | {key: "a\x1b" if key == "category" else ["a\x1bx", "b"]}
    Path("harmed.jsonl").write_text(lines([harmed, *SOLUTIONS[1:]]), encoding="utf-8")
    assert answer_of(verb("new", "reward", "harmed.jsonl")) == 2
    assert "line 1: control character U+001B in it; remove it" in capsys.readouterr().err


def test_a_base_that_is_only_in_a_remote_says_how_it_is_brought(inside):
    with pytest.raises(
        UserError, match="models/lm-001: not there; `dvc pull models/lm-001` brings"
    ):
        model_folders.locate("models/lm-001")
