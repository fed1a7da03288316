"""typst: pairs of LaTeX and the Typst that means the same.

The forms of stages/corpus/formats.py are read, and
    {"latex": LaTeX, "typst": Typst}
Each may carry a "category"; without one, a row is filed under its most distinctive construct.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.corpus import formats
from stages.corpus.formats import Malformed
from stages.files import read_json_lines
from stages.records import BadLine, Example, Message, Row, Shown

INSTRUCTION = "Convert LaTeX to Typst"
FORMATS = "see data/typst/README.md#formats"

LEAD_IN = re.compile(
    r"[^\\$\n]{0,80}?(?:tex|typst)[^\\$\n]{0,80}?(?:[:：]\s*|\n\s*)", re.IGNORECASE
)
"""An instruction before the LaTeX of a prompt: it names TeX or Typst and ends with a colon or a line break."""

DOCUMENT = re.compile(
    r"(?<!\\)\$|(?<!\\)\\[(\[]|\\(?:sub)*section\b|\\begin\{(?:itemize|enumerate|document)\}|\\emph\b"
)
BOLD = re.compile(r"\\text(?:bf|it)\b")
ONLY_IN_MATHS = re.compile(r"(?<!\\)[_^&=]|\\frac\b")
TEXT_GROUP = re.compile(r"\\(?:text|mbox)\{[^{}]*\}")

CONSTRUCTS = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("matrix", r"\\begin\{(?:[pbvBV]|small)?(?:matrix|array)\*?\}|\\[pb]?matrix\b"),
        ("cases", r"\\begin\{[dr]?cases\*?\}|\\cases\b"),
        ("integral", r"\\(?:i+nt|oi*nt)(?![a-zA-Z])"),
        ("sum", r"\\(?:sum|prod|coprod|big(?:cup|cap|vee|wedge|sqcup|oplus|otimes))(?![a-zA-Z])"),
        ("limit", r"\\lim(?:sup|inf)?(?![a-zA-Z])"),
        ("fraction", r"\\(?:[dtc]?frac|over|[dt]?binom)(?![a-zA-Z])"),
        ("root", r"\\(?:sqrt|root)(?![a-zA-Z])"),
        (
            "accent",
            r"\\(?:(?:wide)?(?:hat|tilde)|bar|vec|d{1,4}ot|check|breve|acute|grave|mathring|(?:over|under)(?:line|brace|right"
            r"arrow))(?![a-zA-Z])",
        ),
        (
            "delimiter",
            r"\\(?:left|[bB]igg?[lr]?|[lr]?(?:angle|floor|ceil|vert|Vert)|\|)(?![a-zA-Z])",
        ),
        ("text", r"\\(?:text(?:rm|sf|tt|normal)?|mbox|hbox)(?![a-zA-Z])"),
        ("script", r"(?<!\\)[_^]"),
        (
            "function",
            r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|lg|exp|det|max|min|sup|inf|gcd|dim|ker|arg|deg)h?(?![a-zA-Z])",
        ),
    )
)
"""Tried in this order, so that a fraction inside a matrix is a matrix; what none of them fits is plain "symbols"."""


SCORES_STEPS = False


def read(path: Path) -> Iterator[Example | BadLine]:
    """The file's records as examples; what fits none of the forms becomes a BadLine with the reason."""
    for line, record in read_json_lines(path):
        try:
            if isinstance(record, str):
                raise Malformed(record)
            yield _example(line, record)
        except Malformed as fault:
            yield BadLine(line, str(fault))


def show(example: Example) -> Shown:
    """The conversation that is learned: the record's own prompt, or the usual one, and the Typst."""
    asked = list(example.prompt) or prompt(example.source)
    return {"messages": [*asked, {"role": "assistant", "content": example.target}]}


def question(text: str) -> Row:
    return Row(id="", category="", source=text, messages=prompt(text))


def prompt(text: str) -> list[Message]:
    return [{"role": "user", "content": f"{INSTRUCTION}:\n{text}"}]


def group_key(example: Example) -> str:
    """The LaTeX without an instruction around it: a formula is held out in whatever form later versions write it."""
    return example.source


def is_document(latex: str) -> bool:
    """Whether LaTeX is text with formulas in it rather than one formula: its Typst is compiled as markup.

    `$` inside `\\text{…}` belongs to a formula; `\\textbf` is a document's only where nothing says maths.
    """
    outside = TEXT_GROUP.sub("", latex)
    return bool(
        DOCUMENT.search(outside) or (BOLD.search(outside) and not ONLY_IN_MATHS.search(outside))
    )


def construct(latex: str) -> str:
    """The most distinctive construct of a LaTeX source, as a category."""
    if is_document(latex):
        return "document"
    return next((name for name, pattern in CONSTRUCTS if pattern.search(latex)), "symbols")


def _example(line: int, record: dict[str, Any]) -> Example:
    if record.keys() & {"prompt", "completion", "messages"}:
        asked, target = formats.conversation(record, FORMATS)
        source = _without_lead_in(asked[-1]["content"])
    elif "latex" in record or "typst" in record:
        source, target, asked = (
            *(formats.content(record, key, FORMATS) for key in ("latex", "typst")),
            (),
        )
    elif "input" in record or "output" in record:
        source, target, asked = _instructed(record)
    elif "text" in record:
        source, target, asked = _instructed(
            formats.labelled(formats.content(record, "text", FORMATS), FORMATS)
        )
    else:
        keys = ", ".join(repr(key)[:40] for key in list(record)[:5]) or "no keys"
        raise Malformed(f"{keys}: none of the forms of a LaTeX-Typst record; {FORMATS}")
    example = Example(line, source, target, formats.category(record) or construct(source), asked)
    formats.require_encodable(example)
    return example


def _instructed(record: dict[str, Any]) -> tuple[str, str, tuple[Message, ...]]:
    """The instruction form; without system and instruction, the prompt is the usual one."""
    parts = formats.instructed(record, FORMATS)
    if not parts.source:
        raise Malformed(f'no "input"; {FORMATS}')
    if not parts.system and not parts.instruction:
        return parts.source, parts.target, ()
    user = f"{parts.instruction.rstrip(':： ') or INSTRUCTION}:\n{parts.source}"
    asked: list[Message] = [{"role": "system", "content": parts.system}] if parts.system else []
    return parts.source, parts.target, (*asked, {"role": "user", "content": user})


def _without_lead_in(content: str) -> str:
    lead_in = LEAD_IN.match(content)
    return (content[lead_in.end() :] if lead_in else content).strip() or content.strip()
