"""Calls of tools and the definitions of those that may be called, as they are published."""

import ast
import json
import re
from typing import Any

from stages.corpus.fields import Malformed, kind
from stages.records import Message

ARGUMENTS = ("arguments", "parameters", "input")
"""Keys of a call for what it gives the tool, as OpenAI, Llama 3.1 and Anthropic name them."""
CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
CALLS = re.compile(r"(?:<tool_call>(?:(?!</tool_call>).)*</tool_call>\s*)+\Z", re.DOTALL)
RESULT = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)
RESULTS = re.compile(
    r"\s*(?:<tool_response>(?:(?!</tool_response>).)*</tool_response>\s*)+", re.DOTALL
)
"""Calls and results as Hermes writes them into what is said."""


def untagged(message: Message, where: str) -> list[Message]:
    """A message whose calls at the end of what is said, or whose results, stand in Hermes' tags, as
    a template is given them: a message for each result. Any other as it is. Raises Malformed.
    """
    said = message["content"]
    if message["role"] == "tool" and RESULTS.fullmatch(said):
        return [{**message, "content": result.strip()} for result in RESULT.findall(said)]
    ending = CALLS.search(said)
    if message["role"] != "assistant" or "tool_calls" in message or not ending:
        return [message]
    calls = [call(_in_tags(each, where), where) for each in CALL.findall(ending[0])]
    return [{**message, "content": said[: ending.start()].rstrip(), "tool_calls": calls}]


def _in_tags(text: str, where: str) -> Any:
    """What a pair of tags holds: JSON, or a dictionary as Python prints it. Raises Malformed."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    raise Malformed(f"{where}: {text.strip()[:40]!r} in <tool_call> is no JSON")


def call(written: Any, where: str) -> dict[str, Any]:
    """A call of a tool, its arguments as an object: templates write them as they need.
    Raises Malformed.
    """
    outer = written if isinstance(written, dict) else {}
    function = outer.get("function", outer)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Malformed(f"{where}: a call of a tool has a function with a name and arguments")
    name, given = function["name"], [key for key in ARGUMENTS if function.get(key) is not None]
    known = {"id", "type", "index", "function", "name", *ARGUMENTS}
    if others := [key for key, value in (outer | function).items() if key not in known and value]:
        raise Malformed(f"{where}: the call of {name} has {others[0]!r}; it has arguments")
    if len(given) > 1:
        raise Malformed(f"{where}: the call of {name} has {' and '.join(given)}; keep one of them")
    arguments = from_json(function[given[0]]) if given else {}
    if arguments == "":
        arguments = {}
    if not isinstance(arguments, dict):
        raise Malformed(f"{where}: the arguments of {name} are no JSON object")
    made = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"id": outer["id"], **made} if isinstance(outer.get("id"), str) else made


def definitions(record: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The definitions of tools, which may be a text of JSON, and bare. Raises Malformed."""
    named = {key: tools for key in ("tools", "functions") if (tools := from_json(record.get(key)))}
    if len(named) > 1:
        raise Malformed('both "tools" and "functions"; keep the one that may be called')
    key, tools = next(iter(named.items()), ("tools", []))
    if not isinstance(tools, list):
        raise Malformed(f'"{key}" is {kind(tools)}; it is a list of definitions')
    made = []
    for place, tool in enumerate(tools, start=1):
        tool = from_json(tool)
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Malformed(f'"{key}" definition {place} has no function with a name')
        made.append({"type": "function", "function": _with_schema(function)})
    return tuple(made)


def _with_schema(function: dict[str, Any]) -> dict[str, Any]:
    """A definition whose parameters stand bare, by name, as xLAM's do, with them as the properties
    of an object: some templates write nothing else.
    """
    bare = function.get("parameters")
    if (
        not (isinstance(bare, dict) and bare and all(isinstance(at, dict) for at in bare.values()))
        or "properties" in bare
    ):
        return function
    return {**function, "parameters": {"type": "object", "properties": bare}}


def from_json(value: Any) -> Any:
    """A value that may be written as a text of JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # brackets in brackets, a thousand deep
        return value
