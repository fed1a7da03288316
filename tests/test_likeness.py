"""What counts as alike: two pictures of one formula, by whichever program, and no others."""

import random
import time

import numpy as np
import pytest

from stages.scoring import likeness, render_worker, tex
from stages.scoring.likeness import ALIKE, cropped, of_typst
from stages.scoring.render import Renderer

NO_LATEX = f"LaTeX is not installed: {tex.INSTALL}"

SAME = [
    ("frac(a, b) + x_1^2", "a/b + x^2_1"),
    ("alpha + integral_0^1 x dif x", "α + integral_(0)^(1) x thin dif x"),
    ("mat(a, b; c, d)", "mat(a,b;c,d)"),
    ("(a + b) (c + d)", "lr((a + b)) thin (c + d)"),
    ("sum_(k=1)^n k = n", "sum_(k = 1)^n k med = med n"),
    ("lr([frac(a, b)])", "bracket.l frac(a, b) bracket.r"),
    ("f(x) = sqrt(x), x > 0", "f(x) = sqrt(x), thick x > 0"),
]
MUTATED = [
    ("a + b - c", "a - b - c"),
    ("x_1 + y_2", "x_1 + y_3"),
    ("x_i^2", "x_i"),
    ("x_i + y", "x^i + y"),
    ("frac(a, b)", "frac(b, a)"),
    ("hat(x) + y", "dot(x) + y"),
    ("macron(x) + y", "hat(x) + y"),
    ("dot(x) = y", "x = y"),
    ("a <= b", "a >= b"),
    ("x = -y", "x = y"),
    ("sum_(k=1)^n k^2 + a + b + c + d + e + f", "sum_(k=1)^m k^2 + a + b + c + d + e + f"),
    ("alpha beta gamma", "alpha gamma beta"),
    ("sqrt(x + y)", "sqrt(x) + y"),
    ("mat(a, b; c, d)", "mat(a, b; d, c)"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_formula_spaced_or_written_in_another_way_is_alike(one: str, other: str) -> None:
    first, second = of_typst([one, other], "math")
    assert first is not None
    assert second is not None
    assert likeness.likeness(first, second) >= ALIKE
    assert likeness.likeness(second, first) >= ALIKE


@pytest.mark.parametrize(("one", "other"), MUTATED)
def test_a_formula_with_one_thing_changed_is_not(one: str, other: str) -> None:
    first, second = of_typst([one, other], "math")
    assert first is not None
    assert second is not None
    assert likeness.likeness(first, second) < ALIKE
    assert likeness.likeness(second, first) < ALIKE


def test_one_changed_sign_shows_in_a_formula_of_any_length() -> None:
    terms = [f"a_({number})" for number in range(40)]
    sources = [" + ".join(terms), " + ".join(terms[:20]) + " - " + " + ".join(terms[20:])]
    first, second = of_typst(sources, "math")
    assert first is not None
    assert second is not None
    assert likeness.likeness(first, first) == pytest.approx(1.0, abs=1e-3)
    assert likeness.likeness(first, second) < ALIKE


def test_pictures_are_ink_on_nothing_and_have_no_margin() -> None:
    (picture,) = of_typst(["x"], "math")
    assert picture is not None
    assert picture.dtype == np.uint8
    assert picture.max() > 250
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert edge.max() > likeness.INK


def test_what_does_not_compile_or_shows_nothing_has_no_picture() -> None:
    assert of_typst(["#(", "", "x"], "math")[:2] == [None, None]
    nothing = cropped(np.zeros((5, 5), np.uint8))
    assert nothing.shape == (0, 0)
    assert likeness.likeness(nothing, cropped(np.full((5, 5), 255, np.uint8))) == 0.0


def test_a_page_that_unpacks_to_gigabytes_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "MAX_PIXELS", 10_000)
    assert of_typst(["#box(width: 20cm, height: 20cm, fill: black)", "x"], "math")[0] is None


def test_a_picture_of_thousands_of_parts_is_like_nothing_and_takes_no_minutes() -> None:
    dots = np.zeros((200, 400), np.uint8)
    dots[::4, ::4] = 255
    begin = time.monotonic()
    assert likeness.likeness(dots, dots) == 0.0
    (few,) = of_typst(["a + b"], "math")
    assert few is not None
    assert likeness.likeness(dots[:40], few) == 0.0
    assert time.monotonic() - begin < 5


def test_pixels_are_made_within_the_limits_of_the_worker() -> None:
    """A page of 40 square metres takes more memory than the worker may have: it costs its worker,
    and no other source.
    """
    with Renderer(2.0, wanted="pixels") as renderer:
        huge = "#page(width: 6000cm, height: 6000cm)[x]"
        found = renderer.render([huge, "x"], "document")
    assert of_typst(["#page(width: 210cm, height: 210cm)[x]"], "document") == [None]
    assert found[0] is None
    assert found[1]
    assert found[1].startswith(likeness.PNG)
    assert render_worker.PIXELS_PER_INCH == likeness.DPI


@pytest.mark.skipif(not tex.available(), reason=NO_LATEX)
def test_latex_and_typst_draw_the_same_formulas_alike_and_mutated_ones_not() -> None:
    from bench.typst import measures

    found = measures.pairs(measures.Path("nowhere"), random.Random(3))[:60]
    right = [(likeness.likeness(one, other) >= ALIKE) == same for _, same, one, other in found]
    assert sum(right) / len(right) > 0.9
