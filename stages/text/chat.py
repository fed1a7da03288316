"""Conversations and texts -> token ids and labels: the only place where that is decided.

Labels are built by prefix. Chat templates rarely carry generation markers, so "assistant masks" come out empty
(transformers' stock Llama 3 and Qwen 3 templates); instead the ids of the prompt with the generation prompt must be a
prefix of the ids of the whole, and what follows, up to the end of the turn, is learned.
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
    """Token ids, and how many of them at the front are given rather than learned.

    id: of the row it comes from.   ids[given:] are the labels.   step_ends: where each step of a solution has its last
    token.   step_labels: how right each step is, 0 to 1, None where nobody said; such rows learn no token.
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
    """A conversation or a solution as one sequence, a text as one or more windows; none where no label would fit.

    A conversation that is too long loses tokens from the middle of its prompt, never from its answer: a row whose
    answer alone does not fit gives nothing, and the caller counts it.
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
    """A solution, a step a line, as far as whole steps fit; each is scored at the line break that ends it.

    A problem that takes more than half the room loses tokens from its middle.
    """
    problem: list[Message] = [{"role": "user", "content": row["prompt"]}]
    ids, ends = _shortened(prompt_ids(tokenizer, problem), max_length_tokens // 2), []
    given = len(ids)
    for step in row["completions"][: max_steps_per_example or None]:
        # One by one: else the first token of a step could be merged with the end of the step before.
        tokens = tokenizer(step + "\n", add_special_tokens=False)["input_ids"]
        if len(ids) + len(tokens) > max_length_tokens:
            break
        ids = ids + tokens
        ends.append(len(ids) - 1)
    return Encoded(row["id"], ids, given, tuple(ends), tuple(row["labels"][: len(ends)]))


def _shortened(prompt: list[int], room: int) -> list[int]:
    """At most `room` ids, the middle left out."""
    return (
        prompt
        if len(prompt) <= room
        else prompt[: (room + 1) // 2] + prompt[len(prompt) - room // 2 :]
    )


def windows(
    tokenizer: "PreTrainedTokenizerBase", row: Row, context: int, stride: int
) -> Iterator[Encoded]:
    """A text as windows of `context` tokens, each token learned once, with at least context - stride tokens before it.

    The text starts with BOS (EOS where the tokenizer has none), so that its first token is predicted too, and ends with EOS.
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
    """What stands before a text: BOS, or EOS where the tokenizer has no BOS."""
    return [
        tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    ]


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", messages: list[Message]) -> list[int]:
    """The ids up to where the answer begins: the same in training and in prediction."""
    return _templated(tokenizer, messages, add_generation_prompt=True)


def answer_ids(
    tokenizer: "PreTrainedTokenizerBase", messages: list[Message], prompt: list[int]
) -> list[int]:
    """The ids of the answer and its end-of-turn token. Raises UserError where the template does not continue its own prompt."""
    whole = _templated(tokenizer, messages, add_generation_prompt=False)
    if whole[: len(prompt)] != prompt:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} does not continue its own prompt "
            f"({tokenizer.decode(prompt)!r} is no beginning of {tokenizer.decode(whole)!r}); use another chat_template"
        )
    answer = whole[len(prompt) :]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    while (
        answer and answer[-1] not in special
    ):  # the line break that ChatML writes after the end of the turn
        answer.pop()
    if not answer:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} ends no turn with a special token, so generation would never "
            "stop; use another chat_template"
        )
    return answer


def end_of_turn(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The token that ends an answer, as the template writes it."""
    messages: list[Message] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]
    return answer_ids(tokenizer, messages, prompt_ids(tokenizer, messages[:1]))[-1]


def _templated(
    tokenizer: "PreTrainedTokenizerBase", messages: list[Message], add_generation_prompt: bool
) -> list[int]:
    """enable_thinking=False makes Qwen 3 write its empty think block into the prompt, so that it is given, not learned.

    Llama 3.2 writes today's date into every prompt; here it is one day for ever, or no training would come out twice.
    """
    template = tokenizer.chat_template
    if isinstance(template, str) and "strftime_now" in template and "date_string" not in template:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} writes today's date into every prompt, so that no training comes "
            "out twice; use another chat_template"
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
