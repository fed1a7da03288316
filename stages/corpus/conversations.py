"""Conversations as they are published -> messages in one form (stages/records.py).

OpenAI's chats, with calls of tools and their results; ShareGPT's turns, and LIMA's without names;
Hermes' calls in tags; xLAM's queries with the calls that answer them; TRL's prompts with their
completion; Alpaca's history. Every answer of the assistant is learned but those that the record
excludes (`"weight": 0`, `"train": false`), and those in a "prompt". What the assistant thinks
before it answers has a key of its own, one of REASONING, or stands before the answer in `<think>`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from stages.corpus import tool_calls
from stages.corpus.fields import PREPARED, Malformed, content, kind, unused
from stages.records import Message, learned_turns
from stages.text import reasoning

ROLES = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant",
    "tool": "tool", "function": "tool",
}  # fmt: skip
SHAREGPT = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant",
    "assistant": "assistant", "model": "assistant", "bing": "assistant", "bard": "assistant",
    "function_call": "assistant", "observation": "tool", "tool": "tool",
}  # fmt: skip
FOLLOWS = {
    "system": {""},
    "user": {"", "system", "assistant"},
    "assistant": {"user", "tool"},
    "tool": {"assistant", "tool"},
}
"""What a message may come after; "" is the beginning."""
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Keys for what the assistant thinks, as DeepSeek and Qwen, OpenRouter, and GPT-OSS name it."""
USED = {"role", "content", "weight", "train", "tool_calls", "function_call", *REASONING}
QUERY = {"query", "answers", "tools"}
OF_RESULTS = ("tool_call_id", "name")
"""Keys of xLAM's records, and those that only the result of a tool has a use for."""


class Conversation(NamedTuple):
    """before: the messages before the last answer that is learned.   answer: that one.
    tools: the definitions of those that it may call.   unused: keys without a use.
    """

    before: tuple[Message, ...]
    answer: Message
    tools: tuple[dict[str, Any], ...]
    unused: tuple[str, ...]


def of_record(record: dict[str, Any], see: str) -> Conversation:
    """A record with "messages", "conversations", or "prompt" and "completion". Raises Malformed.

    see: where the formats are described, for the error.
    """
    record = {key: value for key, value in record.items() if value is not None}
    used = {"tools", "functions"}
    if record.keys() >= QUERY:
        used |= QUERY
        calls = tool_calls.from_json(record["answers"])
        if not isinstance(calls, list) or not calls:
            what = kind(calls) if calls else "empty"
            raise Malformed(f'"answers" is {what}; it is a list of calls, or one in JSON')
        answer = {"role": "assistant", "content": "", "tool_calls": calls}
        asked = {"role": "user", "content": record["query"]}
        messages, ignored = _messages({"messages": [asked, answer]}, "messages", see)
    elif "conversations" in record:
        turns = _from_sharegpt(record["conversations"])
        used |= {"conversations"}
        messages, ignored = _messages({"conversations": turns}, "conversations", see)
    elif "messages" in record:
        used |= {"messages", *PREPARED}
        messages, ignored = _messages(record, "messages", see)
    else:
        used |= {"prompt", "completion", *PREPARED}
        given, of_prompt = _messages(record, "prompt", see)
        # Only what a completion says is learned, as in TRL.
        given = [_not_learned(message) for message in given]
        answers, of_completion = _messages(record, "completion", see)
        messages, ignored = [*given, *answers], of_prompt | of_completion
    if isinstance(record.get("system"), str) and record["system"].strip():
        used |= {"system"}
        messages = [Message(role="system", content=record["system"]), *messages]
    # Without definitions the text says itself how a tool is called: then it stays text.
    if tools := tool_calls.definitions(record):
        messages = [
            plain
            for place, message in enumerate(messages, start=1)
            for plain in tool_calls.untagged(message, f"message {place}")
        ]
    require_order(messages)
    learned = learned_turns(messages)
    if (last_role := messages[-1]["role"]) != "assistant":
        raise Malformed(
            f"the conversation ends with the {last_role}; its last message is the answer of the "
            "assistant"
        )
    if not learned:
        raise Malformed("every answer has weight 0, so that nothing is learned of the conversation")
    last = learned[-1]  # what comes after it teaches nothing
    left = unused(record, used)
    return Conversation(
        tuple(messages[:last]),
        messages[last],
        tools,
        (*left, *sorted(ignored)),
    )


def answer_of(said: str, where: str, thoughts: Sequence[str] = ()) -> Message:
    """An answer of the assistant.   where: it stands, for the error.   thoughts: what it thinks
    before, where that does not stand in `said`. Raises Malformed where they differ.
    """
    thought, said = reasoning.divided(said)
    different = {text.strip() for text in (thought, *thoughts)} - {""}
    if len(different) > 1:
        raise Malformed(f"{where}: its reasoning is given twice and differs; keep one")
    message = Message(role="assistant", content=said)
    return {**message, "reasoning_content": different.pop()} if different else message


def answer_in(record: dict[str, Any], key: str, see: str) -> Message:
    """The record's answer at this key. Raises Malformed, also where it is only reasoning."""
    return _with_content(answer_of(content(record, key, see), f'"{key}"'), f'"{key}"')


def _with_content(answer: Message, where: str) -> Message:
    if not answer["content"]:
        raise Malformed(f"{where} ends with its reasoning; the answer comes after it")
    return answer


def history(turns: Any) -> tuple[Message, ...]:
    """Alpaca's earlier turns, each [question, answer]. Raises Malformed."""
    messages: list[Message] = []
    if not isinstance(turns or [], list):
        raise Malformed(f'"history" is {kind(turns)}; it is a list of [question, answer]')
    for place, turn in enumerate(turns or [], start=1):
        texts = turn if isinstance(turn, list) else []
        if len(texts) != 2 or not all(isinstance(text, str) and text.strip() for text in texts):
            raise Malformed(f'"history" turn {place} is no [question, answer] of two texts')
        messages.append({"role": "user", "content": texts[0]})
        where = f'"history" turn {place}'
        messages.append(_with_content(answer_of(texts[1], where), where))
    return tuple(messages)


def require_order(messages: Sequence[Message]) -> None:
    """Raise Malformed where a message comes after one that it cannot follow."""
    # Where no call is a part of a message, some stand in what is said, in a form of its own.
    spoken = not any("tool_calls" in message for message in messages)
    before, called = "", False
    for place, message in enumerate(messages, start=1):
        role = message["role"]
        if before not in FOLLOWS[role] or (role == "tool" and not called):
            after = f"after the {before}'s" if before else "first"
            reason = {
                "assistant": "put before it what it answers",
                "tool": "a result comes after the answer that calls the tool",
                "system": "only the first message is the system's",
                "user": "join them, or put the answer between them",
            }[role]
            raise Malformed(f"message {place}, the {role}'s, comes {after}; {reason}")
        before, called = role, spoken or role == "tool" or "tool_calls" in message


def _not_learned(message: Message) -> Message:
    return {**message, "train": False} if message["role"] == "assistant" else message


def _messages(record: dict[str, Any], key: str, see: str) -> tuple[list[Message], set[str]]:
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
    messages = [_message(item, key, place) for place, item in enumerate(value, start=1)]
    if key == "completion" and messages[0]["role"] != "assistant":
        raise Malformed(
            f'"completion" begins with the {messages[0]["role"]}; the answer is the assistant\'s'
        )
    return messages, {
        name
        for item, message in zip(value, messages, strict=True)
        for name in unused(
            item, USED.union(OF_RESULTS if message["role"] == "tool" else ()), f"{key}."
        )
    }


def _message(item: Any, key: str, place: int) -> Message:
    where = f'"{key}" message {place}'
    if not isinstance(item, dict):
        raise Malformed(f"{where} is {kind(item)}; a message has a role and a content")
    role = ROLES.get(str(item.get("role")))
    if role is None:
        known = ", ".join(ROLES)
        raise Malformed(f"{where}: role {repr(item.get('role'))[:40]}; roles are {known}")
    said = _text(item.get("content"), where, item)
    calls = tool_calls.from_json(item.get("tool_calls")) or [
        {"function": call} for call in (item.get("function_call"),) if call
    ]
    thoughts = [item[name] for name in REASONING if item.get(name)]
    if thoughts and not (role == "assistant" and all(isinstance(each, str) for each in thoughts)):
        raise Malformed(f"{where}: its reasoning is a text, in a message of the assistant")
    message = (
        answer_of(said, where, thoughts)
        if role == "assistant"
        else Message(role=role, content=said)
    )
    if calls:
        if role != "assistant" or not isinstance(calls, list):
            raise Malformed(f"{where}: tool_calls is a list, in a message of the assistant")
        message["tool_calls"] = [tool_calls.call(call, where) for call in calls]
    if not message["content"].strip() and not calls and role != "tool":
        raise Malformed(f'"{key}" is empty' if key == "completion" else f"{where} is empty")
    if role == "tool":
        named = {name: item[name] for name in OF_RESULTS if isinstance(item.get(name), str)}
        message = cast(Message, message | named)
    for name in ("weight", "train"):
        if (value := item.get(name)) not in (None, 0, 1):
            raise Malformed(
                f"{where}: {name} {repr(value)[:40]}; an answer is learned, 1 or true, or not, 0 "
                "or false"
            )
        if role == "assistant" and value == 0:
            message["train"] = False
    return message


def _text(content: Any, where: str, item: dict[str, Any]) -> str:
    """A content, which may be a list of parts that are texts. Raises Malformed."""
    if content is None and (item.get("tool_calls") or item.get("function_call")):
        return ""
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {} for part in content]
        if other := next((part for part in parts if part.get("type") != "text"), None):
            raise Malformed(
                f"{where}: a part of type {repr(other.get('type'))[:40]}; only texts are read here"
            )
        texts = [part.get("text") for part in parts]
        if (odd := next((text for text in texts if not isinstance(text, str)), "")) != "":
            raise Malformed(f"{where}: the text of a part is {kind(odd)}; it is a text")
        content = "".join(map(str, texts))
    if not isinstance(content, str):
        raise Malformed(f"{where}: content is {kind(content)}; it is a text")
    return content


def _from_sharegpt(turns: Any) -> list[Any]:
    """ShareGPT's turns as messages. Raises Malformed."""
    if not isinstance(turns, list):
        raise Malformed(f'"conversations" is {kind(turns)}; it is a list of turns')
    if turns and all(isinstance(turn, str) for turn in turns):  # LIMA's, which names no speakers
        return [
            {"role": "assistant" if place % 2 else "user", "content": turn}
            for place, turn in enumerate(turns)
        ]
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
        if both := turn.keys() & {"content", "tool_calls"}:
            raise Malformed(
                f'"conversations" turn {place} has "value" and "{both.pop()}"; keep one of them'
            )
        said: dict[str, Any] = {"content": turn.get("value")}
        if turn["from"] == "function_call":
            calls = tool_calls.from_json(turn.get("value"))
            said = {"content": "", "tool_calls": calls if isinstance(calls, list) else [calls]}
        others = {key: value for key, value in turn.items() if key not in ("from", "value")}
        if turn["from"] == "function_call" and messages and "tool_calls" in messages[-1]:
            messages[-1]["tool_calls"] += said["tool_calls"]  # called at once
            continue
        messages.append({"role": role, **said, **others})
    return messages
