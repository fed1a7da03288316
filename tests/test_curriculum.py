"""What a run trains on: parts of a corpus, noisy copies, near-duplicates, weights, replay, and
nothing that is tested on."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import rensa
import yaml

from stages import configure, mix, prepare
from stages.corpus import augment, clean, duplicates, near_duplicates
from stages.corpus.examples import Example
from stages.entries import Augment
from stages.errors import UserError
from stages.params import load_params
from stages.records import read_rows
from tests.test_settings import GOOD

LINES = [
    f"{n}\t<本{n}は>（本{n}が）好きです。\t{'Particle' if n % 3 else 'Verb'}" for n in range(200)
]


def enter(**corpora: dict[str, object]) -> None:
    """A params.yaml with gec corpora of the same lines, and a chain of runs over them."""
    params = yaml.safe_load(yaml.safe_dump(GOOD))
    params["tasks"].setdefault("gec", {})
    params["corpora"] = {
        key: value for key, value in params["corpora"].items() if value["task"] != "gec"
    }
    params["runs"] = {key: value for key, value in params["runs"].items() if value["task"] != "gec"}
    base = parent = "models/bases/tiny"
    for name, options in corpora.items():
        name = name.replace("_", "-")
        run = options.pop("run", {})
        params["corpora"][name] = {"task": "gec", "file": f"{name}.tsv"} | options
        if run is not None:
            params["runs"][name] = {
                "task": "gec",
                "corpus": name,
                "base": base,
                "parent": parent,
            } | run
            parent = f"models/{name}"
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def prepared(name: str, lines: list[str] = LINES) -> dict[str, list]:
    Path(f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    configure.main()
    prepare.main(name)
    return {
        part: read_rows(Path("data/prepared/gec", part, f"{name}.jsonl"))
        for part in ("train", "valid", "test")
    }


def report(name: str) -> dict:
    return json.loads(Path("metrics/prepare", f"{name}.json").read_text())


# Parts of a corpus


def test_a_corpus_can_be_a_part_of_a_file_for_a_curriculum(inside):
    enter(
        gec_001={"categories": ["Particle"]},
        gec_002={"max_samples": 30},
        gec_003={"max_characters": 19},
    )
    part = prepared("gec-001")
    assert {row["category"] for row in part["train"]} == {"Particle"}
    assert report("gec-001")["passed_over"] == {"of another category": 67}
    assert sum(map(len, prepared("gec-002").values())) == 30
    short = prepared("gec-003")
    assert all(
        len(row["source"]) + len(row["messages"][-1]["content"]) <= 19 for row in short["train"]
    )
    assert 0 < report("gec-003")["passed_over"]["longer than max_characters"] < 200
    whole = {row["id"] for row in short["test"]}
    enter(gec_003={})
    assert whole <= {
        row["id"] for row in prepared("gec-003")["test"]
    }  # a part holds out what the whole holds out


def test_a_corpus_can_bring_its_own_instruction(inside):
    enter(gec_001={"instruction": "丁寧体にしてください。"})
    row = prepared("gec-001")["train"][0]
    assert row["messages"][0]["content"] == f"丁寧体にしてください。\n{row['source']}"


# Noise


def test_noise_is_in_the_source_of_training_rows_alone_and_follows_the_seed(inside):
    enter(gec_001={})
    plain = prepared("gec-001")
    made = []
    for seed in (1, 1, 2):
        enter(gec_001={"augment": {"copies": 2, "character_noise": 0.2, "seed": seed}})
        made.append(prepared("gec-001"))
    first, again, other = made
    assert first == again
    assert first["train"] != other["train"]
    assert (first["valid"], first["test"]) == (plain["valid"], plain["test"])
    noisy = [row for row in first["train"] if row not in plain["train"]]
    assert len(noisy) > len(plain["train"])
    targets = {row["messages"][-1]["content"] for row in plain["train"]}
    assert {row["messages"][-1]["content"] for row in noisy} <= targets
    assert all(row["source"] in row["messages"][0]["content"] for row in noisy)


def test_the_noise_is_as_much_as_was_asked_for():
    text, rng = "abcdefghij" * 400, random.Random(0)
    kept = sum((Counter(text) & Counter(augment.add_noise(text, 0.1, rng))).values())
    assert 0.9 < kept / len(text) < 1
    assert augment.add_noise("a\nb", 0.5, rng).count("\n") == 1
    example = Example(1, "x", "y", "", ({"role": "user", "content": "do: x"},))
    copy = next(
        copy
        for seed in range(99)
        for copy in augment.copies(example, Augment(copies=1, character_noise=0.5, seed=seed))
    )
    assert copy.prompt[0]["content"] == f"do: {copy.source}"


# Near-duplicates


def test_the_later_of_two_rows_that_differ_little_is_dropped_and_counted(inside):
    rng = random.Random(0)
    texts = ["".join(rng.choices("あいうえおかきくけこさしすせそ", k=300)) for _ in range(40)]
    lines = [
        f"{n}\t<{text}は>（{text}が）\tParticle"
        for n, text in enumerate([*texts, *(text[:-1] + "猫" for text in texts[:10])])
    ]
    enter(gec_001={"near_duplicates": 0.8, "max_drop_fraction": 0.5})
    part = prepared("gec-001", lines)
    assert report("gec-001")["dropped"] == {"near-duplicate": 10}
    assert not any("猫" in row["source"] for of in part.values() for row in of)
    enter(gec_001={})
    assert sum(map(len, prepared("gec-001", lines).values())) == 50
    enter(gec_001={"near_duplicates": 0.8})
    with pytest.raises(UserError, match="no records in it"):
        prepared("gec-001", [])


def test_a_long_reading_says_how_far_it_is(inside, monkeypatch, capsys):
    monkeypatch.setattr(clean, "PROGRESS_EVERY_RECORDS", 80)
    enter(gec_001={})
    prepared("gec-001")
    said = capsys.readouterr().out.splitlines()[1:]  # what `configure` says comes before
    assert said == ["gec-001.tsv: 80 records read", "gec-001.tsv: 160 records read"]


def sentences(count: int, back: int) -> list[Example]:
    """Of 10 to 30 words; one in three is one of those up to `back` before it, with one to three
    words replaced."""
    rng = random.Random(1)
    words = [
        "".join(rng.choices("abcdefghijklmnoprstuvwz", k=rng.randrange(3, 10)))
        for _ in range(2_000)
    ]
    texts: list[list[str]] = []
    for _ in range(count):
        text = (
            list(rng.choice(texts[-back:]))
            if texts and rng.random() < 0.3
            else rng.choices(words, k=rng.randrange(10, 31))
        )
        for _ in range(rng.randrange(1, 4)):
            text[rng.randrange(len(text))] = rng.choice(words)
        texts.append(text)
    return [Example(line, "", " ".join(text), "") for line, text in enumerate(texts, start=1)]


@pytest.mark.parametrize(
    ("threshold", "characters"), [(0.5, 2**20), (0.8, 2**20), (0.8, 1_000), (0.9, 2**20)]
)
def test_near_duplicates_are_those_that_one_index_of_all_rows_finds(
    tmp_path, monkeypatch, threshold, characters
):
    monkeypatch.setattr(near_duplicates, "BATCH_CHARACTERS", characters)
    examples, noted = sentences(3_500, 3_500), clean.Report(tmp_path)
    fast = [
        example.line
        for example in near_duplicates.drop_near_duplicates(examples, threshold, noted, tmp_path)
    ]
    index = rensa.RMinHashDeduplicator(
        threshold,
        near_duplicates.SIGNATURE_HASHES,
        use_lsh=True,
        num_bands=near_duplicates.fewest_bands(threshold),
        seed=near_duplicates.SEED,
    )
    slow = []
    compared = near_duplicates.texts(examples)
    for example, grams in zip(examples, near_duplicates.ngrams(compared), strict=True):
        if index.add_pairs([(str(example.line), grams)])[0]:
            slow.append(example.line)
    assert fast == slow
    assert 50 < noted.dropped["near-duplicate"] == len(examples) - len(fast)
    assert not list(tmp_path.iterdir())


def test_long_texts_are_hashed_few_at_a_time(monkeypatch):
    monkeypatch.setattr(near_duplicates, "BATCH_CHARACTERS", 100)
    monkeypatch.setattr(near_duplicates, "BATCH_EXAMPLES", 4)
    examples = [
        Example(line, "x" * 20, "y" * length, "")
        for line, length in enumerate([0, 0, 0, 0, 0, 70, 10, 500, 3])
    ]
    assert [
        [example.line for example in together] for together in near_duplicates.batched(examples)
    ] == [
        [0, 1, 2, 3],
        [4, 5],
        [6, 7],
        [8],
    ]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_nine_of_ten_pairs_at_the_threshold_are_compared(threshold):
    """1 of 2 would be, at 0.8, with the 8 bands that rensa takes by itself."""
    bands = near_duplicates.fewest_bands(threshold)
    assert near_duplicates.SIGNATURE_HASHES % bands == 0
    assert 1 - (1 - threshold ** (near_duplicates.SIGNATURE_HASHES / bands)) ** bands >= 0.9


def test_a_row_is_remembered_only_until_its_last_possible_double_has_passed(tmp_path, monkeypatch):
    examples = sentences(10_000, 200)
    held = []

    class Counted:
        def __init__(self, *options: Any, **named: Any) -> None:
            self.index = rensa.RMinHashDeduplicator(*options, **named)

        def add_pairs(self, entries: list[Any]) -> list[bool]:
            new = self.index.add_pairs(entries)
            held.append(self.index.len())
            return new

        def remove(self, key: str) -> bool:
            return self.index.remove(key)

    monkeypatch.setattr(near_duplicates, "RMinHashDeduplicator", Counted)
    kept = list(
        near_duplicates.drop_near_duplicates(examples, 0.8, clean.Report(tmp_path), tmp_path)
    )
    assert len(held) == 10
    assert len(kept) > 8_000
    assert 0 < max(held) < 1_000


def test_exact_duplicates_are_those_that_a_set_finds(monkeypatch, tmp_path):
    monkeypatch.setattr(duplicates, "LOOKUP_BATCH_EXAMPLES", 50)
    rng, noted = random.Random(0), clean.Report(tmp_path)
    examples = [Example(line, str(rng.randrange(4_000)), "x", "") for line in range(6_500)]
    first: dict[str, int] = {}
    for example in examples:
        first.setdefault(example.source, example.line)
    assert [
        example.line for example in duplicates.deduplicate(examples, noted, clean.digests)
    ] == list(first.values())
    assert noted.dropped["duplicate"] == 6_500 - len(first) > 1_000


# Weights and replay


def mixed(run: str) -> dict[str, list]:
    configure.main()
    mix.main(run)
    return {
        part: read_rows(Path("data/mixed", run, f"{part}.jsonl")) for part in ("train", "valid")
    }


@pytest.mark.parametrize(
    ("missing", "without"),
    [
        ("test", "nothing is scored"),
        ("valid", "the best weights cannot be chosen"),
        ("train", "nothing is learned"),
    ],
)
def test_a_run_without_rows_of_a_part_stops_before_it_is_trained(inside, missing, without):
    enter(gec_001={})
    prepared("gec-001")
    Path(f"data/prepared/gec/{missing}/gec-001.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(UserError) as error:
        mixed("gec-001")
    assert str(error.value) == (
        f"gec-001: its corpora have no row for {missing}, without which {without}; add rows: "
        "`python -m stages new` says how many most likely have some"
    )


def test_an_epoch_has_each_row_as_often_as_its_weight_says(inside):
    enter(
        gec_001={},
        gec_002={"run": {"replay": 0.25}},
        gec_003={"run": {"replay": 0.5, "mix": {"gec-004": 2.5}}},
        gec_004={"run": None},
    )
    sets = {
        f"gec-00{n}": prepared(f"gec-00{n}", [line.replace("本", letter) for line in LINES])[
            "train"
        ]
        for n, letter in enumerate("本猫犬鳥", start=1)
    }
    assert mixed("gec-001")["train"] == sets["gec-001"]
    second = Counter(row["id"] for row in mixed("gec-002")["train"])
    assert all(second[row["id"]] == 1 for row in sets["gec-002"])
    assert 0.1 < sum(second[row["id"]] for row in sets["gec-001"]) / len(sets["gec-001"]) < 0.4
    third = Counter(row["id"] for row in mixed("gec-003")["train"])
    assert {third[row["id"]] for row in sets["gec-004"]} == {2, 3}
    assert all(third[row["id"]] == 1 for row in sets["gec-003"])
    for earlier in ("gec-001", "gec-002"):
        assert {third[row["id"]] for row in sets[earlier]} == {0, 1}


def test_what_an_earlier_run_mixed_in_is_replayed_too(inside):
    enter(
        gec_001={"run": {"mix": {"gec-004": 2.5}}},
        gec_002={"run": {"corpus": "gec-001", "replay": 0.25}},
        gec_003={"run": {"replay": 0.5, "mix": {"gec-001": 2.0}}},
        gec_004={"run": None},
    )
    params = load_params()
    assert params.shares("gec-002") == {"gec-001": 1.0, "gec-004": 0.25}
    assert params.shares("gec-003") == {"gec-003": 1.0, "gec-001": 2.0, "gec-004": 0.5}


# What is tested on


def test_rows_of_a_test_only_corpus_are_trained_on_by_no_version(inside):
    enter(gec_001={}, gec_002={"test_only": True, "run": None})
    train = prepared("gec-001")["train"]
    outside = prepared("gec-002", LINES[:40])
    assert (len(outside["test"]), outside["train"], outside["valid"]) == (40, [], [])
    leaked = {row["id"] for row in outside["test"]} & {row["id"] for row in train}
    assert leaked
    assert not {row["id"] for of in mixed("gec-001").values() for row in of} & {
        row["id"] for row in outside["test"]
    }
    configured = json.loads(Path("build/config/predict/gec-001.json").read_text())
    assert configured["tests"] == ["gec-001", "gec-002"]


def test_a_validation_corpus_picks_the_best_weights_in_place_of_the_held_out_share(inside):
    enter(gec_001={"run": {"validation": "gec-002"}}, gec_002={"valid_only": True, "run": None})
    prepared("gec-001")
    given = prepared("gec-002", LINES[:40])
    assert (len(given["valid"]), given["train"], given["test"]) == (40, [], [])
    parts = mixed("gec-001")
    tested = {row["id"] for row in read_rows(Path("data/prepared/gec/test/gec-001.jsonl"))}
    assert {row["id"] for row in parts["valid"]} == {row["id"] for row in given["valid"]} - tested
    assert not {row["id"] for row in parts["train"]} & {row["id"] for row in parts["valid"]}
    assert json.loads(Path("build/config/predict/gec-001.json").read_text())["tests"] == ["gec-001"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"valid_only": True},
            "`runs.gec-002.corpus`: gec-002 is valid_only; train on another one",
        ),
        (
            {"run": {"validation": "gec-001"}},
            "`runs.gec-002.validation`: no valid_only corpus `gec-001`; there are: none",
        ),
        (
            {"test_only": True, "valid_only": True, "run": None},
            "`corpora.gec-002`: test_only and valid_only at once",
        ),
        (
            {"file": "../gec.tsv"},
            "`corpora.gec-002.file`: ../gec.tsv lies outside the repository; copy it in, or set",
        ),
        (
            {"run": {"base": "/srv/base"}},
            "`runs.gec-002.base`: /srv/base lies outside the repository; copy it in, or set",
        ),
        (
            {"run": {"mix": {"gec-009": 1}}},
            "`runs.gec-002.mix`: no corpus `gec-009`; did you mean `gec-00",
        ),
        (
            {"run": {"mix": {"lm-001": 1}}},
            "`runs.gec-002.mix`: lm-001 belongs to task lm, the run to gec",
        ),
        ({"test_only": True}, "`runs.gec-002.corpus`: gec-002 is test_only; train on another one"),
        (
            {"run": {"mix": {"gec-001": 0}}},
            "`runs.gec-002.mix.gec-001`: input should be greater than 0, not 0",
        ),
        (
            {"run": {"replay": -1}},
            "`runs.gec-002.replay`: input should be greater than or equal to 0, not -1",
        ),
        (
            {"augment": {"character_noise": 2}},
            "`corpora.gec-002.augment.character_noise`: input should be less than or equal",
        ),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(inside, change, says):
    enter(gec_001={}, gec_002=change)
    with pytest.raises(UserError) as error:
        load_params()
    assert says in str(error.value)
