"""What others' converters make of formulas, and that a hostile one costs no other its Typst."""

import time
from collections.abc import Iterator

import pytest

from stages import confined_workers
from stages.latex import kept_converters
from stages.latex.kept_converters import KeptConverters
from stages.scoring.render import Renderer

LIMIT_SECONDS = 1.0


@pytest.fixture(scope="module")
def converters() -> Iterator[KeptConverters]:
    with KeptConverters(LIMIT_SECONDS) as converters:
        yield converters


def test_each_installed_converter_answers_with_typst_that_compiles(
    converters: KeptConverters,
) -> None:
    sources = [r"\frac{a}{b}", r"\sum_{i=1}^n x_i", r"\frac{a}{b}"]
    found = converters.formulas(sources)
    assert [set(each) for each in found] == [set(converters.names)] * 3
    assert found[0] == found[2]
    with Renderer() as renderer:
        assert all(renderer.render([typst for each in found for typst in each.values()], "math"))


def test_no_formulas_give_no_answers(converters: KeptConverters) -> None:
    assert converters.formulas([]) == []


HOSTILE = {
    "endless recursion": r"\def\a{\a}\a",
    "endless growth": r"\def\a{\a\a}\a",
    "doubling": "".join(rf"\def\{b}{{\{a}\{a}}}" for a, b in zip("abcdefghijklmnopqrstuvwxy", "bcdefghijklmnopqrstuvwxyz", strict=True)) + r"\z",
    "a megabyte of braces": "{" * 1_000_000,
    "nested braces": "{" * 9_000 + "x" + "}" * 9_000,
    "nested fractions": r"\frac{" * 2_000 + "x" + "}{y}" * 2_000,
    "nested brackets": r"\left(" * 1_200 + "x" + r"\right)" * 1_200,
    "towers": "x^" * 9_000 + "x",
    "NUL": "a\0b",
    "half a character": "\ud800",
    "a file": r"\input{/etc/passwd}",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_formula_costs_its_time_limit_and_the_next_one_is_converted(
    converters: KeptConverters, name: str
) -> None:
    begun = time.monotonic()
    hostile, after = converters.formulas([HOSTILE[name], f"x_{{{len(name)}}}"])
    # Both converters at both attempts, and the workers' new starts, on a busy machine.
    assert time.monotonic() - begun < 2 * 2 * LIMIT_SECONDS + 6
    assert set(after) == set(converters.names)
    assert "root:" not in "".join(hostile.values())
    if name in ("endless recursion", "a megabyte of braces", "NUL", "half a character"):
        assert "tylax" not in hostile


def test_a_converter_that_crashes_is_left_out_and_the_other_answers(
    converters: KeptConverters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_converters, "MAX_FORMULA_CHARACTERS", 1_000_000)
    crashing, after = converters.formulas(["{" * 100_000 + "x" + "}" * 100_000, "y"])
    assert crashing == {}
    assert set(after) == set(converters.names)


def test_many_that_hang_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(confined_workers, "PATIENCE", 1)
    with KeptConverters() as converters:
        if "tex2typst" not in converters.names:
            pytest.skip("no wheel of tex2typst for this platform")
        hang = [f"x_{n}" + r"\left(" * 1_200 + "x" + r"\right)" * 1_200 for n in range(6)]
        begun = time.monotonic()
        found = converters.formulas([text for each in hang for text in (each, f"y_{len(each)}")])
        assert time.monotonic() - begun < 15
    assert all(set(each) == set(converters.names) for each in found[1::2])


def test_a_converter_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_converters, "find_spec", lambda name: name == "tylax" or None)
    with KeptConverters() as converters:
        assert converters.formulas(["x"]) == [{"tylax": "x"}]
