"""`python -m stages propose`: formulas without Typst become rows, and every other one is told with its reason."""

import json
import re
import sys
from pathlib import Path

import pytest

from stages import tasks
from stages.__main__ import main
from stages.backends.pytorch import backend as pytorch
from stages.commands import propose as commands_propose
from stages.corpus.examples import Example
from stages.errors import UserError
from stages.files import write_lines
from stages.scoring import likeness, tex
from stages.tasks.typst import proposals
from stages.tasks.typst.benchmark_half import is_in_benchmark
from tests import nano
from tests.conftest import run
from tests.test_apply import PARAMS

DRAWN = {r"\frac{a}{b}": "a/b", r"\alpha+1": "alpha + 1", "x^2": "x^2", "y_1": "y_1", r"\pi": "pi"}
"""What the stand-in for LaTeX draws, in Typst."""

CONVERTED = {
    r"\frac{a}{b}": {"tylax": "frac(a, b)", "tex2typst": "a/b"},
    r"\alpha+1": {"tylax": "beta + 1", "tex2typst": "alpha + 1"},
    "x^2": {"tylax": "x_2"},
    "y_1": {"tylax": "frac(", "tex2typst": "unknownname"},
    r"\sqrt{z}": {"tylax": "sqrt(z)", "tex2typst": "sqrt( z )"},
    r"\pi": {"tylax": ""},
}


class Converters:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def formulas(self, sources):
        return [CONVERTED.get(source, {}) for source in sources]


class Typesetter(Converters):
    def pictures(self, formulas):
        typst = likeness.of_typst(
            [DRAWN.get(formula, "unknownname") for formula in formulas], "math"
        )
        return [*typst]


class Echo:
    """A backend whose runs answer from a table, and note how many answers they are asked for."""

    asked: list[int]

    def __init__(self, model, base, chosen):
        pass

    def candidates(self, rows, count):
        Echo.asked.append(count)
        return [[("z", -0.5), ("x^( 2)", -1.0), ("x^2", -1.5)][:count] for _ in rows]


def prepared(part: str, *sources: str) -> None:
    rows = [{"id": source, "category": "", "source": source, "messages": []} for source in sources]
    write_lines(Path("data/prepared/typst", part, "typst-001.jsonl"), rows)


@pytest.fixture
def repository(inside, monkeypatch) -> Path:
    """With one corpus version, which has held out and trained on a formula."""
    text = PARAMS.replace("  typst-002: {task: typst, file: b.jsonl}\n", "")
    Path("params.yaml").write_text(
        text.replace("corpus: typst-002", "corpus: typst-001"), encoding="utf-8"
    )
    Path("models/start").mkdir(parents=True)
    Path("models/start/config.json").write_text("{}", encoding="utf-8")
    prepared("train", "trained")
    prepared("valid")
    prepared("test", "held  out")
    monkeypatch.setattr(proposals, "KeptConverters", Converters)
    monkeypatch.setattr(proposals, "typst_of", {}.get)
    monkeypatch.setattr(tex, "Typesetter", Typesetter)
    monkeypatch.setattr(tex, "available", lambda: True)
    monkeypatch.setattr(proposals, "is_in_benchmark", lambda text: text == "benchmark")
    monkeypatch.setenv("COLUMNS", "100")
    return inside


@pytest.fixture
def propose(repository, monkeypatch, capsys):
    """(exit code, output, errors) of a call with formulas, a line each."""

    def called(*arguments, formulas=("\\frac{a}{b}",)):
        Path("f.txt").write_text("\n".join(formulas) + "\n", encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["stages", "propose", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return called


def lines(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_the_candidate_whose_picture_is_like_latexs_becomes_a_row(propose):
    code, out, err = propose(
        "typst", "f.txt", "-o", "rows.jsonl", "--rejected", "no.jsonl", formulas=CONVERTED
    )
    assert (code, err) == (0, "")
    assert lines("rows.jsonl") == [
        {"latex": r"\frac{a}{b}", "typst": "a/b"},
        {"latex": r"\alpha+1", "typst": "alpha + 1"},
    ]
    reasons = {line["input"]: line["reason"] for line in lines("no.jsonl")}
    assert reasons == {
        "x^2": "no picture is like LaTeX's",
        "y_1": "no translation compiles",
        r"\sqrt{z}": "LaTeX itself does not draw it",
        r"\pi": "nobody translates it",
    }
    (tried,) = lines("no.jsonl")[0]["tried"]
    assert (tried["typst"], tried["by"], tried["found"]) == ("x_2", "tylax", "compiles")
    assert tried["likeness"] < likeness.ALIKE
    assert "rows.jsonl: 2 rows of 6 inputs\n" in out
    assert "Made by:  2 tex2typst\n" in out
    assert "1 no translation compiles" in out
    assert "Next:  python -m stages new typst rows.jsonl\n" in out
    assert all(
        isinstance(each, Example) for each in tasks.corpus("typst").read(Path("rows.jsonl"), {})
    )


def test_our_own_rules_answer_beside_the_kept_converters(propose, monkeypatch):
    monkeypatch.setattr(proposals, "typst_of", {"x^2": "x^2"}.get)
    propose("typst", "f.txt", "-o", "rows.jsonl", formulas=["x^2"])
    assert lines("rows.jsonl") == [{"latex": "x^2", "typst": "x^2"}]


def test_what_is_held_out_known_or_the_benchmarks_is_never_proposed(propose, monkeypatch):
    given = ["heldout", "held o u t", "tr ained", "benchmark", "$x^2$", "x^{2}", "x ^{2}", "a $x$"]
    monkeypatch.setitem(CONVERTED, "x^2", {"tylax": "x^2"})
    code, _, _ = propose(
        "typst", "f.txt", "-o", "rows.jsonl", "--rejected", "no.jsonl", formulas=given
    )
    assert code == 0
    assert lines("rows.jsonl") == [{"latex": "x^2", "typst": "x^2"}]
    reasons = [(line["input"], line["reason"]) for line in lines("no.jsonl")]
    assert reasons == [
        ("heldout", "held out by a corpus version"),
        ("held o u t", "held out by a corpus version"),
        ("tr ained", "in a corpus version already"),
        ("benchmark", "kept for the benchmark"),
        ("x ^{2}", "given before"),
        ("a $x$", "text with formulas in it, not one formula"),
        ("x^{2}", "nobody translates it"),
    ]
    code, _, err = propose(
        "typst", "f.txt", "-o", "b.jsonl", "--benchmark-too", formulas=["benchmark"]
    )
    assert (code, err) == (2, "no row of the 1 inputs: 1 nobody translates it\n")
    code, _, err = propose("typst", "f.txt", "-o", "b.jsonl", formulas=["benchmark", "heldout"])
    assert (code, err) == (2, "none of the 2 inputs can become a row: 1 kept for the benchmark, 1 held out by a corpus version\n")  # fmt: skip


def test_half_of_all_formulas_is_the_benchmarks():
    halves = [is_in_benchmark(f"x_{{{n}}}") for n in range(400)]
    assert 150 < sum(halves) < 250
    assert proposals.unfit(f"x_{{{halves.index(True)}}}", False) == "kept for the benchmark"
    assert proposals.unfit(f"x_{{{halves.index(True)}}}", True) == ""


def test_of_what_looks_right_the_runs_likeliest_becomes_the_row(propose, monkeypatch):
    Path("models/typst-001").mkdir()
    Path("models/gec-001").mkdir()
    monkeypatch.setattr(pytorch, "answerer", Echo)
    monkeypatch.setitem(CONVERTED, "x^2", {"tylax": "x^2"})
    Echo.asked = []
    ask = ("typst", "f.txt", "--run", "typst-001", "--candidates", 3)
    code, out, _ = propose(*ask, "-o", "rows.jsonl", formulas=["x^2"])
    assert code == 0
    assert Echo.asked == [3]
    assert lines("rows.jsonl") == [{"latex": "x^2", "typst": "x^( 2)"}]
    assert "Made by:  1 typst-001\n" in out
    propose(*ask, "--candidates", 1, "-o", "fewer.jsonl", formulas=["x^2"])
    assert lines("fewer.jsonl") == [{"latex": "x^2", "typst": "x^2"}]
    code, _, err = propose("typst", "f.txt", "--run", "gec-001", "-o", "more.jsonl")
    assert (code, err) == (2, "gec-001: a run of gec; name one of typst\n")


def test_without_latex_the_command_that_installs_it_is_named(propose, monkeypatch):
    monkeypatch.setattr(tex, "available", lambda: False)
    code, _, err = propose("typst", "f.txt", "-o", "rows.jsonl")
    assert code == 2
    assert err.startswith(
        "LaTeX, whose pictures decide, is not on this machine; run `apt-get install "
    )
    assert not Path("rows.jsonl").exists()
    code, _, err = propose(
        "typst", "f.txt", "-o", "rows.jsonl", "--rejected", "no.jsonl", "--without-pictures",
        formulas=CONVERTED,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert lines("rows.jsonl") == [
        {"latex": r"\frac{a}{b}", "typst": "a/b"},
        {"latex": r"\sqrt{z}", "typst": "sqrt(z)"},
    ]
    reasons = {line["input"]: line["reason"] for line in lines("no.jsonl")}
    assert reasons[r"\alpha+1"] == reasons["x^2"] == "no two agree on its picture"


def test_formulas_are_read_from_lines_records_and_documents(repository):
    Path("f.txt").write_text("x^2\n\n $\\alpha$ \n\\[ a \\\\[2pt] b \\]\n", encoding="utf-8")
    Path("f.jsonl").write_text('{"latex": "$$y$$", "other": 1}\n', encoding="utf-8")
    document = r"""\documentclass{article}\newcommand{\R}{$no$}
\begin{document} % $not$ this
Costs 5\% of $a_1$ and \$5, \(b\)\[
  c = d
\] \verb|$not$| \begin{equation}\label{e} e \end{equation}
\begin{align} f &= g \\ &= h \end{align}
\begin{verbatim}
$not$
\end{verbatim} $$i$$
\end{document}
"""
    Path("f.tex").write_text(document, encoding="utf-8")
    assert proposals.inputs(Path("f.txt")) == ["x^2", "\\alpha", "a \\\\[2pt] b"]
    assert proposals.inputs(Path("f.jsonl")) == ["y"]
    rows = r"\begin{align} f &= g \\ &= h \end{align}"
    assert proposals.inputs(Path("f.tex")) == ["a_1", "b", "c = d", r"\label{e} e", rows, "i"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b" \n", "a.txt: no formula in it; write some, or name another file"),
        ("a.tex", b"text", "a.tex: no formula in it; write some, or name another file"),
        (
            "a.csv",
            b"x",
            "a.csv: none of the files that formulas are read from: .txt, .lst, .jsonl, .tex, .latex, .ltx",
        ),
        ("a.txt", b"x\n\xff", "a.txt line 2: not UTF-8"),
        (
            "a.jsonl",
            b'{"latex": "x"}\n{"typst": "x"}',
            'a.jsonl line 2: no text under "latex"; write {"latex": "x^2"} in each line',
        ),
        ("a.jsonl", b"{", "a.jsonl line 1: not JSON"),
        ("a.jsonl", b'{"latex": 1}', 'a.jsonl line 1: no text under "latex"'),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_place(inside, name, content, told):
    Path(name).write_bytes(content)
    with pytest.raises(UserError) as error:
        proposals.inputs(Path(name))
    assert str(error.value).startswith(told)
    with pytest.raises(UserError, match=r"^b.txt: no such file; give the path of your formulas$"):
        proposals.inputs(Path("b.txt"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x\x07", "damaged: a control character or U+FFFD in it"),
        ("x\ufffd", "damaged: a control character or U+FFFD in it"),
        ("x" * 20_001, "longer than 20,000 characters"),
        ("$a$ and $b$", "text with formulas in it, not one formula"),
    ],
)
def test_what_can_be_no_row_is_told(text, why):
    assert proposals.unfit(text, True) == why


def test_other_tasks_and_places_are_refused_before_any_work(propose):
    for arguments, told in (
        (("gec", "f.txt", "-o", "a.jsonl"), "gec: nothing tells a right answer of it without a reference, so that no rows can be proposed; of typst they can\n"),
        (("typts", "f.txt", "-o", "a.jsonl"), "params.yaml: no `typts` under `tasks`; did you mean `typst`?\n"),
        (("typst", "f.txt", "-o", "a.csv"), "--output a.csv: is written as JSON lines; name a file in .jsonl\n"),
        (("typst", "f.txt", "-o", "a.jsonl", "--rejected", "there.jsonl"), "--rejected there.jsonl: is there already; name a new file, or remove it\n"),
        (("typst", "f.txt", "-o", "a.jsonl", "--run", "typst-002"), "models/typst-002: not trained yet; run `dvc repro train@typst-002`, or `dvc pull models/typst-002` where a remote has it\n"),
    ):  # fmt: skip
        Path("there.jsonl").touch()
        assert propose(*arguments) == (2, "", told)
    Path("data/prepared/typst/test/typst-001.jsonl").unlink()
    _, _, err = propose("typst", "f.txt", "-o", "a.jsonl")
    assert (
        err
        == "data/prepared/typst/test/typst-001.jsonl: not there, so that nobody knows what it holds out; run `dvc repro prepare@typst-001`\n"
    )
    assert not Path("a.jsonl").exists()


def test_some_of_many_are_chosen_by_a_hash_and_long_work_says_how_far_it_is(propose, monkeypatch):
    monkeypatch.setattr(commands_propose, "AT_ONCE", 2)
    formulas = [f"x_{n}" for n in range(40)]
    monkeypatch.setattr(Converters, "formulas", lambda self, sources: [{"tylax": text} for text in sources])  # fmt: skip
    monkeypatch.setattr(Typesetter, "pictures", lambda self, given: likeness.of_typst(given, "math"))  # fmt: skip
    code, out, err = propose("typst", "f.txt", "--rows", 5, "-o", "a.jsonl", formulas=formulas)
    assert code == 0
    assert "Left:  35 beyond --rows\n" in out
    assert err.startswith("proposing: 2 of 5 inputs, 2 rows, about ")
    propose("typst", "f.txt", "--rows", 5, "-o", "b.jsonl", formulas=formulas[::-1])
    propose("typst", "f.txt", "--rows", 5, "--seed", 1, "-o", "c.jsonl", formulas=formulas)
    first, turned, other = (
        sorted(line["latex"] for line in lines(f"{name}.jsonl")) for name in "abc"
    )
    assert len(first) == 5
    assert first == turned != other


def test_a_call_that_is_stopped_writes_nothing(propose, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(proposals, "proposed", interrupted)
    propose("typst", "f.txt", "-o", "a.jsonl", "--rejected", "b.jsonl")
    assert not Path("a.jsonl").exists()
    assert not Path("b.jsonl").exists()


def test_a_call_that_was_stopped_goes_on_where_it_was(propose, monkeypatch):
    monkeypatch.setattr(commands_propose, "AT_ONCE", 2)
    looked_at = []
    whole = proposals.proposed

    def stopped(given, *rest):
        looked_at.extend(given)
        if len(looked_at) == 4:
            raise KeyboardInterrupt
        return whole(given, *rest)

    monkeypatch.setattr(proposals, "proposed", stopped)
    arguments = ("typst", "f.txt", "-o", "a.jsonl", "--rejected", "b.jsonl")
    propose(*arguments, formulas=CONVERTED)
    kept = list(Path(".scratch/proposals").glob("*/*.jsonl"))
    assert len(kept) == 1
    first, looked_at[:] = looked_at[:2], ["", "", ""]
    assert propose(*arguments, formulas=CONVERTED)[0] == 0
    assert not {*first} & {*looked_at}
    assert len(looked_at) == 3 + len(CONVERTED) - 2
    assert len(lines("a.jsonl")) == 2
    assert len(lines("b.jsonl")) == 4
    assert not kept[0].exists()


@pytest.mark.skipif(not tex.available(), reason="needs a TeX")
def test_with_a_real_latex_and_real_converters_a_wrong_translation_is_refused(inside):
    formulas = [r"\frac{a}{b} + \sqrt{x}", r"\undefinedmacro x", r"\sum_{i=1}^{n} i"]
    wrong = {"run": [("frac(b, a) + sqrt(x)", -0.1)]}
    right, undefined, _ = proposals.proposed(formulas, [wrong, {}, {}], by_pictures=True)
    assert right.refused == ""
    assert "run" not in right.makers
    assert {each["by"] for each in right.tried} >= {"run"}
    assert undefined.refused in ("LaTeX itself does not draw it", "no translation compiles")


@pytest.mark.skipif(not tex.available(), reason="needs a TeX")
def test_the_commands_of_the_page_make_a_version_of_formulas(tmp_path):
    """docs/propose.md in a nano clone, of which only the corpora are prepared."""
    folder = nano.make(tmp_path / "repository")
    run(folder, "dvc", "repro", *(f"prepare@typst-00{number}" for number in (1, 2, 3)))
    formulas = [rf"\frac{{{a}}}{{{b}}} = \sqrt{{{b}}}" for a in "abcdefg" for b in "uvwxyz"]
    (folder / "formulas.txt").write_text("\n".join(formulas) + "\n", encoding="utf-8")
    page = (nano.ROOT / "docs/propose.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    for command in block.splitlines():
        run(folder, "bash", "-c", command)
    rows = lines(f"{folder}/data/typst/train_004.jsonl")
    assert {row["latex"] for row in rows} == {
        text for text in formulas if not is_in_benchmark(text)
    }
    assert "typst-004: {task: typst, corpus: typst-004" in (folder / "params.yaml").read_text(
        encoding="utf-8"
    )
