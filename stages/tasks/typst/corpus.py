"""typst: pairs of LaTeX and the Typst that means the same.

Four published forms are read, line by line, mixed as they come:
    {"prompt": [{"role": "user", "content": …}], "completion": [{"role": "assistant", "content": …}]}
    {"system": …, "instruction": …, "input": LaTeX, "output": Typst}
    {"text": "システム: …\\n\\n指示: …\\n\\n入力: LaTeX\\n\\n出力: Typst"}
    {"latex": LaTeX, "typst": Typst}
In the first, a plain string may stand for a list with one message. In the second and third, system and instruction may
be missing; the third may have the labels System, Instruction, Input and Output. Each may carry a "category"; without
one, a row is filed under its most distinctive construct.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.records import BadLine, Example, Message, read_json_lines

INSTRUCTION = "Convert LaTeX to Typst"
ROLES = ("system", "user", "assistant")
FORMATS = "see data/typst/README.md#formats"

LEAD_IN = re.compile(r"[^\\$\n]{0,80}?(?:tex|typst)[^\\$\n]{0,80}?(?:[:：]\s*|\n\s*)", re.IGNORECASE)
"""An instruction before the LaTeX of a prompt: it names TeX or Typst and ends with a colon or a line break."""

LABELS = {
    "システム": "system", "指示": "instruction", "入力": "input", "出力": "output",
    "system": "system", "instruction": "instruction", "input": "input", "output": "output",
}  # fmt: skip
LABEL = re.compile(rf"(?:\A\s*|\n[ \t]*\n)({'|'.join(LABELS)})[ \t]*[:：]", re.IGNORECASE | re.ASCII)

DOCUMENT = re.compile(r"(?<!\\)\$|(?<!\\)\\[(\[]|\\(?:sub)*section\b|\\begin\{(?:itemize|enumerate|document)\}|\\emph\b")
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
        ("delimiter", r"\\(?:left|[bB]igg?[lr]?|[lr]?(?:angle|floor|ceil|vert|Vert)|\|)(?![a-zA-Z])"),
        ("text", r"\\(?:text(?:rm|sf|tt|normal)?|mbox|hbox)(?![a-zA-Z])"),
        ("script", r"(?<!\\)[_^]"),
        (
            "function",
            r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|lg|exp|det|max|min|sup|inf|gcd|dim|ker|arg|deg)h?(?![a-zA-Z])",
        ),
    )
)
"""Tried in this order, so that a fraction inside a matrix is a matrix; what none of them fits is plain "symbols"."""


class Malformed(ValueError):
    """What is wrong with a record, as a phrase that follows "line 12: "."""


def read(path: Path) -> Iterator[Example | BadLine]:
    """The file's records as examples; what fits none of the forms becomes a BadLine with the reason."""
    for line, record in read_json_lines(path):
        try:
            if isinstance(record, str):
                raise Malformed(record)
            yield _example(line, record)
        except Malformed as fault:
            yield BadLine(line, str(fault))


def show(example: Example) -> dict[str, list[Message]]:
    """The conversation that is learned: the record's own prompt, or the usual one, and the Typst."""
    asked = list(example.prompt) or prompt(example.source)
    return {"messages": [*asked, {"role": "assistant", "content": example.target}]}


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
    return bool(DOCUMENT.search(outside) or (BOLD.search(outside) and not ONLY_IN_MATHS.search(outside)))


def construct(latex: str) -> str:
    """The most distinctive construct of a LaTeX source, as a category."""
    if is_document(latex):
        return "document"
    return next((name for name, pattern in CONSTRUCTS if pattern.search(latex)), "symbols")


def _example(line: int, record: dict[str, Any]) -> Example:
    if "prompt" in record or "completion" in record:
        source, target, asked = _conversation(record)
    elif "latex" in record or "typst" in record:
        source, target, asked = _content(record, "latex"), _content(record, "typst"), ()
    elif "input" in record or "output" in record:
        source, target, asked = _instructed(record)
    elif "text" in record:
        source, target, asked = _instructed(_labelled(_content(record, "text")))
    else:
        keys = ", ".join(repr(key)[:40] for key in list(record)[:5]) or "no keys"
        raise Malformed(f"{keys}: none of the forms of a LaTeX-Typst record; {FORMATS}")
    category = record.get("category")
    if not (category is None or isinstance(category, str)):
        raise Malformed(f'"category" is {_kind(category)}; it is a word, or left out')
    example = Example(line, source, target, (category or "").strip() or construct(source), asked)
    _require_encodable(example)
    return example


def _conversation(record: dict[str, Any]) -> tuple[str, str, tuple[Message, ...]]:
    asked, answer = _messages(record, "prompt"), _messages(record, "completion")
    if len(answer) > 1:
        raise Malformed(f'"completion" has {len(answer)} messages; it is the one answer that is learned')
    if answer[0]["role"] != "assistant":
        raise Malformed(f'"completion" is by the {answer[0]["role"]}; the answer is the assistant\'s')
    if asked[-1]["role"] != "user":
        raise Malformed(f'"prompt" ends with the {asked[-1]["role"]}; its last message is the user\'s')
    return _without_lead_in(asked[-1]["content"]), answer[0]["content"].strip(), asked


def _messages(record: dict[str, Any], key: str) -> tuple[Message, ...]:
    value = record.get(key)
    if value is None:
        raise Malformed(f'no "{key}"; {FORMATS}')
    if isinstance(value, str):
        value = [{"role": "user" if key == "prompt" else "assistant", "content": value}]
    if not isinstance(value, list):
        raise Malformed(f'"{key}" is {_kind(value)}; it is a list of messages, or a text')
    if not value:
        raise Malformed(f'"{key}" is empty')
    return tuple(_message(item, key, place) for place, item in enumerate(value, start=1))


def _message(item: Any, key: str, place: int) -> Message:
    where = f'"{key}" message {place}'
    if not isinstance(item, dict):
        raise Malformed(f"{where} is {_kind(item)}; a message has a role and a content")
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise Malformed(f"{where}: role {repr(role)[:40]}; roles are {', '.join(ROLES)}")
    if role == "system" and place > 1:
        raise Malformed(f"{where}: a system message after the first place")
    if not isinstance(content, str):
        raise Malformed(f"{where}: content is {_kind(content)}; it is a text")
    if not content.strip():
        raise Malformed(f'"{key}" is empty' if key == "completion" else f"{where} is empty")
    return {"role": role, "content": content}


def _instructed(record: dict[str, Any]) -> tuple[str, str, tuple[Message, ...]]:
    """The instruction form; without system and instruction, the prompt is the usual one."""
    source, target = _content(record, "input"), _content(record, "output")
    system, instruction = (_content(record, key, needed=False) for key in ("system", "instruction"))
    if not system and not instruction:
        return source, target, ()
    user = f"{instruction.rstrip(':： ') or INSTRUCTION}:\n{source}"
    asked: list[Message] = [{"role": "system", "content": system}] if system else []
    return source, target, (*asked, {"role": "user", "content": user})


def _labelled(text: str) -> dict[str, Any]:
    """The parts of a preprocessed text by the names of the instruction form."""
    pieces = LABEL.split(text)  # what precedes the first label, then label, part, label, part, …
    labels = [LABELS[label.lower()] for label in pieces[1::2]]
    if not labels or pieces[0].strip():
        raise Malformed(f'"text" does not begin with a label such as "入力:" or "Input:"; {FORMATS}')
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise Malformed(f'"text" has two parts labelled {twice}')
    return dict(zip(labels, pieces[2::2], strict=True))


def _content(record: dict[str, Any], key: str, needed: bool = True) -> str:
    value = record.get(key)
    if value is None:
        if needed:
            raise Malformed(f'no "{key}"; {FORMATS}')
        return ""
    if not isinstance(value, str):
        raise Malformed(f'"{key}" is {_kind(value)}; it is a text')
    if needed and not value.strip():
        raise Malformed(f'"{key}" is empty')
    return value.strip()


def _without_lead_in(content: str) -> str:
    lead_in = LEAD_IN.match(content)
    return (content[lead_in.end() :] if lead_in else content).strip() or content.strip()


def _require_encodable(example: Example) -> None:
    """JSON can escape half a surrogate pair (`"\\ud800"`), which no UTF-8 file can hold."""
    texts = (example.source, example.target, example.category, *(message["content"] for message in example.prompt))
    for text in texts:
        if half := re.search("[\ud800-\udfff]", text):
            raise Malformed(f"half a surrogate pair (\\u{ord(half[0]):04x}) in it; write the whole character")


def _kind(value: Any) -> str:
    names = {bool: "true or false", dict: "an object", list: "a list", str: "a text", type(None): "null"}
    return names.get(type(value), "a number")
