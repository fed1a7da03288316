"""The forms in which instruction data is published. One file may mix them; each record is
recognised:

    {"prompt": [{"role": "user", "content": …}],
     "completion": [{"role": "assistant", "content": …}]}
    {"messages": [{"role": "user", …}, …, {"role": "assistant", …}]}
    {"conversations": [{"from": "human", "value": …}, …, {"from": "gpt", "value": …}]}
    {"system": …, "instruction": …, "input": …, "output": …, "history": [[question, answer], …]}
    {"text": "システム: …\\n\\n指示: …\\n\\n入力: …\\n\\n出力: …"}
In the first, a plain string may stand for a list with one message. The third is ShareGPT's, the
fourth Alpaca's; in it and the last, system and instruction may be missing. The labels of the last
may be English. Of a conversation the last answer is learned.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from stages.corpus.examples import BadLine, Example
from stages.records import Message

ROLES = ("system", "user", "assistant")
SHAREGPT = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant",
    "assistant": "assistant", "model": "assistant", "bing": "assistant", "bard": "assistant",
}  # fmt: skip
INSTRUCTION_KEYS = ("system", "instruction", "input", "output", "history")
PREPARED = ("id", "source")  # what `prepare` writes beside a row's messages; they follow from these
LABELS = {
    "システム": "system", "指示": "instruction", "入力": "input", "出力": "output",
    "system": "system", "instruction": "instruction", "input": "input", "output": "output",
}  # fmt: skip
LABEL = re.compile(
    rf"(?:\A\s*|\n[ \t]*\n)({'|'.join(LABELS)})[ \t]*[:：]", re.IGNORECASE | re.ASCII
)


class Malformed(ValueError):
    """A record that cannot be read. The message is a phrase that follows "line 12: "."""


def examples_of(
    records: Iterable[tuple[int, Any]], read: Callable[[int, Any], Iterable[Example]]
) -> Iterator[Example | BadLine]:
    """What `read` makes of each (line, record). A record that it calls Malformed becomes a BadLine,
    and so does one that is a text: what is wrong with the line.
    """
    for line, record in records:
        try:
            if isinstance(record, str):
                raise Malformed(record)
            yield from read(line, record)
        except Malformed as fault:
            yield BadLine(line, str(fault))


class Parsed(NamedTuple):
    """What a record of any form says.

    before: the messages before the answer, which the record words itself.   form: which form it is,
    in words.   unused: keys without a use.
    instruction, given: of an instruction record, whose last message is yet to be put into words; ""
    in a conversation.
    """

    before: tuple[Message, ...]
    answer: str
    form: str
    unused: tuple[str, ...]
    instruction: str = ""
    given: str = ""


def parse(record: dict[str, Any], see: str) -> Parsed | None:
    """A record of one of the forms; None where it has none of them.

    see: where the formats are described, for the error. Raises Malformed.
    """
    if "conversations" in record:
        turns, form = _from_sharegpt(record["conversations"]), "ShareGPT conversations"
        before, answer, inner = _conversation({"messages": turns}, see)
        return Parsed(before, answer, form, unused(record, {"conversations"}) + inner)
    if record.keys() & {"messages", "prompt", "completion"}:
        before, answer, inner = _conversation(record, see)
        of_chat = "messages" in record
        used = {"messages"} if of_chat else {"prompt", "completion"}
        form = "conversations" if of_chat else "prompts with their completion"
        left = [key for key in unused(record, used) if key not in PREPARED]
        return Parsed(before, answer, form, (*left, *inner))
    if record.keys() & {"instruction", "input", "output"}:
        parts, used, form = record, set(INSTRUCTION_KEYS), "instruction records"
    elif "text" in record:
        parts, used = parse_labelled_text(content(record, "text", see), see), {"text"}
        form = "labelled texts"
    else:
        return None
    system, instruction = (
        content(parts, key, see, needed=False) for key in ("system", "instruction")
    )
    given = content(parts, "input", see, needed=not instruction)
    answer = content(parts, "output", see)
    before = (Message(role="system", content=system),) if system else ()
    before += _history(parts.get("history"))
    return Parsed(before, answer, form, unused(record, used), instruction, given)


def unused(record: dict[str, Any], used: Collection[str], inside: str = "") -> tuple[str, ...]:
    """The keys of a record with a value that nothing here has a use for."""
    known = {*used, "category"}
    return tuple(
        f"{inside}{key}"
        for key, value in record.items()
        if key not in known and value not in (None, "", [], {})
    )


def _from_sharegpt(turns: Any) -> list[Any]:
    """ShareGPT's turns as messages. Raises Malformed."""
    if not isinstance(turns, list):
        raise Malformed(f'"conversations" is {kind(turns)}; it is a list of turns')
    messages = []
    for place, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict):
            raise Malformed(f'"conversations" turn {place} is {kind(turn)}; it has from and value')
        if "role" in turn:  # the name is ShareGPT's, what is in it is not
            messages.append(turn)
            continue
        if (role := SHAREGPT.get(str(turn.get("from")))) is None:
            known = ", ".join(SHAREGPT)
            raise Malformed(
                f'"conversations" turn {place}: from {repr(turn.get("from"))[:40]}; it is one of '
                f"{known}"
            )
        others = {key: value for key, value in turn.items() if key not in ("from", "value")}
        messages.append({"role": role, "content": turn.get("value"), **others})
    if messages and messages[0].get("role") == "assistant":
        raise Malformed("the conversation begins with the assistant; put before it what it answers")
    return messages


def _history(turns: Any) -> tuple[Message, ...]:
    """Alpaca's earlier turns, each [question, answer]. Raises Malformed."""
    messages: list[Message] = []
    if not isinstance(turns or [], list):
        raise Malformed(f'"history" is {kind(turns)}; it is a list of [question, answer]')
    for place, turn in enumerate(turns or [], start=1):
        texts = turn if isinstance(turn, list) else []
        if len(texts) != 2 or not all(isinstance(text, str) and text.strip() for text in texts):
            raise Malformed(f'"history" turn {place} is no [question, answer] of two texts')
        messages.append({"role": "user", "content": texts[0]})
        messages.append({"role": "assistant", "content": texts[1]})
    return tuple(messages)


def _conversation(
    record: dict[str, Any], see: str
) -> tuple[tuple[Message, ...], str, tuple[str, ...]]:
    """(messages before the answer, answer, unused keys of messages) of a record with "messages" or
    "prompt". Raises Malformed.
    """
    if "messages" in record:
        messages, ignored = _parse_messages(record, "messages", see)
        *before, last = messages
        if last["role"] != "assistant" or not before:
            raise Malformed(
                f'"messages" ends with the {last["role"]}; '
                "its last message is the answer of the assistant"
            )
        answer: tuple[Message, ...] = (last,)
    else:
        given, of_prompt = _parse_messages(record, "prompt", see)
        answer, of_completion = _parse_messages(record, "completion", see)
        before, ignored = list(given), (*of_prompt, *of_completion)
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
    return tuple(before), answer[0]["content"].strip(), ignored


def _parse_messages(
    record: dict[str, Any], key: str, see: str
) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """(messages, their keys without a use) of a record's list. Raises Malformed."""
    value = record.get(key)
    if value is None:
        raise Malformed(f'no "{key}"; {see}')
    if isinstance(value, str):
        value = [{"role": "user" if key == "prompt" else "assistant", "content": value}]
    if not isinstance(value, list):
        raise Malformed(f'"{key}" is {kind(value)}; it is a list of messages, or a text')
    if not value:
        raise Malformed(f'"{key}" is empty')
    messages = tuple(_parse_message(item, key, at) for at, item in enumerate(value, start=1))
    if value[-1].get("weight") == 0 or value[-1].get("train") is False:
        raise Malformed(
            f'"{key}" ends with a message of weight 0, so that nothing is learned of it'
        )
    # Turns before the answer are not learned, whatever their weight.
    used = {"role", "content", "weight", "train"}
    ignored = {name for item in value for name in unused(item, used, f"{key}.")}
    return messages, tuple(sorted(ignored))


def _parse_message(item: Any, key: str, place: int) -> Message:
    where = f'"{key}" message {place}'
    if not isinstance(item, dict):
        raise Malformed(f"{where} is {kind(item)}; a message has a role and a content")
    role, content = item.get("role"), item.get("content")
    if item.get("tool_calls") or item.get("function_call") or role in ("tool", "function"):
        raise Malformed(f"{where}: a call of a tool, or its result; these cannot be learned here")
    if role not in ROLES:
        raise Malformed(f"{where}: role {repr(role)[:40]}; roles are {', '.join(ROLES)}")
    if role == "system" and place > 1:
        raise Malformed(f"{where}: a system message after the first place")
    if not isinstance(content, str):
        raise Malformed(f"{where}: content is {kind(content)}; it is a text")
    if not content.strip():
        raise Malformed(f'"{key}" is empty' if key == "completion" else f"{where} is empty")
    return {"role": role, "content": content}


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
