"""Conversations as a chat template writes them, with nothing left out."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

from stages.errors import UserError
from stages.records import Message
from stages.text import left_out, reasoning, time_limit
from stages.text.left_out import MARK

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

THINKING = "{%- set enable_thinking = true %}"
"""Before a template it has the last word, also in programs that load the tokenizer of the run."""
MOST_SECONDS = 5.0  # one conversation takes about a millisecond
SHOWN_CHARACTERS = 60  # on each side of where two texts part
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
    reasons = []
    messages, defined = _marked(tokenizer, messages, tools)
    probe = left_out.unmistakable(messages)
    for form, of_probe in zip(_forms(messages), _forms(probe), strict=True):
        try:
            text = _applied(tokenizer, form, defined, asks)
            missing = left_out.of_speech(text, messages)
            if probe is not messages and not missing:
                missing = left_out.of_speech(_applied(tokenizer, of_probe, defined, asks), probe)
        except left_out.REFUSALS as error:
            reasons.append(f"it says: {error}")
            continue
        if missing:
            reasons.append(f"it leaves out {missing}")
            continue
        missing = left_out.of_tools(
            text, form, defined, lambda fewer, of: _applied(tokenizer, fewer, of, asks)
        )
        if not missing:
            return text
        reasons.insert(0, f"it leaves out {missing}")  # this form has all that is said
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
        same = (mine == theirs for mine, theirs in zip(whole, prompt, strict=False))
        at = sum(itertools.takewhile(bool, same))
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} does not continue its own prompt "
            f"({_shown(prompt, at)} is no beginning of {_shown(whole, at)}); {remedy}"
        )
    return whole[len(prompt) :]


def _shown(text: str, at: int) -> str:
    """The text around a place, for an error."""
    begin, end = max(0, at - SHOWN_CHARACTERS), at + SHOWN_CHARACTERS
    return ("…" if begin else "") + repr(text[begin:end]) + ("…" if end < len(text) else "")


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
    write = partial(
        tokenizer.apply_chat_template,
        list(messages),
        tools=list(tools) or None,
        chat_template=template,
        tokenize=False,
        add_generation_prompt=asks,
        enable_thinking=False,
        date_string=f"{TODAY:%d %b %Y}",
    )
    try:
        text: Any = time_limit.within(MOST_SECONDS, write)
    except time_limit.TookTooLong:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} takes more than {MOST_SECONDS:g} s for "
            "one conversation, as nested loops do; use another chat_template"
        ) from None
    assert isinstance(text, str)
    return text


def _marked(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]],
) -> tuple[Sequence[Message], list[dict[str, Any]]]:
    said = json.dumps([messages, tools], ensure_ascii=False)
    if MARK in said:
        raise UserError(f"no character U+{ord(MARK):X} in a message; remove it")
    tokens = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    if not (there := [token for token in tokens if token in said]):
        return messages, list(tools)
    pattern = re.compile("|".join(map(re.escape, sorted(there, key=len, reverse=True))))

    def mark(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub(rf"{MARK}\g<0>{MARK}", value)
        if isinstance(value, list):
            return [mark(item) for item in value]
        if isinstance(value, dict):
            return {mark(key): mark(item) for key, item in value.items()}
        return value

    return mark(list(messages)), mark(list(tools))


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
