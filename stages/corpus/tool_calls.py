"""Calls of tools and the definitions of those that may be called, as they are published."""

import json
import re
from typing import Any

from stages.corpus.fields import Malformed, kind
from stages.records import Message

TAGGED_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
TAGGED_CALLS = re.compile(r"(?:<tool_call>(?:(?!</tool_call>).)*</tool_call>\s*)+\Z", re.DOTALL)
TAGGED_RESULT = re.compile(
    r"\s*<tool_response>((?:(?!</tool_response>).)*)</tool_response>\s*", re.DOTALL
)
"""Calls and results as Hermes writes them into what is said."""


def untagged(message: Message, where: str) -> Message:
    """A message whose calls at the end of what is said, or whose result, stand in Hermes' tags, as
    a template is given them; any other as it is. Raises Malformed.
    """
    said = message["content"]
    if message["role"] == "tool" and (result := TAGGED_RESULT.fullmatch(said)):
        return {**message, "content": result[1].strip()}
    ending = TAGGED_CALLS.search(said)
    if message["role"] != "assistant" or "tool_calls" in message or not ending:
        return message
    try:
        written = [json.loads(each) for each in TAGGED_CALL.findall(ending[0])]
    except (ValueError, RecursionError):  # brackets in brackets, a thousand deep
        return message
    calls = [call(each, where) for each in written]
    return {**message, "content": said[: ending.start()].rstrip(), "tool_calls": calls}


def call(written: Any, where: str) -> dict[str, Any]:
    """A call of a tool, its arguments as an object: templates write them as they need.
    Raises Malformed.
    """
    function = written.get("function", written) if isinstance(written, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Malformed(f"{where}: a call of a tool has a function with a name and arguments")
    arguments = from_json(function.get("arguments", {}))
    if not isinstance(arguments, dict):
        raise Malformed(f"{where}: the arguments of {function['name']} are no JSON object")
    made = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return {"id": written["id"], **made} if isinstance(written.get("id"), str) else made


def definitions(record: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The definitions of tools, which may be a text of JSON, and bare. Raises Malformed."""
    named = [tools for key in ("tools", "functions") if (tools := from_json(record.get(key)))]
    if len(named) > 1:
        raise Malformed('both "tools" and "functions"; keep the one that may be called')
    tools = named[0] if named else []
    if not isinstance(tools, list):
        raise Malformed(f'"tools" is {kind(tools)}; it is a list of definitions')
    made = []
    for place, tool in enumerate(tools, start=1):
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Malformed(f'"tools" definition {place} has no function with a name')
        made.append({"type": "function", "function": function})
    return tuple(made)


def from_json(value: Any) -> Any:
    """A value that may be written as a text of JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # brackets in brackets, a thousand deep
        return value
