"""The record forms that instruction data is published in, told apart line by line, mixed as they come:

    {"prompt": [{"role": "user", "content": …}], "completion": [{"role": "assistant", "content": …}]}
    {"messages": [{"role": "user", …}, …, {"role": "assistant", …}]}
    {"system": …, "instruction": …, "input": …, "output": …}
    {"text": "システム: …\\n\\n指示: …\\n\\n入力: …\\n\\n出力: …"}
In the first, a plain string may stand for a list with one message. In the last two, system and instruction may be missing; the
last may have English labels.
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
    """What is wrong with a record, as a phrase that follows "line 12: "."""


class Instructed(NamedTuple):
    """A record of the instruction form; system and instruction are "" where it has none."""

    system: str
    instruction: str
    source: str
    target: str


def conversation(record: dict[str, Any], see: str) -> tuple[tuple[Message, ...], str]:
    """(the messages before the answer, the answer) of a record with "messages", or with "prompt" and "completion".

    see: where the formats are described, for the error.
    """
    if "messages" in record:
        *asked, last = _messages(record, "messages", see)
        if last["role"] != "assistant" or not asked:
            raise Malformed(
                f'"messages" ends with the {last["role"]}; its last message is the answer of the assistant'
            )
        answer: tuple[Message, ...] = (last,)
    else:
        asked, answer = list(_messages(record, "prompt", see)), _messages(record, "completion", see)
        if len(answer) > 1:
            raise Malformed(
                f'"completion" has {len(answer)} messages; it is the one answer that is learned'
            )
        if answer[0]["role"] != "assistant":
            raise Malformed(
                f'"completion" is by the {answer[0]["role"]}; the answer is the assistant\'s'
            )
    if asked[-1]["role"] != "user":
        raise Malformed(
            f'"prompt" ends with the {asked[-1]["role"]}; its last message is the user\'s'
        )
    return tuple(asked), answer[0]["content"].strip()


def _messages(record: dict[str, Any], key: str, see: str) -> tuple[Message, ...]:
    value = record.get(key)
    if value is None:
        raise Malformed(f'no "{key}"; {see}')
    if isinstance(value, str):
        value = [{"role": "user" if key == "prompt" else "assistant", "content": value}]
    if not isinstance(value, list):
        raise Malformed(f'"{key}" is {kind(value)}; it is a list of messages, or a text')
    if not value:
        raise Malformed(f'"{key}" is empty')
    return tuple(_message(item, key, place) for place, item in enumerate(value, start=1))


def _message(item: Any, key: str, place: int) -> Message:
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


def instructed(record: dict[str, Any], see: str) -> Instructed:
    """The parts of a record of the instruction form."""
    system, instruction = (
        content(record, key, see, needed=False) for key in ("system", "instruction")
    )
    return Instructed(
        system,
        instruction,
        content(record, "input", see, needed=not instruction),
        content(record, "output", see),
    )


def labelled(text: str, see: str) -> dict[str, Any]:
    """The parts of a preprocessed text by the names of the instruction form."""
    pieces = LABEL.split(text)  # what precedes the first label, then label, part, label, part, …
    labels = [LABELS[label.lower()] for label in pieces[1::2]]
    if not labels or pieces[0].strip():
        raise Malformed(f'"text" does not begin with a label such as "入力:" or "Input:"; {see}')
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise Malformed(f'"text" has two parts labelled {twice}')
    return dict(zip(labels, pieces[2::2], strict=True))


def content(record: dict[str, Any], key: str, see: str, needed: bool = True) -> str:
    """A text of the record, stripped; "" where it may be missing and is."""
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
    """The record's own category, or ""."""
    value = record.get("category")
    if not (value is None or isinstance(value, str)):
        raise Malformed(f'"category" is {kind(value)}; it is a word, or left out')
    return (value or "").strip()


def require_encodable(example: Example) -> None:
    """JSON can escape half a surrogate pair (`"\\ud800"`), which no UTF-8 file can hold."""
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
    """What a JSON value is, in words."""
    names = {
        bool: "true or false",
        dict: "an object",
        list: "a list",
        str: "a text",
        type(None): "null",
    }
    return names.get(type(value), "a number")
