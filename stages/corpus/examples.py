"""What a task reads from a raw corpus, before it is cleaned and divided."""

import json
from dataclasses import dataclass
from typing import Any

from stages.records import Message, Shown


@dataclass(frozen=True, slots=True)
class Example:
    """One raw record of a corpus, as its task read it.

    line: its number in the raw file, from 1.   source: the input.   target: the reference output; a
    plain text that is learned as it is stands in `target`, with an empty `source`.
    category: error type, construct or kind of document.   prompt: the messages before the answer,
    where the record has its own; otherwise it is empty and the task writes the prompt.
    answer: the last message, where the record has its own.   tools: the definitions of those
    that the conversation may call.
    steps: the steps of a solution.   labels: how right each step is, 0 to 1; None = not labelled.
    test_only: the reason, such as a licence, for which the record may be tested on but not trained
    on; "" where there is none.
    form: which of the task's forms the record has, in words.   unused: its keys that nothing here
    has a use for, dotted where they are inside it.
    """

    line: int
    source: str
    target: str
    category: str
    prompt: tuple[Message, ...] = ()
    steps: tuple[str, ...] = ()
    labels: tuple[float | None, ...] = ()
    test_only: str = ""
    form: str = ""
    unused: tuple[str, ...] = ()
    answer: Message | None = None
    tools: tuple[dict[str, Any], ...] = ()

    def said(self) -> tuple[str, ...]:
        """Texts that two examples share only where they are the same, but for their labels: the
        source and the target, and all else that is said where the record is more than one question
        and its answer.
        """
        more = self.answer.keys() - {"role", "content"} if self.answer else ()
        roles = [message["role"] for message in self.prompt]
        turns = self.prompt if roles not in ([], ["user"]) else ()  # one question is the source
        if not (turns or self.tools or more):
            return self.source, self.target
        whole = [*turns, self.answer, self.tools]
        return self.source, self.target, json.dumps(whole, ensure_ascii=False, sort_keys=True)

    def conversation(self, prompt: list[Message]) -> Shown:
        """What a model is shown: the record's own messages before the answer, else `prompt`, and
        the answer.
        """
        answer = self.answer or Message(role="assistant", content=self.target)
        shown = Shown(messages=[*(self.prompt or prompt), answer])
        if self.tools:
            shown["tools"] = list(self.tools)
        return shown


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be read, and why.

    A reader yields it among the examples, so that one error can report all faults of a file.
    """

    line: int
    reason: str
