"""What runs made of held-out rows: read as they are, and refused where their files do not agree."""

import json
from pathlib import Path

import pytest

from stages import outcomes
from stages.errors import UserError
from stages.files import write_lines
from stages.records import Prediction
from tests import scored as repository
from tests.scored import ANSWERS, ROWS


@pytest.fixture
def scored(inside) -> Path:
    repository.make(inside, ROWS, ANSWERS)
    return inside


def test_each_row_stands_beside_its_answer_and_score(scored):
    found = outcomes.of_run("gec", "gec-002")
    assert [(each.row["id"], each.score) for each in found] == [
        (row["id"], score) for row, score in zip(ROWS, (0, 0, 1, 0), strict=True)
    ]
    assert found[2].answer.answer == "泳いだ。"


def test_a_row_that_two_versions_hold_out_counts_once(scored):
    found = outcomes.of_run("gec", "gec-001")
    assert outcomes.once(found + found) == found


def test_the_figures_are_those_of_compare(whole_graph, monkeypatch):
    monkeypatch.chdir(whole_graph)
    for task, name in (("reward", "reward-002"), ("lm", "lm-003"), ("typst", "typst-002")):
        metrics = json.loads(Path(f"metrics/evaluate/{task}/{name}.json").read_text())
        own = outcomes.once(outcomes.of_run(task, name))
        of_all = outcomes.figures(task, own, {})
        assert [round(of_all.score, 4), round(of_all.low, 4), of_all.rows] == [
            metrics["score"], metrics["low"], metrics["n"],
        ]  # fmt: skip
        assert (
            sum(each.rows for each in outcomes.by_category(task, own, {}).values()) == of_all.rows
        )


def test_figures_stand_beside_another_run_and_the_greatest_loss_comes_first(scored):
    now = outcomes.of_run("gec", "gec-002")
    before = {each.key: each for each in outcomes.of_run("gec", "gec-001")}
    changes = {
        name: (of.rows, of.mean, of.mean_change)
        for name, of in outcomes.by_category("gec", now, before).items()
    }
    assert [*changes.items()] == [
        ("[red]", (1, 0, -1)), ("Particle", (2, 0, -0.5)), ("Verb", (1, 1, 1)),
    ]  # fmt: skip
    alone = outcomes.by_category("gec", now, {})
    assert ([*alone], alone["Verb"].change) == (["Particle", "[red]", "Verb"], None)


def test_a_solution_is_as_close_as_its_steps_are_to_their_labels():
    solution = {"labels": [1.0, None, 0.0], "completions": ["a", "b", "c"]}
    assert outcomes.closeness(
        solution, Prediction("", "", "", 0, 3, "run", [0.9, 0.5, 0.3])
    ) == pytest.approx(0.8)
    assert outcomes.closeness(solution, Prediction("", "", "", 0, 3)) == 0.5


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda: Path("data/scored/gec/gec-002.jsonl").unlink(), r"data/scored/gec/gec-002.jsonl: not there; run `dvc repro evaluate@gec-002`, or `dvc pull data/scored/gec/gec-002.jsonl data/predictions/gec-002.jsonl` where a remote has it"),
        (lambda: Path("data/prepared/gec/test/gec-001.jsonl").unlink(), "data/prepared/gec/test/gec-001.jsonl: not there; run `dvc repro prepare@gec-001`"),
        (lambda: Path("data/scored/gec/gec-002.jsonl").write_text('{"id'), r"data/scored/gec/gec-002.jsonl, data/predictions/gec-002.jsonl: damaged \(Unterminated string .*\); run `dvc repro evaluate@gec-002`"),
        (lambda: Path("data/predictions/gec-002.jsonl").write_text('{"no": 1}'), r"data/predictions/gec-002.jsonl: damaged \(.*\); run `dvc repro evaluate@gec-002`"),
        (lambda: write_lines(Path("data/prepared/gec/test/gec-001.jsonl"), ROWS[:2]), "not of the same rows as data/predictions/gec-002.jsonl and data/prepared/gec/test; run `dvc repro evaluate@gec-002`"),
    ],
)  # fmt: skip
def test_what_is_missing_or_of_another_time_says_what_to_run(scored, spoil, says):
    spoil()
    with pytest.raises(UserError, match=says):
        outcomes.of_run("gec", "gec-002")
