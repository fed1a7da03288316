"""Conversations as a chat template writes them, with nothing left out."""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from stages.errors import UserError
from stages.records import Message
from stages.text import reasoning

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARK = "\U0010fffe"  # Unicode says that it is no character, and `prepare` lets none in
SHORT = 16  # characters
THINKING = "{%- set enable_thinking = true %}"
"""Before a template it has the last word, also in programs that load the tokenizer of the run."""
REFUSALS = (TemplateError, TypeError, ValueError, KeyError)
"""What a template raises for messages that it was not written for."""
TODAY = date(2024, 7, 26)
FIXED_DATE = (
    "{%- macro strftime_now(form) -%}{{ form"
    + "".join(
        f" | replace('{part}', '{TODAY:{part}}')"
        for part in ("%Y", "%m", "%d", "%B", "%b", "%A", "%a")
    )
    + " }}{%- endmacro +%}"
)
"""What Llama 3.2's and GPT-OSS's templates call for today's date, which would make every day's
prompts different.
"""


def rendered(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] = (),
    asks: bool = False,
) -> str:
    """The text that the template makes of messages.   asks: with the generation prompt at its end.

    The messages are given to it in the first of these forms in which it writes all that they say:
    as they are; each content as a list of parts, as templates of models that also see images ask;
    what the system says at the beginning of the user's first message, where Gemma's and Mistral's
    authors put it; the arguments of a call as a text; what is thought at the beginning of what is
    said, in `<think>`, for templates that know nothing of it. Raises UserError where it does so in
    no form.
    What reads as a special token in what is said has MARK around it, by which `ids` knows it.
    """
    name = tokenizer.name_or_path
    if not tokenizer.chat_template:
        raise UserError(
            f"{name} has no chat template; set chat_template: to one of stages/text/chat_templates "
            "(plain needs no token that the base lacks)"
        )
    reasons, messages = [], _marked(tokenizer, messages)
    probe = _unmistakable(messages)
    for form, of_probe in zip(_forms(messages), _forms(probe), strict=True):
        try:
            text = _applied(tokenizer, form, tools, asks)
            missing = _missing(text, messages, tools)
            if probe is not messages and not missing:
                missing = _missing(_applied(tokenizer, of_probe, tools, asks), probe, tools)
        except REFUSALS as error:
            reasons.append(f"it says: {error}")
            continue
        if not missing:
            if not _leaves_out_calls(tokenizer, form, tools, asks, text):
                return text
            missing = "the calls of tools"
        reasons.append(f"it leaves out {missing}")
    raise UserError(
        f"the chat template of {name} cannot write a conversation of "
        f"{', '.join(message['role'] for message in messages)}: {reasons[0]}; "
        "use another chat_template, or leave such conversations out"
    )


def ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Of what `rendered` made. A special token in what is said is no token, but its characters:
    else the text of a row could end a turn, or begin another.
    """
    # Between the first and the second MARK, the third and the fourth, …
    return [
        number
        for place, part in enumerate(text.split(MARK))
        for number in (
            plain_ids(tokenizer, part)
            if place % 2
            else tokenizer(part, add_special_tokens=False)["input_ids"]
        )
    ]


def plain_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Of a text in which no characters are a special token."""
    found: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
        "input_ids"
    ]
    return found


def after_prompt(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] = (),
) -> str:
    """What the template writes of the last message, after all that it writes of those before.

    Raises UserError where that is not how the whole begins.
    """
    whole = rendered(tokenizer, messages, tools)
    prompt = rendered(tokenizer, messages[:-1], tools, asks=True)
    if not whole.startswith(prompt):
        thinks = str(tokenizer.chat_template).startswith(THINKING)
        remedy = "use another chat_template"
        if thinks != ("reasoning_content" in messages[-1]):
            remedy = (
                "with enable_thinking: true it needs reasoning before every answer"
                if thinks
                else "set enable_thinking: true, because its answer comes after reasoning"
            )
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} does not continue its own prompt "
            f"({prompt!r} is no beginning of {whole!r}); {remedy}"
        )
    return whole[len(prompt) :]


def _applied(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[dict[str, Any]],
    tools: Sequence[dict[str, Any]],
    asks: bool,
) -> str:
    """enable_thinking=False: Qwen 3 writes an empty think block into the prompt, so that the block
    is given and not learned. A template that begins with THINKING says otherwise.
    date_string: what Llama 3.2 writes in place of today's date.
    """
    template = tokenizer.get_chat_template(tools=list(tools) or None)
    if "strftime_now" in template:
        template = FIXED_DATE + template
    text: Any = tokenizer.apply_chat_template(
        list(messages),
        tools=list(tools) or None,
        chat_template=template,
        tokenize=False,
        add_generation_prompt=asks,
        enable_thinking=False,
        date_string=f"{TODAY:%d %b %Y}",
    )
    assert isinstance(text, str)
    return text


def _marked(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message]) -> Sequence[Message]:
    said = "\n".join(text for message in messages for text in _texts(message).values())
    if MARK in said:
        raise UserError(f"no character U+{ord(MARK):X} in a message; remove it")
    tokens = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    if not (there := [token for token in tokens if token in said]):
        return messages
    pattern = re.compile("|".join(map(re.escape, sorted(there, key=len, reverse=True))))
    marked = []
    for message in messages:
        copy = message.copy()
        copy["content"] = pattern.sub(rf"{MARK}\g<0>{MARK}", copy["content"])
        if thought := copy.get("reasoning_content"):
            copy["reasoning_content"] = pattern.sub(rf"{MARK}\g<0>{MARK}", thought)
        marked.append(copy)
    return marked


def _unmistakable(messages: Sequence[Message]) -> Sequence[Message]:
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


def _texts(message: Message) -> dict[str, str]:
    """What is written in a message, and what is thought."""
    texts = {"content": message["content"]}
    if thought := message.get("reasoning_content"):
        texts["reasoning_content"] = thought
    return texts


def _forms(messages: Sequence[Message]) -> Iterator[list[dict[str, Any]]]:
    plain: list[dict[str, Any]] = [
        {key: value for key, value in message.items() if key != "train"} for message in messages
    ]
    for message in plain:
        if thought := message.get("reasoning_content"):
            message["thinking"] = thought  # as GPT-OSS's template names it
    yield from _in_other_words(plain)
    if thought := plain[-1].get("reasoning_content"):
        # Of earlier answers templates leave out what was thought.
        said = reasoning.joined(thought, plain[-1]["content"])
        yield from _in_other_words([*plain[:-1], {**plain[-1], "content": said}])


def _in_other_words(messages: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    yield messages
    yield _in_parts(messages)
    if len(messages) > 1 and messages[0]["role"] == "system":
        first = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
        yield [first, *messages[2:]]
        yield _in_parts([first, *messages[2:]])
    if any("tool_calls" in message for message in messages):
        yield [_with_arguments_as_text(message) for message in messages]


def _with_arguments_as_text(message: dict[str, Any]) -> dict[str, Any]:
    calls = [
        {
            **call,
            "function": {
                **function,
                "arguments": json.dumps(function["arguments"], ensure_ascii=False),
            },
        }
        for call in message.get("tool_calls", ())
        for function in (call["function"],)
    ]
    return {**message, "tool_calls": calls} if calls else message


def _in_parts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        for message in messages
    ]


def _leaves_out_calls(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[dict[str, Any]],
    tools: Sequence[dict[str, Any]],
    asks: bool,
    text: str,
) -> bool:
    """Whether the same text comes out without the calls of tools."""
    if not any("tool_calls" in message for message in messages):
        return False
    without = [{**message} for message in messages]
    for message in without:
        message.pop("tool_calls", None)
    try:
        return _applied(tokenizer, without, tools, asks) == text
    except REFUSALS:
        return False


def _missing(text: str, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> str:
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
    for call in last.get("tool_calls", ())[:1]:
        if thought := _without_spaces(last.get("reasoning_content", "")):
            name = _without_spaces(call["function"]["name"])
            if written.rfind(name) < written.rfind(thought) + len(thought):
                return "that the assistant thinks before it calls a tool"
    if not all(tool["function"]["name"] in text for tool in tools):
        return "the definitions of the tools"
    return ""


def _without_spaces(text: str) -> str:
    """Templates trim what they write, and some break lines in it."""
    return "".join(text.split())
