"""The forms in which instruction data is published. One file may mix them; each line is recognised:

    {"prompt": [{"role": "user", "content": …}],
     "completion": [{"role": "assistant", "content": …}]}
    {"messages": [{"role": "user", …}, …, {"role": "assistant", …}]}
    {"system": …, "instruction": …, "input": …, "output": …}
    {"text": "システム: …\\n\\n指示: …\\n\\n入力: …\\n\\n出力: …"}
In the first, a plain string may stand for a list with one message. In the last two, system and
instruction may be missing. The labels of the last may be English.
"""

import re
from typing import Any, NamedTuple

from stages.records import Example, Message

ROLES = ("system", "user", "assistant")
LABELS = {
    "システム": "system", "指示": "instruction", "入力": "input", "出力": "output",
    "system": "system", "instruction": "instruction", "input": "input", "output": "output",
}  # fmt: skip
LABEL = re.compile(
    rf"(?:\A\s*|\n[ \t]*\n)({'|'.join(LABELS)})[ \t]*[:：]", re.IGNORECASE | re.ASCII
)


class Malformed(ValueError):
    """A record that cannot be read. The message is a phrase that follows "line 12: "."""


class InstructionRecord(NamedTuple):
    """The parts of a record of the instruction form; a missing system or instruction is ""."""

    system: str
    instruction: str
    source: str
    target: str


def parse_conversation(record: dict[str, Any], see: str) -> tuple[tuple[Message, ...], str]:
    """(messages before the answer, answer) of a record with "messages" or "prompt".

    see: where the formats are described, for the error. Raises Malformed.
    """
    if "messages" in record:
        *before, last = _parse_messages(record, "messages", see)
        if last["role"] != "assistant" or not before:
            raise Malformed(
                f'"messages" ends with the {last["role"]}; '
                "its last message is the answer of the assistant"
            )
        answer: tuple[Message, ...] = (last,)
    else:
        before, answer = (
            list(_parse_messages(record, "prompt", see)),
            _parse_messages(record, "completion", see),
        )
        if len(answer) > 1:
            raise Malformed(
                f'"completion" has {len(answer)} messages; it is the one answer that is learned'
            )
        if answer[0]["role"] != "assistant":
            raise Malformed(
                f'"completion" is by the {answer[0]["role"]}; the answer is the assistant\'s'
            )
    if before[-1]["role"] != "user":
        raise Malformed(
            f'"prompt" ends with the {before[-1]["role"]}; its last message is the user\'s'
        )
    return tuple(before), answer[0]["content"].strip()


def _parse_messages(record: dict[str, Any], key: str, see: str) -> tuple[Message, ...]:
    value = record.get(key)
    if value is None:
        raise Malformed(f'no "{key}"; {see}')
    if isinstance(value, str):
        value = [{"role": "user" if key == "prompt" else "assistant", "content": value}]
    if not isinstance(value, list):
        raise Malformed(f'"{key}" is {kind(value)}; it is a list of messages, or a text')
    if not value:
        raise Malformed(f'"{key}" is empty')
    return tuple(_parse_message(item, key, place) for place, item in enumerate(value, start=1))


def _parse_message(item: Any, key: str, place: int) -> Message:
    where = f'"{key}" message {place}'
    if not isinstance(item, dict):
        raise Malformed(f"{where} is {kind(item)}; a message has a role and a content")
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise Malformed(f"{where}: role {repr(role)[:40]}; roles are {', '.join(ROLES)}")
    if role == "system" and place > 1:
        raise Malformed(f"{where}: a system message after the first place")
    if not isinstance(content, str):
        raise Malformed(f"{where}: content is {kind(content)}; it is a text")
    if not content.strip():
        raise Malformed(f'"{key}" is empty' if key == "completion" else f"{where} is empty")
    return {"role": role, "content": content}


def parse_instruction_record(record: dict[str, Any], see: str) -> InstructionRecord:
    """The parts of a record of the instruction form. Raises Malformed."""
    system, instruction = (
        content(record, key, see, needed=False) for key in ("system", "instruction")
    )
    return InstructionRecord(
        system,
        instruction,
        content(record, "input", see, needed=not instruction),
        content(record, "output", see),
    )


def parse_labelled_text(text: str, see: str) -> dict[str, Any]:
    """A text with labels such as "指示:" as a record of the instruction form. Raises Malformed."""
    pieces = LABEL.split(text)  # the text before the first label, then label, part, label, part, …
    labels = [LABELS[label.lower()] for label in pieces[1::2]]
    if not labels or pieces[0].strip():
        raise Malformed(f'"text" does not begin with a label such as "入力:" or "Input:"; {see}')
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise Malformed(f'"text" has two parts labelled {twice}')
    return dict(zip(labels, pieces[2::2], strict=True))


def content(record: dict[str, Any], key: str, see: str, needed: bool = True) -> str:
    """The record's text at this key, stripped; "" where it is missing.

    Raises Malformed where the value is no text, and where it is missing or empty though needed.
    """
    value = record.get(key)
    if value is None:
        if needed:
            raise Malformed(f'no "{key}"; {see}')
        return ""
    if not isinstance(value, str):
        raise Malformed(f'"{key}" is {kind(value)}; it is a text')
    if needed and not value.strip():
        raise Malformed(f'"{key}" is empty')
    return value.strip()


def category(record: dict[str, Any]) -> str:
    """The record's category; "" where it has none. Raises Malformed where it is no text."""
    value = record.get("category")
    if not (value is None or isinstance(value, str)):
        raise Malformed(f'"category" is {kind(value)}; it is a word, or left out')
    return (value or "").strip()


def require_encodable(example: Example) -> None:
    """Raise Malformed where a text cannot be encoded in UTF-8.

    JSON can escape half a surrogate pair (`"\\ud800"`), which UTF-8 cannot represent.
    """
    texts = (
        example.source,
        example.target,
        example.category,
        *(message["content"] for message in example.prompt),
    )
    for text in texts:
        if half := re.search("[\ud800-\udfff]", text):
            raise Malformed(
                f"half a surrogate pair (\\u{ord(half[0]):04x}) in it; write the whole character"
            )


def kind(value: Any) -> str:
    """The type of a JSON value, in words for an error."""
    names = {
        bool: "true or false",
        dict: "an object",
        list: "a list",
        str: "a text",
        type(None): "null",
    }
    return names.get(type(value), "a number")
