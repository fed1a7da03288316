"""What counts as the same picture, and that a hostile source harms nothing and delays little."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages import confined_workers, worker_process
from stages.records import Prediction, Row
from stages.scoring import render, render_worker
from stages.scoring.render import Renderer
from stages.scoring.render_worker import BLANK, Mode, marks
from stages.tasks.typst import score

LIMIT_SECONDS = 1.0
MODES: tuple[Mode, ...] = ("math", "document")


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer(LIMIT_SECONDS) as renderer:
        yield renderer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("frac(a, b)", "a/b"),
        ("alpha", "α"),
        ("x^(2)", "x^2"),
        ("x_1^2", "x^2_1"),
        ("mat(a,b;c,d)", "mat(a, b; c, d)"),
        ("lr((frac(a, b)))", "(a/b)"),
        ("x // said in passing", "x"),
        (
            '1 "and" y',
            '1" and "y',
        ),  # grouped differently in the SVG, and the space is a glyph only in the second
    ],
)
def test_two_spellings_of_one_formula_look_the_same(
    renderer: Renderer, one: str, other: str
) -> None:
    first, second = renderer.render([one, other], "math")
    assert first
    assert first == second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a\\/b", "a/b"),
        ("x^2", "x_2"),
        ("phi", "phi.alt"),
        ("macron(x)", "overline(x)"),
        ("a b", "a thin b"),
        ("x", "bold(x)"),
        ("x", "#text(fill: red)[$x$]"),
        ("quad", "1"),
        ('"日本"', '"本日"'),  # the embedded fonts draw neither: four equal boxes
    ],
)
def test_different_formulas_look_different(renderer: Renderer, one: str, other: str) -> None:
    first, second = renderer.render([one, other], "math")
    assert first is not None
    assert second is not None
    assert first != second


def test_the_same_source_looks_the_same_in_another_process(renderer: Renderer) -> None:
    sources = ["sum_(i = 1)^n frac(i, 2)", 'cases(x & "if" x > 0, 0 & "else")', "日本"]
    with Renderer() as other:
        for mode in MODES:
            assert other.render(sources, mode) == renderer.render(sources, mode)


def test_documents_are_read_as_markup(renderer: Renderer) -> None:
    heading, plain, formula, broken = renderer.render(
        ["= Limits", "Limits", "- a $x^2$", "a $x"], "document"
    )
    assert heading
    assert plain
    assert heading != plain
    assert formula
    assert broken is None


@pytest.mark.parametrize(
    "source", ["frac(a", "unknownname", "x $ y", "x $ $", "x $ // ", "x /* y", "\ud800", "sqrt()"]
)
def test_what_does_not_compile_inside_a_formula_has_no_picture(
    renderer: Renderer, source: str
) -> None:
    assert renderer.render([source], "math") == [None]


@pytest.mark.parametrize("source", ["", " ", "quad", "// nothing", "#metadata(1)"])
def test_a_picture_without_a_mark_is_blank(renderer: Renderer, source: str) -> None:
    assert renderer.render([source], "math") == [BLANK]


HOSTILE = {
    "a file": '#read("/etc/passwd")',
    "a file above the root": '#read("../../../../etc/passwd")',
    "a package": '#import "@preview/cetz:0.2.0": *',
    "a package in disguise": '#let name = "@pre" + "view/cetz:0.2.0"\n#import name: *',
    "an endless loop": "#while true {}",
    "an endless loop in disguise": "#let n = 0\n#while n >= 0 { n += 1 }",
    "endless recursion": "#let f(n) = f(n + 1)\n#f(0)",
    "memory": "#range(300000000)",
    "a long text": '#("x" * 4000000000)',
    "deep nesting": "(" * 9000 + "x" + ")" * 9000,
    "length": "x" * (render.MAX_SOURCE_CHARACTERS + 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_source_is_a_failure_and_the_next_one_renders(
    renderer: Renderer, name: str
) -> None:
    # Deep brackets are nothing special in a text; code runs in both.
    for mode in MODES[: 1 if name == "deep nesting" else 2]:
        started = time.monotonic()
        stopped, after = renderer.render(
            [HOSTILE[name], f"x {name}" if mode == "document" else f'"{name}"'], mode
        )
        assert stopped is None
        assert after
        assert (
            time.monotonic() - started < LIMIT_SECONDS + 5
        )  # the worker's new start included, on a busy machine


@pytest.mark.parametrize("mode", MODES)
def test_nested_loops_end_at_the_time_limit_and_cost_no_other_source_its_picture(
    mode: Mode,
) -> None:
    loops = "#for i in range(30000) { for j in range(30000) { } }"
    with Renderer(timeout_seconds=0.7) as renderer:
        assert renderer.render(["a"], mode)[0]
        started = time.monotonic()
        before, stuck, after = renderer.render(["b", loops, "c"], mode)
        taken = time.monotonic() - started
    assert before
    assert after
    assert stuck is None
    assert 0.7 <= taken < 6


def test_the_worker_can_open_neither_file_nor_socket_and_not_outgrow_its_memory() -> None:
    """Shown on the worker's own confinement, in a process that does nothing else."""
    pytest.importorskip("resource", reason="resource limits are POSIX")
    script = (
        "import socket; from stages import confinement; confinement.confine(1024)\n"
        "for act in (lambda: open('/etc/passwd'), socket.socket, lambda: bytearray(2 << 30)):\n"
        "    try: act(); print('done')\n"
        "    except (OSError, MemoryError) as error: print(type(error).__name__)\n"
    )
    command = [sys.executable, "-c", script]
    refused = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert refused[:2] == ["OSError", "OSError"]
    if sys.platform == "linux":  # macOS has no limit on address space
        assert refused[2] == "MemoryError"


def test_a_worker_whose_parent_is_gone_does_not_loop_for_ever(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="resource limits are POSIX")
    command = [sys.executable, "-m", render_worker.__name__, str(tmp_path), "0.1", "fingerprint"]
    loops = "#for i in range(30000) { for j in range(30000) { } }"
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as worker:
        assert worker.stdin is not None
        worker.stdin.write(json.dumps([["math", loops]]) + "\n")
        worker.stdin.flush()
        assert worker.wait(timeout=30) == -signal.SIGXCPU


def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sources as workers are given them."""
    asked: list[str] = []
    answers = worker_process.Worker.answers

    def counted(self: worker_process.Worker, requests: list, seconds: float) -> list:
        asked.extend(source for _, source in requests)
        return answers(self, requests, seconds)

    monkeypatch.setattr(worker_process.Worker, "answers", counted)
    return asked


def test_each_different_source_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = compilations(monkeypatch)
    with Renderer() as renderer:
        pictures = renderer.render(["x", "y", "x"], "math") + renderer.render(["y"], "math")
    assert sorted(asked) == ["x", "y"]
    assert pictures[0] == pictures[2]
    assert pictures[1] == pictures[3]
    assert pictures[0] != pictures[1]


def test_answers_are_compiled_once_for_statistics_and_details(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: list[Row] = [
        {"id": "1", "category": "", "source": "x", "messages": [{"role": "assistant", "content": "x"}]}
    ]  # fmt: skip
    answers = [Prediction("1", "", "#panic()", 0.0, 1)]
    asked = compilations(monkeypatch)
    monkeypatch.setattr(score, "KNOWN", {})
    score.statistics(rows, answers)
    score.details(rows, answers)
    assert sorted(asked) == ["#panic()", "x"]


def test_answers_that_loop_are_bounded_together_and_cost_no_other_its_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    loops = [
        f"#for i in range(90000) {{ for j in range(90000) {{ let x = {n} }} }}" for n in range(12)
    ]
    sources = [text for n, loop in enumerate(loops) for text in (loop, f"x_{n}")]
    seconds: list[float] = []
    line = worker_process.Worker._line
    monkeypatch.setattr(
        worker_process.Worker,
        "_line",
        lambda self, given: (seconds.append(given), line(self, given))[1],
    )
    with Renderer(patience=2) as renderer:
        found = renderer.render(sources, "document")
    assert found[::2] == [None] * 12
    assert all(found[1::2])
    assert [seconds.count(each) for each in (0.3, 3.0)] == [24, 2]


def test_sources_are_compiled_side_by_side_and_a_slow_one_has_all_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(confined_workers, "HASTY_SECONDS", 0.0)
    with Renderer() as renderer:
        assert all(renderer.render([f"x_{n}" for n in range(8)], "math"))
        assert (
            len({worker._process and worker._process.pid for worker in renderer._workers._workers})
            == 2
        )


def test_an_interrupt_stops_workers_that_are_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object, count: int = 1) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(confined_workers.ProgressLines, "advance", interrupted)
    monkeypatch.setattr(confined_workers, "HASTY_SECONDS", 60.0)
    loops = [
        f"#for i in range(90000) {{ for j in range(90000) {{ let x = {n} }} }}" for n in range(3)
    ]
    begun = time.monotonic()
    with Renderer(60.0) as renderer, pytest.raises(KeyboardInterrupt):
        renderer.render(["x", *loops], "document")
    assert time.monotonic() - begun < 30
    assert all(worker._process is None for worker in renderer._workers._workers)


def test_a_worker_that_died_between_two_requests_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with Renderer() as renderer:
        assert renderer.render(["x"], "math")[0]
        process = renderer._workers._workers[0]._process
        assert process is not None
        process.kill()
        process.wait()
        assert renderer.render(["y"], "math")[0]


def test_the_worker_and_its_folder_are_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with Renderer() as renderer:
        renderer.render(["x"], "math")
        process, root = renderer._workers._workers[0]._process, renderer._workers._root.name
    assert process is not None
    assert process.poll() is not None
    assert not Path(root).exists()


def test_marks_are_absolute_whatever_the_groups() -> None:
    glyph = '<defs><symbol id="g1"><path d="M 0 0m 1 1h 2Z"/></symbol><symbol id="g2"><path d="M 0 0"/></symbol></defs>'
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    nested = (
        f'{head}<g transform="translate(2 3)"><g transform="matrix(1 0 0 -1 1 1)"><use '
        f'xlink:href="#g1" x="4" y="0"/>'
        f"</g></g>{glyph}</svg>"
    )
    flat = f'{head}<use xlink:href="#g2" x="0" y="0"/><use xlink:href="#g1" x="7" y="-4" transform="matrix(1 0 0 -1 0 0)"/>'
    assert marks(nested.encode()) == [("use", (1.0, 0.0, 0.0, -1.0, 7.0, 4.0), ("href", "#g1"))]
    assert marks(f"{flat}{glyph}</svg>".encode()) == marks(nested.encode())


def test_what_marks_do_not_understand_is_compared_byte_for_byte(renderer: Renderer) -> None:
    clipped = "#box(width: 4pt, clip: true)[abc]"
    with pytest.raises(render_worker.UnsupportedSvg, match="clip"):
        marks(b'<svg xmlns="http://www.w3.org/2000/svg"><g clip-path="url(#c)"/></svg>')
    first, second = renderer.render([clipped, clipped.replace("4pt", "5pt")], "document")
    assert first
    assert second
    assert first != second


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import time; time.sleep(60)", "no line within 1 seconds"),
    ],
)
def test_a_worker_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, says: str
) -> None:
    monkeypatch.setattr(worker_process, "START_SECONDS", 1.0)
    worker = worker_process.Worker([sys.executable, "-c", code], tmp_path, {})
    with pytest.raises(RuntimeError, match=f": does not start: .*{re.escape(says)}$"):
        worker.answers(["x"], 1)
