"""The ids with which a model continues a prompt -> what it says, without what it thinks before."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stages.errors import UserError
from stages.records import Message
from stages.text.rendering import after_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ASKED: Message = {"role": "user", "content": "a"}
SAID, THOUGHT = "said-7c1f", "thought-7c1f"
"""Of an answer whose parts are looked for in what the template writes."""


class Speech:
    """How the chat template of a tokenizer writes an answer: some write a header before it (GPT-OSS
    names a channel), and most what was thought.

    header: what stands before an answer without thought.   opening, closing: before and after what
    is thought.   None where the template writes no such answer.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer: Any = tokenizer
        said = Message(role="assistant", content=SAID)
        self.header = self._before(said, SAID)
        thoughtful: Message = {**said, "reasoning_content": THOUGHT}
        self.opening = self._before(thoughtful, THOUGHT)
        until_said = self._before(thoughtful, SAID)
        self.closing = until_said.partition(THOUGHT)[2].strip() if until_said else None

    def _before(self, answer: Message, text: str) -> str | None:
        try:
            return after_prompt(self.tokenizer, [ASKED, answer]).partition(text)[0].strip()
        except UserError:
            return None

    def text(self, ids: Sequence[int]) -> str:
        """What is said; "" where the model does not come to the end of what it thinks."""
        written: str = self.tokenizer.decode(ids)
        if self.closing and self.closing in written:
            ids = self._after(self.closing, ids)
        elif self.opening is not None and self._thinks(written.lstrip()):
            return ""
        elif self.header and written.lstrip().startswith(self.header):
            ids = self._after(self.header, ids)
        else:
            return self._plain(ids)
        return self._plain(ids).strip()

    def _plain(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _thinks(self, written: str) -> bool:
        """Where the prompt opens what is thought (opening is ""), every answer begins so."""
        return written.startswith(self.opening) if self.opening else self.header != ""

    def _after(self, mark: str, ids: Sequence[int]) -> Sequence[int]:
        end = bisect_left(
            range(len(ids)), True, key=lambda count: mark in self.tokenizer.decode(ids[:count])
        )
        return ids[end:]
