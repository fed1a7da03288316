"""What a pull request is told: the figures as Markdown, and how CI makes and posts them."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from stages import compare, tasks
from stages.commands import report
from stages.errors import UserError
from stages.page import comment, contents, markdown
from stages.page.contents import TaskRuns
from stages.page.revisions import Copy
from tests import scored as repository
from tests.scored import ANSWERS, ROWS, row

HOSTILE = (
    "`|`\\| <script>alert(1)</script> @octocat #1 ![](http://x.y/z) **b** www.x.y\n\u202e| a |"
)
GREATEST = 65_536  # characters that GitHub takes


class Drawn(HTMLParser):
    """The elements and texts of Markdown, drawn."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.codes: list[str] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.feed(MarkdownIt("commonmark").enable("table").render(markdown))

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.open.append(tag)
        {"code": self.codes, "td": self.cells}.get(tag, []).append("")

    def handle_endtag(self, tag):
        self.open.remove(tag)

    def handle_data(self, data):
        if "code" in self.open:
            self.codes[-1] += data
        if "td" in self.open:
            self.cells[-1] += data


@pytest.fixture
def told(tmp_path, monkeypatch):
    """told(HERE, THERE, rows, rows there): the comment on a workspace's answers beside those of a
    revision "main", {} for none."""

    def tell(
        here: dict, there: dict, rows: list[dict] = ROWS, rows_there: list[dict] | None = None
    ) -> str:
        copies = []
        for name, answers, asked in (("", here, rows), ("main", there, rows_there or rows)):
            if answers:
                folder = tmp_path / (name or "workspace")
                folder.mkdir()
                repository.make(folder, asked, answers)
                copies.append(Copy(folder, name))
        monkeypatch.chdir(tmp_path / "workspace")
        copies[0] = Copy(Path())
        read = contents.read("gec", copies, [*here], lambda: None)
        return comment.of_tasks([read], copies[0], copies[1] if there else None, tmp_path)

    return tell


def line_of(run: str, text: str) -> list[str]:
    """The cells of a run in the first table."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {run} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_run_that_changed_is_judged_against_itself_as_compare_does_it(told, tmp_path):
    many = [row(n, "Verb", f"走った{n}", f"走る{n}") for n in range(40)]
    right = [each["messages"][-1]["content"] for each in many]
    wrong = [each["source"] for each in many]
    text = told({"gec-001": right, "gec-002": right}, {"gec-001": right, "gec-002": wrong}, many)
    assert line_of("gec-002", text)[2:] == ["gec-002 of <code>main</code>", "+1.000 (+1.000 to +1.000)", "▲ better"]  # fmt: skip
    assert "### 2 runs: 1 better, 1 as on <code>main</code>" in text
    assert (
        "**gec-002**: better on <code>Verb</code> +1.000 (+1.000 to +1.000), gec-001 +1.000" in text
    )
    scored = {
        name: compare.read_scored(tmp_path / name / "data/scored/gec/gec-002.jsonl")
        for name in ("workspace", "main")
    }
    expected = compare.chain_entry("workspace", "main", scored, tasks.score("gec"))
    assert compare.comparison_cells(expected)[1] == line_of("gec-002", text)[3]


def test_a_run_whose_held_out_rows_have_grown_is_as_it_was(told):
    """And a row whose reference has changed is not compared."""
    many = [row(n, "Verb", f"走った{n}", f"走る{n}") for n in range(40)]
    before = [*many[:20], row(20, "Verb", "走った20", "走れ20")]
    right = [each["messages"][-1]["content"] for each in many]
    text = told({"gec-001": right}, {"gec-001": right[:21]}, many, before)
    assert "### 1 run: 1 as on <code>main</code>" in text


def test_a_new_run_is_judged_against_its_parent_with_what_it_forgot(told):
    many = [row(n, f"kind {n % 2}", f"走った{n}", f"走る{n}") for n in range(40)]
    right = [each["messages"][-1]["content"] for each in many]
    half = [each["source"] if n % 2 else right[n] for n, each in enumerate(many)]
    other_half = [right[n] if n % 2 else each["source"] for n, each in enumerate(many)]
    text = told({"gec-001": half, "gec-002": other_half}, {"gec-001": half}, many)
    assert line_of("gec-002", text)[2] == "gec-001"
    assert line_of("gec-002", text)[4] == "no difference shown"
    assert "forgot <code>kind 0</code> -1.000 (-1.000 to -1.000); learned <code>kind 1</code> +1.000" in text  # fmt: skip
    assert "1 without a difference that shows, 1 as on <code>main</code>" in text


def test_a_run_that_is_gone_is_named(told):
    text = told({"gec-001": ANSWERS["gec-001"]}, ANSWERS)
    assert "Gone: <code>gec-002&#64;<!-- -->main</code>" in text


def test_without_rows_scores_are_told_and_no_verdict(told, tmp_path, monkeypatch):
    """As on a fork: git has the scores, and nobody the rows."""
    told(ANSWERS, {**ANSWERS, "gec-002": ANSWERS["gec-001"]})
    for name in ("workspace", "main"):
        for path in (tmp_path / name / "data").rglob("*.jsonl"):
            path.unlink()
        scores = tmp_path / name / "metrics/evaluate/gec"
        scores.mkdir(parents=True)
        for run in ANSWERS:
            (scores / f"{run}.json").write_text(f'{{"score": 0.5, "of": "{name * (run == "gec-002")}"}}')  # fmt: skip
    copies = [Copy(Path()), Copy(tmp_path / "main", "main")]
    read = contents.read("gec", copies, [*ANSWERS], lambda: None)
    text = comment.of_tasks([read], *copies, tmp_path)
    assert line_of("gec-002", text)[2:] == ["gec-002 of <code>main</code>", "", "not told: the rows of one are not here"]  # fmt: skip
    assert "1 compared with none, 1 as on <code>main</code>" in text
    assert "dvc repro evaluate" in text


def test_hostile_text_stays_text(told):
    hostile = [row(n, HOSTILE, f"走った{n}", f"走る{n}") for n in range(40)]
    right = [each["messages"][-1]["content"] for each in hostile]
    wrong = [each["source"] for each in hostile]
    text = told({"gec-001": wrong, "gec-002": right}, {}, hostile)
    drawn = Drawn(text)
    assert {"script", "img", "a", "em"}.isdisjoint(drawn.elements)
    shown = HOSTILE[: markdown.MOST_CHARACTERS].replace("\n", "\ufffd").replace("\u202e", "\ufffd")
    assert f"{shown}…" in drawn.codes
    outside = re.sub(r"<code>.*?</code>", "", text)
    assert not re.search(r"@|https?:|www\.|script|octocat", outside)
    assert "&#64;<!-- -->octocat" in text  # else cmark-gfm makes a link of a@b.c
    assert not re.search(r"[@`|]", "".join(re.findall(r"<code>(.*?)</code>", text)))


def test_a_cell_keeps_a_backslash_before_a_bar():
    cells = ["a\\|b", "a\\\\|b", "`x", "x` | y"]
    drawn = Drawn(markdown.table(("1", "2", "3", "4"), [[markdown.code(cell) for cell in cells]]))
    assert drawn.cells == cells


@pytest.mark.parametrize(("many_tasks", "many_runs"), [(1, 100), (5, 20), (100, 100)])
def test_a_comment_is_no_longer_than_github_takes(many_tasks, many_runs):
    runs = [
        {
            "label": f"gec-{number:03}", "run": f"gec-{number:03}", "revision": "", "lacks": "", "versions": [],
            "score": 0.5, "low": 0.4, "high": 0.6, "parent": f"gec-{number - 1:03}" if number else "",
            "sets": {f"gec-{other:03}": {"score": 0.5, "rows": 9} for other in range(many_runs)},
            "lineage": {
                "corpora": [{"name": f"gec-{number:03}", "share": 1.0, "rows": 1_000_000}],
                "parent": "models/lm-001",
                "noted": {"steps": 600, "computed_on": "2 × H100", "precision": "bfloat16", "processes": 2},
                "differs": [(HOSTILE * 9, HOSTILE * 9, HOSTILE * 9)] * 50,
            },
        }
        for number in range(many_runs)
    ]  # fmt: skip
    read = [TaskRuns(f"task{number}", runs, {}) for number in range(many_tasks)]
    text = comment.of_tasks(read, Copy(Path()), None, Path())
    assert len(text) < GREATEST - 1_000
    assert text.startswith(comment.MARK)
    assert "from <code>lm-001</code> in 600 steps on <code>2 × H100</code> in 2 processes in bfloat16" in text  # fmt: skip
    assert "Intervals are 95 %" in text
    assert "further runs on the page alone" in text
    assert (many_tasks == 100) == ("further tasks on the page alone" in text)
    assert text.count("```") % 2 == text.count("<details>") - text.count("</details>") == 0


def test_report_writes_the_same_comment_again_and_compares_with_one_revision(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    repository.make(tmp_path, ROWS, ANSWERS)
    written = []
    for _ in range(2):
        report.report(markdown=Path("out/comment.md"))
        written.append(Path("out/comment.md").read_bytes())
    assert written[0] == written[1]
    assert b"| gec-002 | " in written[0]
    assert b"```mermaid" in written[0]
    capsys.readouterr()
    report.report(markdown=Path("-"))
    said = capsys.readouterr()
    assert said.out.encode() == written[0]
    assert "open it in a browser" in said.err
    assert not Path("-").exists()
    with pytest.raises(
        UserError, match="--markdown: compares with one revision; name one, or none"
    ):
        report.report(["a", "b"], markdown=Path("out/comment.md"))
