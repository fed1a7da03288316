"""typst: conversion of LaTeX to Typst.

The forms of stages/corpus/formats.py are read, and
    {"latex": LaTeX, "typst": Typst}
Each record may have a "category"; the default is the most distinctive construct of its LaTeX.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.corpus import conversations, fields, formats, source_files
from stages.corpus.examples import BadLine, Example
from stages.corpus.fields import Malformed
from stages.corpus.source_files import Span
from stages.records import Message, Row, Shown

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


def read(
    path: Path, columns: Mapping[str, str], span: Span | None = None
) -> Iterator[Example | BadLine]:
    """The file's records as examples. A record in none of the forms becomes a BadLine."""
    return formats.examples_of(source_files.records(path, columns, span), _examples)


def reads_lines_alone(path: Path, columns: Mapping[str, str]) -> bool:
    return source_files.has_a_record_in_each_line(path)


def show(example: Example) -> Shown:
    """The conversation that is learned: the record's prompt, or the task's, and the Typst."""
    return example.conversation(prompt(example.source))


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


def _examples(line: int, record: dict[str, Any]) -> Iterator[Example]:
    messages: tuple[Message, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    if record.keys() & {"latex", "typst"}:
        source = fields.content(record, "latex", FORMATS)
        answer = conversations.answer_in(record, "typst", FORMATS)
        target = answer["content"]
        form, unused = "pairs of LaTeX and Typst", fields.unused(record, {"latex", "typst"})
    elif parsed := formats.parse(record, FORMATS):
        target, form, unused = parsed.target, parsed.form, parsed.unused
        answer, tools = parsed.answer, parsed.tools
        if parsed.given or parsed.instruction:
            source, messages = _of_instruction(parsed)
        else:
            asked, messages = parsed.before[-1]["content"], parsed.before
            source = formats.source_written(record, asked) or _without_lead_in(asked)
            unused = formats.unused_with_source(parsed, record, asked)
    else:
        raise Malformed(
            f"{fields.keys_of(record)}: none of the forms of a LaTeX-Typst record; {FORMATS}"
        )
    category = fields.category(record) or construct(source)
    example = Example(
        line, source, target, category, messages, form=form, unused=unused, answer=answer,
        tools=tools,
    )  # fmt: skip
    formats.require_encodable(example)
    yield example


def _of_instruction(parsed: formats.Parsed) -> tuple[str, tuple[Message, ...]]:
    """(source, prompt) of a record of the instruction form.

    The prompt is empty where the record has neither system nor instruction: the task writes it
    then.
    """
    if not parsed.given:
        raise Malformed(f'no "input"; {FORMATS}')
    if not parsed.before and not parsed.instruction:
        return parsed.given, ()
    user = f"{parsed.instruction.rstrip(':： ') or INSTRUCTION}:\n{parsed.given}"
    return parsed.given, (*parsed.before, {"role": "user", "content": user})


def _without_lead_in(content: str) -> str:
    lead_in = LEAD_IN.match(content)
    return (content[lead_in.end() :] if lead_in else content).strip() or content.strip()
