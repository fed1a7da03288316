"""`python -m stages apply`: documents in pieces, runs side by side, sampling, and what is written where."""

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM

from stages import configure
from stages.__main__ import main
from stages.backends.pytorch import backend as pytorch
from stages.backends.shared import model_folders
from stages.commands import apply as commands_apply
from stages.commands.prompt import side_by_side
from stages.commands.shown_outcomes import safe
from stages.layers import merge
from stages.params import load_params
from stages.settings import Answering
from stages.tasks.typst.document import Chunk, chunks
from stages.text import tokenizer
from tests.conftest import ENVIRONMENT
from tests.nano import ROOT
from tests.tiny import OPTIONS

OWN = {"max_length_tokens": 128, "generation": {"max_new_tokens": 64}}
PARAMS = (
    f"""
split: {{valid: 0.1, test: 0.1}}
defaults: {json.dumps(merge(OPTIONS, OWN))}
"""
    + """
presets: {}
tasks: {typst: {}, gec: {}, lm: {}}
synthetic: {}
compare: [typst, gec, lm]
bases: {}
corpora:
  typst-001: {task: typst, file: a.jsonl}
  typst-002: {task: typst, file: b.jsonl}
  gec-001: {task: gec, file: a.tsv}
  lm-001: {task: lm, file: a.txt}
runs:
  typst-001: {task: typst, corpus: typst-001, base: models/start, parent: models/start}
  typst-002: {task: typst, corpus: typst-002, base: models/start, parent: models/start}
  typst-003: {task: typst, corpus: typst-002, base: models/start, parent: models/start}
  gec-001: {task: gec, corpus: gec-001, base: models/start, parent: models/start}
  lm-001: {task: lm, corpus: lm-001, base: models/start, parent: models/start}
"""
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Runs with random weights, so that their answers are long and differ; made once and never written to."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
    fast = tokenizer.train(
        ["frac(a, b) = alpha", "The old teacher reads a letter."] * 10, 300, "gpt2"
    )
    special = {
        f"{name}_token_id": getattr(fast, f"{name}_token_id") for name in ("bos", "eos", "pad")
    }
    shape = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
    }
    for seed, run in enumerate(("typst-001", "typst-002", "gec-001", "lm-001", "start")):
        torch.manual_seed(seed)
        config = LlamaConfig(vocab_size=len(fast), initializer_range=0.5, **shape, **special)
        model_folders.write_weights(folder / "models" / run, LlamaForCausalLM(config), fast)
    return folder


class Echo:
    """A backend that answers with what it is asked, marked with its run, and notes every call."""

    calls: list[list[str]]

    def __init__(self, model, base, chosen):
        self.run = Path(model).name
        Echo.chosen = chosen

    def respond(self, rows):
        asked = [row["messages"][-1]["content"] for row in rows]
        Echo.calls.append(asked)
        return [f"{self.run}<{content.partition(':' + chr(10))[2]}>" for content in asked]


@pytest.fixture
def apply(repository, tmp_path, monkeypatch, capsys):
    """`python -m stages apply …` in the repository, in this process: (exit code, output, errors)."""

    def called(*arguments, stdin=""):
        monkeypatch.setattr(sys, "argv", ["stages", "apply", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    monkeypatch.chdir(repository)
    monkeypatch.setenv("COLUMNS", "100")
    return called


@pytest.fixture
def echo(monkeypatch):
    monkeypatch.setattr(pytorch, "Answerer", Echo)
    monkeypatch.setattr(Echo, "calls", [], raising=False)
    return Echo


def test_a_run_is_applied_as_it_is_evaluated(apply, echo):
    apply("gec-001", "--text", "a")
    decided = {
        made.stage: made.settings for made in configure.decisions_of(load_params(), "gec-001")
    }
    assert echo.chosen == Answering.model_validate(decided["predict"]["settings"])
    apply("gec-001", "--text", "a", "--max-new-tokens", "3")
    assert echo.chosen.generation.max_new_tokens == 3


# Documents in pieces


def converted(text: str, limit: int = 1000) -> list[str]:
    found = chunks(text, limit)
    assert "".join(chunk.text for chunk in found) == text
    return [chunk.text for chunk in found if chunk.converted]


PIECES = [
    "$", "$$", r"\(", r"\)", r"\[", r"\]", r"\begin{align}", r"\end{align}", r"\begin{itemize}", r"\end{itemize}",
    "{", "}", r"\begin{verbatim}", r"\end{verbatim}", r"\begin{document}", r"\end{document}", r"\verb|",
    "|", "%", r"\%", r"\$", "\\\\", "\\", "\n", "\n\n", " \n \n", "\r\n", " ", ". ", "。", "a", "word ", "e.g. ",
    r"\section{A. B}", r"\alpha", "é", "\ud800", "\u2028",
]  # fmt: skip


@given(
    st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.text(max_size=40)),
    st.integers(0, 60),
)
@settings(max_examples=1500, deadline=None)
def test_the_chunks_of_any_text_are_the_text(text, limit):
    found = chunks(text, limit)
    assert "".join(chunk.text for chunk in found) == text
    for chunk in found:
        assert chunk.text
        assert not chunk.converted or chunk.text == chunk.text.strip()


WHOLE = [
    r"$a. b$", r"$x \text{ if $y. Z$ holds. So}$", r"$$a. \$ b$$", r"\(a. B\)", "\\[a.\nB % \\]\n\\]", r"\verb|$ a. B|",
    r"\verb*+}. A+", "\\textbf{One. Two $x$. Three.}", "% It costs $5. And {\n", "\\section{On $x\n.$ and\nmore. So}",
    "\\begin{align}\na. &= b \\\\[2pt]\n\nc\n\\end{align}",
    "\\begin{itemize}\\item a. B\n\n\\begin{itemize}\\item c\\end{itemize} % \\end{itemize}\n\\end{itemize}",
    "\\begin{verbatim}\n$ % \\begin{align}\n\\end{verbatim}", "\\begin{lstlisting}[x]\n\n$.\n\\end{lstlisting}",
    "\\begin{quote}\\begin{verbatim}\\end{quote}\\end{verbatim}. A\n\\end{quote}",
    "\\begin{minted}{tex}\n\\end{verbatim} $\n\\end{minted}",
]  # fmt: skip
AROUND = [" ", "\n", "\n\n", " word. ", " Word, and\nmore ", " costs \\$5 \\% ", " Next. "]


@given(
    st.lists(st.tuples(st.sampled_from(WHOLE), st.sampled_from(AROUND)), min_size=1, max_size=12),
    st.integers(1, 80),
)
@settings(max_examples=400, deadline=None)
def test_what_belongs_together_is_never_cut(drawn, limit):
    text = "".join(whole + around for whole, around in drawn)
    at, cuts = 0, set()
    for chunk in chunks(text, limit):
        cuts.add(at)
        at += len(chunk.text)
    assert 0 in cuts
    at = 0
    for whole, around in drawn:
        assert not cuts & set(range(at + 1, at + len(whole.rstrip()))), whole
        at += len(whole + around)


def test_preamble_comments_verbatim_and_white_space_stay():
    text = (
        "\\begin{comment}\\end{document}\\end{comment} % \\begin{document}\n"
        "\\title{T}\\begin{document}\n\n  First % $ note\n  second.\r\n\r\n"
        "\\begin{verbatim}\nx\n\\end{verbatim}\n100\\% sure \n\\end{document}\nnever $x$ read"
    )
    assert [chunk for chunk in chunks(text, 1000) if not chunk.text.isspace()] == [
        Chunk(text[: text.index("\n\n")], False),
        Chunk("First", True),
        Chunk("% $ note", False),
        Chunk("second.", True),
        Chunk("\\begin{verbatim}\nx\n\\end{verbatim}", False),
        Chunk("100\\% sure", True),
        Chunk("\\end{document}\nnever $x$ read", False),
    ]


def test_a_paragraph_is_divided_only_where_it_is_too_long():
    heading, first, second = (
        "\\section{On $x$. More}",
        "Let $x > 0$, e.g. $x = 1$ (see Fig. 3).",
        "Then\n\\textbf{so. So} it is!",
    )
    paragraph = f"{heading}\n{first} {second}"
    assert converted(paragraph, len(paragraph)) == [paragraph]
    assert converted(paragraph, len(paragraph) - 1) == [heading, first, second]
    assert converted(first, 26) == ["Let $x > 0$, e.g. $x = 1$", "(see Fig. 3)."]
    assert converted("関数$f$は正。値$y$。", 8) == ["関数$f$は正。", "値$y$。"]
    assert converted("関数$f$は正で、値$y$は負。", 8) == ["関数$f$", "は正で、値$y$", "は負。"]
    assert converted(r"so $x^{2}$-axis and $\alpha + \beta + \gamma$ too", 4) == [
        "so", "$x^{2}$-axis", "and", r"$\alpha + \beta + \gamma$", "too",
    ]  # fmt: skip


def test_a_display_formula_stands_alone_and_its_full_stop_stays():
    assert converted("So\n\\[ a \\]\nand $$b$$. Now $c$.\n\\begin{align} d \\end{align}.") == [
        "So", "\\[ a \\]", "and", "$$b$$", ". Now $c$.", "\\begin{align} d \\end{align}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (r"See \url{https://ex.org/a%20b} and $x$.", [r"See \url{https://ex.org/a%20b} and $x$."]),
        (r"\href{https://ex.org/a%20b}{it} is.", [r"\href{https://ex.org/a%20b}{it} is."]),
        (r"\lstinline|x = $1| is." + "\n\nTwo $y$.", [r"\lstinline|x = $1| is.", "Two $y$."]),
        (r"\mintinline{sh}{echo $1} is." + "\n\nTwo.", [r"\mintinline{sh}{echo $1} is.", "Two."]),
        (r"\newcommand{\be}{\begin{equation}}" + "\n\nTwo.", ["Two."]),
        (r"One. \iffalse \begin{align} x \fi Two.", ["One.", "Two."]),
    ],
)
def test_what_is_verbatim_or_never_read_opens_nothing(text, pieces):
    assert converted(text) == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("It costs $5. A\nb\n\nNext.", ["It costs", "$5. A\nb", "Next."]),
        ("a \\[ b\n\nc \\] d", ["a", "\\[ b", "c \\] d"]),
        ("a \\begin{align} b\n\nc $d$", ["a", "\\begin{align} b\n\nc $d$"]),
        ("\\begin{document}a \\begin{x} b\\end{document} c", ["a", "\\begin{x} b"]),
        ("a \\verb|b. C\nd", ["a \\verb|b. C\nd"]),
        ("a } b { c. D", ["a } b { c.", "D"]),
    ],
)
def test_what_is_never_closed_ends_with_its_paragraph_or_the_document(text, pieces):
    assert converted(text, 10) == pieces


DOCUMENT = "\\begin{document}\r\n% note\n The mean  is $x$.\n\n\\[ y \\]\n\\end{document}\n"


def test_a_document_is_converted_in_one_pass_and_put_together_again(apply, echo, tmp_path):
    (tmp_path / "a.tex").write_bytes(b"\xef\xbb\xbf" + DOCUMENT.encode())
    assert apply("typst-001", tmp_path / "a.tex", "-o", tmp_path / "a.typ")[:2] == (0, "")
    wanted = DOCUMENT.replace("The mean  is $x$.", "typst-001<The mean  is $x$.>").replace(
        "\\[ y \\]", "typst-001<\\[ y \\]>"
    )
    assert (tmp_path / "a.typ").read_bytes().decode() == wanted
    assert apply("typst-001", tmp_path / "a.tex")[1] == wanted
    assert (
        echo.calls
        == [["Convert LaTeX to Typst:\nThe mean  is $x$.", "Convert LaTeX to Typst:\n\\[ y \\]"]]
        * 2
    )


def test_pieces_are_as_long_as_the_answers_may_be_and_longer_ones_are_told(apply, echo, tmp_path):
    (tmp_path / "a.tex").write_text(
        "One sentence here. Another one.\n\n\\[ a + b + c + d + e \\]\n"
    )
    apply("typst-001", tmp_path / "a.tex")
    code, _, told = apply("typst-001", tmp_path / "a.tex", "--max-new-tokens", "20")
    assert [len(call) for call in echo.calls] == [2, 3]
    assert code == 0
    assert (
        "a.tex: parts that may not be cut and are longer than 20 characters: 1; check their answers"
        in told
    )


@pytest.mark.parametrize("suffix", [".latex", ".ltx", ".TEX"])
def test_a_document_has_other_suffixes_too(apply, echo, tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_text(DOCUMENT, encoding="utf-8", newline="")
    said = apply("typst-001", tmp_path / f"a{suffix}")[1]
    assert said.startswith("\\begin{document}\r\n% note\n typst-001<The mean  is $x$.>\n\n")
    code, _, told = apply("typst-001", tmp_path / f"a{suffix}", "--text", "a")
    assert code == 2
    assert f"typst: a {suffix} document is converted alone; call apply once for each" in told


def test_an_answer_of_several_lines_is_one_line_where_each_input_has_one(
    apply, tmp_path, monkeypatch
):
    answers = ["a\n  b\r\n\nc\n", "d\u2028e", "f"]
    monkeypatch.setattr(commands_apply, "_answered", lambda run, inputs: answers[: len(inputs)])
    (tmp_path / "a.txt").write_text("1\n2\n3\n")
    says = (
        "answers of several lines, which are on one here, as each input has one: 1; -o FILE.jsonl "
        "keeps their line breaks\n"
    )
    one_each = "a b c\nd\u2028e\nf\n"
    assert apply("gec-001", tmp_path / "a.txt") == (0, one_each, says)
    assert apply("gec-001", tmp_path / "a.txt", "-o", tmp_path / "b.txt") == (0, "", says)
    assert (tmp_path / "b.txt").read_text(encoding="utf-8") == one_each
    assert apply("gec-001", tmp_path / "a.txt", "-o", tmp_path / "b.jsonl") == (0, "", "")
    kept = (tmp_path / "b.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(kept[0])["answer"] == answers[0]
    assert apply("gec-001", "--text", "1") == (0, answers[0] + "\n", "")


def test_a_file_that_is_no_document_is_lines_and_without_chunking_one_input(apply, echo, tmp_path):
    for name in ("a.tex", "b.txt", "c.txt"):
        (tmp_path / name).write_bytes(b"$a$\r\n\n b\n")
    apply("typst-001", tmp_path / "b.txt", tmp_path / "c.txt")
    apply("typst-001", tmp_path / "c.txt")
    apply("typst-001", "-", stdin="$a$\n b\n")
    apply("typst-001", tmp_path / "a.tex", "--no-chunking")
    apply("gec-001", tmp_path / "a.tex")
    asked = [[text.partition("\n")[2] for text in call] for call in echo.calls]
    assert asked == [
        ["$a$", " b"] * 2,
        ["$a$", " b"],
        ["$a$", " b"],
        ["$a$\r\n\n b\n"],
        ["$a$", " b"],
    ]


# Runs side by side


def test_runs_side_by_side_are_columns_on_the_screen_and_files_in_a_folder(apply, echo, tmp_path):
    (tmp_path / "in.txt").write_text("x [2pt]\ny\n")
    code, shown, _ = apply("typst-001,typst-002", tmp_path / "in.txt")
    cells = [
        [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        for line in shown.splitlines()
        if line[0] in "│┃"
    ]
    assert code == 0
    assert cells == [
        ["input", "typst-001", "typst-002"],
        ["x [2pt]", "typst-001<x [2pt]>", "typst-002<x [2pt]>"],
        ["y", "typst-001<y>", "typst-002<y>"],
    ]
    apply("typst-001,typst-002", tmp_path / "in.txt", "-o", tmp_path / "out")
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        f"{run}.typ": f"{run}<x [2pt]>\n{run}<y>\n" for run in ("typst-001", "typst-002")
    }


def test_control_characters_of_answers_side_by_side_are_signs():
    console = Console(file=io.StringIO(), width=60)
    console.print(side_by_side(["x"], {"a": ["\x1b[31mred"], "b": ["\u202ey"]}))
    shown = console.file.getvalue()
    assert "\u241b[31mred" in shown
    assert not {"\x1b", "\u202e"} & set(shown)


def test_two_models_answer_as_each_does_alone(apply, tmp_path):
    together = tmp_path / "out"
    apply("typst-001,typst-002", "--text", "x", "--text", "y", "-o", together)
    alone = [apply(run, "--text", "x", "--text", "y")[1] for run in ("typst-001", "typst-002")]
    assert [(together / f"{run}.typ").read_text() for run in ("typst-001", "typst-002")] == alone
    assert alone[0] != alone[1]


# Sampling


def test_a_seed_gives_the_same_text_again_and_another_seed_another(apply):
    def said(seed, *more):
        return apply(
            "lm-001",
            "--prompt",
            "The old",
            "--text",
            "frac",
            "--temperature",
            "1",
            "--seed",
            seed,
            *more,
        )[1]

    torch.manual_seed(0)
    first = said(1)
    assert said(1) == first
    assert said(2) != first
    assert said(1, "--top-p", "0.000001") == said(
        2, "--top-p", "0.000001"
    )  # the likeliest token alone is left
    assert (
        apply("typst-001", "--text", "x", "--temperature", "1", "--seed", 1)[1]
        != apply("typst-001", "--text", "x")[1]
    )


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        (
            "--temperature",
            "-0.5",
            "--temperature: input should be greater than or equal to 0, not -0.5; correct the value",
        ),
        (
            "--temperature",
            "nan",
            "--temperature: input should be a finite number, not nan; correct the value",
        ),
        ("--top-p", "0", "--top-p: input should be greater than 0, not 0.0; correct the value"),
        (
            "--top-p",
            "1.1",
            "--top-p: input should be less than or equal to 1, not 1.1; correct the value",
        ),
        (
            "--max-new-tokens",
            "0",
            "--max-new-tokens: input should be greater than or equal to 1, not 0; correct the value",
        ),
        (
            "--seed",
            "-1",
            "--seed: input should be greater than or equal to 0, not -1; correct the value",
        ),
        ("--seed", str(2**64), "Invalid value for '--seed'"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(apply, option, value, says):
    code, said, told = apply("lm-001", "--text", "a", option, value)
    assert (code, said) == (2, "")
    assert says in told


# What is written, and what is not


def test_jsonl_keeps_inputs_and_answers_in_order(apply, tmp_path):
    inputs = ["b", "a longer input 日本", "a", "frac"]
    (tmp_path / "in.txt").write_text("\n".join(inputs), encoding="utf-8")
    apply("typst-001", tmp_path / "in.txt", "-o", tmp_path / "x.jsonl")
    records = [
        json.loads(line) for line in (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [record["input"] for record in records] == inputs
    assert [f"{record['answer']}\n" for record in records] == [
        apply("typst-001", "--text", given)[1] for given in inputs
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("typst-001,gec-001", "--text", "a"),
            "runs side by side are of one task; these are of typst, gec: call apply once for",
        ),
        (
            ("typst-001,typst-009", "--text", "a"),
            "no `typst-009` under `runs`; did you mean `typst-00",
        ),
        (
            ("typst-001,typst-003", "--text", "a"),
            "models/typst-003: not trained yet; run `dvc repro train@typst-003`",
        ),
        (("typst-001",), "nothing to answer: give FILEs, `-` for standard input, or --text"),
        (("typst-001", "-"), "-: empty; write an input a line, or name another file"),
        (
            ("typst-001", "empty.txt"),
            "empty.txt: empty; write an input a line, or name another file",
        ),
        (
            ("typst-001", "empty.tex"),
            "empty.tex: no text to convert in it; write some, or name another file",
        ),
        (
            ("typst-001", "absent.tex"),
            "absent.tex: no such file; correct its name, or give `-` for standard input",
        ),
        (
            ("typst-001", "sjis.txt"),
            "sjis.txt line 2: not UTF-8; convert the file, for example `iconv -f CP932 -t UTF-8`",
        ),
        (
            ("typst-001", "empty.tex", "empty.tex"),
            "typst: a .tex document is converted alone; call apply once for each",
        ),
        (
            ("typst-001", "--text", b"\xff\xfe".decode(errors="surrogateescape")),
            "--text is not UTF-8; set the terminal to it",
        ),
        (
            ("typst-001", "--text", "a", "-o", "empty.txt/x"),
            "-o empty.txt/x: cannot be written there (",
        ),
        (
            ("typst-001,typst-002", "--text", "a", "-o", "x.typ"),
            "several runs write into a folder, RUN.typ each; name one without",
        ),
    ],
)
def test_a_mistake_is_found_before_a_model_is_loaded(apply, tmp_path, monkeypatch, arguments, says):
    monkeypatch.delattr(pytorch, "Answerer")
    (tmp_path / "empty.txt").write_text(" \n\n")
    (tmp_path / "empty.tex").write_text("\\begin{document}\n% nothing\n\\end{document}")
    (tmp_path / "sjis.txt").write_bytes("a\n本".encode("cp932"))
    arguments = [
        re.sub(r"^(empty|absent|sjis|x)\.", f"{tmp_path}/\\1.", each) for each in arguments
    ]
    code, said, told = apply(*arguments)
    assert (code, said) == (2, "")
    assert says in told.replace(f"{tmp_path}/", "")


def test_what_is_no_file_of_its_own_is_not_replaced_by_one(apply, echo, tmp_path):
    """A link leads where it led, rights stay, and a device is one afterwards."""
    (tmp_path / "own.typ").write_text("before")
    (tmp_path / "own.typ").chmod(0o600)
    (tmp_path / "link.typ").symlink_to("own.typ")
    assert apply("typst-001", "--text", "x", "-o", tmp_path / "link.typ")[0] == 0
    assert (tmp_path / "link.typ").is_symlink()
    assert (tmp_path / "own.typ").read_text() == "typst-001<x>\n"
    assert (tmp_path / "own.typ").stat().st_mode & 0o777 == 0o600
    code, _, told = apply("typst-001", "--text", "x", "-o", "/dev/full")
    assert code == 2
    assert "/dev/full: not written (No space left on device); name another place" in told
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert apply("typst-001", "--text", "x", "-o", tmp_path / "pipe")[0] == 0
    assert os.read(reader, 99) == b"typst-001<x>\n"
    os.close(reader)
    assert all(path.is_char_device() for path in map(Path, ("/dev/full", "/dev/null")))


def test_answers_are_written_whole_or_not_at_all(apply, echo, tmp_path, monkeypatch):
    (tmp_path / "typst-001.typ").write_text("before")
    monkeypatch.setattr(
        Echo, "respond", lambda self, rows: 1 / 0 if self.run == "typst-002" else ["new"]
    )
    with pytest.raises(ZeroDivisionError):
        apply("typst-001,typst-002", "--text", "x", "-o", tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "typst-001.typ": "before"
    }


# The prompt


class Terminal:
    """`python -m stages apply …` on a terminal of its own."""

    def __init__(self, folder, *arguments):
        self.shown, (self.ours, theirs) = "", pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stages", "apply", *arguments],
            cwd=folder,
            env=ENVIRONMENT | {"PYTHONPATH": str(ROOT), "TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def until(self, text):
        """What is shown up to the text, which comes within a minute."""
        end = time.monotonic() + 60
        while text not in self.shown and time.monotonic() < end:
            if select.select([self.ours], [], [], 0.1)[0]:
                self.shown += os.read(self.ours, 65536).decode(errors="replace")
        before, found, self.shown = self.shown.partition(text)
        assert found, before
        return before.replace("\r\n", "\n")

    def say(self, line, prompt):
        """What is shown between the line and the next prompt."""
        os.write(self.ours, line.encode() + b"\n")
        self.until(line)
        return self.until(prompt).strip()


@pytest.fixture
def terminal(repository):
    begun = []
    yield lambda *arguments: begun.append(Terminal(repository, *arguments)) or begun[-1]
    for each in begun:
        each.process.kill()
        each.process.wait()
        os.close(each.ours)


def test_a_prompt_answers_line_by_line_as_apply_does_and_survives_what_is_wrong(apply, terminal):
    asked = terminal("typst-001")
    assert "/help says what can be written here" in asked.until("typst-001> ")
    answer = safe(apply("typst-001", "--text", "x")[1])
    assert asked.say("x", "typst-001> ").split() == answer.split()
    for line, says in (
        ("/run typst-009", "no `typst-009` under `runs`; did you mean `typst-00"),
        ("/run typst-003", "models/typst-003: not trained yet; run `dvc repro train@typst-003`"),
        ("/run", "/run: name a run"),
        ("/both", "/both: name one or two runs"),
        ("/both gec-001", "runs side by side are of one task; these are of typst, gec"),
        ("/frac", "/frac: no command; /help names them"),
        ("/help", "/quit, Ctrl-D     ends; Ctrl-C stops an answer"),
    ):
        assert says in asked.say(line, "typst-001> ")
    os.write(asked.ours, b"\xff\n")
    assert "the line is not UTF-8; set the terminal to it" in asked.until("typst-001> ")
    asked.say("/both typst-002", "typst-001 | typst-002> ")
    table = asked.say("x", "typst-001 | typst-002> ")
    assert [name in table for name in ("input", "typst-001", "typst-002")] == [True] * 3
    asked.say("/run gec-001", "gec-001> ")
    os.write(asked.ours, b"\x04")
    assert asked.process.wait(10) == 0


def test_an_interrupt_stops_an_answer_and_the_prompt_goes_on(terminal):
    asked = terminal("lm-001", "--max-new-tokens", "100000")
    asked.until("lm-001> ")
    os.write(asked.ours, b"The old\n")
    asked.until("The old\r\n")
    while not asked.shown:
        asked.shown += os.read(asked.ours, 65536).decode(errors="replace")
    asked.process.send_signal(signal.SIGINT)
    asked.until("lm-001> ")
    assert "/run RUN" in asked.say("/help", "lm-001> ")
    os.write(asked.ours, b"/quit\n")
    assert asked.process.wait(10) == 0
