"""What runs made of held-out rows, as `inspect` shows it, drafts from it, and `diff` of corpora."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages import drafts, tasks, version_changes
from stages.commands import diff, inspect, shown_outcomes
from stages.corpus import changes, split
from stages.differences import differences
from stages.errors import UserError
from stages.files import write_lines
from stages.params import load_params
from stages.records import answer_text, read_rows
from tests import scored as repository
from tests.conftest import run
from tests.scored import ANSWERS, ROWS, row
from tests.test_settings import GOOD


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def scored(inside) -> Path:
    repository.make(inside, ROWS, ANSWERS)
    return inside


def said(capsys, command=inspect.inspect, *names: str, **options) -> str:
    command(*(names or ("gec-002",)), **options)
    return capsys.readouterr().out


# inspect


def test_categories_come_by_what_they_lost_and_rows_by_their_score(scored, capsys):
    told = said(capsys)
    assert told.index("[red]") < told.index("Particle") < told.index("Verb")
    assert "change from gec-001" in told
    assert "3 of 4 rows chosen, 3 of them shown" in told
    assert "泳いだ" not in told  # it is right
    assert "0.000  水[-を-]{+が+}飲む。" in told


def test_a_variant_is_shown_beside_its_run_and_drafts_nothing(scored, capsys):
    variant = {"task": "gec", "model_of": "gec-001", "generation": {"max_new_tokens": 8}}
    params = GOOD | {"variants": {"gec-001-short": variant}}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for kind in ("scored/gec", "predictions"):
        made = Path("data", kind, "gec-002.jsonl").read_bytes()
        Path("data", kind, "gec-001-short.jsonl").write_bytes(made)
    told = said(capsys, inspect.inspect, "gec-001-short", worse_than="gec-001")
    assert "change from gec-001" in told
    assert "0.000  水[-を-]{+が+}飲む。" in told
    with pytest.raises(UserError, match=r"^gec-001-short: has no weights of its own; it answers"):
        inspect.inspect("gec-001-short", draft=Path("draft.jsonl"))
    for path in (
        Path("data/scored/gec/gec-001-short.jsonl"),
        Path("data/predictions/gec-001-short.jsonl"),
    ):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(line for line in lines if f'"id": "{ROWS[0]["id"]}"' not in line))
    with pytest.raises(UserError, match="run `dvc repro evaluate-variant@gec-001-short`"):
        inspect.inspect("gec-001", worse_than="gec-001-short")


def test_hostile_and_long_text_stays_text_and_is_cut(scored, capsys):
    told = said(capsys)
    assert "\x1b" not in told
    assert "␛[31m猫" in told
    assert "猫[/]です" in told
    assert "(100,007characters;--jsonlhasall)" in "".join(told.split())


def test_a_text_cannot_turn_round_what_follows_it():
    assert shown_outcomes.safe("שלום \u202eabc\u2066\t") == "שלום \ufffdabc\ufffd\t"


def test_without_the_same_rows_of_the_parent_a_run_is_shown_alone(scored, capsys):
    for folder in ("data/scored/gec", "data/predictions"):
        path = Path(folder, "gec-001.jsonl")
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    inspect.inspect("gec-002", rows=1)
    told = capsys.readouterr()
    lacks = "gec-001: has not answered all rows of gec-001; run `dvc repro evaluate@gec-001`"
    assert told.err == f"without the change from gec-001: {lacks}\n"
    assert "change from" not in told.out
    with pytest.raises(UserError, match=lacks):
        inspect.inspect("gec-002", worse_than="gec-001")
    path.unlink()
    inspect.inspect("gec-002", rows=1)
    assert (
        "without the change from gec-001: data/predictions/gec-001.jsonl: not there"
        in capsys.readouterr().err
    )


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
    said(capsys, as_csv=Path("all.csv"), as_jsonl=Path("all.jsonl"))
    assert Path("all.csv").is_file()
    lines = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    assert max(len(line["answer"]) for line in lines) > 100_000


def test_differences_are_styled_on_a_terminal_and_written_elsewhere():
    text = shown_outcomes.marked("abc", "axc", styled=True)
    assert text.plain == "abxc"
    assert {span.style for span in text.spans} == {shown_outcomes.MISSING, shown_outcomes.ADDED}
    assert shown_outcomes.marked("abc", "axc", styled=False).plain == "a[-b-]{+x+}c"
    assert differences("a.bc.d", "xbcy") == [(0, 6, 0, 4)]
    assert differences("a.bcde.f", "xbcdey") == [(0, 2, 0, 1), (6, 8, 5, 6)]
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
        ({"worse_than": "gec-01"}, "no `gec-01` under `runs`; did you mean `gec-001`?"),
        ({"draft": Path("d.jsonl"), "contains": "a"}, "--draft: takes --category, --rows and --empty, and no other option"),
    ],
)  # fmt: skip
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
    called = row(1, "a", "q", "")
    called["messages"][-1] |= {
        "reasoning_content": "t",
        "tool_calls": [{"function": {"name": "f"}}],
    }
    assert drafts._emptied(called)["messages"][-1] == {"role": "assistant", "content": ""}


def test_a_mended_draft_is_read_as_a_corpus(mixed):
    inspect.inspect("gec-002", draft=Path("draft.jsonl"), category=["Verb"], rows=6)
    examples = list(tasks.corpus("gec").read(Path("draft.jsonl"), {}))
    assert [(each.source, each.target, each.unused) for each in examples] == [
        (each["source"], answer_text(each["messages"][-1]), ("answered",))
        for each in read_rows(Path("draft.jsonl"))
    ]


@pytest.mark.parametrize("name", ["draft.tsv", "draft.csv"])
def test_a_draft_is_a_table_where_its_name_asks_for_one(mixed, name):
    rows = [row(30, "Verb", '走っ\t"た', '走る, "と"'), row(31, "Verb", "飛んた", "飛んだ")]
    write_lines(Path("data/mixed/gec-002/valid.jsonl"), rows)
    inspect.inspect("gec-002", draft=Path(name), category=["Verb"], rows=2)
    examples = list(tasks.corpus("gec").read(Path(name), {}))
    assert [(each.source, each.target, each.category, each.unused) for each in examples] == [
        (each["source"], answer_text(each["messages"][-1]), "Verb", ("answered",)) for each in rows
    ]
    Path(name).unlink()
    inspect.inspect("gec-002", draft=Path(name), category=["Verb"], rows=2, empty=True)
    with Path(name).open(encoding="utf-8", newline="") as file:
        records = [*csv.DictReader(file, delimiter="\t" if name.endswith("tsv") else ",")]
    assert [(each["input"], each["output"], each["answered"]) for each in records] == [
        (each["source"], "", each["source"]) for each in rows
    ]


def test_a_row_that_a_table_cannot_hold_is_named_and_nothing_written(mixed):
    turns = row(40, "Verb", "走った", "走る")
    turns["messages"].insert(0, {"role": "system", "content": "丁寧に"})
    write_lines(Path("data/mixed/gec-002/valid.jsonl"), [turns])
    with pytest.raises(UserError) as error:
        inspect.inspect("gec-002", draft=Path("new.csv"), category=["Verb"], rows=1)
    assert (
        str(error.value)
        == f"--draft new.csv: row {turns['id']} has more than an input and an output, or is read otherwise from a table; name a file that ends in .jsonl"
    )
    assert not Path("new.csv").exists()


def test_solutions_and_texts_are_drafted_as_json_lines_alone(whole_graph, tmp_path, monkeypatch):
    monkeypatch.chdir(whole_graph)
    for name, task in (("reward-002", "reward"), ("lm-001", "lm")):
        with pytest.raises(UserError, match=rf"not all rows of {task} are pairs, as a table has them; name a file that ends in .jsonl"):  # fmt: skip
            inspect.inspect(name, draft=tmp_path / "draft.tsv")


@pytest.mark.parametrize("name", ["gec-002", "typst-003", "polish-002"])
def test_rows_of_a_task_of_pairs_are_read_from_a_table_as_they_were(whole_graph, tmp_path, monkeypatch, name):  # fmt: skip
    monkeypatch.chdir(whole_graph)
    task = name.partition("-")[0]
    rows = read_rows(Path(f"data/prepared/{task}/train/{name}.jsonl"))
    for suffix in (".tsv", ".csv"):
        drafts._write_table(tmp_path / f"draft{suffix}", task, rows, empty=False)
        assert len(list(tasks.corpus(task).read(tmp_path / f"draft{suffix}", {}))) == len(rows)


@pytest.mark.parametrize(
    ("path", "spoil", "says"),
    [
        ("draft.txt", lambda: None, "--draft draft.txt: is written as JSON lines or as a table; name a file that ends in .jsonl, .csv or .tsv"),
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


@pytest.mark.parametrize(
    ("category", "says"),
    [
        ("Verbs", "data/mixed/gec-002: no row of Verbs to work on; write rows of your own and give them to `python -m stages new gec`; did you mean `Verb`?"),
        ("Correct", "gec-002: gets none of the 1 rows wrong that it answered; name another --category, or write rows of your own for `python -m stages new gec`"),
    ],
)  # fmt: skip
def test_where_there_is_nothing_to_work_on_a_draft_says_what_to_write(mixed, category, says):
    with pytest.raises(UserError) as error:
        inspect.inspect("gec-002", draft=Path("new.jsonl"), category=[category])
    assert str(error.value) == says
    assert not Path("new.jsonl").exists()


def test_no_draft_is_begun_where_none_can_be_written(mixed, monkeypatch):
    monkeypatch.setattr(drafts.backends, "load", lambda *_: pytest.fail("loaded"))
    Path("file").touch()
    with pytest.raises(UserError, match="file: cannot be written to"):
        inspect.inspect("gec-002", draft=Path("file/draft.jsonl"))


def test_a_draft_tells_what_there_is_of_the_categories_that_fail(mixed, capsys):
    Path("metrics/prepare").mkdir(parents=True)
    counts = {"train_categories": {"Particle": 7, "Verb": 1}}
    Path("metrics/prepare/gec-001.json").write_text(json.dumps(counts))
    inspect.inspect("gec-002", draft=Path("draft.jsonl"), rows=1)
    _, *told = capsys.readouterr().err.splitlines()
    assert told == [
        "Particle: 2 test rows, 0.000; 1 of 6 training rows (gec-001 7 of 8)",
        "[red]: 1 test rows, 0.000; 0 of 6 training rows (gec-001 0 of 8)",
        "Verb: 1 test rows, 1.000; 5 of 6 training rows (gec-001 1 of 8)",
    ]


@pytest.mark.parametrize("name", ["lm-001", "gec-002", "typst-001", "polish-001", "reward-002"])
def test_a_drafted_row_stays_in_its_part_and_asks_nothing_that_is_tested(
    whole_graph, tmp_path, monkeypatch, name
):
    """For every row that could be drafted, as `new` would read it."""
    monkeypatch.chdir(whole_graph)
    params = load_params()
    task = params.runs[name].task
    corpus, shares = tasks.corpus(task), params.split
    categories = {
        row["category"]
        for part in ("train", "valid")
        for row in read_rows(Path(f"data/mixed/{name}/{part}.jsonl"))
    }
    rows = drafts.candidates(name, task, sorted(categories))
    write_lines(tmp_path / "draft.jsonl", rows)
    read = [
        split.part(corpus.group_key(example), shares.valid, shares.test)
        for example in corpus.read(tmp_path / "draft.jsonl", {})
    ]
    valid = {row["id"] for row in read_rows(Path(f"data/mixed/{name}/valid.jsonl"))}
    assert read == ["valid" if row["id"] in valid else "train" for row in rows]


def test_a_category_gets_better_by_a_draft_that_was_mended(clone):
    """The loop as docs/howto.md walks it; here a script is who corrects the draft."""
    stages = ("python", "-m", "stages")
    known = {
        each["id"]: each["labels"]
        for part in ("train", "valid")
        for each in read_rows(clone / f"data/mixed/reward-002/{part}.jsonl")
    }

    def means(name: str) -> dict[str, float]:
        told = run(clone, *stages, "inspect", name, "--jsonl", "-").stdout
        scores: dict[str, list[float]] = {}
        for line in map(json.loads, told.splitlines()):
            scores.setdefault(line["category"], []).append(line["score"])
        return {category: sum(some) / len(some) for category, some in scores.items()}

    before = means("reward-002")
    worst = min(before, key=before.__getitem__)
    drafting = ("--draft", "draft.jsonl", "--empty", "--category", worst, "--rows", "40")
    run(clone, *stages, "inspect", "reward-002", *drafting)
    drafted = read_rows(clone / "draft.jsonl")
    assert {label for row in drafted for label in row["labels"]} == {None}
    write_lines(clone / "draft.jsonl", [row | {"labels": known[row["id"]]} for row in drafted])
    done = run(clone, *stages, "new", "reward", "draft.jsonl", "--max-drop-fraction", "0.5")
    assert f"reward-003: {len(drafted)} rows" in done.stdout
    params = yaml.safe_load((clone / "params.yaml").read_text(encoding="utf-8"))
    params["runs"]["reward-003"] |= {"max_steps": 60, "eval_steps": 60, "learning_rate": 0.01}
    (clone / "params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True), encoding="utf-8")
    run(clone, "dvc", "repro", "compare@reward")
    assert means("reward-003")[worst] > before[worst] + 0.3
    run(clone, *stages, "report")
    page = (clone / "build/report/index.html").read_text(encoding="utf-8")
    figures = json.loads(page.partition('<script id="figures" type="application/json">')[2].partition("</script>")[0])  # fmt: skip
    (shown,) = [each for of in figures["tasks"] for each in of["runs"] if each["label"] == "reward-003"]  # fmt: skip
    (better,) = [each for each in shown["versions"][0]["categories"] if each["name"] == worst]
    assert better["low"] > 0
    assert better["after"] > 0


# diff


def version(path: Path, rows: list[dict]) -> changes.Version:
    write_lines(path, rows)
    return changes.Version({"train": path})


def test_rows_are_matched_by_their_question(tmp_path):
    before = [row(1, "a", "x", "1"), row(2, "a", "y", "2"), row(3, "a", "z", "3"), row(4, "a", "z", "4")]  # fmt: skip
    after = [row(1, "a", "x", "1"), row(5, "b", "y", "5"), row(6, "a", "w", "6"), row(4, "a", "z", "4")]  # fmt: skip
    old, new = version(tmp_path / "a", before), version(tmp_path / "b", after)
    found = changes.between(old, new)
    assert [*new.rows(found.added)] == [after[2]]
    assert [*old.rows(found.removed)] == [before[2]]
    assert [*old.rows(found.changed[0]), *new.rows(found.changed[1])] == [before[1], after[1]]
    assert found.same == 2
    assert new.categories(np.arange(4)) == {"a": 3, "b": 1}


def test_matches_are_those_of_one_row_after_another(tmp_path):
    """As lists of waiting rows would give them, of questions that stand several times."""
    draws = np.random.default_rng(0)
    for _ in range(30):
        sides = [[row(n, "a", f"q{draws.integers(5)}", f"t{draws.integers(3)}") for n in range(draws.integers(0, 12))] for _ in range(2)]  # fmt: skip
        waiting, others, same, changed, added = [*sides[0]], [], 0, [], []
        for each in sides[1]:
            equal = next(
                (other for other in waiting if other["messages"] == each["messages"]), None
            )
            if equal:
                waiting.remove(equal)
                same += 1
            else:
                others.append(each)
        for each in others:
            other = next((other for other in waiting if other["source"] == each["source"]), None)
            if other:
                waiting.remove(other)
                changed.append((other, each))
            else:
                added.append(each)
        old, new = version(tmp_path / "a", sides[0]), version(tmp_path / "b", sides[1])
        found = changes.between(old, new)
        pairs = zip(old.rows(found.changed[0]), new.rows(found.changed[1]), strict=True)
        assert ([*new.rows(found.added)], [*old.rows(found.removed)]) == (added, waiting)
        assert ([*pairs], found.same) == (changed, same)


def test_a_solution_with_other_labels_has_changed(tmp_path):
    solution = {"id": "1", "category": "", "source": "", "prompt": "p", "completions": ["s"]}
    old = version(tmp_path / "a", [solution | {"labels": [1.0]}])
    new = version(tmp_path / "b", [solution | {"labels": [0.0]}])
    assert len(changes.between(old, new).changed[0]) == 1


def test_new_rows_that_resemble_others_are_counted(tmp_path, monkeypatch):
    old = version(tmp_path / "a", [row(1, "a", "a sentence of some length that is known", "the same in another language")])  # fmt: skip
    new = version(tmp_path / "b", [row(2, "a", "a sentence of some length that is known!", "the same in another language"), row(3, "a", "nothing like it", "at all")])  # fmt: skip
    assert changes.near_duplicates(old, new, np.arange(2), tmp_path) == 1
    compared = version_changes.compared(old, new)
    assert compared.near_duplicates == 1
    monkeypatch.setattr(version_changes, "MOST_RESEMBLING", 2)
    assert version_changes.compared(old, new).near_duplicates is None


def test_a_damaged_corpus_is_refused_with_what_to_run(tmp_path):
    (tmp_path / "gec-001.jsonl").write_text('{"id": "1"}\n')
    with pytest.raises(UserError, match=r"gec-001.jsonl: damaged \(KeyError\('text'\)\); run `dvc repro prepare@gec-001`"):  # fmt: skip
        changes.Version({"train": tmp_path / "gec-001.jsonl"})


def test_versions_stand_beside_what_their_runs_made_of_them(whole_graph, monkeypatch, capsys, tmp_path):  # fmt: skip
    monkeypatch.chdir(whole_graph)
    told = said(capsys, diff.diff, "typst-001", "typst-002", rows=1)
    assert "score: the mean of the held-out rows by typst-001 and then by typst-002" in told
    assert "tokens of both" in told
    assert "\nnew · " in told
    diff.diff("typst-001", "typst-002", as_jsonl=tmp_path / "changes.jsonl")
    lines = (tmp_path / "changes.jsonl").read_text().splitlines()
    assert {json.loads(line)["change"] for line in lines} == {"new", "gone"}
    assert (
        said(capsys, diff.diff, "typst-001", "typst-002", as_jsonl=Path("-")).split()
        == " ".join(lines).split()
    )


def test_a_revision_is_read_from_the_cache(clone, monkeypatch, capsys):
    path = clone / "data/prepared/gec/train/gec-001.jsonl"
    rows = read_rows(path)
    rows[0]["messages"][-1]["content"] = "別の\u2028答え"  # U+2028 ends no line of JSON
    path.unlink()
    write_lines(path, rows[:-1])
    monkeypatch.chdir(clone)
    told = said(capsys, diff.diff, "gec-001@HEAD", "gec-001")
    assert "1 have another answer, 0 are new, 1 are gone" in told
    assert "答え" in told
    with pytest.raises(UserError, match="HEAL: no such revision or experiment"):  # fmt: skip
        diff.diff("gec-001@HEAL", "gec-001")


def test_parts_and_the_change_of_scores_stand_in_the_tables(scored, capsys):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["corpora"]["gec-002"] = params["corpora"]["gec-001"] | {"file": "b.tsv"}
    params["runs"]["gec-002"]["corpus"] = "gec-002"
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for name in ("gec-001", "gec-002"):
        for part in ("train", "valid", "test"):
            path = Path(f"data/prepared/gec/{part}/{name}.jsonl")
            if not path.exists():
                write_lines(path, ROWS[:2] if part == "train" else [])
    cells = [
        [cell.strip() for cell in re.split("│|  +", line) if cell.strip()]
        for line in said(capsys, diff.diff, "gec-001", "gec-002").splitlines()
    ]
    assert ["gec-001", "2", "0", "4"] in [row[:4] for row in cells]
    assert ["Particle", "4 → 2", "+0 -2"] in [row[:3] for row in cells]
    assert ["0.500 → 0.000", "-0.500", "-1.00 to +0.00"] in [row[-3:] for row in cells]
    Path("data/scored/gec/gec-001.jsonl").write_text("{")
    diff.diff("gec-001", "gec-002")
    told = capsys.readouterr()
    assert told.err.startswith("without the scores of gec-001: data/scored/gec/gec-001.jsonl, ")
    assert "score: the mean of the held-out rows by gec-002" in told.out
    Path("data/scored/gec/gec-002.jsonl").unlink()
    assert "score: " not in said(capsys, diff.diff, "gec-001", "gec-002")


def test_what_diff_cannot_compare_it_refuses(whole_graph, monkeypatch):
    monkeypatch.chdir(whole_graph)
    with pytest.raises(UserError, match="lm-001: a corpus of lm; name one of gec, as gec-001 is"):
        diff.diff("gec-001", "lm-001")
    monkeypatch.setattr(version_changes, "PARTS", ("no",))
    with pytest.raises(UserError, match=r"data/prepared/gec/no/gec-001.jsonl: not there; run `dvc repro prepare@gec-001`"):  # fmt: skip
        diff.diff("gec-001", "gec-002")
