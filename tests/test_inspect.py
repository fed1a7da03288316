"""What runs made of held-out rows, as `inspect` shows it, drafts from it, and `diff` of corpora."""

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from stages import drafts, outcomes, tasks
from stages.backends.shared import process
from stages.commands import diff, inspect, shown_outcomes
from stages.corpus import changes
from stages.errors import UserError
from stages.files import write_lines
from stages.params import load_params
from stages.records import Prediction, answer_text, read_rows
from tests import scored as repository
from tests.scored import ANSWERS, ROWS, row
from tests.test_settings import GOOD


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def scored(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    repository.make(tmp_path, ROWS, ANSWERS)
    return tmp_path


def said(capsys, command=inspect.inspect, *names: str, **options) -> str:
    command(*(names or ("gec-002",)), **options)
    return capsys.readouterr().out


# Outcomes


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
        (lambda: write_lines(Path("data/prepared/gec/test/gec-001.jsonl"), ROWS[:2]), "not of the same rows as data/predictions/gec-002.jsonl and data/prepared/gec/test; run `dvc repro evaluate@gec-002`"),
    ],
)  # fmt: skip
def test_what_is_missing_or_of_another_time_says_what_to_run(scored, spoil, says):
    spoil()
    with pytest.raises(UserError, match=says):
        outcomes.of_run("gec", "gec-002")


# inspect


def test_categories_come_by_what_they_lost_and_rows_by_their_score(scored, capsys):
    told = said(capsys)
    assert told.index("[red]") < told.index("Particle") < told.index("Verb")
    assert "change from gec-001" in told
    assert "3 of 4 rows chosen, 3 of them shown" in told
    assert "泳いだ" not in told  # it is right
    assert "0.000  水[-を-]{+が+}飲む。" in told


def test_hostile_and_long_text_stays_text_and_is_cut(scored, capsys):
    told = said(capsys)
    assert "\x1b" not in told
    assert "␛[31m猫" in told
    assert "猫[/]です" in told
    assert "(100,007characters;--jsonlhasall)" in "".join(told.split())


def test_runs_are_compared_row_by_row(scored, capsys):
    worse = said(capsys, worse_than="gec-001")
    assert "2 of 4 rows chosen" in worse
    assert "水が飲む。" in worse
    assert "本" not in worse  # wrong in both
    assert "泳いだ" in said(capsys, better_than="gec-001")


def test_rows_are_chosen_by_category_test_set_and_text_and_written_whole(scored, capsys):
    told = said(capsys, category=["Particle"], test_set="gec-001", contains="本", as_csv=Path("-"))
    (only,) = csv.DictReader(io.StringIO(told))
    assert (only["id"], only["input"], only["answer of gec-001"]) == (ROWS[1]["id"], "本が読む。", "本が読む。")  # fmt: skip
    said(capsys, as_jsonl=Path("all.jsonl"))
    lines = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    assert max(len(line["answer"]) for line in lines) > 100_000


def test_differences_are_styled_on_a_terminal_and_written_elsewhere():
    text = shown_outcomes.marked("abc", "axc", styled=True)
    assert text.plain == "abxc"
    assert {span.style for span in text.spans} == {shown_outcomes.MISSING, shown_outcomes.ADDED}
    assert shown_outcomes.marked("abc", "axc", styled=False).plain == "a[-b-]{+x+}c"
    assert shown_outcomes.differences("a.bc.d", "xbcy") == [("a.bc.d", "xbcy")]
    words = shown_outcomes.marked("w lekcji.", "po lekcję.", styled=False).plain
    assert words == "[-w-]{+po+} lekcj[-i-]{+ę+}."


def test_a_solution_shows_its_labels_beside_its_scores(whole_graph, monkeypatch, capsys):
    monkeypatch.chdir(whole_graph)
    told = said(capsys, inspect.inspect, "reward-002", rows=1)
    assert "labels, steps  " in told
    assert "reward-001  " in told


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"category": ["Partikel"]}, "--category Partikel: no row of it; did you mean `Particle`?"),
        ({"test_set": "gec-9"}, "--test-set gec-9: no row of it; did you mean `gec-001`?"),
        ({"worse_than": "gec-01"}, "gec-01"),
    ],
)
def test_an_unknown_name_is_told_with_those_there_are(scored, options, says):
    with pytest.raises(UserError) as error:
        inspect.inspect("gec-002", **options)
    assert says in str(error.value)


def test_a_run_of_another_task_is_refused(scored):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["compare"] = ["gec", "lm"]
    params["runs"]["lm-001"] = GOOD["runs"]["gec-001"] | {"task": "lm", "corpus": "lm-001"}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with pytest.raises(UserError, match="lm-001: a run of lm; name one of gec, which answers the same rows"):  # fmt: skip
        inspect.inspect("gec-002", worse_than="lm-001")


# Drafts


class Wrong:
    """A model that answers every row with its source, as a run that has learned nothing."""

    def answerer(self, *_):
        return self

    def predict(self, rows):
        from stages.records import Answer

        return [Answer(row["source"], 1.0, 1) for row in rows]


@pytest.fixture
def mixed(scored, monkeypatch) -> Path:
    """Rows that gec-002 was trained on; one is held out since."""
    write_lines(Path("data/mixed/gec-002/train.jsonl"), [ROWS[0], *(row(9 + n, "Verb", f"走った{n}", f"走る{n}") for n in range(5))])  # fmt: skip
    write_lines(Path("data/mixed/gec-002/valid.jsonl"), [row(20, "Verb", "飛んた", "飛んだ"), row(21, "Correct", "飛ぶ", "飛ぶ")])  # fmt: skip
    monkeypatch.setattr(drafts.backends, "load", lambda *_: Wrong())
    return scored


def test_a_draft_has_rows_that_the_run_gets_wrong_and_nothing_that_is_held_out(mixed, capsys):
    inspect.inspect("gec-002", draft=Path("draft.jsonl"), rows=4)
    drafted = read_rows(Path("draft.jsonl"))
    assert [(each["category"], each["answered"]) for each in drafted] == [("Verb", each["source"]) for each in drafted]  # fmt: skip
    assert drafted[0]["source"] == "飛んた"  # validation rows first
    assert len(drafted) == 4
    held_out = {each["source"] for each in ROWS}
    assert held_out.isdisjoint(each["source"] for each in drafted)
    assert "4 rows that gec-002 gets wrong" in capsys.readouterr().err


def test_a_draft_can_be_without_its_references(mixed):
    inspect.inspect("gec-002", draft=Path("draft.jsonl"), rows=2, empty=True)
    assert {answer_text(each["messages"][-1]) for each in read_rows(Path("draft.jsonl"))} == {""}


def test_a_mended_draft_is_read_as_a_corpus(mixed):
    inspect.inspect("gec-002", draft=Path("draft.jsonl"), category=["Verb"], rows=6)
    examples = list(tasks.corpus("gec").read(Path("draft.jsonl"), {}))
    assert [(each.source, each.target, each.unused) for each in examples] == [
        (each["source"], answer_text(each["messages"][-1]), ("answered",))
        for each in read_rows(Path("draft.jsonl"))
    ]


@pytest.mark.parametrize(
    ("path", "spoil", "says"),
    [
        ("draft.tsv", lambda: None, "--draft draft.tsv: is written as JSON lines; name a file that ends in .jsonl"),
        ("there.jsonl", lambda: Path("there.jsonl").touch(), "--draft there.jsonl: is there already; name a new file, or remove it"),
        ("new.jsonl", lambda: Path("data/mixed/gec-002/train.jsonl").unlink(), "data/mixed/gec-002/train.jsonl: not there; run `dvc repro mix@gec-002`"),
    ],
)  # fmt: skip
def test_a_draft_that_cannot_be_written_says_why(mixed, path, spoil, says):
    spoil()
    with pytest.raises(UserError) as error:
        inspect.inspect("gec-002", draft=Path(path))
    assert str(error.value) == says
    assert not Path("new.jsonl").exists()


def test_where_no_row_of_a_category_was_trained_on_a_draft_says_what_to_write(mixed):
    with pytest.raises(UserError, match=r"data/mixed/gec-002: no row of Order to work on; write rows of your own and give them to `python -m stages new gec`"):  # fmt: skip
        drafts.candidates("gec-002", "gec", ["Order"])


def test_a_draft_tells_what_the_training_set_has_of_a_category(whole_graph, tmp_path, monkeypatch):
    monkeypatch.chdir(whole_graph)
    monkeypatch.setattr(process, "set_up", lambda exact: None)  # of this process, for other tests
    told = drafts.write(tmp_path / "draft.jsonl", "gec-002", load_params(), ["Particle"], 2, False)
    counts = [json.loads(Path(f"metrics/prepare/{name}.json").read_text())["train_categories"] for name in ("gec-001", "gec-002")]  # fmt: skip
    for name, of in zip(("gec-001", "gec-002"), counts, strict=True):
        assert f"{name} {of.get('Particle', 0)} of {sum(of.values())}" in told


# diff


def test_rows_are_matched_by_their_question():
    before = [row(1, "a", "x", "1"), row(2, "a", "y", "2"), row(3, "a", "z", "3"), row(4, "a", "z", "4")]  # fmt: skip
    after = [row(1, "a", "x", "1"), row(5, "b", "y", "5"), row(6, "a", "w", "6"), row(4, "a", "z", "4")]  # fmt: skip
    found = changes.between(before, after)
    assert found == changes.Changes([after[2]], [before[2]], [(before[1], after[1])], 2)


def test_a_solution_with_other_labels_has_changed():
    solution = {"id": "1", "category": "", "source": "", "prompt": "p", "completions": ["s"]}
    found = changes.between([solution | {"labels": [1.0]}], [solution | {"labels": [0.0]}])
    assert len(found.changed) == 1


def test_new_rows_that_resemble_others_are_counted(tmp_path):
    old = [row(1, "a", "a sentence of some length that is known", "the same in another language")]
    added = [row(2, "a", "a sentence of some length that is known!", "the same in another language"), row(3, "a", "nothing like it", "at all")]  # fmt: skip
    assert changes.near_duplicates(old, added, tmp_path) == 1


def test_versions_stand_beside_what_their_runs_made_of_them(whole_graph, monkeypatch, capsys, tmp_path):  # fmt: skip
    monkeypatch.chdir(whole_graph)
    told = said(capsys, diff.diff, "typst-001", "typst-002", rows=1)
    assert "score by typst-001" in told
    assert "score by typst-002" in told
    assert "tokens of both" in told
    assert "\nnew · " in told
    diff.diff("typst-001", "typst-002", as_jsonl=tmp_path / "changes.jsonl")
    kinds = [
        json.loads(line)["change"] for line in (tmp_path / "changes.jsonl").read_text().splitlines()
    ]
    assert {*kinds} == {"new", "gone"}


def test_a_revision_is_read_from_the_cache(clone, monkeypatch, capsys):
    path = clone / "data/prepared/gec/train/gec-001.jsonl"
    rows = read_rows(path)
    rows[0]["messages"][-1]["content"] = "別の答え"
    path.unlink()
    write_lines(path, rows[:-1])
    monkeypatch.chdir(clone)
    told = said(capsys, diff.diff, "gec-001@HEAD", "gec-001")
    assert "1 have another answer, 0 are new, 1 are gone" in told
    assert "別の答え" in told
    with pytest.raises(UserError, match="@HEAL: no such revision or experiment; see `git log` and `dvc exp list`"):  # fmt: skip
        diff.diff("gec-001@HEAL", "gec-001")


def test_what_diff_cannot_compare_it_refuses(whole_graph, monkeypatch):
    monkeypatch.chdir(whole_graph)
    with pytest.raises(UserError, match="lm-001: a corpus of lm; name one of gec, as gec-001 is"):
        diff.diff("gec-001", "lm-001")
    monkeypatch.setattr(diff, "PARTS", ("no",))
    with pytest.raises(UserError, match=r"data/prepared/gec/no/gec-001.jsonl: not there; run `dvc repro prepare@gec-001`"):  # fmt: skip
        diff.diff("gec-001", "gec-002")
