"""typst: demo corpora of formulas, and of short documents with formulas in them.

Level 1 has single constructs; level 2 has sums, integrals, accents and nesting; level 3 has
matrices, cases and documents. A share of the higher levels' rows is drawn from the lower levels
(see `OWN`), so that a model whose training continues on a higher level does not forget the lower
ones.
"""

import json
import random
from collections.abc import Iterator

from stages.errors import UserError
from stages.grammar.mathematics import Node, formula, symbol, symbols

INSTRUCTION = "Convert LaTeX to Typst"
OWN = 0.62
"""Share of a level's rows that are of this level; the others are drawn evenly from lower levels."""

LONGEST_DOCUMENT = 88
"""The most characters of a document, in either notation."""

PATIENCE = 10_000
"""So many draws without a new source, one after another, mean that the grammar is exhausted."""

WORDS = symbols(
    "area bound case claim curve data error field flow force graph group heat index lemma length"
    " limit line map mass mean model norm note point power proof range rate ratio root rule scale"
    " set sign space speed sum surface term time unit value wave weight"
)
VERBS = (
    "bounds",
    "gives",
    "grows",
    "has",
    "holds",
    "is",
    "keeps",
    "means",
    "needs",
    "stays",
    "uses",
)
OPENINGS = ("Here", "Let", "Then", "Take", "So", "Note")


def lines(rng: random.Random, rows: int, level: int) -> Iterator[str]:
    """`rows` JSON records with different sources.

    They have a prompt and a completion; every tenth is in the older instruction form.
    """
    seen: set[str] = set()
    misses = 0
    while len(seen) < rows:
        node = draw(rng, level)
        source = node.latex()
        if source in seen:
            misses += 1
            if misses == PATIENCE:
                raise UserError(
                    f"level {level} of the typst grammar ran out after {len(seen)} rows; "
                    f"ask for fewer than {rows}"
                )
            continue
        misses = 0
        seen.add(source)
        yield json.dumps(_record(source, node, older=len(seen) % 10 == 0), ensure_ascii=False)


def draw(rng: random.Random, level: int) -> Node:
    """A formula or document of a corpus of this level."""
    if level > 1 and rng.random() >= OWN:
        level = rng.randrange(1, level)
    return document(rng) if level == 3 and rng.random() < 0.45 else formula(rng, level)


def _record(source: str, node: Node, older: bool) -> dict[str, object]:
    if older:
        category = node.construct if node.construct == "document" else node.category
        return {
            "instruction": INSTRUCTION,
            "input": source,
            "output": node.typst(),
            "category": category,
        }
    return {
        "prompt": [{"role": "user", "content": f"{INSTRUCTION}:\n{source}"}],
        "completion": [{"role": "assistant", "content": node.typst()}],
    }


def document(rng: random.Random) -> Node:
    """A heading, a list or a sentence with formulas in it, no longer than LONGEST_DOCUMENT."""
    while True:
        kind = rng.random()
        if kind < 0.35:
            node = _list(rng)
        elif kind < 0.65:
            node = Node("document", "%s\n%s", "%s\n%s", (_heading(rng), _sentence(rng)))
        else:
            node = Node("document", "%s", "%s", (_sentence(rng),))
        if max(len(node.latex()), len(node.typst())) <= LONGEST_DOCUMENT:
            return node


def _heading(rng: random.Random) -> Node:
    command, mark = rng.choice(((r"\section", "="), (r"\subsection", "==")))
    title = " ".join(word.latex() for word in rng.sample(WORDS, rng.randint(1, 2))).capitalize()
    return Node("document", f"{command}{{%s}}", f"{mark} %s", (symbol(title),))


def _list(rng: random.Random) -> Node:
    environment, mark = rng.choice((("itemize", "-"), ("enumerate", "+")))
    items = tuple(_phrase(rng) for _ in range(rng.choice((2, 2, 3))))
    latex = "\n".join(
        [f"\\begin{{{environment}}}", *[r"\item %s"] * len(items), f"\\end{{{environment}}}"]
    )
    return Node("document", latex, "\n".join([f"{mark} %s"] * len(items)), items)


def _sentence(rng: random.Random) -> Node:
    """`The \\emph{mean} is $x$.` or `Let $x > 0$.`"""
    if rng.random() < 0.3:
        sentence = f"{rng.choice(OPENINGS)} %s."
        return Node("document", sentence, sentence, (_inline(rng),))
    subject, verb = _phrase(rng), rng.choice(VERBS)
    sentence = f"The %s {verb} %s."
    return Node("document", sentence, sentence, (subject, _inline(rng)))


def _phrase(rng: random.Random) -> Node:
    """A word: plain, emphasised, bold, or with a formula after it."""
    word = rng.choice(WORDS)
    if (kind := rng.random()) < 0.25:
        return word
    if kind < 0.45:
        return Node("document", r"\emph{%s}", "_%s_", (word,))
    if kind < 0.65:
        return Node("document", r"\textbf{%s}", "*%s*", (word,))
    return Node("document", "%s %s", "%s %s", (word, _inline(rng)))


def _inline(rng: random.Random) -> Node:
    return Node("document", "$%s$", "$%s$", (formula(rng, 1),))
