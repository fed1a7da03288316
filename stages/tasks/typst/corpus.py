"""typst: conversion of LaTeX to Typst.

The forms of stages/corpus/formats.py are read, and
    {"latex": LaTeX, "typst": Typst}
Each record may have a "category"; the default is the most distinctive construct of its LaTeX.
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
"""An instruction before the LaTeX: it names TeX or Typst, and ends with a colon or a line break."""

DOCUMENT = re.compile(
    r"(?<!\\)\$|(?<!\\)\\[(\[]|\\(?:sub)*section\b"
    r"|\\begin\{(?:itemize|enumerate|document)\}|\\emph\b"
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
            r"\\(?:(?:wide)?(?:hat|tilde)|bar|vec|d{1,4}ot|check|breve|acute|grave|mathring"
            r"|(?:over|under)(?:line|brace|rightarrow))(?![a-zA-Z])",
        ),
        (
            "delimiter",
            r"\\(?:left|[bB]igg?[lr]?|[lr]?(?:angle|floor|ceil|vert|Vert)|\|)(?![a-zA-Z])",
        ),
        ("text", r"\\(?:text(?:rm|sf|tt|normal)?|mbox|hbox)(?![a-zA-Z])"),
        ("script", r"(?<!\\)[_^]"),
        (
            "function",
            r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|lg|exp|det|max|min|sup|inf|gcd|dim|ker"
            r"|arg|deg)h?(?![a-zA-Z])",
        ),
    )
)
"""(category, pattern). The first that matches is the category: a matrix with a fraction in it is a
matrix. A source that none of them matches has the category "symbols"."""


SCORES_STEPS = False


def read(path: Path) -> Iterator[Example | BadLine]:
    """The file's records as examples. A record in none of the forms becomes a BadLine."""
    for line, record in read_json_lines(path):
        try:
            if isinstance(record, str):
                raise Malformed(record)
            yield _example(line, record)
        except Malformed as fault:
            yield BadLine(line, str(fault))


def show(example: Example) -> Shown:
    """The conversation that is learned: the record's prompt, or the task's, and the Typst."""
    messages = list(example.prompt) or prompt(example.source)
    return {"messages": [*messages, {"role": "assistant", "content": example.target}]}


def question(text: str) -> Row:
    return Row(id="", category="", source=text, messages=prompt(text))


def prompt(text: str) -> list[Message]:
    return [{"role": "user", "content": f"{INSTRUCTION}:\n{text}"}]


def group_key(example: Example) -> str:
    """The LaTeX without its instruction: a formula is then held out in every form of record."""
    return example.source


def is_document(latex: str) -> bool:
    """Whether LaTeX is text with formulas in it, rather than one formula.

    The Typst of a document is compiled as markup. A `$` inside `\\text{…}` belongs to a formula.
    `\\textbf` and `\\textit` make a source a document only if nothing in it shows that it is a
    formula.
    """
    outside = TEXT_GROUP.sub("", latex)
    return bool(
        DOCUMENT.search(outside) or (BOLD.search(outside) and not ONLY_IN_MATHS.search(outside))
    )


def construct(latex: str) -> str:
    """The category of a LaTeX source: its most distinctive construct."""
    if is_document(latex):
        return "document"
    return next((name for name, pattern in CONSTRUCTS if pattern.search(latex)), "symbols")


def _example(line: int, record: dict[str, Any]) -> Example:
    if record.keys() & {"prompt", "completion", "messages"}:
        messages, target = formats.parse_conversation(record, FORMATS)
        source = _without_lead_in(messages[-1]["content"])
    elif "latex" in record or "typst" in record:
        source, target, messages = (
            *(formats.content(record, key, FORMATS) for key in ("latex", "typst")),
            (),
        )
    elif "input" in record or "output" in record:
        source, target, messages = _from_instruction_record(record)
    elif "text" in record:
        source, target, messages = _from_instruction_record(
            formats.parse_labelled_text(formats.content(record, "text", FORMATS), FORMATS)
        )
    else:
        keys = ", ".join(repr(key)[:40] for key in list(record)[:5]) or "no keys"
        raise Malformed(f"{keys}: none of the forms of a LaTeX-Typst record; {FORMATS}")
    example = Example(line, source, target, formats.category(record) or construct(source), messages)
    formats.require_encodable(example)
    return example


def _from_instruction_record(record: dict[str, Any]) -> tuple[str, str, tuple[Message, ...]]:
    """(source, target, prompt) of a record of the instruction form.

    The prompt is empty where the record has neither system nor instruction: the task writes it
    then.
    """
    parts = formats.parse_instruction_record(record, FORMATS)
    if not parts.source:
        raise Malformed(f'no "input"; {FORMATS}')
    if not parts.system and not parts.instruction:
        return parts.source, parts.target, ()
    user = f"{parts.instruction.rstrip(':： ') or INSTRUCTION}:\n{parts.source}"
    messages: list[Message] = [{"role": "system", "content": parts.system}] if parts.system else []
    return parts.source, parts.target, (*messages, {"role": "user", "content": user})


def _without_lead_in(content: str) -> str:
    lead_in = LEAD_IN.match(content)
    return (content[lead_in.end() :] if lead_in else content).strip() or content.strip()
