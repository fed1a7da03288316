"""The forms in which instruction data is published. One file may mix them; each record is
recognised:

    {"prompt": [{"role": "user", "content": …}],
     "completion": [{"role": "assistant", "content": …}]}
    {"messages": [{"role": "user", …}, …, {"role": "assistant", …}]}
    {"conversations": [{"from": "human", "value": …}, …, {"from": "gpt", "value": …}]}
    {"system": …, "instruction": …, "input": …, "output": …, "history": [[question, answer], …]}
    {"query": …, "tools": [definition, …], "answers": [{"name": …, "arguments": {…}}, …]}
    {"text": "システム: …\\n\\n指示: …\\n\\n入力: …\\n\\n出力: …"}
In the first, a plain string may stand for a list with one message. The third is ShareGPT's, the
fourth Alpaca's, the fifth xLAM's; in Alpaca's and the last, system and instruction may be missing.
The labels of the last may be English. What is learned of a conversation:
stages/corpus/conversations.py.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from stages.corpus import conversations
from stages.corpus.examples import BadLine, Example
from stages.corpus.fields import Malformed, content, unused
from stages.records import Message, answer_text

INSTRUCTION_KEYS = ("system", "instruction", "input", "output", "history")
CONVERSATIONS = {
    frozenset({"conversations"}): "ShareGPT conversations",
    frozenset({"messages"}): "conversations",
    frozenset({"prompt", "completion"}): "prompts with their completion",
}
LABELS = {
    "システム": "system", "指示": "instruction", "入力": "input", "出力": "output",
    "system": "system", "instruction": "instruction", "input": "input", "output": "output",
}  # fmt: skip
LABEL = re.compile(
    rf"(?:\A\s*|\n[ \t]*\n)({'|'.join(LABELS)})[ \t]*[:：]", re.IGNORECASE | re.ASCII
)


def examples_of(
    records: Iterable[tuple[int, Any]],
    read: Callable[[int, Any], Iterable[Example | BadLine]],
) -> Iterator[Example | BadLine]:
    """What `read` makes of each (line, record). A record that it calls Malformed becomes a BadLine,
    and so does one that is a text: what is wrong with the line.

    The keys without a use are those of the record's first example, so that each counts once. Of
    several records on one line, as of an array without line breaks, a fault says which it is.
    """
    before, nth = 0, 0
    for line, record in records:
        before, nth = line, nth + 1 if line == before else 1
        told = False
        try:
            if isinstance(record, str):
                raise Malformed(record)
            for item in read(line, record):
                if isinstance(item, BadLine):
                    yield BadLine(line, _of_several(nth, item.reason))
                else:
                    yield replace(item, unused=()) if told and item.unused else item
                    told = True
        except Malformed as fault:
            yield BadLine(line, _of_several(nth, str(fault)))


def _of_several(nth: int, reason: str) -> str:
    return f"record {nth} in this line: {reason}" if nth > 1 else reason


def source_written(record: dict[str, Any], asked: str) -> str:
    """The source that `prepare` has written beside a conversation; "" where the record's "source"
    is something else, such as where it was found.

    asked: what the user says last, which ends with the source.
    """
    source = record.get("source")
    if not isinstance(source, str) or not source.strip():
        return ""
    return source if f"\n{asked.strip()}".endswith(f"\n{source.strip()}") else ""


def unused_with_source(parsed: "Parsed", record: dict[str, Any], asked: str) -> tuple[str, ...]:
    """The keys without a use, with "source" where it is not what `prepare` has written."""
    tells = record.get("source") and not source_written(record, asked)
    return tuple(dict.fromkeys((*parsed.unused, *(("source",) if tells else ()))))


class Parsed(NamedTuple):
    """What a record of any form says.

    before: the messages before the answer, which the record words itself.   form: which form it is,
    in words.   unused: keys without a use.   tools: the definitions of those that may be called.
    instruction, given: of an instruction record, whose last message is yet to be put into words; ""
    in a conversation.
    """

    before: tuple[Message, ...]
    answer: Message
    form: str
    unused: tuple[str, ...]
    tools: tuple[dict[str, Any], ...] = ()
    instruction: str = ""
    given: str = ""

    @property
    def target(self) -> str:
        return answer_text(self.answer).strip()


def parse(record: dict[str, Any], see: str) -> Parsed | None:
    """A record of one of the forms; None where it has none of them.

    see: where the formats are described, for the error. Raises Malformed.
    """
    there = {key for key, value in record.items() if value is not None}
    forms = [form for keys, form in CONVERSATIONS.items() if there & keys]
    if there >= conversations.QUERY:
        forms = ["queries with the calls that answer them"]
    if forms:
        before, answer, tools, left = conversations.of_record(record, see)
        return Parsed(before, answer, forms[0], left, tools)
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
    answer = conversations.answer_in(parts, "output", see)
    before = (Message(role="system", content=system),) if system else ()
    before += conversations.history(parts.get("history"))
    left = unused(record, used)
    return Parsed(before, answer, form, left, instruction=instruction, given=given)


def parse_labelled_text(text: str, see: str) -> dict[str, Any]:
    """A text with labels such as "指示:" as a record of the instruction form. Raises Malformed."""
    pieces = LABEL.split(text)  # the text before the first label, then label, part, label, part, …
    labels = [LABELS[label.lower()] for label in pieces[1::2]]
    if not labels or pieces[0].strip():
        raise Malformed(f'"text" does not begin with a label such as "入力:" or "Input:"; {see}')
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise Malformed(f'"text" has two parts labelled {twice}')
    return dict(zip(labels, pieces[2::2], strict=True))


def require_encodable(example: Example) -> None:
    """Raise Malformed where a text cannot be encoded in UTF-8.

    JSON can escape half a surrogate pair (`"\\ud800"`), which UTF-8 cannot represent.
    """
    texts = [example.source, example.target, example.category]
    if whole := [*example.prompt, *filter(None, (example.answer,)), *example.tools]:
        texts.append(json.dumps(whole, ensure_ascii=False))
    for text in texts:
        if not text.isascii() and (half := re.search("[\ud800-\udfff]", text)):
            raise Malformed(
                f"half a surrogate pair (\\u{ord(half[0]):04x}) in it; write the whole character"
            )
