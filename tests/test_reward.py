"""Step rewards: published forms that are read, the demo corpora, and how scores are scored."""

import csv
import json
import random
import re
from pathlib import Path

import numpy as np
import pandas
import pytest
from sklearn.metrics import roc_auc_score

from stages import prepare
from stages.commands.read_corpus import read_corpus
from stages.corpus import clean, duplicates
from stages.corpus.examples import BadLine, Example
from stages.entries import Corpus
from stages.errors import UserError
from stages.grammar import arithmetic
from stages.params import load_params
from stages.records import Prediction, read_rows
from stages.scoring import calibration
from stages.tasks.reward import corpus, score, synthetic
from tests.test_prepare import enter


def read(folder: Path, *records: object, suffix: str = "jsonl") -> list[Example | BadLine]:
    path = folder / f"x.{suffix}"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return list(corpus.read(path, {}))


# Formats


def test_labels_stay_what_they_are(tmp_path):
    example = read(
        tmp_path, {"problem": "1 + 1?", "steps": ["2.", "So 2.", "Yes."], "labels": [0.7, None, 0]}
    )[0]
    assert example.labels == (0.7, None, 0.0)
    assert corpus.show(example) == {
        "prompt": "1 + 1?",
        "completions": ["2.", "So 2.", "Yes."],
        "labels": [0.7, None, 0.0],
    }
    assert corpus.group_key(example) == "1 + 1?"


def prm(*steps: tuple[list[tuple[str, int | None]], int | None, str | None]) -> dict:
    entries = [
        {
            "completions": [
                {"text": text, "rating": rating, "flagged": False} for text, rating in completions
            ],
            "human_completion": {"text": human, "rating": None, "flagged": False}
            if human
            else None,
            "chosen_completion": chosen,
        }
        for completions, chosen, human in steps
    ]
    return {"question": {"problem": "p"}, "label": {"steps": entries, "finish_reason": "solution"}}


def test_prm800k_gives_the_chosen_path_and_the_path_to_each_rated_alternative(tmp_path):
    record = prm(
        ([("a", 1), ("a2", -1), ("a3", None)], 0, None),
        ([("b", -1), ("b2", 0)], None, "by hand"),
        ([("c", 0)], 0, None),
    )
    found = [(example.steps, example.labels) for example in read(tmp_path, record)]
    assert found == [
        (("a", "by hand", "c"), (1.0, None, 0.5)),
        (("a2",), (0.0,)),
        (("a", "b"), (None, 0.0)),
        (("a", "b2"), (None, 0.5)),
    ]
    ended = prm(([("a", 1)], 0, None), ([("b", -1), ("b2", -1)], None, None))
    assert [example.labels for example in read(tmp_path, ended)] == [
        (1.0,),
        (None, 0.0),
        (None, 0.0),
    ]


def test_eqasc_gives_a_solution_for_each_chain(tmp_path):
    question = {
        "question": {
            "stem": "What melts?",
            "choices": [
                {
                    "label": "A",
                    "text": "ice",
                    "chains": [
                        [
                            {"text": "Ice is cold.", "score": 0.9},
                            {"text": "It melts.", "score": 0.25},
                        ]
                    ],
                },
                {"label": "B", "text": "air", "chains": [[{"text": "Air is light."}]]},
            ],
        },
        "answerKey": "A",
    }
    for found in (read(tmp_path, question), read(tmp_path, [question], suffix="json")):
        assert [(example.source, example.labels) for example in found] == [
            ("What melts? ice", (0.9, 0.25))
        ]


def test_where_only_the_first_mistake_is_known_the_steps_behind_it_have_no_label(tmp_path):
    found = read(
        tmp_path,
        {"input": "p", "steps": ["a", "b", "c"], "target": "1", "answer": "2", "mistake_index": 1},
        {"input": "p", "steps": ["a", "b"], "mistake_index": None},
        {"id": "1", "problem": "q", "steps": ["a", "b", "c"], "label": 0},
        {"id": "2", "problem": "q", "steps": ["a"], "label": -1},
    )
    assert [example.labels for example in found] == [(1, 0, None), (1, 1), (0, None, None), (1,)]
    assert [example.category for example in found] == ["BIG-Bench-Mistake"] * 2 + [
        "ProcessBench"
    ] * 2


def test_the_first_mistake_is_read_from_the_cells_of_a_table(tmp_path):
    (tmp_path / "a.csv").write_text(
        'problem,steps,label\nq,"[""a"", ""b"", ""c""]",1\nq,"[""a""]",-1\nq,"[""a""]",0.0\n'
        'q,"[""a""]",b\n'
    )
    *found, bad = corpus.read(tmp_path / "a.csv", {})
    assert [example.labels for example in found] == [(1, 0, None), (1,), (0,)]
    assert bad.reason == "the first mistake is at 'b', and the 1 steps are numbered from 0"
    (tmp_path / "b.csv").write_text(
        'input,steps,wrong\np,"[""a"", ""b""]",\np,"[""a"", ""b""]",1.0\n'
    )
    found = list(corpus.read(tmp_path / "b.csv", {"wrong": "mistake_index"}))
    assert [example.labels for example in found] == [(1, 1), (1, 0)]
    rows = [
        {"input": "p", "steps": ["a", "b"], "mistake_index": None},
        {"input": "p", "steps": ["a", "b"], "mistake_index": 0},
    ]
    pandas.DataFrame(rows).to_parquet(tmp_path / "c.parquet")
    found = list(corpus.read(tmp_path / "c.parquet", {}))
    assert [example.labels for example in found] == [(1, 1), (0, None)]
    (bad,) = read(tmp_path, {"input": "p", "steps": ["a", "b"]})
    assert "none of the forms of a labelled solution" in bad.reason


def test_a_chosen_completion_may_be_written_as_a_float_and_is_no_truth_value(tmp_path):
    (example, _) = read(tmp_path, prm(([("a", 1), ("b", 0)], 0.0, None)))
    assert (example.steps, example.labels) == (("a",), (1.0,))
    for chosen in (True, 0.5, "one", [0]):
        (bad,) = read(tmp_path, prm(([("a", 1), ("b", 0)], chosen, None)))
        assert bad.reason == f"step 1: chosen_completion {chosen!r} of 2"


def test_reveal_is_grouped_by_answer_and_refused_in_training(inside):
    columns = (
        "answer_id",
        "question",
        "full_answer",
        "step",
        "answer_is_logically_correct",
        "correctness_label",
    )
    lines = [
        ("1", "q1", "…", "a", "True", "Correct"),
        ("1", "q1", "…", "b", "True", "Incorrect"),
        ("2", "q2", "…", "c", "False", ""),
    ]
    with Path("corpus.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *lines])
    found = list(corpus.read(Path("corpus.csv"), {}))
    assert [(example.steps, example.labels) for example in found] == [
        (("a", "b"), (1.0, 0.0)),
        (("c",), (0.0,)),
    ]
    records = [dict(zip(columns, line, strict=True)) for line in lines]
    assert [example.labels for example in read(inside, *records)] == [(1.0, 0.0), (0.0,)]

    enter("reward", None, "csv")
    with pytest.raises(
        UserError,
        match=r"corpus.csv line 2: REVEAL is published as a benchmark, under CC BY-ND 4.0, .* set `test_only: true`",
    ):
        prepare.main("reward-001")
    given = Corpus(task="reward", file="corpus.csv")
    with pytest.raises(UserError, match=r"REVEAL is published as .* or give `new` --test-only"):
        read_corpus(load_params(), given)
    enter("reward", None, "csv", test_only=True)
    prepare.main("reward-001")
    assert len(read_rows(Path("data/prepared/reward/test/reward-001.jsonl"))) == 2
    assert read_rows(Path("data/prepared/reward/train/reward-001.jsonl")) == []


def of_prm800k(step: object) -> dict:
    return {"question": {"problem": "p"}, "label": {"steps": [step]}}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (
            {"problem": "p", "steps": ["a", "b"], "labels": [1]},
            '2 "steps" and 1 "labels"; each step has one',
        ),
        (
            {"problem": "p", "steps": ["a"], "labels": [1.5]},
            "label 1 is 1.5; a label is a number from 0 to 1, or null",
        ),
        (
            {"problem": "p", "steps": ["a"], "labels": ["1"]},
            "label 1 is '1'; a label is a number from 0 to 1",
        ),
        ({"problem": "p", "steps": ["a", " "], "labels": [1, 1]}, "step 2 is empty or no text"),
        ({"problem": "p", "steps": [], "labels": []}, 'no "steps"; a solution has at least one'),
        ({"problem": "p", "steps": ["a"], "labels": [None]}, "no step is labelled"),
        ({"problem": "", "steps": ["a"], "labels": [1]}, '"problem" is empty or no text'),
        ({"steps": ["a"], "labels": [1]}, 'no "problem"'),
        (
            {"problem": "p", "steps": ["a"], "label": 3},
            "the first mistake is at 3, and the 1 steps are numbered from 0",
        ),
        (prm(([("a", 7)], 0, None)), "step 1: rating 7; ratings are -1, 0, 1 and null"),
        (prm(([("a", 1)], 4, None)), "step 1: chosen_completion 4 of 1"),
        (
            {"problem": "p", "steps": ["a"], "label": None},
            '"label" is null; -1 says that no step is wrong',
        ),
        ({"problem": "p", "steps": [None], "labels": [1]}, "step 1 is empty or no text"),
        (of_prm800k(None), '"label.steps": null in place of an object'),
        (of_prm800k({"completions": ["a"]}), "step 1: completions: a text in place of an object"),
        (of_prm800k({"completions": 5}), "step 1: completions: a number in place of an object"),
        (
            of_prm800k({"human_completion": "a"}),
            "step 1: what was chosen: a text in place of an ob",
        ),
        ({"question": {"stem": "s", "choices": None}}, 'no "choices"'),
        ({"question": {"stem": "s", "choices": [5]}}, '"choices": a number in place of an object'),
        (
            {"question": {"stem": "s", "choices": [{"text": "t", "chains": [None]}]}},
            '"chains" is no list of lists of facts',
        ),
        ({"problem": "p", "steps": ["a"], "labels": [1], "category": 7}, '"category" is a number'),
        (prm(([("a", None)], 0, None)), "no step is labelled"),
        (
            {"a": 1},
            "'a': none of the forms of a labelled solution; see data/reward/README.md#formats",
        ),
        (
            {"problem": "\ud800", "steps": ["a"], "labels": [1]},
            "half a surrogate pair in it; write the whole character",
        ),
    ],
)
def test_a_record_of_no_form_is_told_with_its_reason(tmp_path, record, says):
    found = read(tmp_path, record)[0]
    assert isinstance(found, BadLine)
    assert says in found.reason


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (of_prm800k({"human_completion": {"text": "a", "rating": 7}}), "step 1: rating 7; ratings are -1, 0, 1 and null"),
        (prm(([("a", [1])], 0, None)), "step 1: rating [1]; ratings are -1, 0, 1 and null"),
        (prm(([("a", 1)], "0", None)), "step 1: chosen_completion '0' of 1"),
        (prm(([("a", 1)], [0], None)), "step 1: chosen_completion [0] of 1"),
        (prm(([(None, 1)], 0, None)), 'no "text"'),
        ({"question": {"problem": ["p"]}, "label": "a"}, '"problem" is empty or no text'),
        ({"question": {"problem": "p"}, "label": "a"}, 'no "label.steps"'),
        ({"question": {"problem": "p"}, "label": None}, 'no "label.steps"'),
        ({"question": "q", "label": {"steps": []}}, "'question', 'label': none of the forms of a labelled solution"),
        ({"question": {"stem": "s", "choices": "c"}}, '"choices": a text in place of an object'),
        ({"question": {"stem": None, "choices": [{}]}}, 'no "stem"'),
        ({"question": {"stem": "s", "choices": [{"text": "t", "chains": "c"}]}}, '"chains" is no list of lists of facts'),
        ({"question": {"stem": "s", "choices": [{"text": "t", "chains": [[{"text": "a", "score": 1}, "b"]]}]}}, "a fact of a chain: a text in place of an object"),
        ({"question": {"stem": "s", "choices": [{"text": "t", "chains": [[{"text": 1, "score": 1}]]}]}}, "step 1 is empty or no text"),
        ({"question": {"stem": "s", "choices": [{"text": "t", "chains": [[{"text": "a", "score": "x"}]]}]}}, "label 1 is 'x'; a label is a number from 0 to 1"),
        ({"problem": "p", "steps": "a", "label": 0}, "the steps are a text; they are a list of texts"),
        ({"problem": "p", "steps": ["a"], "label": {}}, "the first mistake is at {}, and the 1 steps are numbered from 0"),
        ({"problem": None, "steps": ["a"], "label": 0}, 'no "problem"'),
        ({"problem": "p", "steps": ["a"], "labels": [float("nan")]}, "label 1 is nan; a label is a number"),
        ({"answer_id": "1", "question": {"a": 1}, "step": "s", "correctness_label": "correct"}, '"question" is empty or no text'),
        ({"answer_id": "1", "question": "q", "step": {"a": 1}, "correctness_label": "correct"}, "step 1 is empty or no text"),
        ({"answer_id": None, "question": "q", "step": "s"}, "none of the forms of a labelled solution"),
        ({"input": "p", "label": "p Step 1: a\nStep 2: b +"}, 'step 1 of "label" has no + or - behind it, as Math-Shepherd\'s have; correct it, or leave the solution out'),
        ({"input": "p", "label": "p Step 1: a Step 2: b +"}, 'step 1 of "label" has no + or - behind it'),
        ({"input": "p", "label": "p Step 1: a +\nStep 2: b"}, 'step 2 of "label" has no + or - behind it'),
    ],
)  # fmt: skip
def test_what_stands_where_something_else_belongs_is_a_fault_of_its_line(tmp_path, record, says):
    (found,) = read(tmp_path, record)
    assert isinstance(found, BadLine)
    assert says in found.reason


def test_a_step_that_names_another_stays_one(tmp_path):
    record = {"input": "p", "label": "p Step 1: a = -\n1 +\nStep 2: by Step 1: b - +"}
    (example,) = read(tmp_path, record)
    assert example.steps == ("Step 1: a = -\n1", "Step 2: by Step 1: b -")
    assert example.labels == (1.0, 1.0)


@pytest.mark.parametrize(
    ("records", "unused"),
    [
        ([{"problem": "p", "steps": ["a"], "labels": [1], "id": 7, "why": "w", "empty": None}], {"id": 1, "why": 1}),
        ([{"prompt": "p", "completions": ["a"], "labels": [1], "id": "7", "source": "p", "category": "c", "problem": "r"}], {"problem": 1}),
        ([{"input": "p", "label": "p Step 1: a +", "task": "GSM8K"}], {"task": 1}),
        ([{"input": "p", "steps": ["a"], "mistake_index": None, "answer": "2"}], {"answer": 1}),
        ([{"problem": "p", "steps": ["a"], "label": -1, "id": "x", "generator": "g"}], {"id": 1, "generator": 1}),
        (
            [{"question": {"stem": "s", "choices": [{"label": "A", "text": "t", "chains": [[{"text": "a", "score": 1, "pos": 2}], [{"text": "b", "score": 1}]]}]}, "answerKey": "A"}],
            {"answerKey": 1, "question.choices.label": 1, "question.choices.chains.pos": 1},
        ),
        (
            [prm(([("a", 1), ("b", -1)], 0, None)) | {"labeler": "l"}] * 2,
            {"labeler": 2, "label.finish_reason": 2, "label.steps.completions.flagged": 2},
        ),
        (
            [{"answer_id": "1", "question": "q", "step": step, "correctness_label": "correct", "full_answer": "f"} for step in "ab"],
            {"full_answer": 1},
        ),
    ],
)  # fmt: skip
def test_keys_without_a_use_are_counted_by_record_also_inside_it(tmp_path, records, unused):
    found, report = read(tmp_path, *records), clean.Report(tmp_path)
    list(clean.readable(found, report))
    flagged = {key: count for key, count in report.unused.items() if key in unused}
    assert (flagged, report.bad) == (unused, [])
    assert report.unused.keys() <= {*unused, "label.steps.completions.flagged"}


def test_keys_without_a_use_stop_new_and_are_in_the_report_of_prepare(inside):
    record = {"problem": "p", "steps": ["a"], "labels": [1], "why": "w"}
    Path("corpus.jsonl").write_text(json.dumps(record), encoding="utf-8")
    enter("reward", None, "jsonl")
    prepare.main("reward-001")
    report = json.loads(Path("metrics/prepare/reward-001.json").read_text(encoding="utf-8"))
    assert report["unused_keys"] == {"why": 1}
    with pytest.raises(UserError, match=r"nothing here has a use for: why \(1\); take them out"):
        read_corpus(load_params(), Corpus(task="reward", file="corpus.jsonl", unknown_keys="stop"))


def test_rows_of_reveal_that_are_not_together_are_no_two_solutions(tmp_path):
    rows = [
        {"answer_id": id, "question": "q", "step": step, "correctness_label": "Correct"}
        for id, step in (("1", "a"), ("2", "b"), ("1", "c"))
    ]
    *whole, bad, worse = read(tmp_path, *rows, rows[0])
    assert [example.steps for example in whole] == [("a",), ("b",)]
    reason = "answer_id 1 came before others; sort the rows by it"
    assert (bad, worse) == (BadLine(3, reason), BadLine(4, reason))


def test_a_solution_with_other_labels_is_told_apart_from_a_duplicate(tmp_path):
    labels = ([1, 0], [0, 1], [1, 0])
    found = read(
        tmp_path, *({"problem": "p", "steps": ["a", "b"], "labels": each} for each in labels)
    )
    report = clean.Report(tmp_path)
    (kept,) = duplicates.deduplicate(found, report, clean.digests)
    assert kept.labels == (1.0, 0.0)
    assert report.dropped == {"solution with other labels before": 1, "duplicate": 1}


def test_a_json_file_is_a_list(tmp_path):
    with pytest.raises(
        UserError,
        match=r"a .json file is a list of objects; write one, or an object a line into .jsonl",
    ):
        read(tmp_path, "p", suffix="json")


def test_ones_own_solution_is_an_object_or_a_step_a_line():
    expected = {"prompt": "1 + 1?", "completions": ["2.", "Yes."]}
    for text in ('{"problem": "1 + 1?", "steps": ["2.", "Yes."]}', "1 + 1?\n2.\n\nYes.\n"):
        row = corpus.question(text)
        assert {key: row[key] for key in expected} == expected
    with pytest.raises(UserError, match=r"no steps; give \{\"problem\": …, \"steps\": \[…\]\}"):
        corpus.question("1 + 1?")
    with pytest.raises(UserError, match=r"no \"problem\"; a solution is"):
        corpus.question('{"steps": ["a"]}')


# The demo corpora


def drawn(level: int, count: int = 1500) -> list[dict]:
    return [json.loads(line) for line in synthetic.lines(random.Random(level), count, level)]


@pytest.mark.parametrize("level", [1, 2])
def test_mistakes_stand_where_the_labels_say(level):
    checked = 0
    for record in drawn(level):
        labels = record["labels"]
        for step, label in zip(record["steps"], labels, strict=True):
            if match := re.search(r"(\d+) ([-+*]) (\d+) = (\d+)\.$", step):
                left, sign, right, result = match.groups()
                sound = arithmetic.value(int(left), sign, int(right)) == int(result)
                if label in (1.0, 0.7):
                    assert sound
                if record["category"] == "wrong_result" and label == 0:
                    assert not sound
                checked += 1
        if record["category"] == "correct":
            assert 0.0 not in labels
        elif None not in labels:
            assert labels.count(0.0) == 1
            assert labels == [1.0] * labels.index(0.0) + [0.0] + [0.7] * (
                len(labels) - labels.index(0.0) - 1
            )
    assert checked > 2000


def test_a_level_has_all_mistakes_different_solutions_and_gaps():
    first, second = drawn(1), drawn(2)
    for records in (first, second):
        assert {record["category"] for record in records} == {"correct", *arithmetic.MISTAKES}
        assert len({(record["problem"], *record["steps"]) for record in records}) == len(records)
        assert 0.02 < sum(None in record["labels"] for record in records) / len(records) < 0.15
    assert all(record["problem"].startswith("Compute") for record in first)
    assert (
        0.3 < sum(record["problem"].startswith("Compute") for record in second) / len(second) < 0.5
    )
    assert list(synthetic.lines(random.Random(5), 50, 2)) == list(
        synthetic.lines(random.Random(5), 50, 2)
    )


# Scores


def test_the_binned_auc_is_the_exact_one_also_for_saturated_scores():
    rng = np.random.default_rng(0)
    right = rng.random(5000) < 0.7
    scores = 1 / (1 + np.exp(-(rng.normal(size=5000) * 3 + np.where(right, 4, 1))))
    halves = [
        calibration.binned(scores[part], right[part])
        for part in (slice(0, 2000), slice(2000, None))
    ]
    assert calibration.roc_auc(halves[0] + halves[1]) == pytest.approx(
        roc_auc_score(right, scores), abs=0.002
    )
    assert calibration.roc_auc(calibration.binned([0.2, 0.9], [True, True])) == 0.5
    assert calibration.roc_auc(calibration.binned([0.4, 0.4], [True, False])) == 0.5
    assert list(calibration.roc_auc(np.stack(halves))) == [
        pytest.approx(calibration.roc_auc(half)) for half in halves
    ]


def row(labels: list) -> dict:
    steps = [f"s{n}" for n in range(len(labels))]
    return {
        "id": "",
        "category": "",
        "source": "",
        "prompt": "p",
        "completions": steps,
        "labels": labels,
    }


def scored(*pairs: tuple[list, list]) -> dict[str, float]:
    answers = [Prediction("", "", "", 0.0, 0, step_scores=found) for found, _ in pairs]
    return score.details([row(labels) for _, labels in pairs], answers)


def test_errors_ranking_and_calibration_are_over_labelled_and_scored_steps():
    measured = scored(([0.9, 0.2, 0.5], [1.0, 0.0, None]), ([0.6], [0.7, 1.0]))
    assert measured["mse"] == pytest.approx((0.01 + 0.04 + 0.01) / 3)
    assert measured["mae"] == pytest.approx((0.1 + 0.2 + 0.1) / 3)
    assert measured["auc"] == measured["spearman"] == 1
    assert measured["steps_unscored"] == pytest.approx(1 / 4)
    assert measured["calibration_error"] == pytest.approx((0.1 + 0.2 + 0.1) / 3)


def test_processbench_f1_asks_for_the_first_wrong_step():
    measured = scored(
        ([0.9, 0.1, 0.9], [1, 0, None]),  # found
        ([0.1, 0.1], [1, 0]),  # too early
        ([0.9, 0.9], [1, 1]),  # rightly nothing
        ([0.9, 0.9], [None, 0]),  # nobody said whether the first step is right
    )
    assert (measured["accuracy_erroneous"], measured["accuracy_correct"]) == (0.5, 1.0)
    assert measured["processbench_f1"] == pytest.approx(2 / 3)


def test_the_baseline_is_the_mean_of_the_training_labels(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row(labels)) + "\n" for labels in ([1.0, None], [0.5, 0.0])))
    tests = [row([1.0, 0.0])]
    answer = score.baseline(path, tests, Path())[0]
    assert list(answer.step_scores) == [0.5, 0.5]
    assert score.headline(score.statistics(tests, [answer]).sum(axis=0)) == 0.5
