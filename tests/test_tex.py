"""LaTeX draws what it is given, and what is hostile costs its own picture and nothing else."""

import time
from pathlib import Path

import pytest

from stages.scoring import tex
from stages.scoring.tex import Typesetter

pytestmark = pytest.mark.skipif(
    not tex.available(), reason=f"LaTeX is not installed: {tex.INSTALL}"
)

GOOD = (r"\frac{a}{b}", r"x_1^2", r"\int_0^1 x \, dx", r"\begin{align}a &= b \\ c &= d\end{align}")
BROKEN = (
    "x}",
    r"\frac{a",
    r"\foo x",
    r"\iffalse",
    r"\end{document}",
    "x^a^b",
    "",
    r"\def\x{\x\x}\x",
    r"\shipout\hbox{a} x",
    r"\left( x",
    r"\begin{array}{c} x",
    "\\text{\0}",
)
HOSTILE = (
    r"\immediate\write18{touch written} x \foo",
    r"\input{/etc/passwd}",
    r"\input{../../../../etc/passwd}",
    r"\includegraphics{/etc/passwd}",
    r"\loop\iftrue\repeat",
    r"\def\x{\typeout{aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}\x}\x",
    r"\rule{16000pt}{16000pt}",
)


def test_a_formula_that_fails_costs_its_own_picture_and_shifts_no_other() -> None:
    mixed = [each for pair in zip(GOOD * 3, BROKEN, strict=True) for each in pair]
    with Typesetter() as typesetter:
        alone = typesetter.pictures(GOOD)
        drawn = typesetter.pictures(mixed)
    assert all(picture is not None for picture in alone)
    assert drawn[1::2] == [None] * len(BROKEN)
    for picture, wanted in zip(drawn[::2], alone * 3, strict=True):
        assert picture is not None
        assert (picture == wanted).all()


def test_a_formula_that_changes_what_follows_is_told_by_no_other_page() -> None:
    with Typesetter() as typesetter:
        alone, _, after = typesetter.pictures(["x + y", r"\gdef\displaystyle{}\frac{", "x + y "])
    assert alone is not None
    assert after is not None
    assert (alone == after).all()


@pytest.mark.parametrize("formula", HOSTILE)
def test_hostile_latex_reads_nothing_and_comes_to_its_limit(
    formula: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tex, "CPU_SECONDS", 1)
    monkeypatch.chdir(tmp_path)
    begin = time.monotonic()
    with Typesetter() as typesetter:
        before, hostile, after = typesetter.pictures(["a", formula, "b"])
    assert hostile is None
    assert before is not None
    assert after is not None
    assert time.monotonic() - begin < 60
    assert not [*tmp_path.rglob("*")]


def test_a_file_outside_the_folder_is_read_by_no_primitive(tmp_path: Path) -> None:
    secret = tmp_path / "secret.tex"
    secret.write_text("a + b + c + d", encoding="utf-8")
    ways = [
        rf"\input{{{secret}}}",
        rf"\csname @@input\endcsname {secret} ",
        rf"\newread\r \openin\r={secret} \read\r to\x \x",
        rf"\IfFileExists{{{secret}}}{{w}}{{\foo}}",
        rf"\csname pdffiledump\endcsname length 5 {{{secret}}}",
    ]
    with Typesetter() as typesetter:
        plain, *drawn = typesetter.pictures(["a + b + c + d", *ways])
    assert plain is not None
    for way, picture in zip(ways, drawn, strict=True):
        assert picture is None or picture.shape[1] < plain.shape[1] / 2, way


def test_a_document_has_its_pages_and_only_what_lies_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "paper"
    folder.mkdir()
    (tmp_path / "outside.tex").write_text("secret", encoding="utf-8")
    (folder / "beside.tex").write_text("beside", encoding="utf-8")
    main = folder / "paper.tex"

    def written(body: str) -> Path:
        main.write_text(
            f"\\documentclass{{article}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n",
            encoding="utf-8",
        )
        return main

    with Typesetter() as typesetter:
        pages = typesetter.pages(written("One\\newpage Two \\input{beside}"))
        assert pages is not None
        assert len(pages) == 2
        assert typesetter.pages(written("\\input{../outside}")) is None
        assert typesetter.pages(written("\\foo")) is None
    assert sorted(path.name for path in folder.iterdir()) == ["beside.tex", "paper.tex"]
