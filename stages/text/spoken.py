"""The ids with which a model continues a prompt -> what it says, without what it thinks before."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stages.errors import UserError
from stages.records import Message
from stages.text.rendering import after_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ASKED: Message = {"role": "user", "content": "a"}
SAID, THOUGHT, CALLED = "said-7c1f", "thought-7c1f", "called_7c1f"
"""Of answers whose parts are looked for in what the template writes."""
INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What bytes are decoded to that are no whole character yet."""
BYTE = re.compile("<0x[0-9A-F]{2}>")
"""A token of tokenizers that write a character that they do not know as its bytes."""
ANSWER: Message = {"role": "assistant", "content": SAID}
CALL: Message = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        # Mistral's templates want an id of nine characters.
        {"id": "called7c1", "type": "function", "function": {"name": CALLED, "arguments": {}}}
    ],
}


class Speech:
    """How the chat template of a tokenizer writes an answer: some write a header before it (GPT-OSS
    names a channel), and most what was thought.

    header: what stands before an answer without thought; None where the template writes no such
    answer.   thoughts: (what stands before, what stands after) a thought, of an answer and of one
    that calls a tool.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer: Any = tokenizer
        plain = self._written(ANSWER)
        self.header = None if plain is None else plain.partition(SAID)[0].strip()
        self.thoughts = []
        for answer, follows in ((ANSWER, SAID), (CALL, CALLED)):
            written = self._written(Message(**answer, reasoning_content=THOUGHT))
            if written is not None:
                opening, _, rest = written.partition(THOUGHT)
                closing = rest.partition(follows)[0].strip()
                if answer is CALL:  # what begins the call is part of what is said
                    closing = self._until_token(closing)
                self.thoughts.append((opening.strip(), closing))

    def _written(self, answer: Message) -> str | None:
        try:
            return after_prompt(self.tokenizer, [ASKED, answer])
        except UserError:
            return None

    def _until_token(self, text: str) -> str:
        tokens = {str(token) for token in self.tokenizer.added_tokens_decoder.values()}
        ends = [text.find(token) + len(token) for token in tokens if token in text]
        return text[: min(ends)] if ends else text

    def text(self, ids: Sequence[int]) -> str:
        """What is said; "" where the model does not come to the end of what it thinks."""
        written, thinks = self.tokenizer.decode(ids).lstrip(), False
        for opening, closing in self.thoughts:
            # Where the prompt opens a thought, every answer goes on with it.
            if written.startswith(opening) and (opening or self.header != ""):
                thinks = True
                if closing and closing in written:
                    return self._plain(self._after(closing, ids)).strip()
        if thinks:
            return ""
        if self.header and written.startswith(self.header):
            return self._plain(self._after(self.header, ids)).strip()
        return self._plain(ids)

    def so_far(self, ids: Sequence[int]) -> str:
        """The beginning of `text` that stays, whatever ids follow these."""
        while ids and BYTE.fullmatch(str(self.tokenizer.convert_ids_to_tokens(ids[-1]))):
            ids = ids[:-1]  # the bytes of a character are decoded together
        written = self.tokenizer.decode(ids).lstrip()
        marks = [self.header or "", *(opening for opening, _ in self.thoughts)]
        if any(mark != written and mark.startswith(written) for mark in marks):
            return ""
        thinks = [
            closing
            for opening, closing in self.thoughts
            if written.startswith(opening) and (opening or self.header != "")
        ]
        # A call after a thought ends otherwise than an answer: it is told when it is whole.
        if thinks and not (thinks[0] and thinks[0] in written):
            return ""
        return self.text(ids).rstrip(INCOMPLETE)

    def _plain(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _after(self, mark: str, ids: Sequence[int]) -> Sequence[int]:
        end = bisect_left(
            range(len(ids)), True, key=lambda count: mark in self.tokenizer.decode(ids[:count])
        )
        return ids[end:]
