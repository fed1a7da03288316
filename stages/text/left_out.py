"""What a chat template leaves out of the messages that it is given: many pass over in silence what
they were not written for.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import TemplateError

from stages.records import Message

MARK = "\U0010fffe"  # Unicode says that it is no character, and `prepare` lets none in
SHORT = 16  # characters
REFUSALS = (TemplateError, TypeError, ValueError, KeyError)
"""What a template raises for messages that it was not written for."""


def unmistakable(messages: Sequence[Message]) -> Sequence[Message]:
    """The same messages with other words, where one is so short that a template may have it in its
    own: "a" is in "Assistant".
    """
    texts = [text for message in messages for text in _texts(message).values()]
    if all(len(text) > SHORT for text in texts if text):
        return messages
    made = [message.copy() for message in messages]
    for place, message in enumerate(made):
        message["content"] = f"said-{place}-7c1f" if message["content"] else ""
        if "reasoning_content" in message:
            message["reasoning_content"] = f"thought-{place}-7c1f"
    return made


def of_speech(text: str, messages: Sequence[Message]) -> str:
    """What the text does not have of all that is said, in words; "" where it has everything.

    Of earlier answers nothing is asked: some templates shorten them.
    """
    written = _without_spaces(text)
    for place, message in enumerate(messages, start=1):
        if message["role"] == "assistant" and place < len(messages):
            continue
        for key, said in _texts(message).items():
            in_json = json.dumps(said, ensure_ascii=False)[1:-1]
            if not any(_without_spaces(form) in written for form in (said, in_json)):
                return f"what the {message['role']} {'says' if key == 'content' else 'thinks'}"
    last = messages[-1]
    for call in last.get("tool_calls", ())[:1]:  # they stand together
        if thought := _without_spaces(last.get("reasoning_content", "")):
            name = _without_spaces(call["function"]["name"])
            if written.rfind(name) < written.rfind(thought) + len(thought):
                return "that the assistant thinks before it calls a tool"
    return ""


def of_tools(
    text: str,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]],
    applied: Callable[[list[dict[str, Any]], list[dict[str, Any]]], str],
) -> str:
    """What the text does not have of definitions and calls, in words; "" where it has everything.

    That is what can be taken away without a change of the text: a talk may name a tool that its
    prompt does not define.   applied: the text that the template makes of (messages, tools).
    """
    if escaped := re.search(rf"\\+U{ord(MARK):08x}|\\+udbff\\+udffe", text):
        return f"a special token that a call holds (it writes {escaped[0]})"

    def keeping(calls: slice) -> list[dict[str, Any]]:
        return [
            {**message, "tool_calls": message["tool_calls"][calls]}
            if len(message.get("tool_calls", ())) > 1
            else message
            for message in messages
        ]

    silent = [{**message} for message in messages]
    for message in silent:
        message.pop("tool_calls", None)
    fewer = {
        "the definitions of the tools": (messages, []),
        "the calls of tools": (silent, tools),
        "the last of several calls": (keeping(slice(-1)), tools),
        "the first of several calls": (keeping(slice(1, None)), tools),
    }
    for what, less in fewer.items():
        try:
            if less != (messages, tools) and applied(*less) == text:
                return what
        except REFUSALS:
            continue
    for tool in (tool["function"] for tool in tools):
        schema = tool.get("parameters")
        properties = schema.get("properties") if isinstance(schema, dict) else None
        for name in (tool["name"], *(properties if isinstance(properties, dict) else ())):
            if name not in text:
                return f"{name}, of the definition of the tool {tool['name']}"
    return ""


def _texts(message: Message) -> dict[str, str]:
    """What is written in a message, and what is thought."""
    texts = {"content": message["content"]}
    if thought := message.get("reasoning_content"):
        texts["reasoning_content"] = thought
    return texts


def _without_spaces(text: str) -> str:
    """Templates trim what they write, and some break lines in it."""
    return "".join(text.split())
