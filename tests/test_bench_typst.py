"""bench/typst: what it is built from, whom it asks, and how it judges."""

import hashlib
import json
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.typst import __main__ as commands
from bench.typst import (
    documents,
    judge,
    judge_documents,
    measures,
    mutations,
    own_runs,
    peers,
    sources,
    table,
)
from stages.errors import UserError
from stages.scoring import tex
from stages.tasks.typst.benchmark_half import is_in_benchmark
from stages.worker_process import Worker

ROOT = Path(__file__).parents[1]
NO_LATEX = f"LaTeX is not installed: {tex.INSTALL}"

FORMULAS = [f"x_{{ {number} }} + \\frac {{ a }} {{ b }}" for number in range(40)]
CASES = """title: made up
cases:
  - title: a fraction
    tex: '\\frac{a}{b}'
    typst: a/b
  - title: no LaTeX
    typst: x
  - title: one that no longer compiles
    tex: '\\cap'
    typst: sect
"""


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "im2latex_val.formulas.norm.txt").write_text("\n".join(FORMULAS), encoding="utf-8")
    lines = ["\\alpha^2\\label{eq:one}", "", FORMULAS[0].replace(" ", ""), "y"]
    trainable = next(each for each in FORMULAS if not is_in_benchmark(each))
    lines.append(trainable.replace("{ a }", "a"))
    (folder / "im2markup_sample.formulas.lst").write_text("\n".join(lines), encoding="utf-8")
    (folder / "math.yml").write_text(CASES, encoding="utf-8")
    return folder


def test_rows_are_the_half_that_nothing_trains_on_and_each_formula_once(published: Path) -> None:
    rows = sources.rows(published, 100)
    of = {
        name: [row for row in rows if row.source == name] for name in {row.source for row in rows}
    }
    assert [row.latex for row in of["im2latex"]] != []
    assert {row.latex for row in of["im2latex"]} == {
        each for each in FORMULAS if is_in_benchmark(each)
    }
    assert 8 < len(of["im2latex"]) < 32
    assert {row.latex for row in of["im2markup"]} == {"\\alpha^2", "y"}
    assert {(row.latex, row.typst) for row in of["tex2typst"]} == {
        ("\\frac{a}{b}", "a/b"),
        ("\\cap", "sect"),
    }
    assert {row.construct for row in of["im2latex"]} == {"fraction"}
    few = sources.rows(published, 3)
    assert len(few) == 3 + 2 + 2
    assert set(few) < set(rows)
    assert sources.rows(published, 100) == rows


def test_the_half_does_not_depend_on_spaces_and_is_half() -> None:
    assert is_in_benchmark("x ^ { 2 }") == is_in_benchmark("x^{2}")
    share = np.mean([is_in_benchmark(f"x_{number}") for number in range(2_000)])
    assert 0.45 < share < 0.55


def test_where_nothing_lies_it_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"none of im2latex_val.formulas.norm.txt, .*`python -m bench.typst build` says",
    ):
        sources.rows(tmp_path, 3)
    (tmp_path / "katex_texmath_formulas.jsonl").write_text('{"latex": "x"}\n{"typst": "x"}\n')
    with pytest.raises(UserError, match=r"formulas.jsonl:2: not a JSON object with \"latex\""):
        sources.rows(tmp_path, 3)


def test_a_published_file_is_kept_where_it_is_the_one_that_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.yml"
    there.write_text(CASES, encoding="utf-8")
    right = replace(
        sources.SOURCES[4],
        url=there.as_uri(),
        sha256=hashlib.sha256(there.read_bytes()).hexdigest(),
    )
    folder = tmp_path / "kept"
    with pytest.raises(UserError, match=r"there.yml: sha256 \w+, not 0000; not kept"):
        sources.fetch(folder, (replace(right, sha256="0000"),))
    assert not [*folder.iterdir()]
    sources.fetch(folder, (right, replace(right, file="other.yml", url=(tmp_path / "no").as_uri())))
    assert [path.name for path in folder.iterdir()] == ["math.yml"]
    assert "put the file into" in capsys.readouterr().out
    assert "| tex2typst | math.yml | yes | GPL-3.0 |" in sources.told(folder, (right,))
    (folder / "math.yml").write_text("cases: []\n")
    assert "another one, sha256" in sources.told(folder, (right,))


def test_each_kind_of_mutation_changes_what_is_seen() -> None:
    formula = r"\frac{\hat{x}_1 + \alpha^{2}}{b} = 3"
    for kind in mutations.KINDS:
        changed = mutations.mutated(formula, kind, random.Random(1))
        assert changed, kind
        assert changed.replace(" ", "") != formula.replace(" ", "")
        assert mutations.mutated(r"\,", kind, random.Random(1)) is None
    flipped = mutations.mutated(r"\frac { a } { b }", "fraction flipped", random.Random(1))
    assert flipped
    assert flipped.split() == ["\\frac", "{", "b", "}", "{", "a", "}"]
    assert mutations.mutated("x_1^2", "script turned", random.Random(1)) is None


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    alike = np.array([True, True, False, False])
    assert measures.auc(np.array([0.9, 0.8, 0.1, 0.2]), alike) == 1.0
    assert measures.auc(np.array([0.5, 0.5, 0.5, 0.5]), alike) == 0.5
    assert measures.auc(np.array([0.9, 0.1, 0.5, 0.2]), alike) == 0.5


def test_a_peer_that_is_absent_is_left_out_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    assert peers.absent(peers.INPUT, tmp_path) == ""
    assert peers.absent("tylax", tmp_path) == "tylax is left out: `pip install tylax` brings it"
    assert "`pip install pypandoc_binary` brings it" in peers.absent("pandoc", tmp_path)
    assert "`pip install pypandoc_binary` brings it" in peers.absent(peers.RENEWED, tmp_path)
    monkeypatch.setattr(peers.shutil, "which", lambda name: "/bin/node")
    assert peers.absent("mitex", tmp_path) == (
        f"mitex is left out: `npm install --prefix {tmp_path} mitex-wasm` brings it"
    )
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    assert peers.absent("mitex", tmp_path) == "mitex is left out: it needs Node.js"


WORKER = """import json, sys, time
print(json.dumps("ready"), flush=True)
for latex in (latex for line in sys.stdin for latex in json.loads(line)):
    if latex == "hang": time.sleep(100)
    if latex == "crash": sys.exit(1)
    print(json.dumps([None if latex == "refuse" else f"$ {latex} sect $", 0.5]), flush=True)
"""


def test_a_converter_that_hangs_or_crashes_costs_that_answer_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    monkeypatch.setattr(peers, "SECONDS", 1.0)
    for name, wanted in (("pandoc", "sect"), (peers.RENEWED, "inter")):
        converter = peers.Converter(name, tmp_path)
        converter._worker = Worker([sys.executable, str(script)], tmp_path, {})
        with converter:
            found = [*converter.answers(["a", "hang", "b", "crash", "refuse", "c"])]
        texts = [answer.text for answer in found]
        assert texts == [f"a {wanted}", None, f"b {wanted}", None, None, f"c {wanted}"]
        assert [answer.seconds for answer in found] == [0.5, 1.0, 0.5, 1.0, 0.5, 0.5]


def test_a_document_is_cut_at_the_paragraphs_between_its_formulas() -> None:
    text = "begin\n\nrownumberxends\n\n$ a/b $\n\nrownumber0ends\n\n```latex\n\\foo\n```\n\nrownumber1ends"
    text = text.replace("numberx", "numbers")
    assert own_runs.cut(text, 0, 0.1) == peers.Answer("a/b", 0.1, "math")
    assert own_runs.cut(text, 1, 0.1) == peers.Answer("```latex\n\\foo\n```", 0.1, "document")
    assert own_runs.cut(text, 2, 0.1).text is None
    assert own_runs.displayed("a % half\n\nb % end") == "\\[\na % half\nb % end\n\\]"
    displayed = (
        f"{own_runs.SEPARATOR.format('s')}\n#unnumbered[$ a/b $]\n{own_runs.SEPARATOR.format(0)}"
    )
    assert own_runs.cut(displayed, 0, 0.1) == peers.Answer("a/b", 0.1, "math")
    left = displayed.replace("#unnumbered", "#latex-left")
    found = own_runs.cut(left, 0, 0.1)
    assert found.text is not None
    assert "\n#let latex-left(it)" in found.text
    assert found.text.endswith("\n\n#latex-left[$ a/b $]")


def test_a_run_is_asked_by_the_command_of_its_users(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def apply(run: str, given: Path, made: Path, *more: str) -> float:
        text = given.read_text(encoding="utf-8")
        asked.append((run, text, more))
        if made.suffix == ".jsonl":
            lines = [
                json.dumps({"input": line, "answer": line.upper()}) for line in text.splitlines()
            ]
            made.write_text("\n".join(lines), encoding="utf-8")
        else:
            made.write_text(text.replace("\\[\n", "$").replace("\n\\]", "$"), encoding="utf-8")
        return 3.0

    monkeypatch.setattr(own_runs, "_apply", apply)
    asks = own_runs.ways(["some"], ["some"])
    line, document = asks["some"], asks["some, the whole converter"]
    assert [*line(["a\n b", "c"])] == [peers.Answer("A B", 1.5), peers.Answer("C", 1.5)]
    assert len(asks) == 4
    found = [*document(["a/b", "\\emph{$x$} is"])]
    assert found == [
        peers.Answer("a/b", 1.5, "math"),
        peers.Answer("\\emph{$x$} is", 1.5, "document"),
    ]
    assert [more for _, _, more in asked] == [(), ("--by", "all")]
    assert asked[0][1] == "a b\nc\n"


def test_a_run_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("x\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"apply no-such .*: exit code 2"):
        own_runs._apply("no-such", tmp_path / "in.txt", tmp_path / "out.jsonl")


def test_measures_need_latex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures.tex, "available", lambda: False)
    with pytest.raises(UserError, match=r"is not there: apt-get install texlive-latex-recommended"):
        measures.told(tmp_path)


def test_answers_of_a_run_are_kept_for_its_model_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/some").mkdir(parents=True)
    stamps = {own_runs.stamp()}
    for content in ("{}", '{"run": "some"}'):
        (tmp_path / "models/some/lineage.json").write_text(content, encoding="utf-8")
        stamps |= {own_runs.stamp(), own_runs.stamp()}
    (tmp_path / "stages/latex").mkdir(parents=True)
    (tmp_path / "stages/latex/rules.py").write_text("x = 1", encoding="utf-8")
    assert len(stamps | {own_runs.stamp()}) == 4


def test_ours_stand_beside_each_other_converter_on_the_same_rows() -> None:
    right, half = (np.array([(value, 1.0)] * 40) for value in (1.0, 0.5))
    assert table.differences({"peer": half}, {"ours": right}, 0, 1) == [
        "| more than | ours |",
        "|---|---|",
        "| peer | +0.500 (+0.500 to +0.500) |",
    ]
    assert table.differences({"peer": half}, {}, 0, 1) == []


def test_a_document_is_converted_once_as_long_as_it_is_the_same(tmp_path: Path) -> None:
    paper, asked = tmp_path / "paper.tex", []

    def ask(path: Path) -> peers.Answer:
        asked.append(path)
        return peers.Answer(f"= {len(asked)}", 0.5)

    def answer() -> str | None:
        return commands.kept_document(tmp_path, "a system", "long formulas", paper, ask).text

    paper.write_text("one", encoding="utf-8")
    assert (answer(), answer()) == ("= 1", "= 1")
    paper.write_text("two", encoding="utf-8")
    assert (answer(), answer()) == ("= 2", "= 2")


def test_answers_are_judged_by_compiling_and_by_their_reference() -> None:
    rows = [
        sources.Row(str(place), "s", latex, typst, "math", "symbols")
        for place, (latex, typst) in enumerate(
            [(r"\frac{a}{b}", "frac(a, b)"), ("x", ""), ("y", "#(")]
        )
    ]
    facts = judge.facts(rows)
    known: judge.Likenesses = {}
    found = judge.verdicts(rows, ["a/b", "#(", "y"], ["math"] * 3, facts, known)
    assert [(each.compiled, each.equal) for each in found] == [
        (True, True),
        (False, None),
        (True, None),
    ]
    if tex.available():
        assert [each.alike for each in found] == [True, False, True]
        assert len(known) == 2
    results = {"some": (found, [0.001] * 3), "none": (found[1:2] * 3, [0.0] * 3)}
    lines = table.lines(rows, results)
    assert {line["group"] for line in lines} == {"all"}  # the other groups have too few rows
    assert lines[0]["compiles"] == "0.667"
    assert lines[0]["like the reference"] == "1.000"
    assert lines[0]["s per 1,000"] == "1.00"


def run(*options: object, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bench.typst", *map(str, options)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_the_whole_runs_from_a_folder_of_published_files_and_goes_on_where_it_was(
    published: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results.md"
    options = (
        "run",
        "--sources",
        published,
        "--folder",
        tmp_path / "made",
        "--rows",
        4,
        "--results",
        results,
    )
    done = run(*options)
    assert done.returncode == 0, done.stderr
    text = results.read_text(encoding="utf-8")
    assert "mitex is left out" in text
    assert re.search(r"\| input as it is \| 0\.\d+ \(", text)
    assert "`python -m bench.typst run --rows 4`" in text
    assert results.with_suffix(".csv").read_text().startswith("group,rows,system,compiles,")
    kept = tmp_path / "made/answers/input_as_it_is.jsonl"
    before = kept.read_text(encoding="utf-8")
    assert len(before.splitlines()) == 4 + 2 + 2
    assert run(*options).returncode == 0
    assert kept.read_text(encoding="utf-8") == before
    assert json.loads(before.splitlines()[0]).keys() == {"latex", "text", "seconds", "mode"}


def test_what_is_missing_is_told_with_exit_code_2(tmp_path: Path) -> None:
    done = run("run", "--sources", tmp_path, "--folder", tmp_path)
    assert done.returncode == 2
    assert "`python -m bench.typst build` says where each can be had" in done.stderr


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return documents.write(tmp_path_factory.mktemp("documents"))


def test_the_documents_are_of_many_kinds_and_the_same_each_time(
    written: dict[str, Path], tmp_path: Path
) -> None:
    assert len(written) >= 10
    again = documents.write(tmp_path)
    assert [path.read_bytes() for path in again.values()] == [
        path.read_bytes() for path in written.values()
    ]
    texts = "".join(path.read_text(encoding="utf-8") for path in written.values())
    for part in (
        "\\section{", "\\newcommand{", "\\begin{theorem}", "\\begin{tabular}", "\\begin{itemize}",
        "\\footnote{", "\\includegraphics", "\\cite{", "\\begin{verbatim}", "\\begin{multline*}", "ż", "連続",
    ):  # fmt: skip
        assert part in texts, part


@pytest.mark.skipif(not tex.available(), reason=NO_LATEX)
def test_latex_sets_the_documents_one_of_them_on_twenty_pages(written: dict[str, Path]) -> None:
    pages = {
        kind: judge_documents.of_latex(written[kind]) for kind in ("long", "figures", "tables")
    }
    assert all(pages.values())
    assert pages["long"]
    assert len(pages["long"].pictures) >= 20
    same = judge_documents.verdict(pages["figures"], pages["figures"])
    assert (same.words, same.pages) == (1.0, pytest.approx(1.0))
    other = judge_documents.verdict(pages["figures"], pages["tables"])
    assert other.words is not None
    assert other.words < 0.9


def test_a_document_is_compiled_with_its_pictures_and_within_limits(
    written: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = written["figures"].parent
    before = sorted(beside.iterdir())
    pages = judge_documents.of_typst('= Title\n#image("plot.png")\n#pagebreak()\nMore', beside)
    assert pages
    assert len(pages.pictures) == 2
    assert judge_documents.of_typst('#read("/../../../../etc/passwd")', beside) is None
    assert judge_documents.of_typst('#import "@preview/cetz:0.3.0"', beside) is None
    monkeypatch.setattr(judge_documents, "CPU_SECONDS", 2)
    assert judge_documents.of_typst("#let n = 0\n#while true { n += 1 }", beside) is None
    assert judge_documents.of_typst("#for a in range(9999999) { [x] }", beside) is None
    assert sorted(beside.iterdir()) == before


def test_a_document_that_does_not_compile_shows_nothing_of_latex() -> None:
    page = np.full((50, 40), 255, np.uint8)
    pages = judge_documents.Pages([page, page], judge_documents.Counter({"word": 2}))
    assert judge_documents.verdict(pages, None) == judge_documents.DocumentVerdict(False, 0.0, 0.0)
    half = judge_documents.Pages([page], judge_documents.Counter({"word": 1, "other": 1}))
    found = judge_documents.verdict(pages, half)
    assert (found.words, found.pages) == (0.5, pytest.approx(0.5))
    assert judge_documents.verdict(None, half) == judge_documents.DocumentVerdict(True, None, None)


def test_the_results_are_of_each_converter_that_there_is() -> None:
    text = (ROOT / "bench/typst/results.md").read_text(encoding="utf-8")
    papers = (ROOT / "bench/typst/documents.md").read_text(encoding="utf-8")
    for name in peers.CONVERTERS:
        assert f"\n| {name} |" in text
    for name in peers.OF_DOCUMENTS:
        assert f"\n| {name} |" in papers
    assert "left out" not in text + papers
    readme = (ROOT / "bench/typst/README.md").read_text(encoding="utf-8")
    for command in re.findall(r"^python -m bench.typst (.*)$", readme, re.MULTILINE):
        assert command.split()[0] in ("build", "run", "documents", "measures")
    assert "python -m bench.typst build" in readme
