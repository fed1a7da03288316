"""Conversations and texts -> token ids and labels. Only this module decides what is learned.

Chat templates rarely mark what the assistant generates, so transformers' "assistant masks" are
empty for many of them (such as the stock templates of Llama 3 and Qwen 3). Labels are therefore
found by prefix: the ids of the prompt, with the generation prompt, must be a prefix of the ids of
the whole conversation, and the ids after it, up to the end of the turn, are learned.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.errors import UserError
from stages.records import Message, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100


@dataclass(frozen=True, slots=True)
class Encoded:
    """The token ids of a row, or of a part of it, and which of them are learned.

    id: the row's id.   given: the number of ids at the front that are not learned; ids[given:] are.
    step_ends: the position of the last token of each step of a solution; of a solution no token is
    learned.   step_labels: how right each step is, 0 to 1; None where it is not labelled.
    """

    id: str
    ids: list[int]
    given: int
    step_ends: tuple[int, ...] = ()
    step_labels: tuple[float | None, ...] = ()

    @property
    def labels(self) -> list[int]:
        return [IGNORE] * self.given + self.ids[self.given :]


def encode(
    tokenizer: "PreTrainedTokenizerBase",
    row: Row,
    max_length_tokens: int,
    max_steps_per_example: int = 0,
) -> list[Encoded]:
    """A conversation or a solution as one sequence, a text as one or more windows.

    A conversation that is too long loses tokens from the middle of its prompt, never from its
    answer. The list is empty where the answer alone is too long, or where no labelled step fits;
    the caller counts such rows.
    """
    if "completions" in row:
        solution = scored_steps(tokenizer, row, max_length_tokens, max_steps_per_example)
        return [solution] if any(label is not None for label in solution.step_labels) else []
    if "messages" not in row:
        return list(windows(tokenizer, row, max_length_tokens, stride=max_length_tokens - 1))
    prompt = prompt_ids(tokenizer, row["messages"][:-1])
    answer = answer_ids(tokenizer, row["messages"], prompt)
    room = max_length_tokens - len(answer)
    if room < 2:
        return []
    prompt = _shortened(prompt, room)
    return [Encoded(row["id"], prompt + answer, given=len(prompt))]


def scored_steps(
    tokenizer: "PreTrainedTokenizerBase",
    row: Row,
    max_length_tokens: int,
    max_steps_per_example: int = 0,
) -> Encoded:
    """A solution with a step on each line; a step is scored at the line break that ends it.

    Steps from the first that does not fit whole into max_length_tokens are left out. A problem that
    takes more than half of max_length_tokens loses tokens from its middle.
    max_steps_per_example: the most steps to keep; 0 = no limit.
    """
    problem: list[Message] = [{"role": "user", "content": row["prompt"]}]
    ids, ends = _shortened(prompt_ids(tokenizer, problem), max_length_tokens // 2), []
    given = len(ids)
    for step in row["completions"][: max_steps_per_example or None]:
        # Tokenized one by one: otherwise the tokenizer could merge the end of a step with the
        # beginning of the next into one token.
        tokens = tokenizer(step + "\n", add_special_tokens=False)["input_ids"]
        if len(ids) + len(tokens) > max_length_tokens:
            break
        ids = ids + tokens
        ends.append(len(ids) - 1)
    return Encoded(row["id"], ids, given, tuple(ends), tuple(row["labels"][: len(ends)]))


def _shortened(prompt: list[int], room: int) -> list[int]:
    """At most `room` ids of the prompt: where it has more, those in its middle are left out."""
    return (
        prompt
        if len(prompt) <= room
        else prompt[: (room + 1) // 2] + prompt[len(prompt) - room // 2 :]
    )


def windows(
    tokenizer: "PreTrainedTokenizerBase", row: Row, context: int, stride: int
) -> Iterator[Encoded]:
    """A text as windows of at most `context` tokens, in which each token is learned once.

    In every window but the first, at least context - stride tokens stand before the first that is
    learned. The text starts with BOS (EOS where the tokenizer has none), so that its first token is
    predicted too, and it ends with EOS.
    """
    ids = [
        *opening_ids(tokenizer),
        *tokenizer(row["text"], add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
    ]
    done = 1
    while done < len(ids):
        end = min(len(ids), context if done == 1 else done + stride)
        begin = max(0, end - context)
        yield Encoded(row["id"], ids[begin:end], given=done - begin)
        done = end


def opening_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The token that stands before a text: BOS, or EOS where the tokenizer has no BOS."""
    return [
        tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    ]


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", messages: list[Message]) -> list[int]:
    """The ids up to where the answer begins: the same in training and in prediction."""
    return _templated(tokenizer, messages, add_generation_prompt=True)


def answer_ids(
    tokenizer: "PreTrainedTokenizerBase", messages: list[Message], prompt: list[int]
) -> list[int]:
    """The ids of the answer, with its end-of-turn token.

    messages: the whole conversation, which ends with the answer.   prompt: the ids before the
    answer. Raises UserError where the template renders the whole conversation with another
    beginning than the prompt alone, and where it does not end a turn with a special token.
    """
    whole = _templated(tokenizer, messages, add_generation_prompt=False)
    if whole[: len(prompt)] != prompt:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} does not continue its own prompt "
            f"({tokenizer.decode(prompt)!r} is no beginning of {tokenizer.decode(whole)!r}); "
            "use another chat_template"
        )
    answer = whole[len(prompt) :]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    # ChatML writes a line break after the end of the turn; it is not learned.
    while answer and answer[-1] not in special:
        answer.pop()
    if not answer:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} ends no turn with a special token, "
            "so generation would never stop; use another chat_template"
        )
    return answer


def end_of_turn(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The token with which the chat template ends an answer."""
    messages: list[Message] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]
    return answer_ids(tokenizer, messages, prompt_ids(tokenizer, messages[:1]))[-1]


def _templated(
    tokenizer: "PreTrainedTokenizerBase", messages: list[Message], add_generation_prompt: bool
) -> list[int]:
    """The token ids of messages as the chat template writes them.

    enable_thinking=False: Qwen 3 writes an empty think block into the prompt, so that the block is
    given and not learned.   date_string: Llama 3.2 writes today's date into every prompt, unless it
    gets this; with a fixed date a training can be reproduced on another day. Raises UserError for a
    template that writes the date and does not read date_string.
    """
    template = tokenizer.chat_template
    if isinstance(template, str) and "strftime_now" in template and "date_string" not in template:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} writes today's date into every prompt, "
            "so that no training comes out twice; use another chat_template"
        )
    text: Any = tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        enable_thinking=False,
        date_string="26 Jul 2024",
    )
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
