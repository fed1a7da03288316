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
import typst
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


# Documents

DOCUMENT = """\\documentclass{article}
\\begin{document}
% note
The mean is $\\frac{a}{b}$.

\\[ \\notacommand y \\]
\\end{document}
"""


@pytest.fixture
def answers(echo, monkeypatch):
    """What the runs answer, by question; what is not in it does not compile."""
    known = {}
    monkeypatch.setattr(
        Echo, "respond",
        lambda self, rows: [
            Echo.calls.append([row["source"] for row in rows]) or known.get(row["source"], "#(")
            for row in rows
        ],
    )  # fmt: skip
    monkeypatch.setattr(
        Echo, "candidates",
        lambda self, rows, count: [
            [(f"#({at}", -1.0 * at) for at in range(count - 1)] + [(known.get(f"more {row['source']}", "#("), -9.0)]
            for row in rows
        ],
        raising=False,
    )  # fmt: skip
    return known


def test_a_document_compiles_and_tells_what_was_made_by_what(apply, answers, tmp_path):
    (tmp_path / "a.tex").write_bytes(b"\xef\xbb\xbf" + DOCUMENT.encode())
    answers[r"\notacommand y"] = "x y"
    code, said, told = apply("typst-001", tmp_path / "a.tex", "-o", tmp_path / "a.typ")
    assert (code, said) == (0, "")
    typst.compile(str(tmp_path / "a.typ"))
    written = (tmp_path / "a.typ").read_text(encoding="utf-8")
    assert "\n// note\n\nThe mean is $frac(a, b)$.\n" in written
    assert "$ x y $" in written
    assert told == (
        "a.tex: blocks: 2, by rule 2, left as LaTeX 0\n"
        "a.tex: formulas: 2, by own rules 1, by the model 1, left as LaTeX 0\n"
    )
    assert Echo.calls == [[r"\notacommand y"]]
    assert apply("typst-001", tmp_path / "a.tex")[1] == written


def test_a_model_that_is_no_use_at_first_is_asked_for_more(apply, answers, tmp_path):
    (tmp_path / "a.tex").write_text(DOCUMENT)
    answers[r"more \notacommand y"] = "z"
    code, said, told = apply("typst-001", tmp_path / "a.tex")
    assert code == 0
    assert "$ z $" in said
    assert "by the model's candidate 5 1" in told


def test_what_nothing_converts_is_shown_as_latex_and_told(apply, answers, tmp_path):
    (tmp_path / "a.tex").write_text(DOCUMENT)
    code, _, told = apply("typst-001", tmp_path / "a.tex", "-o", tmp_path / "a.typ")
    assert code == 0
    typst.compile(str(tmp_path / "a.typ"))
    assert '#latex-left("\\\\notacommand y")' in (tmp_path / "a.typ").read_text()
    assert "a.tex line 6: left as LaTeX: \\notacommand y: no candidate compiles\n" in told


@pytest.mark.parametrize(("by", "asked", "made"), [("rules", 0, "frac(a, b)"), ("model", 1, "a b")])
def test_a_document_is_converted_by_rules_or_by_the_model_alone(
    apply, answers, tmp_path, by, asked, made
):
    (tmp_path / "a.tex").write_text(DOCUMENT)
    answers[r"\frac{a}{b}"] = "$a b$"
    said = apply("typst-001", tmp_path / "a.tex", "--by", by)[1]
    assert f"The mean is ${made}$" in said
    assert len(Echo.calls) == 2 * asked


def test_a_report_shows_latex_beside_typst(apply, answers, tmp_path):
    (tmp_path / "a.tex").write_text(DOCUMENT)
    apply(
        "typst-001", tmp_path / "a.tex", "-o", tmp_path / "a.typ", "--report", tmp_path / "a.html"
    )
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml;base64,") == 2
    assert "<li>a.tex line 6: no candidate compiles<pre>\\notacommand y</pre></li>" in page
    assert page.count("<tr class=left>") == 1


def test_the_page_on_documents_says_what_is_said(apply, answers, tmp_path):
    page = (ROOT / "docs/documents.md").read_text(encoding="utf-8")
    latex, told, typst_shown = (
        re.search(f"```{language}\n(.*?)```", page[at:], re.DOTALL)[1]
        for language, at in (("latex", 0), ("", page.index("standard error")), ("typst", 0))
    )
    (command,) = re.findall("```bash\n(.*?)```", page, re.DOTALL)
    (tmp_path / "paper.tex").write_text(latex)
    called = command.split()[5:]
    assert called == ["paper.tex", "-o", "paper.typ", "--report", "paper.html"]
    arguments = [each if each[0] == "-" else tmp_path / each for each in called]
    assert apply("typst-001", *arguments) == (0, "", told)
    assert typst_shown in (tmp_path / "paper.typ").read_text()
    assert "paper.tex line 26" in (tmp_path / "paper.html").read_text()


def test_a_document_by_two_runs_is_two_files(apply, answers, tmp_path):
    (tmp_path / "a.tex").write_text(DOCUMENT)
    code, _, told = apply("typst-001,typst-002", tmp_path / "a.tex")
    assert code == 2
    assert "a document by several runs is written into a folder, without --report" in told
    assert apply("typst-001,typst-002", tmp_path / "a.tex", "-o", tmp_path / "out")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "typst-001.typ", "typst-002.typ",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".latex", ".ltx", ".TEX"])
def test_a_document_has_other_suffixes_too(apply, answers, tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_text(DOCUMENT, encoding="utf-8")
    assert "\nThe mean is $frac(a, b)$." in apply("typst-001", tmp_path / f"a{suffix}")[1]
    code, _, told = apply("typst-001", tmp_path / f"a{suffix}", "--text", "a")
    assert code == 2
    assert f"typst: a {suffix} document is converted alone; call apply once for each" in told


@pytest.mark.parametrize("option", ["--by=rules", "--report=x.html"])
def test_an_option_of_documents_is_refused_where_there_is_none(apply, echo, option):
    code, _, told = apply("typst-001", "--text", "x", option)
    assert code == 2
    assert (
        f"{option.partition('=')[0]}: of documents alone, such as paper.tex; leave it out" in told
    )


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
    (tmp_path / "empty.tex").write_text(" \n")
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
