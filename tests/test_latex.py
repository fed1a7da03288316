"""Whole LaTeX documents as Typst: what is cut where, what becomes of each construct, and hostile input."""

import contextlib
import re
import time
from pathlib import Path

import pytest
import typst
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.errors import UserError
from stages.latex import blocks, compiling, convert, definitions, pandoc, source, summary, template
from stages.latex.formulas import MODEL, Formulas, chosen
from stages.latex.tokens import extents

PIECES = [
    "$", "$$", r"\(", r"\)", r"\[", r"\]", r"\begin{align}", r"\end{align}", r"\begin{itemize}", r"\end{itemize}",
    "{", "}", r"\begin{verbatim}", r"\end{verbatim}", r"\begin{document}", r"\end{document}", r"\verb|", "[", "]",
    "|", "%", r"\%", r"\$", "\\\\", "\\", "\n", "\n\n", " \n \n", "\r\n", " ", ". ", "。", "a", "word ", "#", "@x", "`",
    r"\section{A. B}", r"\alpha", "é", "\ud800", "\u2028", r"\frac", r"\item ", r"\label{x}", r"\ref{x}", r"\cite{x}",
    r"\begin{tabular}{ll}", r"\end{tabular}", "&", "_", "^", r"\footnote{", r"\newcommand{\x}{", r"\x", '"', "*/", "//",
    r"\caption{", r"\begin{figure}", r"\end{figure}", r"\includegraphics{x}", "<x>", "\x00", "#panic()", r"\begin{foo}",
]  # fmt: skip
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.text(max_size=40))
WHOLE = [
    r"$a. b$", r"$x \text{ if $y. Z$ holds. So}$", r"$$a. \$ b$$", r"\(a. B\)", "\\[a.\nB % \\]\n\\]", r"\verb|$ a. B|",
    r"\verb*+}. A+", "\\textbf{One. Two $x$. Three.}", "\\footnote{On $x\n.$ and\n\nmore. So}",
    "\\begin{align}\na. &= b \\\\[2pt]\n\nc\n\\end{align}",
    "\\begin{itemize}\\item a. B\n\n\\begin{itemize}\\item c\\end{itemize} % \\end{itemize}\n\\end{itemize}",
    "\\begin{verbatim}\n$ % \\begin{align}\n\\end{verbatim}", "\\begin{lstlisting}[x]\n\n$.\n\\end{lstlisting}",
    "\\begin{quote}\\begin{verbatim}\\end{quote}\\end{verbatim}. A\n\\end{quote}",
    "\\begin{minted}{tex}\n\\end{verbatim} $\n\\end{minted}", r"\url{https://ex.org/a%20b}", r"\lstinline|x = $1|",
    r"\mintinline{sh}{echo $1}", r"\newcommand{\be}{\begin{equation}}", r"\iffalse \begin{align} x \fi",
]  # fmt: skip
AROUND = [" ", "\n", "\n\n", " word. ", " Word, and\nmore ", " costs \\$5 \\% ", " Next. "]


@given(TEXTS)
@settings(max_examples=1500, deadline=None)
def test_the_blocks_of_any_text_are_in_it_and_leave_out_only_white_space(text):
    preamble, found = blocks.divided(text)
    at, between = len(preamble), ""
    for block in found:
        assert block.start >= at
        between += text[at : block.start]
        at = block.start + len(block.text)
        assert text[block.start : at] == block.text
        for part in blocks.finer(block):
            assert text[part.start : part.start + len(part.text)] == part.text
    assert (
        r"\end{document}" in text
        or not (between + text[at:]).replace(r"\begin{document}", "").strip()
    )


@given(TEXTS)
@settings(max_examples=500, deadline=None)
def test_each_group_that_is_open_is_closed(text):
    found = extents(text)
    for at, each in enumerate(found):
        if each.kind in ("open", "close"):
            other = found[each.pair]
            assert (other.pair, other.name) == (at, each.name)
            assert (each.pair > at) == (each.kind == "open")


@given(
    st.lists(st.tuples(st.sampled_from(WHOLE), st.sampled_from(AROUND)), min_size=1, max_size=12)
)
@settings(max_examples=400, deadline=None)
def test_what_belongs_together_is_never_cut(drawn):
    text = "".join(whole + around for whole, around in drawn)
    cuts = {block.start for block in blocks.divided(text).blocks}
    at = 0
    for whole, around in drawn:
        assert not cuts & set(range(at + 1, at + len(whole.rstrip()))), whole
        at += len(whole + around)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One\n% in it\ntwo.\n\n% alone\n% too\n\nThree.", ["One\n% in it\ntwo.", "% alone", "% too", "Three."]),
        ("a\n\\begin{equation}b\\end{equation}\nc\n\\begin{itemize}\\item d\\end{itemize}\ne",
         ["a\n\\begin{equation}b\\end{equation}\nc", "\\begin{itemize}\\item d\\end{itemize}", "e"]),
        ("One.\n% why?\n\\section{B}", ["One.", "% why?", "\\section{B}"]),
        ("a\n\\section{B}\nc", ["a", "\\section{B}\nc"]),
        ("x\\begin{document}a\n\n{b\n\nc}\\end{document}d", ["a", "{b\n\nc}"]),
        ("a \\begin{align} b\n\nc $d$", ["a \\begin{align} b", "c $d$"]),
        ("a { b\n\nc", ["a { b", "c"]),
        ("a $ b\n\nc $ d", ["a $ b", "c $ d"]),
        ("\\begin{comment}\\begin{document}\\end{comment} % \\begin{document}\n\\begin{document}a", ["a"]),
    ],
)  # fmt: skip
def test_blocks_end_at_blank_lines_environments_and_headings(text, pieces):
    assert [block.text for block in blocks.divided(text).blocks] == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (r"See \url{https://ex.org/a%20b} and $x$.", [r"See \url{https://ex.org/a%20b} and $x$."]),
        (r"\href{https://ex.org/a%20b}{it} is.", [r"\href{https://ex.org/a%20b}{it} is."]),
        (r"\lstinline|x = $1| is." + "\n\nTwo $y$.", [r"\lstinline|x = $1| is.", "Two $y$."]),
        (r"\mintinline{sh}{echo $1} is." + "\n\nTwo.", [r"\mintinline{sh}{echo $1} is.", "Two."]),
        (r"\newcommand{\be}{\begin{equation}}" + "\n\nTwo.", [r"\newcommand{\be}{\begin{equation}}", "Two."]),
        (r"One. \iffalse \begin{align} x \fi" + "\n\nTwo.", [r"One. \iffalse \begin{align} x \fi", "Two."]),
    ],
)  # fmt: skip
def test_what_is_verbatim_or_never_read_opens_nothing(text, pieces):
    assert [block.text for block in blocks.divided(text).blocks] == pieces


def test_a_large_document_is_divided_in_bounded_time():
    began = time.monotonic()
    for text in (
        "word $a$ and \\emph{b} % c\n\n" * 100_000, "\\begin{a}" * 100_000, "{" * 500_000,
        "\\begin{a}{" * 100_000 + "\\end{a}" * 100_000, "\\(" * 500_000,
        "% \\begin{document}\n" * 100_000,
    ):  # fmt: skip
        blocks.divided(text)
    assert time.monotonic() - began < 120


# What becomes of each construct


def converted(folder: Path, latex: str | bytes, name: str = "a.tex") -> convert.Converted:
    """By rules alone; what is made of it compiles from its own folder."""
    (folder / name).write_bytes(latex if isinstance(latex, bytes) else latex.encode())
    made = convert.converted(
        source.read(folder / name),
        folder,
        folder,
        lambda reader: Formulas(reader, None, None, True),
    )
    (folder / "a.typ").write_text(made.text, encoding="utf-8")
    typst.compile(str(folder / "a.typ"))
    return made


def body(made: convert.Converted) -> str:
    return "\n\n".join(piece.final for piece in made.pieces)


CONSTRUCTS = [
    (r"\section{One}\label{sec:a} See \ref{sec:a}.", "= One\n<sec:a>\nSee @sec:a."),
    (r"\section*{One}", "[One]"),
    (r"A \emph{b} \textbf{c} \texttt{d}.", "A #emph[b] #strong[c] `d`."),
    (r"A\footnote{Note.} b", "A#footnote[Note.] b"),
    (r"\begin{itemize}\item a\item b\end{itemize}", "- a\n\n- b"),
    (r"\begin{equation}\label{e}x\end{equation} By \eqref{e} and \ref{e}.", "$ x $ <e> By @e and #bare(<e>)."),
    (r"\begin{equation*}x\end{equation*}", "#unnumbered[$ x $]"),
    (r"\begin{align}a&=b\label{f}\\c&=d\nonumber\\e&=f\label{g}\end{align} \eqref{g}",
     "#numbered-lines((true, false, true,))[$\n  a & = b \\\n  c & = d \\\n  e & = f\n$ <f>#metadata((line: 1)) <g>] @g"),
    (r"\begin{equation}x\tag{*}\label{t}\end{equation} \eqref{t}", '#tagged("(*)")[$ x $ <t>] #link(<t>)[(\\*)]'),
    (r"\begin{theorem}[Big]\label{thm}Let $x$.\end{theorem} \ref{thm}",
     '#theorem("theorem", "Theorem", name: [Big])[\nLet $x$.\n\n] <thm>'),
    (r"\begin{lemma}a\end{lemma}", '#theorem("theorem", "Lemma")[\na\n\n]'),
    (r"\appendix\section{M}", '#set heading(numbering: "A.1");'),
    (r"\begin{proof}Easy.\end{proof}", "#proof[\nEasy.\n]"),
    (r"\begin{table}\caption{C}\label{tab}\begin{tabular}{lr}\hline a & b\\\hline 1 & 2\\\hline\end{tabular}\end{table}",
     "#figure(caption: [C], kind: table)[\n#table(columns: 2, align: (left, right,), stroke: none,\ntable.hline(y: 0),"
     "\ntable.header(\n[a],\n[b],\n),\ntable.hline(y: 1),\n[1],\n[2],\ntable.hline(y: 2),\n)\n] <tab>"),
    (r"\begin{table}\begin{tabular}{l}a\end{tabular}\caption{C}\end{table}", "#figure(caption: figure.caption(position: bottom, )[C], kind: table)["),
    (r"\begin{tabular}{|l|p{2cm}@{ }r|}a & b & \textbf{c}\\\cline{1-2} d & e & f\end{tabular}",
     "stroke: none, table.vline(x: 0), table.vline(x: 1), table.vline(x: 3),\ntable.header(\n[a],\n[b],\n[#strong[c]],\n),\ntable.hline(y: 1),\n[d],"),
    (r"\begin{figure}\includegraphics[width=3cm]{dot}\caption{D}\label{fig}\end{figure} \ref{fig}",
     '#figure(caption: [D], kind: image)[\n#box(image("dot.svg", width: 3cm))\n] <fig>'),
    (r"\begin{figure}\includegraphics{gone}\end{figure}", '#no-image("gone")'),
    (r"\begin{verbatim}$x$ #y\end{verbatim}", "```\n$x$ #y\n```"),
    (r"\begin{lstlisting}[language=Python]" + "\nx = 1\n" + r"\end{lstlisting}", "```python\nx = 1\n```"),
    (r"\half{x} is $\half{x}$ in $\RR$.", "is $frac(x, 2)$ in $bb(R)$."),
    (r"\cite{k}, \cite[p. 2]{k,l}, \cite{gone}",
     "\\[#link(<cite:k>)[1]\\], \\[#link(<cite:k>)[1], #link(<cite:l>)[L2], p. 2\\], \\[*gone?*\\]"),
    (r"\ref{gone}", "*??*"),
    (r"\cref{sec:b}\section{B}\label{sec:b}", "section~@sec:b"),
    ("% alone\n\nText", "// alone\n\nText"),
    (r"\begin{algorithm}\caption{A}\begin{algorithmic}\State $x$\If{$y$}\State z\EndIf\end{algorithmic}\end{algorithm}",
     "#algorithm([A])[\n#step(0)[$x$]\n#step(0)[#strong[if] $y$ #strong[then]]\n#step(1)[z]"),
    (r"\begin{tikzpicture}\draw x;\end{tikzpicture}",
     "// a.tex line 8: left as LaTeX: no rule converts this\n#latex-left[\n```latex\n\\begin{tikzpicture}"),
    (r"a \unknown{b} c", 'a #latex-left("\\\\unknown{b}"); c'),
    (r"Dzień dobry, 日本語。", "Dzień dobry, 日本語。"),
    (r"\newpage", "#pagebreak(weak: true)"),
]  # fmt: skip
AROUND_CONSTRUCTS = r"""\documentclass{article}
\newcommand{\RR}{\mathbb{R}}
\def\half#1{\frac{#1}{2}}
\newtheorem{theorem}{Theorem}[section]
\newtheorem{lemma}[theorem]{Lemma}
\begin{document}

%s

\begin{thebibliography}{9}\bibitem{k} A book. \bibitem[L2]{l} Another.\end{thebibliography}
\end{document}
"""


@pytest.mark.parametrize(("latex", "wanted"), CONSTRUCTS)
def test_a_construct_becomes_the_one_of_typst(tmp_path, latex, wanted):
    (tmp_path / "dot.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    )
    assert wanted in body(converted(tmp_path, AROUND_CONSTRUCTS.replace("%s", latex)))


def test_a_title_its_class_and_its_language_are_kept(tmp_path):
    made = converted(
        tmp_path,
        r"\documentclass[12pt,a4paper,twocolumn]{article}\usepackage[polish]{babel}\title{T $x$\thanks{N}}"
        r"\author{A \and B}\date{May}\begin{document}\maketitle\begin{abstract}Abs.\end{abstract}\end{document}",
    )  # fmt: skip
    assert "#title-page([T $x$#footnote[N]], authors: ([A], [B], ), date: [May])" in made.text
    assert "#abstract[\nAbs.\n\n]" in made.text
    assert 'paper: "a4"' in made.text
    assert "columns: 2" in made.text
    assert 'size: 12pt, lang: "pl"' in made.text


def test_a_bibliography_beside_the_document_is_typsts_own(tmp_path):
    (tmp_path / "refs.bib").write_text(
        "@book{knuth, author={D. Knuth}, title={T}, year=1984, publisher={P}}"
    )
    made = converted(
        tmp_path,
        r"See \cite{knuth}, \citet[p. 1]{knuth}, \cite{gone}. \bibliographystyle{plain}\bibliography{refs}",
    )
    assert (
        '#cite(label("knuth"));, #cite(label("knuth"), supplement: [p. 1]);, [*gone?*].'
        in made.text
    )
    assert '#bibliography(("refs.bib",), title: [References], style: "springer-basic")' in made.text


def test_files_beside_the_document_are_read_and_no_others(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "secret.tex").write_text("secret")
    (tmp_path / "folder" / "one.tex").write_text("First.\n\n\\notacommand\n\n\\input{a}")
    made = converted(
        tmp_path / "folder",
        "\\input{one}\n\n\\input{gone}\n\n\\include{../secret} \\input{/etc/passwd}\n\nLast \\notacommand",
    )
    assert "First." in made.text
    assert "secret}" in made.text
    assert made.notes == [
        "one.tex line 5: \\input{a}: inputs itself, or files one in another too deeply; left as it is",
        "a.tex line 3: \\input{gone}: no such file beside the document; left as it is",
        "a.tex line 5: \\include{../secret}: outside the document's folder folder/; left as it is",
        "a.tex line 5: \\input{/etc/passwd}: outside the document's folder folder/; left as it is",
    ]
    told = summary.lines(made)
    assert r"one.tex line 3: left as LaTeX: \notacommand: no rule converts this" in told
    assert r"a.tex line 7: left as LaTeX: \notacommand: no rule converts this" in told


def test_an_image_that_cannot_be_shown_is_a_box_with_its_name(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "old.eps").write_bytes(b"%!PS")
    made = converted(
        tmp_path, r"\includegraphics{broken} \includegraphics{../x.png} \includegraphics{old.eps}"
    )
    assert made.text.count("#no-image(") == 3
    assert [note.partition(": ")[2].partition(";")[0] for note in made.notes] == [
        "Typst cannot read it", f"outside the document's folder {tmp_path.name}/", "Typst reads no .eps files",
    ]  # fmt: skip


# Hostile input

GROWING = "".join(
    f"\\def\\m{chr(98 + at)}{{{f'{chr(92)}m{chr(97 + at)}' * 10}}}" for at in range(8)
)


@pytest.mark.parametrize(
    ("latex", "says"),
    [
        ("Just text # with * all _ of @ Typst's < signs > `.", "no LaTeX in it: converted as plain text"),
        (r"\documentclass{a}\begin{document}a\end{document}\documentclass{b}\begin{document}b\end{document}",
         r"\documentclass: 2 of them; what is between the first \begin{document} and its end is converted, as LaTeX does"),
        (r"\newcommand{\a}{\a\a}\begin{document}\a $\a$\end{document}", "left as LaTeX"),
        ("\\def\\ma{xx}" + GROWING + "\\begin{document}fine\n\n" + "\\mi\n\n" * 10 + "\\end{document}", "left as LaTeX"),
        ("é".encode("latin1") + rb"\usepackage[latin9]{inputenc}", "a.tex line 1: not UTF-8, and names the encoding `latin9`; read as iso8859-15"),
        (b"\\usepackage[klingon]{inputenc}\n\xe9", "a.tex line 2: not UTF-8, and names the encoding `klingon`; read as cp1252"),
        ("\\documentclass{jarticle}日本".encode("cp932"), "read as cp932"),
        (b"a\x00b\x07c", "a.tex: control characters left out: 2"),
        (r"\write18{touch owned}\immediate\write18{touch owned} a", "formulas: 0"),
        ("{" * 5000 + "x", ""), ("}" * 5000 + r"\x", ""), ("\\begin{a}" * 2000, "left as LaTeX"), ("$" * 2001, "left as LaTeX"),
        (r"$\frac{1}{" * 200 + "x" + "}" * 200 + "$", ""), (r"\begin{verbatim} $x$", "left as LaTeX"),
        ("\\begin{tikzpicture}\n```` #let x = {\n````` */\n\\end{tikzpicture}", "no rule converts this"),
        ("% */ #{ \u2028 #panic()\n\nx", ""), ("$#panic()$ $//$ $a \\$ $ $\"$", ""),
        ("\\begin{tabular}{ll}a&b&c\\\\\\multicolumn{9}{c}{x}\\end{tabular}", ""),
        ("\\section{A}\\label{x}\\section{B}\\label{x}\\ref{x}\\ref{a b/c+\"}\\label{a b/c+\"}", ""),
    ],
)  # fmt: skip
def test_hostile_input_becomes_a_document_that_compiles_and_says_why(
    tmp_path, monkeypatch, latex, says
):
    monkeypatch.setattr(pandoc, "MACRO_SECONDS", 3.0)
    began = time.monotonic()
    made = converted(tmp_path, latex)
    assert time.monotonic() - began < 120
    assert says in "\n".join(summary.lines(made))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tex", "a.typ"]


@given(TEXTS)
@settings(
    max_examples=25, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
def test_any_text_becomes_a_document_that_compiles(tmp_path, text):
    latex = text.encode("utf-8", "surrogatepass")
    if not text.strip(" \t\r\n\x0b\x0c\x1c\x1d\x1e\x1f\x85\x00") or not text.encode(
        "utf-8", "ignore"
    ).strip(b" \x00"):
        return
    with contextlib.suppress(UserError):  # of a text without a character that is kept
        converted(tmp_path, latex)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (None, "a.tex: no such file; correct its name, or give `-` for standard input"),
        (b" \n\x00", "a.tex: no text to convert in it; write some, or name another file"),
        (b"a" * 2000, "a.tex: 0 MiB, more than the 0 MiB that are read of a document; divide it"),
    ],
)
def test_a_file_that_cannot_be_converted_is_refused(tmp_path, monkeypatch, write, says):
    monkeypatch.setattr(source, "MAX_BYTES", 1000)
    if write:
        (tmp_path / "a.tex").write_bytes(write)
    with pytest.raises(UserError, match=re.escape(says)):
        source.read(tmp_path / "a.tex")


@pytest.mark.parametrize(("place", "compiled", "why"), [("1", 2, " (no room)"), ("", 5, "")])
def test_a_block_that_breaks_the_whole_is_found_and_left(
    tmp_path, monkeypatch, place, compiled, why
):
    """Each block compiles alone, and the third does not beside the others."""
    made = []
    real = compiling.problem

    def problem(text, folder):
        made.append(text)
        if "Third." in re.sub("```.*?```", "", text, flags=re.DOTALL):
            line = 1 + text[: text.index("Third.")].count("\n")
            where = f"\n  ┌─ __typst_py_bytes__.typ:{line}:1" if place else ""
            return f"error: no room{where}"
        return real(text, folder)

    monkeypatch.setattr(compiling, "problem", problem)
    text = converted(tmp_path, "\\emph{First.}\n\nSecond.\n\nThird.\n\nFourth.").text
    assert len(made) >= compiled
    assert f"// a.tex line 5: left as LaTeX: what was made of this does not compile{why}\n" in text
    assert "```latex\nThird.\n```" in text
    assert "Fourth." in text.split("```")[2]
    assert text.count("left as LaTeX") == 1


def test_what_refers_to_a_block_that_stays_latex_shows_that(tmp_path, monkeypatch):
    real = convert.UNCOMPILED
    monkeypatch.setattr(
        convert._Conversion, "check_alone", lambda self, check=convert._Conversion.check_alone: (
            check(self), setattr(self.pieces[1], "typst", None), setattr(self.pieces[1], "why", real),
            self.found.label("never", "figure", 0),
        ),
    )  # fmt: skip
    text = converted(
        tmp_path,
        "See \\ref{e}, \\cite{k} and \\ref{never}.\n\n"
        "\\begin{thebibliography}{1}\\bibitem{k} \\label{e} A book.\\end{thebibliography}",
    ).text
    assert "See *??*, \\[1\\] and *??*." in text


def test_a_whole_that_takes_too_long_is_written_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "SECONDS", 0.001)
    monkeypatch.setattr(compiling, "SECONDS_A_MEGABYTE", 0.0)
    made = converted(tmp_path, "\\emph{First.}")
    assert made.notes == [
        "the whole takes more than 0 s to compile; each of its blocks was compiled alone"
    ]


# Whom to believe


@pytest.mark.parametrize(
    ("pictures", "name"),
    [
        ({"pandoc": b"1", "tylax": b"2", "tex2typst": b"2"}, "pandoc"),
        ({"pandoc": None, "tylax": b"2", "tex2typst": b"3"}, "tylax"),
        ({"pandoc": b"1", "tylax": b"2", MODEL: b"2"}, "tylax"),
        ({"pandoc": b"1", "tylax": b"1", MODEL: b"2"}, "tylax"),
        ({"pandoc": None, MODEL: None, f"{MODEL} 2": None, f"{MODEL} 3": b"4"}, f"{MODEL} 3"),
        ({"pandoc": None, "tylax": b""}, None),
        ({"tex2typst": b"1", "pandoc": b"1", "tylax": b"2"}, "pandoc"),
    ],
)  # fmt: skip
def test_rules_are_believed_in_order_and_where_the_model_agrees(pictures, name):
    assert chosen("x", {each: each for each in pictures}, pictures) == name


def test_pandoc_is_believed_last_where_it_writes_a_norm_as_a_relation(tmp_path):
    written = body(converted(tmp_path, r"$\left\lVert x \right\rVert^2 + \|y\|$"))
    assert "parallel" not in written
    assert "lr(bar.v.double" not in written


def test_each_helper_of_the_template_compiles():
    body = "\n".join(f"#{name}()" for name in template.HELPERS)
    helpers = template.alone(body)
    assert len(re.findall("^#let ", helpers, re.MULTILINE)) == len(template.HELPERS) - 2
    typst.compile(helpers.encode())


def test_definitions_are_read_in_the_forms_that_documents_have():
    found = definitions.of(
        r"\newcommand\a[1]{x#1}\newcommand*{\b}[2][y]{z} \def\c#1{{w}} % \def\d{v}" + "\n"
        r"\let\e=\a \DeclareMathOperator*{\f}{f} \NewDocumentCommand{\g}{O{1} m}{#1#2} \newcommand{\h}{\def\i{j}}"
        r"\DeclarePairedDelimiter{\abs}{\lvert}{\rvert}\newtheorem*{n}{N}\newtheorem{t}{T}[chapter] \def\broken{"
    )
    assert found.macros == [
        r"\newcommand\a[1]{x#1}", r"\newcommand*{\b}[2][y]{z}", r"\def\c#1{{w}}", r"\let\e=\a",
        r"\DeclareMathOperator*{\f}{f}", r"\newcommand{\g}[2][1]{#1#2}", r"\newcommand{\h}{\def\i{j}}",
        r"\newcommand{\abs}[1]{\left\lvert #1 \right\rvert}",
    ]  # fmt: skip
    assert found.theorems == {
        "n": definitions.Theorem("N", "n", numbered=False),
        "t": definitions.Theorem("T", "t", "section"),
    }
