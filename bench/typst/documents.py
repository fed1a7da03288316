"""Documents as arXiv has them, written by a seed: what a converter must cope with beside formulas."""

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from stages.grammar.mathematics import formula
from stages.tasks.typst.synthetic import OPENINGS, VERBS, WORDS

LONG_SECTIONS = 17
"""Of the long document, which LaTeX sets on 20 pages."""

POLISH = (
    "Zażółć gęślą jaźń, a potem sprawdź, czy każda litera została na swoim miejscu.",
    "Twierdzenie o wartości średniej mówi, że funkcja ciągła przyjmuje każdą wartość pośrednią.",
    "Łódź, Kraków i Gdańsk leżą w różnych częściach kraju, lecz łączy je kolej.",
    "Źródła podają, że świeży śnieg spadł w górach już we wrześniu.",
)
JAPANESE = (
    "平均値の定理により、連続関数は中間の値をすべてとる。",
    "この節では、記号の意味と例を説明する。",
    "次の式が成り立つことを示す。",
)
PACKAGES = r"""\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{lmodern}
\usepackage{amsmath,amssymb,amsthm}
\usepackage{graphicx}
\usepackage{booktabs}
\usepackage{listings}
\usepackage{hyperref}
"""


class Writer:
    """Draws what documents are made of."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.labels = 0

    def words(self, count: int) -> str:
        return " ".join(word.latex() for word in self.rng.sample(WORDS, count))

    def title(self) -> str:
        return self.words(3).capitalize()

    def math(self, level: int = 1) -> str:
        return formula(self.rng, level).latex()

    def sentence(self) -> str:
        kind = self.rng.random()
        subject, verb = self.words(1), self.rng.choice(VERBS)
        if kind < 0.3:
            return f"{self.rng.choice(OPENINGS)} ${self.math()}$."
        if kind < 0.5:
            return (
                f"The \\emph{{{subject}}} {verb} the {self.words(2)}, and ${self.math()}$ follows."
            )
        if kind < 0.7:
            return f"A \\textbf{{{subject}}} of the {self.words(1)} {verb} no {self.words(1)}."
        return (
            f"Where the {subject} {verb} its {self.words(2)}, the {self.words(1)} stays as it was."
        )

    def paragraph(self, sentences: int = 5) -> str:
        return " ".join(self.sentence() for _ in range(sentences))

    def label(self, kind: str) -> str:
        self.labels += 1
        return f"{kind}:{self.labels}"

    def equation(self) -> str:
        name = self.label("eq")
        return (
            f"\\begin{{equation}}\\label{{{name}}}\n{self.math(2)} = {self.math(2)}\n\\end{{equation}}\n"
            f"By \\eqref{{{name}}}, {self.words(1)} {self.rng.choice(VERBS)} {self.words(1)}."
        )

    def align(self) -> str:
        lines = " \\\\\n".join(f"{self.math()} &= {self.math(2)}" for _ in range(3))
        return f"\\begin{{align*}}\n{lines}\n\\end{{align*}}"

    def items(self, kind: str, deeper: bool = True) -> str:
        lines = [f"\\item {self.sentence()}" for _ in range(3)]
        if deeper:
            lines[1] += "\n" + self.items("enumerate" if kind == "itemize" else "itemize", False)
        return "\n".join([f"\\begin{{{kind}}}", *lines, f"\\end{{{kind}}}"])

    def theorem(self) -> str:
        name = self.label("thm")
        return (
            f"\\begin{{theorem}}\\label{{{name}}}\n{self.sentence()}\n\\end{{theorem}}\n"
            f"\\begin{{proof}}\n{self.paragraph(2)}\n\\end{{proof}}\n"
            f"Theorem~\\ref{{{name}}} {self.rng.choice(VERBS)} more than it says."
        )

    def table(self) -> str:
        name = self.label("tab")
        rows = " \\\\\n".join(
            f"{self.words(1)} & ${self.math()}$ & {self.rng.randint(1, 99)}.{self.rng.randint(0, 9)}"
            for _ in range(4)
        )
        return (
            f"\\begin{{table}}\n\\centering\n\\begin{{tabular}}{{lcr}}\n\\toprule\nname & value & count \\\\\n"
            f"\\midrule\n{rows} \\\\\n\\bottomrule\n\\end{{tabular}}\n\\caption{{{self.title()}.}}\n"
            f"\\label{{{name}}}\n\\end{{table}}\nTable~\\ref{{{name}}} has them."
        )

    def figure(self) -> str:
        name = self.label("fig")
        return (
            "\\begin{figure}\n\\centering\n\\includegraphics[width=0.4\\textwidth]{plot.png}\n"
            f"\\caption{{{self.title()}, with ${self.math()}$.}}\n\\label{{{name}}}\n\\end{{figure}}\n"
            f"Figure~\\ref{{{name}}} shows it."
        )

    def footnote(self) -> str:
        return f"{self.sentence()}\\footnote{{{self.sentence()}}} {self.sentence()}"

    def citation(self) -> str:
        return f"As \\cite{{one}} and \\cite{{two,three}} say, {self.words(2)} {self.rng.choice(VERBS)}."

    def verbatim(self) -> str:
        return (
            '\\begin{verbatim}\nfor x in range(10):\n    print(f"{x} $not$ \\alpha % a comment")\n'
            "\\end{verbatim}\n\\begin{lstlisting}[language=Python]\ndef f(a_b):\n    return a_b ** 2  # $x$\n"
            "\\end{lstlisting}\nThe command \\verb|a_b & c| is one line."
        )

    def long_formula(self) -> str:
        sums = " + ".join(self.math(2) for _ in range(5))
        cases = " \\\\\n".join(f"{self.math()} & \\text{{if }} {self.math()}" for _ in range(3))
        return (
            f"\\begin{{multline*}}\n{sums} \\\\\n= {self.math(3)}\n\\end{{multline*}}\n"
            f"\\[ f(x) = \\begin{{cases}} {cases} \\end{{cases}} \\]\n"
            "\\[ A = \\begin{pmatrix} a_{11} & \\cdots & a_{1n} \\\\ \\vdots & \\ddots & \\vdots \\\\"
            " a_{n1} & \\cdots & a_{nn} \\end{pmatrix} \\]"
        )

    def macros(self) -> str:
        return f"Let $\\norm{{x}} \\le \\R$ and $\\pair{{{self.math()}}}{{y}}$. The \\term{{{self.words(1)}}} is $\\argmin_x \\half x^2$."


MACROS = r"""\newcommand{\R}{\mathbb{R}}
\newcommand{\norm}[1]{\left\| #1 \right\|}
\newcommand{\pair}[2]{\langle #1, #2 \rangle}
\newcommand{\term}[1]{\emph{#1}}
\def\half{\frac{1}{2}}
\DeclareMathOperator*{\argmin}{arg\,min}
"""
THEOREM = "\\newtheorem{theorem}{Theorem}\n"
CITED = "\n".join(
    [
        "\\begin{thebibliography}{9}",
        "\\bibitem{one} A. Author, \\emph{On lines}, 2001.",
        "\\bibitem{two} B. Author and C. Author, On fields, \\emph{Journal of Groups} 12 (2010), 1--20.",
        "\\bibitem{three} D. Author, A note.",
        "\\end{thebibliography}",
    ]
)

KINDS: dict[str, tuple[str, Callable[[Writer], list[str]]]] = {
    "sections": ("", lambda w: [f"\\section{{{w.title()}}}\\label{{sec:a}}", w.paragraph(), f"\\subsection{{{w.title()}}}", w.paragraph(), w.equation(), "As in Section~\\ref{sec:a}.", w.align()]),
    "macros": (MACROS, lambda w: [f"\\section{{{w.title()}}}", *(w.macros() for _ in range(4)), w.paragraph()]),
    "theorems": (THEOREM, lambda w: [f"\\section{{{w.title()}}}", *(w.theorem() for _ in range(3))]),
    "tables": ("", lambda w: [w.paragraph(3), w.table(), w.paragraph(3), w.table()]),
    "lists": ("", lambda w: [w.items("itemize"), w.paragraph(2), w.items("enumerate"), "\\begin{description}\n\\item[A word] " + w.sentence() + "\n\\end{description}"]),
    "footnotes": ("", lambda w: [*(w.footnote() for _ in range(4)), "\\begin{quote}\n" + w.sentence() + "\n\\end{quote}"]),
    "figures": ("", lambda w: [w.paragraph(3), w.figure(), w.paragraph(3), w.figure()]),
    "citations": ("", lambda w: [w.citation(), w.paragraph(3), w.citation(), CITED]),
    "verbatim": ("", lambda w: [w.paragraph(2), w.verbatim(), "% a comment with a $ in it", w.paragraph(2)]),
    "long formulas": ("", lambda w: [w.paragraph(1), w.long_formula(), w.paragraph(1), w.long_formula()]),
    "Polish": ("", lambda w: ["\\section{Wstęp}", *(f"{each} Niech ${w.math()}$." for each in POLISH)]),
    "Japanese": ("\\usepackage{CJKutf8}\n", lambda w: ["\\begin{CJK}{UTF8}{min}", *(f"{each} ${w.math()}$" for each in JAPANESE), "\\end{CJK}"]),
    "long": (MACROS + THEOREM, lambda w: [part for _ in range(LONG_SECTIONS) for part in (f"\\section{{{w.title()}}}", w.paragraph(8), w.equation(), w.footnote(), w.theorem(), w.items("itemize"), w.align(), w.table(), w.macros(), w.citation())] + [CITED]),
}  # fmt: skip
"""By kind: what its preamble has more, and its parts."""


def write(folder: Path, seed: int = 1) -> dict[str, Path]:
    """Each document's main file by its kind, in a folder of its own with its picture."""
    found = {}
    for kind, (more, parts) in KINDS.items():
        writer = Writer(random.Random(f"{seed} {kind}"))
        body = "\n\n".join(parts(writer))
        abstract = f"\\begin{{abstract}}\n{writer.paragraph(3)}\n\\end{{abstract}}"
        text = (
            f"\\documentclass{{article}}\n{PACKAGES}{more}\\title{{{writer.title()}}}\n"
            f"\\author{{A. Author \\and B. Author}}\n\\date{{1 May 2020}}\n\\begin{{document}}\n\\maketitle\n"
            f"{abstract}\n\n{body}\n\\end{{document}}\n"
        )
        path = folder / kind.replace(" ", "-") / "paper.tex"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        (path.parent / "plot.png").write_bytes(plot(240, 160))
        found[kind] = path
    return found


def plot(width: int, height: int) -> bytes:
    """A grey picture of a line, as PNG."""
    rows = b"".join(
        b"\0"
        + bytes(
            0 if abs(x * height - (height - y) * width) < 3 * width else 255 for x in range(width)
        )
        for y in range(height)
    )

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
