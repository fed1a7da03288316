"""The page of all figures and rows, in a real browser where there is one."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from stages.commands import diff, report
from stages.errors import UserError
from stages.files import read_lines, write_lines
from stages.page import page_file, rows
from tests import scored as repository
from tests.scored import ROWS, row

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
HOSTILE = "</script><img src=x onerror=alert(1)>\u2028\x1b[31m\0&amp; \u202eabc"


@pytest.fixture(scope="module")
def open_page():
    """open_page(FILE, FRAGMENT, width, scheme): a page of the browser, which may say nothing on its
    console."""
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome here: `apt-get install chromium` brings one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        said: list[str] = []

        def opened(file: Path, fragment: str = "", width: int = 1280, scheme: str = "light"):
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
            )
            page = context.new_page()
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
            page.goto(f"file://{file.resolve()}{fragment}")
            page.wait_for_selector("h1")
            return page

        yield opened
        browser.close()
        assert not said


@pytest.fixture
def made(tmp_path, monkeypatch):
    """made(ROWS, ANSWERS): the page of a repository with these."""
    monkeypatch.chdir(tmp_path)

    def make(rows: list[dict], answers: dict[str, list[str]]) -> Path:
        repository.make(tmp_path, rows, answers)
        report.report()
        return tmp_path / "build/report/index.html"

    return make


def shown(page) -> list[str]:
    return [each.inner_text() for each in page.locator(".row").all()]


def chain_of(run: str, *names: str) -> list[float]:
    with Path("metrics/compare/gec/chain.csv").open(encoding="utf-8", newline="") as file:
        (found,) = (record for record in csv.DictReader(file) if record["run"] == run)
    return [float(found[name]) for name in names]


@pytest.fixture
def small(made) -> Path:
    return made(ROWS, repository.ANSWERS)


def test_the_chain_is_shown_and_a_cell_of_the_matrix_opens_its_rows(small, open_page):
    page = open_page(small)
    assert page.locator("h1").inner_text() == "gec"
    assert "no difference shown" in page.locator(".chain").inner_text()
    interval = " – ".join(f"{bound:.3f}" for bound in chain_of("gec-001", "low", "high"))
    assert interval in page.locator(".cell").first.inner_text()  # of the one test set there is
    page.get_by_role("button", name="gec-001 on gec-001").click()
    page.wait_for_selector(".row")
    assert page.locator("output").inner_text() == "4 of 4 rows"
    assert page.locator("#run").input_value() == "gec-001"


def test_rows_are_filtered_sorted_and_marked(small, open_page):
    page = open_page(small, "#gec/rows")
    page.wait_for_selector(".row")
    page.select_option("#outcome", "worse")
    assert page.locator("output").inner_text() == "2 of 4 rows"
    first = page.locator(".row").first
    assert first.locator("del").first.inner_text() == "を"
    assert first.locator("ins").first.inner_text() == "が"
    page.select_option("#outcome", "both")
    assert "本" in shown(page)[0]
    page.select_option("#outcome", "all")
    page.select_option("#category", "Verb")
    assert len(shown(page)) == 1
    page.select_option("#category", "")
    page.fill("#text", "飲む")
    assert len(shown(page)) == 1
    page.fill("#text", "本が読む")  # in the answers of both
    assert len(shown(page)) == 1
    page.fill("#text", "")
    page.select_option("#sort", "best")
    assert "泳いだ" in shown(page)[0]


def test_another_run_is_compared_with_its_own_parent(small, open_page):
    page = open_page(small, "#gec/rows?run=gec-002&other=")
    page.wait_for_selector(".row")
    assert page.locator("#other").input_value() == ""
    page.select_option("#run", "gec-001")
    page.wait_for_function("document.querySelector('input[name=show]').checked")
    assert [box.is_checked() for box in page.locator("input[name=show]").all()] == [True, False]
    page.select_option("#run", "gec-002")
    page.wait_for_function("document.querySelectorAll('input[name=show]')[1].checked")
    assert page.locator("#other").input_value() == "gec-001"
    assert "▲ +1.000 against gec-001" in page.locator(".row", has_text="泳いだ").inner_text()


def test_a_link_to_a_row_that_is_not_here_says_so(small, open_page):
    page = open_page(small, "#gec/rows?row=gec-001/no")
    page.wait_for_selector(".row")
    assert "No row gec-001/no is here" in page.locator("#list").inner_text()


def test_a_link_to_a_row_opens_it_again(small, open_page):
    page = open_page(small, "#gec/rows")
    page.wait_for_selector(".row")
    address = page.locator(".row", has_text="泳った").locator("header a").get_attribute("href")
    again = open_page(small, address)
    assert "泳った" in again.locator(".row.linked").inner_text()


def test_keys_lead_through_the_page(made, open_page):
    many = [row(number, "Verb", f"走った{number}", f"走る{number}") for number in range(120)]
    answers = [each["messages"][-1]["content"] for each in many]
    page = open_page(made(many, {"gec-001": answers, "gec-002": answers}))
    page.keyboard.press("r")
    page.wait_for_selector(".row")
    assert len(shown(page)) == 50
    page.keyboard.press("n")
    assert "2 of 3" in page.locator(".found").inner_text()
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.className").startswith("row")
    page.keyboard.press("/")
    page.keyboard.type("走った119")
    assert len(shown(page)) == 1
    page.keyboard.press("Escape")
    boxes = page.locator("input[name=show]")
    assert [box.is_checked() for box in boxes.all()] == [True, True]
    page.keyboard.press("1")
    assert [box.is_checked() for box in boxes.all()] == [False, True]
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("o")
    page.wait_for_selector(".chain")


def test_hostile_and_long_text_stays_text(made, open_page):
    hostile = [row(n, HOSTILE, HOSTILE + str(n), HOSTILE + "あ" * 100_000) for n in range(2)]
    page = open_page(made(hostile, {"gec-001": [HOSTILE] * 2, "gec-002": [HOSTILE + "x"] * 2}))
    assert page.locator("img").count() == 0
    page.get_by_role("button", name="</script>").first.click()
    page.wait_for_selector(".row")
    assert page.locator("img").count() == 0
    assert "</script><img src=x onerror=alert(1)>" in shown(page)[0]
    assert "␛[31m␀&amp; �abc" in shown(page)[0]
    assert len(shown(page)[0]) < 10_000
    page.get_by_role("button", name="all 100,0").first.click()
    assert len(shown(page)[0]) > 100_000


def test_five_thousand_rows_are_filtered_in_a_tenth_of_a_second(made, open_page):
    many = [
        row(number, f"kind {number % 7}", f"文{number}を直す。" * 5, f"文{number}が直る。" * 5)
        for number in range(5_000)
    ]
    wrong = [each["source"] for each in many]
    page = open_page(made(many, {"gec-001": wrong, "gec-002": wrong}), "#gec/rows")
    page.wait_for_selector(".row")
    milliseconds = page.evaluate("""() => {
        const field = document.getElementById("text"), times = [];
        for (const text of ["文4", "文49", "文499", "文4999", "", "文1", "文12"]) {
            const begun = performance.now();
            field.value = text;
            field.dispatchEvent(new Event("input"));
            times.push(performance.now() - begun);
        }
        return times.sort((a, b) => a - b)[3];
    }""")
    assert page.locator("output").inner_text() == "111 of 5,000 rows"
    assert milliseconds < 100


@pytest.fixture
def two_versions(small) -> Path:
    """gec-002 trained on a version with two new rows, one gone, one changed; mixed with another."""
    old = [row(n, "Verb", f"走った{n}", f"走る{n}") for n in range(10, 14)]
    new = [old[0] | {"category": "Verb"}, row(11, "Verb", "走った11", "走れ11"), *(row(n, "Particle", f"駅に着く{n}", f"駅へ着く{n}") for n in (20, 21)), old[3]]  # fmt: skip
    for name, rows_, shares in (("gec-001", old, {}), ("gec-002", new, {"a-001": 0.5})):
        write_lines(Path(f"data/prepared/gec/train/{name}.jsonl"), rows_)
        for part in ("valid", "test"):
            if not Path(f"data/prepared/gec/{part}/{name}.jsonl").exists():
                write_lines(Path(f"data/prepared/gec/{part}/{name}.jsonl"), [])
        Path("models", name).mkdir(parents=True)
        noted = {
            "corpus": {"name": name, "shares": shares | {name: 1.0}, "train_md5": "a"},
            "base": {"path": "models/base"},
            "parent": {"path": "models/gec-001" if shares else "models/base"},
        }
        Path("models", name, "lineage.json").write_text(json.dumps(noted))
    report.report()
    return small


def test_which_data_made_it_better_stands_beside_the_change_of_each_category(two_versions, open_page):  # fmt: skip
    page = open_page(two_versions)
    (version,) = page.locator(".version").all()
    facts = " ".join(version.locator(".facts").inner_text().split())
    assert "corpus gec-001 → gec-002 mixed in a-001 × 0.5 rows 8 → 5" in facts
    assert "new 2 gone 5 another answer 1 same 2" in facts
    texts = [" ".join(line.inner_text().split()) for line in version.locator("tbody tr").all()]
    assert [text.split()[0] for text in texts] == ["Verb", "Particle", "[red]"]
    assert "5 → 3 −2 ~1" in texts[0]
    assert "▲ +1.000" in texts[0]
    assert "0.000 → 1.000, 1 rowsfew" in texts[0]
    assert "2 → 2 +2 −2" in texts[1]
    assert "−0.500" in texts[1]
    version.get_by_role("button", name="Particle").click()
    page.wait_for_selector(".row")
    assert page.locator("output").inner_text() == "2 of 4 rows"
    assert page.locator("#sort").input_value() == "change"
    assert page.locator("#other").input_value() == "gec-001"


def test_the_page_and_diff_tell_the_same_of_two_versions(two_versions, capsys, open_page):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["corpora"]["gec-002"] = params["corpora"]["gec-001"] | {"file": "b.tsv"}
    params["runs"]["gec-002"]["corpus"] = "gec-002"
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    diff.diff("gec-001", "gec-002", rows=0)
    told = capsys.readouterr().out
    page = open_page(two_versions)
    for line in page.locator(".brought tbody tr").all():
        change = line.locator(".verdict").inner_text().replace("−", "-").lstrip("▲▼ ")
        name = line.locator("th").inner_text()
        (printed,) = (each for each in told.splitlines() if each.strip().startswith(name))
        assert change in printed


def test_versions_that_are_not_prepared_here_say_what_to_run(two_versions, open_page):
    Path("data/prepared/gec/train/gec-002.jsonl").unlink()
    report.report()
    told = open_page(two_versions).locator(".version").inner_text()
    assert (
        "data/prepared/gec/train/gec-002.jsonl: not there; run `dvc repro prepare@gec-002`" in told
    )


def changed(path: str, edit) -> None:
    """The records of an output, whose file may be a link into the cache, edited."""
    records = [json.loads(line) for _, line in read_lines(Path(path))]
    Path(path).unlink()
    write_lines(Path(path), edit(records))


def answered(record: dict, text: str) -> dict:
    return record | {"messages": [*record["messages"][:-1], {"role": "assistant", "content": text}]}


def rated(records: list[dict], value: float) -> list[dict]:
    return [record | {"statistics": [value] * len(record["statistics"])} for record in records]


def test_corpora_of_revisions_stand_beside_their_parents_and_each_other(clone, monkeypatch, open_page):  # fmt: skip
    monkeypatch.chdir(clone)
    train, scored = "data/prepared/gec/train/gec-002.jsonl", "data/scored/gec/gec-002.jsonl"
    changed(train, lambda rows: [*rows[:-1], answered(rows[-1], "別の答え")])
    changed(scored, lambda records: rated(records, 1.0))
    subprocess.run(["dvc", "commit", "-q", "-f", "prepare@gec-002", "evaluate@gec-002"], check=True)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "commit", "-q", "-a", "-m", "another answer"], check=True)
    changed(train, lambda rows: rows[1:])
    changed(scored, lambda records: rated(records, 2.0))
    report.report(["HEAD~1", "HEAD"])
    page = open_page(clone / "build/report/index.html", "#gec/chain")
    versions = {
        version.locator("h3").inner_text(): " ".join(
            version.locator(".facts").inner_text().split()
        ).partition(" new ones")[0]
        for version in page.locator(".version").all()
    }
    assert [*versions] == [
        "gec-002 against gec-001",
        "gec-002@HEAD~1 against gec-001",
        "gec-002@HEAD~1 against gec-002",
        "gec-002@HEAD against gec-001",
        "gec-002@HEAD against gec-002",
        "gec-002@HEAD against gec-002@HEAD~1",
    ]
    for pair, counts in {
        "gec-002@HEAD~1 against gec-002": "new 1 gone 0 another answer 1",
        "gec-002@HEAD against gec-002": "new 1 gone 0 another answer 0",
        "gec-002@HEAD against gec-002@HEAD~1": "new 0 gone 0 another answer 1",
    }.items():
        after, before = pair.split(" against ")
        assert f"corpus {before} → {after}" in versions[pair]
        assert counts in versions[pair]
    page.locator(".version").last.locator("tbody button").first.click()
    page.wait_for_selector(".row")
    assert page.locator("#run").input_value() == "gec-002@HEAD"
    assert page.locator("#other").input_value() == "gec-002@HEAD~1"


def test_the_corpus_of_a_revision_that_is_not_in_the_cache_is_said(clone, monkeypatch, capsys):
    monkeypatch.chdir(clone)
    lock = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))
    outputs = lock["stages"]["prepare@gec-002"]["outs"]
    train = "data/prepared/gec/train/gec-002.jsonl"
    (md5,) = (each["md5"] for each in outputs if each["path"] == train)
    changed(train, lambda rows: rows[1:])
    Path(".dvc/cache/files/md5", md5[:2], md5[2:]).unlink()
    Path("metrics/evaluate/gec/gec-002.json").write_text('{"score": 0.1, "low": 0, "high": 1}')
    report.report(["HEAD"])
    missing = f"{train}: not there at HEAD; run `dvc repro prepare@gec-002`, or `dvc pull` of that revision"  # fmt: skip
    said = capsys.readouterr().err
    assert f"gec-002@HEAD against gec-001: {missing}" in said
    # It was trained on the same rows as the workspace's, by what both note.
    assert "gec-002@HEAD against gec-002: " not in said
    lineage = json.loads(Path("models/gec-002/lineage.json").read_text(encoding="utf-8"))
    lineage["corpus"]["train_md5"] = "other"
    Path("models/gec-002/lineage.json").unlink()
    Path("models/gec-002/lineage.json").write_text(json.dumps(lineage))
    report.report(["HEAD"])
    assert f"gec-002@HEAD against gec-002: {missing}" in capsys.readouterr().err


@pytest.mark.parametrize(("fragment", "width", "scheme"), [("#gec/chain", 1280, "light"), ("#gec/chain", 400, "dark"), ("#gec/rows", 400, "dark")])  # fmt: skip
def test_nothing_hinders_a_reader(two_versions, open_page, fragment, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(two_versions, fragment, width, scheme)
    page.wait_for_selector(".row, .chain")
    found = Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert not [(each["id"], each["nodes"][0]["html"]) for each in serious]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_pictures_and_scores_of_steps_stand_in_their_rows(clone, tmp_path, monkeypatch, open_page):
    monkeypatch.chdir(clone)
    for name, changes in {
        "scored/typst/typst-003": {"statistics": [1.0, 0.0, 0.0, 0.0, 1.0]},
        "predictions/typst-003": {"answer": "frac("},
    }.items():
        path = Path("data", f"{name}.jsonl")
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        path.unlink()  # it may be a link into the cache
        write_lines(path, [record | changes for record in records])
    file = tmp_path / "page.html"
    report.report(output=file)
    assert file.stat().st_size < 10 * 2**20
    typst = open_page(file, "#typst/rows")
    typst.wait_for_selector(".row")
    assert typst.locator("img.picture").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 5  # fmt: skip
    assert typst.get_by_text("does not compile").count()
    # Of rows of a language model none is fully right.
    assert "below 0.5 in both" in open_page(file, "#lm/rows").locator("#outcome").inner_text()
    reward = open_page(file, "#reward/rows")
    reward.wait_for_selector(".steps")
    assert reward.locator(".step").first.inner_text()[0] in "✓✗"
    assert open_page(file, "#lm/chain").locator(".curves svg").count() == 1
    assert "model.safetensors" not in file.read_text(encoding="utf-8")


# Without a browser


def test_an_experiment_stands_beside_the_workspace(clone, monkeypatch, capsys):
    params = yaml.safe_load((clone / "params.yaml").read_text(encoding="utf-8"))
    scores = clone / "data/scored/gec/gec-002.jsonl"
    kept = scores.read_bytes()
    scores.unlink()
    scores.write_bytes(kept.replace(b"1.0", b"0.0"))
    (clone / "metrics/evaluate/gec/gec-002.json").write_text('{"score": 0.1, "low": 0, "high": 1}')
    monkeypatch.chdir(clone)
    report.report(["HEAD"])
    figures = (clone / "build/report/index.html").read_text(encoding="utf-8")
    told = json.loads(figures.split('type="application/json">')[1].split("</script>")[0])
    gec = next(each for each in told["tasks"] if each["task"] == "gec")
    assert [run["label"] for run in gec["runs"]] == ["gec-001", "gec-002", "gec-002@HEAD"]
    assert gec["runs"][2]["sets"]
    assert set(params["compare"]) == {each["task"] for each in told["tasks"]}
    assert "HEAD: " in capsys.readouterr().err


def test_a_revision_whose_rows_are_nowhere_says_what_to_do(clone, monkeypatch, capsys):
    shutil.rmtree(clone / ".dvc/cache")
    (clone / "metrics/evaluate/gec/gec-002.json").write_text('{"score": 0.1, "low": 0, "high": 1}')
    monkeypatch.chdir(clone)
    report.report(["HEAD"])
    said = capsys.readouterr().err
    assert "gec-002@HEAD: no rows: " in said
    assert "gec-002@HEAD against gec-001: models/gec-002/lineage.json: not there at HEAD; run `dvc pull` of that revision" in said  # fmt: skip
    assert "of HEAD in neither the cache nor a remote; `dvc push` where it was made, or `git checkout HEAD` and `dvc repro evaluate@gec-002`" in said  # fmt: skip


def test_a_run_without_rows_is_shown_and_says_what_to_run(small, capsys):
    Path("data/scored/gec/gec-002.jsonl").unlink()
    report.report()
    assert "gec-002: no rows: run `dvc repro evaluate@gec-002`" in capsys.readouterr().err


def test_before_anything_is_compared_and_of_no_revision_it_says_so(small, tmp_path):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["dvc", "init", "-q"], cwd=tmp_path, check=True)
    with pytest.raises(UserError, match=r"nope: no such revision or experiment \(.*\); `git log` and `dvc exp list` say which there are"):  # fmt: skip
        report.report(["nope"])
    Path("metrics/compare/gec/chain.csv").unlink()
    with pytest.raises(UserError, match="metrics/compare: nothing has been compared yet; run `dvc repro` first"):  # fmt: skip
        report.report()


def test_the_same_repository_gives_the_same_page(small):
    before = small.read_bytes()
    report.report()
    assert small.read_bytes() == before


def test_json_in_the_page_cannot_end_its_element():
    page = page_file.html_of({"said": ["</script>"]}, {"<b>": {}})
    assert "</script>" not in page.split('type="application/json">')[1].split("</script>")[0]
    assert 'data-task="&lt;b&gt;"' in page


def test_differences_are_places_of_characters_and_of_none_in_texts_too_long_to_compare():
    assert rows.marks("a𝛼b", "a𝛽b") == [1, 2, 1, 2]
    assert rows.marks("a" * 30_000, "b") == []
