r"""LaTeX formulas -> Typst by our own rules: what they write, and that nothing makes them fail."""

import random
import time

import pytest

from stages.latex import math_symbols
from stages.latex.formula_rules import typst_of
from stages.scoring import tex
from stages.scoring.likeness import ALIKE, likeness, of_typst
from stages.scoring.render import Renderer

WRITTEN = {
    # Brackets: plain around what is low, else escaped, so that they do not grow.
    "f(x)": "f ( x )",
    "(x^2)": r"\( x^2 \)",
    r"[0,1)": r"\[ 0 , 1 \)",
    r"\{a\}": r"\{ a \}",
    r"\left(\frac{a}{b}\right)": "(frac(a, b))",
    r"\left.\frac{a}{b}\right|_0": r"lr(frac(a, b)\|)_0",
    r"\big( x": r"lr(size: #1.2em, \() x",
    r"|x|": r"\|x\|",
    r"\langle x\rangle": "chevron.l x chevron.r",
    # Nothing is called, divided or made an arrow by accident.
    r"\alpha(x)": "alpha ( x )",
    "a_f(x)": "a_f ( x )",
    "a/b": r"a \/ b",
    "a->b": "a - > b",
    r"\frac{a,b}{c:d}": r"frac(a \, b, c \: d)",
    # Scripts, primes and limits.
    "x'_a^2": "x'_a^2",
    r"x^{\prime\prime}": "x''",
    "{}_a X": '""_a X',
    r"{(a+\frac{b}{c})}^2": r"attach(\( a + frac(b, c) \), t: 2)",
    r"\int\limits_0^1": "limits(integral)_0^1",
    r"\sum\nolimits_a": "scripts(sum)_a",
    r"A\mid_x": "A scripts(divides)_x",
    # Fonts, by command and by switch.
    r"{\cal L} \mathbb{R} \mathbf{x}": "cal(L) bb(R) bold(upright(x))",
    r"{\rm Tr}\,x": '"Tr"thin x',
    r"\mathrm{d}x": "upright(d) x",
    r"\boldsymbol{\alpha}": "bold(alpha)",
    r"\operatorname { s i n } x": "sin x",
    r"\operatorname*{argmax}_x": 'op(limits: #true, "argmax")_x',
    r"\mathop{\rm Res}_{z=0}": 'op(limits: #true, "Res")_(z = 0)',
    # Accents of one letter keep their size.
    r"\hat{x}\hat{M}\hat{i}": "hat(x) hat(size: #0pt, M) hat(dotless: #false, i)",
    r"\widehat{ABC}\overline{x}\bar x": "hat(A B C) overline(x) macron(x)",
    # What stands before or after is taken too.
    r"a+{b \over c}": "a + frac(b, c)",
    r"n \choose k": "binom(n, k)",
    r"{a \atop b}": "mat(delim: #none, a; b)",
    r"\stackrel{def}{=}": "attach(limits(=), t: d e f)",
    r"\underbrace{a+b}_n": "underbrace(a + b, n)",
    r"a\not=b\not\in c": "a eq.not b in.not c",
    # Text with formulas and signs in it.
    r"x\text{ if $y>0$ and ``z''}": 'x" if "y > 0" and “z”"',
    r'\mbox{a "b" \& c}': r'"a \"b\" & c"',
    # Spaces, comments, digits, what draws nothing.
    r"a\,b\;c\quad d\!e~f": "a thin b thick c quad d #h(-1em/6) e space f",
    r"a\hspace{1cm}b\kern 3mu c": "a #h(1cm) b #h(0.1667em) c",
    r"a% nothing": "a",
    "1 0 . 5 x": "10.5 x",
    r"x\label{a}\nonumber\tag{1}": 'x wide \\("1"\\)',
    # Macros of the formula's own.
    r"\newcommand{\R}[1]{\mathbb{R}^{#1}} \R n": "bb(R)^n",
    r"\def\a#1#2{#2#1}\a xy": "y x",
    # Matrices and lines.
    r"\begin{pmatrix}a&b\\c&\end{pmatrix}": 'mat(delim: "(", column-gap: #1em, a, b; c, "")',
    r"\begin{cases}a&b\\c&d\end{cases}": "cases(a & quad b, c & quad d)",
    r"\begin{aligned}a&=b\\&=c\end{aligned},": r"a & = b \ & = c ,",
    r"\begin{eqnarray}a&=&b\\&=&c\end{eqnarray}": r"a & = && b \ & = && c",
    r"\sum_{\substack{a\\b}}": r"sum_(a \ b)",
    r"{\displaystyle\frac ab}": "display(frac(a, b))",
}

UNKNOWN = (
    r"\unknown x", "a^b^c", "{a", "a}", r"\left(a", r"\frac{a}", r"\begin{tikz}\end{tikz}", "#", "$",
    r"\begin{matrix}a\end{pmatrix}", "\\", r"\newcommand", r"\def\a{\a\a}\a", r"\text{\ref{a}}",
    "a\0b", r"\hspace{lots}", r"\input{secret}", r"\write18{ls}", r"\begin{array}{p{3cm}}a\end{array}",
    r"a \over b \over c", "\x1b", r"\begin{pmatrix}a\\\hline b\end{pmatrix}", r"\substack{a&b}", r"\left", r"\big", "^", r"\sqrt[3", r"\verb|a|",
)  # fmt: skip


@pytest.mark.parametrize("latex", WRITTEN)
def test_what_the_rules_write(latex):
    assert typst_of(latex) == WRITTEN[latex]


def test_what_the_rules_write_compiles():
    with Renderer() as renderer:
        drawn = renderer.render([*WRITTEN.values()], "math")
    assert [
        typst for typst, picture in zip(WRITTEN.values(), drawn, strict=True) if not picture
    ] == []


@pytest.mark.parametrize("latex", UNKNOWN)
def test_what_is_not_known_is_not_guessed(latex):
    assert typst_of(latex) is None


SAME = {
    "f(x)": r"f\(x\)",
    r"\left(\frac{a}{b}\right)": "lr((frac(a, b)))",
    r"\mathrm{kin}_a y": '"kin"_a y',
    r"x\in[0,1)": r"x in \[0,1\)",
    r"a_1(x)": "a_1 (x)",
    r"{a\over b}+c": "a/b + c",
    r"\hbar\omega": "ℏ omega",
    r"\mathrm{\bf x}": "bold(upright(x))",
}


def test_pictures_are_those_of_typst_written_by_hand():
    own = [typst_of(latex) or "" for latex in SAME]
    with Renderer() as renderer:
        assert renderer.render(own, "math") == renderer.render([*SAME.values()], "math")


NAMES = [
    f"\\{name}"
    for table in (
        math_symbols.GREEK, math_symbols.CAPITAL_GREEK, math_symbols.SLANTED_GREEK, math_symbols.ORDINARY, math_symbols.INNER,
        math_symbols.BINARY, math_symbols.RELATION, math_symbols.LARGE, math_symbols.SPACES,
    )
    for name in table
] + [f"\\{name}" for name in math_symbols.OPERATORS | math_symbols.LIMIT_OPERATORS]  # fmt: skip


def test_every_symbol_is_one_of_typsts():
    own = [typst_of(f"a{name} b") or "" for name in NAMES]
    own += [*math_symbols.NEGATED.values()]
    own += [f"lr({sign})" for sign in math_symbols.DELIMITERS.values() if sign]
    with Renderer() as renderer:
        drawn = renderer.render(own, "math")
    assert [typst for typst, picture in zip(own, drawn, strict=True) if not picture] == []


@pytest.mark.skipif(not tex.available(), reason="needs LaTeX")
def test_symbols_look_like_latexs():
    """Some are drawn otherwise by Typst's font; a wrong name would be among many that are not."""
    with tex.Typesetter() as typesetter:
        originals = typesetter.pictures([f"a{name} b" for name in NAMES])
    pictures = of_typst([typst_of(f"a{name} b") or "" for name in NAMES], "math")
    alike = [
        likeness(one, other) >= ALIKE
        for one, other in zip(originals, pictures, strict=True)
        if one is not None and other is not None
    ]
    assert len(alike) > 300
    assert sum(alike) / len(alike) > 0.85


@pytest.mark.skipif(not tex.available(), reason="needs LaTeX")
@pytest.mark.parametrize(
    "latex",
    [
        r"(\sum_i x_i)[a^b]|c^d|",
        r"\left.\frac{x}{2}\right|_{x=1}^{2} + \langle \phi^2|",
        r"\left(\begin{array}{lr}a&bbb\\ccc&d\end{array}\right)",
        r"a : b \stackrel{a}{\rightarrow} c \to d^*",
        r"1, \ldots, n + a \cdots b",
        r"\mathcal{L}_{\rm kin} = \frac{1}{2} m \dot{x}^2 \quad\text{for all } x",
        r"\begin{eqnarray}a&=&b+c\\&=&d\end{eqnarray}",
    ],
)
def test_formulas_look_like_latexs(latex):
    with tex.Typesetter() as typesetter:
        (original,) = typesetter.pictures([latex])
    (picture,) = of_typst([typst_of(latex) or ""], "math")
    assert original is not None
    assert picture is not None
    assert likeness(original, picture) >= ALIKE


@pytest.mark.parametrize(
    "latex",
    [
        "{" * 1_000_000,
        "{" * 9_000 + "x" + "}" * 9_000,
        r"\frac" * 4_000,
        r"\hat" * 5_000 + "x",
        r"\left(" * 2_000 + r"\right)" * 2_000,
        "x^" * 9_000,
        r"\text{" * 2_000 + "}" * 2_000,
        r"\begin{matrix}" * 700 + r"\end{matrix}" * 700,
        r"\def\a{\b\b}\def\b{\c\c}\def\c{\d\d}\def\d{\a\a}\a",
        r"\def\a#1{#1#1#1#1}" + r"\a{" * 30 + "x" + "}" * 30,
        "'" * 20_000,
        "(" * 10_000 + ")" * 10_000,
        "[" * 20_000,
        r"\sqrt[" * 3_000,
        r"\displaystyle x" * 1_300,
        r"\text{" + "$x$" * 6_000 + "}",
        "$" * 20_000,
    ],
    ids=range(17),
)
def test_hostile_formulas_take_no_time(latex):
    begin = time.process_time()
    typst_of(latex)
    assert time.process_time() - begin < 2


def test_any_text_gives_nothing_or_what_compiles():
    pieces = [
        *WRITTEN, *UNKNOWN, *NAMES, "{", "}", "^", "_", "&", r"\\", "(", ")", "[", "]", "|", "'", ",",
        ";", ":", "/", '"', "#", "~", "é", "√", "中", "\u0301", " ", "12", "x", r"\left(", r"\right)",
        r"\rm", r"\over", r"\displaystyle", r"\text{", "%", "@", "`",
    ]  # fmt: skip
    chance = random.Random(5)
    texts = ["".join(chance.choices(pieces, k=chance.randint(1, 6))) for _ in range(3_000)]
    own = [typst for text in texts if (typst := typst_of(text))]
    assert len(own) > 600
    with Renderer() as renderer:
        drawn = renderer.render(own, "math")
    failed = [typst for typst, picture in zip(own, drawn, strict=True) if picture is None]
    assert failed == []
