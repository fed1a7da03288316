"""LaTeX to Typst: what the reader takes and refuses, what the demo grammar writes, and what counts
as right."""

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.corpus import conversations, split
from stages.corpus.examples import BadLine, Example
from stages.errors import UserError
from stages.grammar import mathematics
from stages.records import Message, Prediction, Row
from stages.scoring.render import Renderer
from stages.tasks.typst import corpus, score, synthetic

LATEX, TYPST = r"\frac{a}{b}", "frac(a, b)"
USER: Message = {"role": "user", "content": f"Convert LaTeX to Typst:\n{LATEX}"}
ANSWER: Message = {"role": "assistant", "content": TYPST}
SYSTEM: Message = {"role": "system", "content": "Answer with Typst."}
LEVELS = (1, 2, 3)


def read(tmp_path: Path, *records: Any) -> list[Example | BadLine]:
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return list(corpus.read(path, {}))


def examples(tmp_path: Path, *records: Any) -> list[Example]:
    found = read(tmp_path, *records)
    assert found
    assert all(isinstance(item, Example) for item in found), found
    return [item for item in found if isinstance(item, Example)]


# Reading


FORMS: list[dict[str, Any]] = [
    {"prompt": [USER], "completion": [ANSWER]},
    {"prompt": [SYSTEM, USER], "completion": [ANSWER]},
    {"prompt": USER["content"], "completion": TYPST},
    {
        "prompt": [{"role": "user", "content": f"LaTeXをTypstに変換してください: {LATEX}"}],
        "completion": [ANSWER],
    },
    {
        "prompt": [
            {"role": "user", "content": f"Convert the following LaTeX to Typst.\n\n{LATEX}"}
        ],
        "completion": TYPST,
    },
    {"prompt": LATEX, "completion": TYPST},
    {"prompt": [USER, ANSWER, USER], "completion": [ANSWER]},
    {"system": "変換ルールの説明", "instruction": "LaTeX→Typst", "input": LATEX, "output": TYPST},
    {"input": LATEX, "output": TYPST},
    {"text": f"システム: 変換ルールの説明\n\n指示: LaTeX→Typst\n\n入力: {LATEX}\n\n出力: {TYPST}"},
    {"text": f"System: Rules.\n\nInstruction: Convert\n\nInput: {LATEX}\n\nOutput: {TYPST}"},
    {"text": f"入力：{LATEX}\n\n出力：{TYPST}\n"},
    {"latex": LATEX, "typst": TYPST},
    {
        "latex": f" {LATEX}\n",
        "typst": f"{TYPST} ",
        "id": 7,
        "mode": "math",
        "title": "A fraction",
        "category": None,
    },
]


@pytest.mark.parametrize("record", FORMS)
def test_every_form_gives_the_latex_and_the_typst(tmp_path: Path, record: dict[str, Any]) -> None:
    [example] = examples(tmp_path, record)
    assert (example.source, example.target, example.category) == (LATEX, TYPST, "fraction")
    messages = corpus.show(example)["messages"]
    assert messages[-1] == ANSWER
    assert messages[-2]["role"] == "user"
    assert LATEX in messages[-2]["content"]


def test_forms_can_be_mixed_in_one_file_and_share_a_group(tmp_path: Path) -> None:
    found = examples(tmp_path, *FORMS)
    assert [example.line for example in found] == list(range(1, len(FORMS) + 1))
    assert len({split.normalise(corpus.group_key(example)) for example in found}) == 1


def test_a_record_without_a_prompt_of_its_own_is_asked_as_a_users_text_is(tmp_path: Path) -> None:
    older = {"instruction": "Convert LaTeX to Typst", "input": LATEX, "output": TYPST}
    shown = [corpus.show(example) for example in examples(tmp_path, FORMS[0], FORMS[-1], older)]
    assert shown == [{"messages": [*corpus.prompt(LATEX), ANSWER]}] * 3


def test_a_system_message_is_kept(tmp_path: Path) -> None:
    chat, older, text = examples(tmp_path, FORMS[1], FORMS[7], FORMS[9])
    assert corpus.show(chat)["messages"][0] == SYSTEM
    assert [message["role"] for message in corpus.show(older)["messages"]] == [
        "system",
        "user",
        "assistant",
    ]
    assert corpus.show(older) == corpus.show(text)
    assert corpus.show(older)["messages"][1]["content"] == f"LaTeX→Typst:\n{LATEX}"


def test_a_records_category_is_kept(tmp_path: Path) -> None:
    [example] = examples(tmp_path, {"latex": "x", "typst": "x", "category": " homework "})
    assert example.category == "homework"


@pytest.mark.parametrize("text", ["x : y", r"\text{TeX: } x", "f: A"])
def test_a_colon_in_a_formula_is_no_instruction(tmp_path: Path, text: str) -> None:
    [example] = examples(tmp_path, {"prompt": text, "completion": "x"})
    assert example.source == text


SEE = "see data/typst/README.md#formats"
REFUSED = [
    ({"prompt": [USER]}, f'no "completion"; {SEE}'),
    ({"completion": [ANSWER]}, f'no "prompt"; {SEE}'),
    (
        {"prompt": 3, "completion": [ANSWER]},
        '"prompt" is a number; it is a list of messages, or a text',
    ),
    ({"prompt": [], "completion": [ANSWER]}, '"prompt" is empty'),
    (
        {"prompt": ["x"], "completion": [ANSWER]},
        '"prompt" message 1 is a text; a message has a role and a content',
    ),
    (
        {"prompt": [USER, SYSTEM], "completion": TYPST},
        "message 2, the system's, comes after the user's; only the first message is the system's",
    ),
    (
        {"prompt": [{"role": "human", "content": "x"}], "completion": TYPST},
        "\"prompt\" message 1: role 'human'; roles are system, developer, user, assistant, tool, function",
    ),
    (
        {"prompt": [{"role": {}, "content": "x"}], "completion": TYPST},
        '"prompt" message 1: role {}; roles are system, developer, user, assistant, tool, function',
    ),
    (
        {"prompt": [{"role": "user"}], "completion": TYPST},
        '"prompt" message 1: content is null; it is a text',
    ),
    ({"prompt": " ", "completion": TYPST}, '"prompt" message 1 is empty'),
    (
        {"prompt": [USER, ANSWER], "completion": TYPST},
        "message 3, the assistant's, comes after the assistant's; put before it what it answers",
    ),
    (
        {"prompt": [SYSTEM], "completion": TYPST},
        "message 2, the assistant's, comes after the system's; put before it what it answers",
    ),
    ({"prompt": [USER], "completion": []}, '"completion" is empty'),
    ({"prompt": [USER], "completion": "\n"}, '"completion" is empty'),
    (
        {"prompt": [USER], "completion": {"role": "assistant"}},
        '"completion" is an object; it is a list of messages, or a text',
    ),
    (
        {"prompt": [USER], "completion": [ANSWER, ANSWER]},
        "message 3, the assistant's, comes after the assistant's; put before it what it answers",
    ),
    (
        {"prompt": [USER], "completion": [USER]},
        '"completion" begins with the user; the answer is the assistant\'s',
    ),
    ({"instruction": "LaTeX→Typst", "input": LATEX}, f'no "output"; {SEE}'),
    ({"output": TYPST}, f'no "input"; {SEE}'),
    ({"input": LATEX, "output": "  "}, '"output" is empty'),
    ({"input": [LATEX], "output": TYPST}, '"input" is a list; it is a text'),
    ({"system": True, "input": LATEX, "output": TYPST}, '"system" is true or false; it is a text'),
    ({"latex": LATEX}, f'no "typst"; {SEE}'),
    ({"latex": LATEX, "typst": 1.5}, '"typst" is a number; it is a text'),
    (
        {"text": "frac(a, b)"},
        f'"text" does not begin with a label such as "入力:" or "Input:"; {SEE}',
    ),
    ({"text": f"入力: {LATEX}"}, f'no "output"; {SEE}'),
    ({"text": "入力: a\n\n入力: b\n\n出力: c"}, '"text" has two parts labelled input'),
    (
        {"text": "ſystem: a\n\nInput: b"},
        f'"text" does not begin with a label such as "入力:" or "Input:"; {SEE}',
    ),
    (
        {"tex": LATEX, "typ": TYPST},
        f"'tex', 'typ': none of the forms of a LaTeX-Typst record; {SEE}",
    ),
    ({}, f"no keys: none of the forms of a LaTeX-Typst record; {SEE}"),
    (
        {"latex": "x", "typst": "x", "category": 3},
        '"category" is a number; it is a word, or left out',
    ),
    (
        {"latex": "\ud800", "typst": "x"},
        "half a surrogate pair (\\ud800) in it; write the whole character",
    ),
    ([1, 2], "a JSON list; a record is an object"),
]


@pytest.mark.parametrize(("record", "reason"), REFUSED)
def test_a_record_that_cannot_be_read_says_why(tmp_path: Path, record: Any, reason: str) -> None:
    good = {"latex": "x", "typst": "x"}
    first, bad, last = read(tmp_path, good, record, good)
    assert bad == BadLine(2, reason)
    assert isinstance(first, Example)
    assert isinstance(last, Example)


def test_a_line_that_is_no_json_says_where(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"latex": "x", "typst": "x"}\n{"latex": \n', encoding="utf-8")
    _, bad = corpus.read(path, {})
    assert isinstance(bad, BadLine)
    assert bad.line == 2
    assert bad.reason.startswith("not JSON")


KEYS = [
    "prompt",
    "completion",
    "system",
    "instruction",
    "input",
    "output",
    "text",
    "latex",
    "typst",
    "category",
]
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["\ud800", "", "入力: a\n\n出力: b", "user", "assistant", LATEX]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([*KEYS, "role", "content"]), inner, max_size=3),
        st.fixed_dictionaries(
            {"role": st.one_of(inner, st.sampled_from([*conversations.ROLES])), "content": inner}
        ),
    ),
    max_leaves=8,
)


@given(
    st.lists(
        st.one_of(VALUES, st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4)),
        min_size=1,
        max_size=4,
    )
)
@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_json_is_an_example_or_a_reason(tmp_path: Path, records: list[Any]) -> None:
    try:
        found = read(tmp_path, *records)
    except UserError:  # the whole file is an array of objects, by its first line
        assert isinstance(records[0], list)
        assert isinstance(records[0][0], dict)
        return
    assert [item.line for item in found] == list(range(1, len(records) + 1))
    for item in found:
        if isinstance(item, BadLine):
            assert item.reason
            item.reason.encode()
        else:
            assert item.source.strip()
            assert item.target.strip()
            json.dumps(corpus.show(item), ensure_ascii=False).encode()
            corpus.group_key(item).encode()


@pytest.mark.parametrize(
    ("latex", "category"),
    [
        (r"\begin{pmatrix} \frac{a}{b} \end{pmatrix}", "matrix"),
        (r"\left\{ \begin{array}{c} a \\[2pt] b \end{array} \right.", "matrix"),
        (r"f = \begin{cases} \int x \\ 0 \end{cases}", "cases"),
        (r"\int_0^1 \frac{x}{2} dx", "integral"),
        (r"\sum_i \sqrt{i}", "sum"),
        (r"\lim_{x \to 0} \frac{1}{x}", "limit"),
        (r"\frac{\sqrt{x}}{2}", "fraction"),
        (r"\sqrt{\bar{x}}", "root"),
        (r"\hat{x}_1", "accent"),
        (r"\left( x^2 \right)", "delimiter"),
        (r"x_{\text{max}}", "text"),
        (r"\sin x^2", "script"),
        (r"\sin x", "function"),
        (r"\alpha \leftarrow \beta", "symbols"),
        (r"\section{One}", "document"),
        (r"Let $x$ be.", "document"),
        (r"Let \(x\) be.", "document"),
        ("\\begin{itemize}\n\\item a\n\\end{itemize}", "document"),
        (r"an \emph{even} number", "document"),
        (r"a \textbf{bold} word", "document"),
        (r"\textbf{v}_1 = 2", "script"),
        (r"x \text{ if $x > 0$}", "text"),
        (r"5 \$", "symbols"),
    ],
)
def test_a_source_is_filed_under_its_most_distinctive_construct(latex: str, category: str) -> None:
    assert corpus.construct(latex) == category
    assert corpus.is_document(latex) == (category == "document")


# The demo grammar


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Example]]:
    """400 rows of each level as they are read back."""
    folder = tmp_path_factory.mktemp("demo")
    read_back = {}
    for level in LEVELS:
        path = folder / f"{level}.jsonl"
        path.write_text(
            "\n".join(synthetic.lines(random.Random(level), 400, level)), encoding="utf-8"
        )
        read_back[level] = [item for item in corpus.read(path, {}) if isinstance(item, Example)]
    return read_back


@pytest.mark.parametrize("level", LEVELS)
def test_a_demo_corpus_has_as_many_different_sources_as_asked_for(
    demo: dict[int, list[Example]], level: int
) -> None:
    assert len({example.source for example in demo[level]}) == len(demo[level]) == 400


@pytest.mark.parametrize("level", LEVELS)
def test_demo_rows_are_asked_as_a_users_text_is_in_every_form(
    demo: dict[int, list[Example]], level: int
) -> None:
    assert all(
        corpus.show(row)["messages"][:-1] == corpus.prompt(row.source) for row in demo[level]
    )
    lines = [json.loads(line) for line in synthetic.lines(random.Random(level), 40, level)]
    assert {"prompt" in line for line in lines} == {True, False}


@pytest.mark.parametrize(("level", "longest"), [(1, 25), (2, 40), (3, 55)])
def test_demo_rows_are_short(demo: dict[int, list[Example]], level: int, longest: int) -> None:
    for texts in ([row.source for row in demo[level]], [row.target for row in demo[level]]):
        assert sum(map(len, texts)) / len(texts) <= longest
        assert max(map(len, texts)) <= 90


def test_the_same_seed_writes_the_same_corpus_and_another_seed_another() -> None:
    one, again, other = (list(synthetic.lines(random.Random(seed), 50, 3)) for seed in (1, 1, 2))
    assert one == again != other


def test_higher_levels_keep_rows_of_the_lower_and_add_their_own(
    demo: dict[int, list[Example]],
) -> None:
    new = {
        2: {"integral", "sum", "limit", "accent", "delimiter", "text"},
        3: {"matrix", "cases", "document"},
    }
    shares = {
        level: sum(row.category in new[level] for row in demo[level]) / len(demo[level])
        for level in (2, 3)
    }
    assert not {row.category for row in demo[1]} & (new[2] | new[3])
    assert not {row.category for row in demo[2]} & new[3]
    assert all(new[level] <= {row.category for row in demo[level]} for level in new)
    assert 0.3 < shares[2] < 0.7  # fractions and roots in each other are new at level 2 as well
    assert 0.55 < shares[3] < 0.7


def test_a_source_has_one_typst_in_every_version_and_the_category_the_reader_gives_it() -> None:
    typst: dict[str, str] = {}
    rng = random.Random(11)
    for _ in range(6000):
        node = synthetic.draw(rng, rng.choice(LEVELS))
        source = node.latex()
        assert typst.setdefault(source, node.typst()) == node.typst(), source
        assert corpus.construct(source) == (
            "document" if node.construct == "document" else node.category
        ), source
    assert len(typst) > 5500


def test_every_typst_of_the_demo_compiles(demo: dict[int, list[Example]]) -> None:
    rows = [row for level in LEVELS for row in demo[level]]
    documents = [row.target for row in rows if corpus.is_document(row.source)]
    formulas = [row.target for row in rows if not corpus.is_document(row.source)]
    assert len(documents) > 50
    with Renderer() as renderer:
        for mode, texts in (("document", documents), ("math", formulas)):
            failed = [
                text
                for text, shown in zip(texts, renderer.render(texts, mode), strict=True)
                if not shown
            ]
            assert failed == []


@pytest.mark.parametrize("level", LEVELS)
def test_one_canonical_form_on_each_side(demo: dict[int, list[Example]], level: int) -> None:
    for example in demo[level]:
        assert "  " not in example.source + example.target
        assert not re.search(r"[_^]\{.\}", example.source), example.source
        assert not re.search(r"[_^]\(.\)", example.target), example.target
        assert example.target.count("(") == example.target.count(")")
        assert not re.search(r"\\[a-zA-Z]|[{}]{2}|/", example.target), example.target


CHARACTERS = mathematics.symbols(
    r"\alpha:α \beta:β \gamma:γ \delta:δ \epsilon:ϵ \varepsilon:ε \zeta:ζ \eta:η \theta:θ \kappa:κ \lambda:λ"
    r" \mu:μ \nu:ν \xi:ξ \pi:π \rho:ρ \sigma:σ \tau:τ \phi:ϕ \varphi:φ \chi:χ \psi:ψ \omega:ω \Gamma:Γ \Delta:Δ"
    r" \Theta:Θ \Lambda:Λ \Pi:Π \Sigma:Σ \Phi:Φ \Psi:Ψ \Omega:Ω \mathbb{R}:ℝ \mathbb{N}:ℕ \mathbb{Z}:ℤ"
    r" \mathbb{C}:ℂ \infty:∞ \partial:∂ \nabla:∇ \ell:ℓ \emptyset:∅ +:+ -:− \cdot:⋅ \times:× \pm:± \cup:∪"
    r" \cap:∩ =:= <:< >:> \le:≤ \ge:≥ \ne:≠ \in:∈ \to:→ \approx:≈ \equiv:≡ \sim:∼ \subset:⊂ \Rightarrow:⇒"
    r" \propto:∝ \sum:∑ \prod:∏ \int:∫ \oint:∮ \iint:∬"
)
"""What unicode-math calls the commands of LaTeX: a second opinion on the names in the grammar."""


def test_every_symbol_means_the_same_on_both_sides() -> None:
    tables = (mathematics.GREEK, mathematics.STYLED, mathematics.OPERATORS, mathematics.RELATIONS)
    leaves = {
        leaf.latex(): leaf.typst()
        for table in (*tables, mathematics.SUMS, mathematics.INTEGRALS)
        for leaf in table
    }
    styled = {latex for latex in leaves if latex.startswith((r"\mathcal", r"\boldsymbol"))}
    assert leaves.keys() - styled == {character.latex() for character in CHARACTERS}
    names = [leaves[character.latex()] for character in CHARACTERS]
    characters = [character.typst() for character in CHARACTERS]
    with Renderer() as renderer:
        assert renderer.render(names, "math") == renderer.render(characters, "math")


def test_a_grammar_that_runs_out_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "draw", lambda rng, level: mathematics.symbol("x"))
    with pytest.raises(UserError, match=r"level 1 .* ran out after 1 rows; ask for fewer than 2"):
        list(synthetic.lines(random.Random(0), 2, 1))


# Scoring


def row(latex: str, typst: str, number: int = 0) -> Row:
    example = Example(1, latex, typst, corpus.construct(latex))
    return {
        "id": f"{number:016x}",
        "category": example.category,
        "source": latex,
        **corpus.show(example),
    }


def said(rows: list[Row], *answers: str) -> list[Prediction]:
    return [
        Prediction(each["id"], "typst-001", answer, 1.0, 3)
        for each, answer in zip(rows, answers, strict=True)
    ]


def alike(latex: str, reference: str, answer: str) -> bool:
    rows = [row(latex, reference)]
    return bool(score.headline(score.statistics(rows, said(rows, answer)).sum(axis=0)) == 1)


@pytest.mark.parametrize(
    ("latex", "reference", "answer", "right"),
    [
        (LATEX, TYPST, "a/b", True),
        (LATEX, TYPST, "frac(b, a)", False),
        (LATEX, TYPST, "frac(a, b", False),
        (LATEX, TYPST, "", False),
        (LATEX, TYPST, f"{TYPST} $ $", False),
        (LATEX, TYPST, f"{TYPST} $ // ", False),
        (r"\quad", "quad", "", False),  # both show nothing
        (r"\quad", "quad", " quad", True),
        (r"\section{A} $x^2$", "= A \n$x^2$", "#heading[A]\n$x^(2)$", True),
        (r"\section{A}", "= A", "A", False),
        (
            r"x",
            "$x$",
            "$ x $",
            False,
        ),  # a reference in dollar signs is a document: inline is not display
        (r"x", "$x^2$", "$x^(2)$", True),
        (r"x", "frac(", "frac(", False),  # a reference that does not compile is no measure
    ],
)
def test_right_is_what_renders_like_the_reference(
    latex: str, reference: str, answer: str, right: bool
) -> None:
    assert alike(latex, reference, answer) is right


def test_statistics_are_one_row_for_each_example_and_add_up_to_the_score() -> None:
    rows = [
        row(LATEX, TYPST, 1),
        row("x", "x", 2),
        row(r"\emph{a} b", "_a_ b", 3),
        row("y", "y", 4),
    ]
    found = score.statistics(rows, said(rows, "a/b", "z", "_a_  b", "sqrt("))
    assert found.tolist() == [[1, 1, 1, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1], [1, 0, 0, 0, 1]]
    resampled = found[np.random.default_rng(0).integers(0, 4, (1000, 4))].sum(
        axis=1
    )  # (1000, 4, K) -> (1000, K)
    scores = score.headline(resampled)
    assert scores.shape == (1000,)
    assert abs(scores.mean() - 0.5) < 0.05
    assert score.headline(found.sum(axis=0)) == 0.5
    assert score.headline(np.zeros((2, len(score.STATISTICS)))).tolist() == [0, 0]


def test_details_are_shares() -> None:
    rows = [row(LATEX, TYPST, 1), row("x", "x", 2)]
    perfect = score.details(rows, said(rows, TYPST, "x"))
    assert perfect == {
        "compile_rate": 1,
        "exact_match": 1,
        "chrf": pytest.approx(1),
        "reference_compile_rate": 1,
    }
    poor = score.details(rows, said(rows, "frac(", "y"))
    assert poor["compile_rate"] == 0.5
    assert poor["exact_match"] == 0
    assert 0 < poor["chrf"] < 1
    assert score.details([], []) == dict.fromkeys(perfect, 0)


def test_the_baseline_passes_the_input_through() -> None:
    rows = [row(LATEX, TYPST, 1), row("x^2", "x^2", 2)]
    answers = score.baseline(Path(), rows, Path())
    assert [answer.answer for answer in answers] == [LATEX, "x^2"]
    assert score.headline(score.statistics(rows, answers).sum(axis=0)) == 0.5
