"""Formulas as trees that can be written in LaTeX and in Typst, drawn by a small grammar.

Each notation has one canonical form, so that a source has only one answer:
- a script of one character has no brackets, every other has braces in LaTeX and parentheses in
  Typst: `x^2`; `x^{n + 1}` = `x^(n + 1)`;
- there is one space between neighbours: `2 x`, `a + b`; there is none in calls `f(x)`, after signs
  `-x`, and in LaTeX's `dx`;
- LaTeX has `\\left( \\right)` where brackets in Typst grow by themselves; LaTeX's plain brackets
  belong to calls;
- Typst has `frac(a, b)`, and names of symbols (`plus.minus`), except `->`, `=>`, `<=`, `>=`, `!=`,
  `oo` and `RR`.

The names are those of Typst 0.15 (https://typst.app/docs/reference/symbols/sym/).
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

CONSTRUCTS = (
    "matrix", "cases", "integral", "sum", "limit", "fraction", "root", "accent", "delimiter",
    "text", "script", "function", "symbols",
)  # fmt: skip
"""From the most to the least distinctive: a formula's category is the first that occurs in it."""

LONGEST = {1: 35, 2: 56, 3: 84}
"""The most characters of a formula, in either notation, by level."""


@dataclass(frozen=True, slots=True)
class Node:
    """A construct with its two notations, in which `%s` stands for each part, and its parts."""

    construct: str
    latex_form: str
    typst_form: str
    parts: tuple["Node", ...] = ()

    def latex(self) -> str:
        return self.latex_form % tuple(part.latex() for part in self.parts)

    def typst(self) -> str:
        return self.typst_form % tuple(part.typst() for part in self.parts)

    def constructs(self) -> Iterator[str]:
        """The constructs of all nodes of the tree."""
        yield self.construct
        for part in self.parts:
            yield from part.constructs()

    @property
    def category(self) -> str:
        return min(self.constructs(), key=CONSTRUCTS.index)


def symbol(latex: str, typst: str | None = None) -> Node:
    """A leaf of the tree; without a second name both notations have the first."""
    return Node("symbols", latex, latex if typst is None else typst)


def symbols(names: str) -> tuple[Node, ...]:
    """Leaves from words such as `\\le:<=`, LaTeX before the colon and Typst after it.

    Without a second name Typst has the LaTeX name without its backslash: `\\alpha`, `alpha`.
    """
    pairs = (name.partition(":") for name in names.split())
    return tuple(symbol(latex, typst or latex.removeprefix("\\")) for latex, _, typst in pairs)


LETTERS = symbols("a b c k m n p q r s t u v w x y z A B C F G K M N P Q R S T V X Y")
DIGITS = symbols("0 1 2 3 4 5 6 7 8 9")
NUMBERS = symbols("10 12 16 20 24 30 50 64 99 100")
GREEK = symbols(
    r"\alpha \beta \gamma \delta \epsilon:epsilon.alt \varepsilon:epsilon \zeta \eta \theta \kappa"
    r" \lambda \mu \nu \xi \pi \rho \sigma \tau \phi:phi.alt \varphi:phi \chi \psi \omega"
    r" \Gamma \Delta \Theta \Lambda \Pi \Sigma \Phi \Psi \Omega"
)
STYLED = symbols(
    r"\mathbb{R}:RR \mathbb{N}:NN \mathbb{Z}:ZZ \mathbb{C}:CC"
    r" \mathcal{L}:cal(L) \mathcal{F}:cal(F) \mathcal{H}:cal(H)"
    r" \boldsymbol{v}:bold(v) \boldsymbol{x}:bold(x) \boldsymbol{u}:bold(u)"
    r" \infty:oo \partial \nabla \ell \emptyset"
)
OPERATORS = symbols(r"+ - + - + - \cdot:dot \times \pm:plus.minus \cup:union \cap:inter")
RELATIONS = symbols(
    r"= = = = = < > \le:<= \ge:>= \ne:!= \in \to:-> \approx \equiv \sim:tilde \subset"
    r" \Rightarrow:=> \propto:prop"
)
FUNCTIONS = symbols(r"\sin \cos \tan \log \ln \exp \det \max \min")
ACCENTS = (
    (r"\hat{%s}", "hat(%s)"), (r"\bar{%s}", "macron(%s)"), (r"\vec{%s}", "arrow(%s)"),
    (r"\dot{%s}", "dot(%s)"), (r"\ddot{%s}", "dot.double(%s)"), (r"\tilde{%s}", "tilde(%s)"),
)  # fmt: skip
LINES = ((r"\overline{%s}", "overline(%s)"), (r"\underline{%s}", "underline(%s)"))
DELIMITERS = (
    (r"\left( %s \right)", "(%s)"), (r"\left[ %s \right]", "[%s]"),
    (r"\left\{ %s \right\}", "{%s}"), (r"\left| %s \right|", "abs(%s)"),
    (r"\left\| %s \right\|", "norm(%s)"), (r"\lfloor %s \rfloor", "floor(%s)"),
    (r"\lceil %s \rceil", "ceil(%s)"), (r"\langle %s \rangle", "chevron.l %s chevron.r"),
)  # fmt: skip
SUMS = symbols(r"\sum \sum \prod:product")
INTEGRALS = symbols(
    r"\int:integral \int:integral \int:integral \oint:integral.cont \iint:integral.double"
)
VARIABLES = (
    symbol("dx", "d x"), symbol("dt", "d t"), symbol("dy", "d y"), symbol(r"d\theta", "d theta"),
)  # fmt: skip
MATRICES = (
    ("pmatrix", "mat(%s)"),
    ("bmatrix", 'mat(delim: "[", %s)'),
    ("vmatrix", 'mat(delim: "|", %s)'),
)
JOINING_WORDS = ("and", "or", "if", "for", "where", "for all")
LABELS = ("max", "min", "in", "out", "eff", "total")


def formula(rng: random.Random, level: int) -> Node:
    """A formula with a construct that is new at this level (1, 2 or 3), within LONGEST[level]."""
    while True:
        node = _framed(rng, rng.choice(MAKERS[level])(rng, level))
        if max(len(node.latex()), len(node.typst())) <= LONGEST[level]:
            return node


def beside(*nodes: Node) -> Node:
    """Parts in a row, with one space between neighbours."""
    row = " ".join(["%s"] * len(nodes))
    return Node("symbols", row, row, nodes)


def _framed(rng: random.Random, main: Node) -> Node:
    """The construct alone, or with a small term before or after it.

    Cases stand only on the right of an equals sign.
    """
    if (place := rng.random()) < 0.2:
        return main
    if main.construct == "cases":
        return beside(_call(rng) if place < 0.5 else _letter(rng), symbol("="), main)
    between = rng.choice(RELATIONS if rng.random() < 0.65 else OPERATORS)
    return beside(main, between, _small(rng)) if place < 0.5 else beside(_small(rng), between, main)


def _letter(rng: random.Random) -> Node:
    return rng.choice(LETTERS if rng.random() < 0.75 else GREEK)


def _atom(rng: random.Random, level: int = 1) -> Node:
    draw = rng.random()
    if draw < 0.25:
        return rng.choice(DIGITS if draw < 0.22 else NUMBERS)
    return rng.choice(STYLED) if level > 1 and draw > 0.93 else _letter(rng)


def _small(rng: random.Random) -> Node:
    """A term without a tall part: `x`, `2 x`, `a + b`, `x_1`, `-x`."""
    draw = rng.random()
    if draw < 0.4:
        return _atom(rng)
    if draw < 0.55:
        return beside(rng.choice(DIGITS[2:]), _letter(rng))
    if draw < 0.75:
        return beside(_atom(rng), rng.choice(OPERATORS), _atom(rng))
    if draw < 0.93:
        return _attached(rng.choice("_^"), _letter(rng), _atom(rng))
    return Node("symbols", "-%s", "-%s", (_letter(rng),))


def _inner(rng: random.Random, level: int) -> Node:
    """The inside of another construct: a small term; above level 1 perhaps one more construct."""
    if level == 1 or rng.random() < 0.45:
        return _small(rng)
    return rng.choice((_fraction, _root, _script, _function, _accent))(rng, 1)


def _attached(mark: str, base: Node, script: Node) -> Node:
    """The base with a subscript (`_`) or superscript (`^`)."""
    if len(script.latex()) == 1:
        return Node("script", f"%s{mark}%s", f"%s{mark}%s", (base, script))
    return Node("script", f"%s{mark}{{%s}}", f"%s{mark}(%s)", (base, script))


def _bounded(operator: Node, lower: Node, upper: Node | None) -> Node:
    low = _attached("_", operator, lower)
    return low if upper is None else _attached("^", low, upper)


def _symbols(rng: random.Random, level: int) -> Node:
    terms = [_atom(rng, 2)]
    for _ in range(rng.randint(1, 2)):
        terms += [rng.choice(OPERATORS), _atom(rng, 2)]
    return beside(*terms)


def _script(rng: random.Random, level: int) -> Node:
    base = _letter(rng)
    draw = rng.random()
    if draw < 0.25:
        return _attached("^", _attached("_", base, _atom(rng)), _atom(rng))
    if draw < 0.55:
        step = beside(_letter(rng), rng.choice(OPERATORS[:2]), rng.choice(DIGITS[1:]))
        return _attached(rng.choice("_^"), base, step)
    if draw < 0.65:
        return _attached("^", base, Node("symbols", "-%s", "-%s", (_atom(rng),)))
    return _attached(rng.choice("_^"), base, _atom(rng, 2))


def _fraction(rng: random.Random, level: int) -> Node:
    return Node(
        "fraction", r"\frac{%s}{%s}", "frac(%s, %s)", (_inner(rng, level), _inner(rng, level))
    )


def _root(rng: random.Random, level: int) -> Node:
    if rng.random() < 0.25:
        degree = rng.choice((*DIGITS[3:], symbol("n")))
        return Node("root", r"\sqrt[%s]{%s}", "root(%s, %s)", (degree, _inner(rng, level)))
    return Node("root", r"\sqrt{%s}", "sqrt(%s)", (_inner(rng, level),))


def _function(rng: random.Random, level: int) -> Node:
    draw = rng.random()
    if draw < 0.4:
        return Node("function", "%s %s", "%s %s", (rng.choice(FUNCTIONS), _letter(rng)))
    if draw < 0.7:
        return Node("function", "%s(%s)", "%s(%s)", (rng.choice(FUNCTIONS), _small(rng)))
    return _call(rng)


def _call(rng: random.Random) -> Node:
    call = f"{rng.choice('fghFG')}{rng.choice(('', '', chr(39)))}(%s)"
    return Node("symbols", call, call, (_small(rng),))


def _sum(rng: random.Random, level: int) -> Node:
    index = rng.choice(symbols("i j k n"))
    start = beside(index, symbol("="), rng.choice(DIGITS[:3]))
    if rng.random() < 0.2:
        members = beside(index, symbol(r"\in", "in"), rng.choice(symbols("S A I X")))
        operator = _bounded(rng.choice(SUMS), members, None)
    else:
        end = rng.choice((*symbols("n m N M"), *DIGITS[3:], symbol("10"), symbol(r"\infty", "oo")))
        operator = _bounded(rng.choice(SUMS), start, end)
    return Node("sum", "%s %s", "%s %s", (operator, _inner(rng, level)))


def _integral(rng: random.Random, level: int) -> Node:
    sign, body, variable = rng.choice(INTEGRALS), _inner(rng, level), rng.choice(VARIABLES)
    if sign.latex() == r"\int" and rng.random() < 0.75:
        sign = _bounded(sign, _atom(rng), rng.choice((_atom(rng), symbol(r"\infty", "oo"))))
    elif rng.random() < 0.6:
        sign = _bounded(sign, rng.choice(symbols("C S D R")), None)
    return Node("integral", "%s %s %s", "%s %s %s", (sign, body, variable))


def _limit(rng: random.Random, level: int) -> Node:
    end = rng.choice((*DIGITS[:3], *symbols("a c"), symbol(r"\infty", "oo")))
    under = beside(rng.choice(symbols("x n t h k")), symbol(r"\to", "->"), end)
    operator = _bounded(symbol(r"\lim", "lim"), under, None)
    return Node("limit", "%s %s", "%s %s", (operator, _inner(rng, level)))


def _accent(rng: random.Random, level: int) -> Node:
    if level > 1 and rng.random() < 0.25:
        return Node("accent", *rng.choice(LINES), (_small(rng),))
    accented = Node("accent", *rng.choice(ACCENTS), (_letter(rng),))
    return _attached(rng.choice("_^"), accented, _atom(rng)) if rng.random() < 0.4 else accented


def _delimiter(rng: random.Random, level: int) -> Node:
    fenced = Node("delimiter", *rng.choice(DELIMITERS), (_inner(rng, level),))
    return _attached("^", fenced, _atom(rng)) if rng.random() < 0.25 else fenced


def _text(rng: random.Random, level: int) -> Node:
    if rng.random() < 0.5:
        label = rng.choice(LABELS)
        return _attached("_", _letter(rng), Node("text", rf"\text{{{label}}}", f'"{label}"'))
    word = rng.choice(JOINING_WORDS)
    left, right = (beside(_small(rng), rng.choice(RELATIONS), _atom(rng)) for _ in range(2))
    return Node("text", rf"%s \text{{ {word} }} %s", f'%s "{word}" %s', (left, right))


def _matrix(rng: random.Random, level: int) -> Node:
    rows, columns = rng.choice(((2, 2), (2, 2), (2, 2), (2, 1), (3, 1), (1, 3), (2, 3)))
    # Only a square matrix has a determinant, the last of MATRICES.
    environment, call = rng.choice(MATRICES if rows == columns else MATRICES[:2])
    entry = _atom if rng.random() < 0.6 else _small
    latex = r" \\ ".join([" & ".join(["%s"] * columns)] * rows)
    typst = "; ".join([", ".join(["%s"] * columns)] * rows)
    cells = tuple(entry(rng) for _ in range(rows * columns))
    latex = rf"\begin{{{environment}}} {latex} \end{{{environment}}}"
    return Node("matrix", latex, call.replace("%s", typst), cells)


def _cases(rng: random.Random, level: int) -> Node:
    variable = rng.choice(symbols("x t n k y"))
    bound = rng.choice(DIGITS)
    above, below = rng.choice((symbols(r"> \le:<="), symbols(r"\ge:>= <"), symbols(r"= \ne:!=")))
    values = (_small(rng), _small(rng))
    if rng.random() < 0.5:
        upper = values[0], beside(variable, above, bound)
        lower = values[1], beside(variable, below, bound)
        latex = r"\begin{cases} %s & %s \\ %s & %s \end{cases}"
        return Node("cases", latex, "cases(%s & %s, %s & %s)", (*upper, *lower))
    return Node(
        "cases",
        r"\begin{cases} %s & \text{if } %s \\ %s & \text{else} \end{cases}",
        'cases(%s & "if" %s, %s & "else")',
        (values[0], beside(variable, above, bound), values[1]),
    )


MAKERS: dict[int, tuple[Callable[[random.Random, int], Node], ...]] = {
    1: (_symbols, _script, _script, _fraction, _fraction, _root, _function),
    2: (_sum, _integral, _limit, _accent, _delimiter, _text, _fraction, _root),
    3: (_matrix, _matrix, _cases),
}
