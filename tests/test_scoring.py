"""Intervals, comparisons, and the measures of texts."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from stages import compare
from stages.records import Prediction
from stages.scoring import bootstrap
from stages.tasks.lm import score as lm
from stages.text import tokenizer


def share(totals: np.ndarray) -> np.ndarray:
    """right / rows of (right, rows)."""
    return totals[..., 0] / totals[..., 1]


def answers(right: list[bool]) -> np.ndarray:
    return np.array([(float(value), 1.0) for value in right])


def test_an_interval_agrees_with_resampling_row_by_row():
    statistics = answers([True] * 70 + [False] * 30)
    low, high = bootstrap.interval(statistics, share)
    rng = np.random.default_rng(5)  # the slow, obvious way, with its own draws
    values = [share(statistics[rng.integers(0, 100, 100)].sum(axis=0)) for _ in range(2000)]
    assert low == pytest.approx(np.percentile(values, 2.5), abs=0.03)
    assert high == pytest.approx(np.percentile(values, 97.5), abs=0.03)
    assert bootstrap.interval(statistics, share) == (low, high)


def test_more_examples_give_a_narrower_interval():
    few, many = (bootstrap.interval(answers([True, False] * n), share) for n in (20, 500))
    assert many[1] - many[0] < (few[1] - few[0]) / 3


def test_a_paired_comparison_sees_what_two_intervals_would_not():
    hard = np.arange(200) % 2 == 0
    parent, child = answers(list(~hard)), answers(list(~hard | (np.arange(200) % 20 == 0)))
    assert (
        bootstrap.interval(child, share)[0] < bootstrap.interval(parent, share)[1]
    )  # they overlap
    better = bootstrap.paired(child, parent, share)
    assert (better.verdict, round(better.difference, 4)) == ("better", 0.05)
    assert bootstrap.paired(parent, child, share).verdict == "worse"
    assert bootstrap.paired(parent, parent, share).verdict == "no difference shown"


# Texts


def row(text: str) -> dict:
    return {"id": text, "category": "text", "source": "", "text": text}


def test_bits_per_byte_and_perplexities_by_hand():
    rows = [row("ab cd"), row("é")]
    made = [
        Prediction("1", "", "a b a b a b", 4 * math.log(2), 3),
        Prediction("2", "", "a b c", 3 * math.log(2), 2),
    ]
    totals = lm.statistics(rows, made).sum(axis=0)
    assert totals.tolist() == [7 * math.log(2), 7, 5, 3]
    assert lm.headline(totals) == pytest.approx(1 / (1 + 1.0))
    details = lm.details(rows, made)
    assert details["bits_per_byte"] == pytest.approx(1.0)
    assert details["token_perplexity"] == pytest.approx(2 ** (7 / 5))
    assert details["word_perplexity"] == pytest.approx(2 ** (7 / 3))
    assert details["distinct_1"] == pytest.approx(3 / 9)
    assert details["repetition_rate"] == 0.0
    assert lm.repetition([["x", "y", "z", "x", "y", "z", "x", "y", "z"], []]) == 0.5


def test_the_unigram_baseline_costs_the_entropy_of_the_training_text(tmp_path):
    fast = tokenizer.train(["aaaa bbbb"] * 50, 300, "gpt2")
    fast.save_pretrained(tmp_path)
    (tmp_path / "train.jsonl").write_text(
        "".join(json.dumps(row("a b")) + "\n" for _ in range(500))
    )
    (answer,) = lm.baseline(tmp_path / "train.jsonl", [row("a b")], tmp_path)
    pieces = len(fast("a b")["input_ids"]) + 1
    assert answer.tokens == pieces
    assert answer.nats == pytest.approx(
        pieces * math.log(pieces), rel=0.2
    )  # each piece comes equally often


# Comparison


def test_a_row_that_two_versions_hold_out_counts_once(tmp_path, monkeypatch):
    def line(corpus: str, name: str, right: float) -> dict:
        return {"corpus": corpus, "id": name, "category": "c", "statistics": [right, 1.0]}

    scored = {
        "x-001": {
            (line["corpus"], line["id"]): line
            for line in (line("x-001", "a", 1), line("x-002", "a", 1), line("x-002", "b", 0))
        },
    }

    class Score:
        headline = staticmethod(share)

    assert compare.chain_entry("x-001", "base", scored, Score)["score"] == 0.5
    assert compare.grouped_scores(scored, Score, "corpus") == [
        ("x-001", "x-001", 1.0, 1),
        ("x-001", "x-002", 0.5, 2),
    ]
    assert compare.grouped_scores(scored, Score, "category") == [("x-001", "c", 0.5, 2)]
    path = Path(tmp_path / "t.csv")
    compare.write_table(path, ("a", "b"), [(1, 2)])
    assert path.read_text() == "a,b\n1,2\n"


def test_a_row_that_two_versions_hold_out_is_the_first_ones_in_both_stages():
    scored = {
        ("gec-001", "a"): {"corpus": "gec-001", "category": "first"},
        ("gec-002", "a"): {"corpus": "gec-002", "category": "second"},
        ("gec-002", "b"): {"corpus": "gec-002", "category": "other"},
    }
    found = compare.by_row(scored)
    assert {row: record["category"] for row, record in found.items()} == {
        "a": "first",
        "b": "other",
    }
