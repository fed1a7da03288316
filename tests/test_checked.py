"""Answers that a task's check chooses: the first where it passes, else the likeliest that does."""

from pathlib import Path

import pytest

from stages import checked as checked_module
from stages import tasks
from stages.checked import Checked, checked
from stages.commands.begin import demo_of
from stages.errors import UserError
from stages.params import load_params
from stages.records import Answer
from stages.scoring.render import Renderer
from stages.serving.runs import trained_run
from stages.tasks.typst import candidates as typst
from tests.tiny import settings_with

SETTINGS = settings_with(generation={"candidates": 4})
ROOT = Path(__file__).parents[1]
LOOPS = "#for i in range(30000) {{ for j in range({}) {{ }} }}"


def row(number: int, source: str = "x") -> dict:
    return {
        "id": f"{number}",
        "category": "",
        "source": source,
        "messages": [
            {"role": "user", "content": source},
            {"role": "assistant", "content": "the reference"},
        ],
    }


class Said:
    """An answerer that says what it is given: each row's answers, from the likeliest on."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked, self.closed = answers, list[tuple[str, int]](), False

    def predict(self, rows):
        return [Answer(self.answers[int(row["id"])][0], 1.5, 2) for row in rows]

    def respond(self, rows, reader=None):
        if reader:
            for at, _ in enumerate(rows):
                reader.prompt(at, 7)
                assert reader.token(at, lambda: "half an answer")
            reader.end(0, "an answer")
        return [self.answers[int(row["id"])][0] for row in rows]

    def candidates(self, rows, count):
        for row in rows:
            assert row["messages"][-1]["role"] == "user", "the reference is never shown"
            self.asked.append((row["id"], count))
        return [
            [(text, -float(rank)) for rank, text in enumerate(self.answers[int(row["id"])])]
            for row in rows
        ]

    def close(self):
        self.closed = True


ANSWERS = (
    ["frac(a, b)", "x"],  # passes at once
    ["frac(a", "sqrt(", "sqrt(2)", "y"],  # its third compiles
    ["frac(", "#let", "$"],  # none does
    ["#while true {}", "alpha"],
)
CHOSEN = ["frac(a, b)", "sqrt(2)", "frac(", "alpha"]


def test_an_answer_that_does_not_compile_gives_way_to_the_likeliest_that_does():
    said = Said(*ANSWERS)
    rows = [row(number) for number in range(4)]
    answers = checked(said, "typst", SETTINGS).predict(rows)
    assert [answer.answer for answer in answers] == CHOSEN
    assert {answer[1:] for answer in answers} == {(1.5, 2, ())}
    assert said.asked == [("1", 4), ("2", 4), ("3", 4)], "of what compiles at once none are made"
    assert rows[1] == row(1)


def test_nothing_is_checked_with_one_candidate():
    said = Said(*ANSWERS)
    assert checked(said, "typst", settings_with()) is said


def test_what_is_streamed_is_told_when_it_is_checked():
    told = []

    class Reader:
        def prompt(self, row, tokens):
            told.append((row, tokens))

        def token(self, row, so_far):
            told.append((row, so_far()))
            return True

        def end(self, row, answer):
            told.append((row, answer))

    rows = [{**row(number), "messages": row(number)["messages"][:-1]} for number in (0, 1)]
    answers = checked(Said(*ANSWERS), "typst", SETTINGS).respond(rows, Reader())
    assert answers == CHOSEN[:2]
    assert told == [(0, 7), (0, ""), (1, 7), (1, "")]


def test_a_document_is_compiled_as_markup_and_a_formula_as_one():
    with tasks.candidates("typst").Check() as check:
        sources = ["a_b", r"\section{A}", "x"]
        answers = ["a_b", "= A", "$ x $"]
        assert check.passes([row(0, source) for source in sources], answers) == [True] * 3
        assert check.passes([row(0, "x"), row(1, r"\section{A}")], ["*", "*"]) == [True, False]


def test_a_row_that_loops_costs_two_time_limits_however_many_candidates_it_has(monkeypatch):
    """And no other row its answer."""
    monkeypatch.setattr(typst, "PATIENCE", 1)
    rendered = []
    render = Renderer.render
    monkeypatch.setattr(
        Renderer,
        "render",
        lambda self, sources, mode: rendered.extend(sources) or render(self, sources, mode),
    )
    looping = [[LOOPS.format(30_000 + 10 * row + rank) for rank in range(8)] for row in range(6)]
    said = Said(*looping, ["frac(", "frac(a, b)"])
    settings = settings_with(generation={"candidates": 8})
    answers = Checked(said, "typst", settings).predict([row(number) for number in range(7)])
    assert [answer.answer for answer in answers] == [*(of[0] for of in looping), "frac(a, b)"]
    of_loops = [source for source in rendered if source.startswith("#for")]
    assert len(of_loops) == 6 * checked_module.MOST_STOPPED == 12


@pytest.mark.parametrize("name", [name for name in tasks.names() if name != "typst"])
def test_other_tasks_have_no_check(name):
    assert not tasks.has_candidates(name)


def test_a_variant_is_asked_with_the_weights_of_its_run(tmp_path, monkeypatch):
    params = load_params(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        trained_run(params, "typst-003-checked")
    assert str(caught.value).startswith(
        "models/typst-003: not trained yet; run `dvc repro train@typst-003`"
    )
    (tmp_path / "models/typst-003").mkdir(parents=True)
    run = trained_run(params, "typst-003-checked")
    assert (run.name, run.folder) == ("typst-003-checked", Path("models/typst-003"))
    assert run.settings.generation.candidates == 8


def test_the_demos_variants_go_and_stay_with_their_runs():
    params = load_params(ROOT / "params.yaml")
    assert demo_of(params, [])["variants"] == ["typst-003-checked"]
    assert demo_of(params, ["typst"])["variants"] == []
