"""Conversations and texts -> token ids and labels. Only this module decides what is learned.

Chat templates rarely mark what the assistant generates, so transformers' "assistant masks" are
empty for many of them (such as the stock templates of Llama 3 and Qwen 3). Labels are therefore
found by prefix: what is written of the messages before an answer, with the generation prompt, must
be the beginning of what is written of them with the answer, and what comes after it, up to the end
of the turn, is learned.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from stages.errors import UserError
from stages.records import Message, Row, learned_turns
from stages.text import rendering

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100


@dataclass(frozen=True, slots=True)
class Encoded:
    """The token ids of a row, or of a part of it, and which of them are learned.

    id: the row's id.   given: the number of ids at the front that are not learned; ids[given:] are,
    but for those in `between`: (begin, end) of what is said between two learned answers.
    step_ends: the position of the last token of each step of a solution; of a solution no token is
    learned.   step_labels: how right each step is, 0 to 1; None where it is not labelled.
    """

    id: str
    ids: list[int]
    given: int
    step_ends: tuple[int, ...] = ()
    step_labels: tuple[float | None, ...] = ()
    between: tuple[tuple[int, int], ...] = ()

    @property
    def labels(self) -> list[int]:
        labels = [IGNORE] * self.given + self.ids[self.given :]
        for begin, end in self.between:
            labels[begin:end] = [IGNORE] * (end - begin)
        return labels


def encode(
    tokenizer: "PreTrainedTokenizerBase",
    row: Row,
    max_length_tokens: int,
    max_steps_per_example: int = 0,
    learn: Literal["all", "last"] = "last",
) -> list[Encoded]:
    """A solution as one sequence, a text as one or more windows, a conversation as one sequence
    where its template allows that.

    learn: which answers of a conversation are learned.   The list is empty where every answer alone
    is too long, or where no labelled step fits; the caller counts such rows.
    """
    if "completions" in row:
        solution = scored_steps(tokenizer, row, max_length_tokens, max_steps_per_example)
        return [solution] if any(label is not None for label in solution.step_labels) else []
    if "messages" not in row:
        return list(windows(tokenizer, row, max_length_tokens, stride=max_length_tokens - 1))
    return _conversation(tokenizer, row, max_length_tokens, learn)


def _conversation(
    tokenizer: "PreTrainedTokenizerBase", row: Row, max_length_tokens: int, learn: str
) -> list[Encoded]:
    """One sequence in which all answers are learned, if what is written before each of them is how
    the whole conversation begins, and if it fits. Otherwise further sequences, that each end with
    an answer: some templates write an earlier turn differently from the last one (Qwen 3 leaves out
    its reasoning).

    What is too long loses tokens from the middle of the prompt, never from the answer.
    """
    messages, tools = row["messages"], row.get("tools", ())
    turns = learned_turns(messages)
    sequences: list[tuple[list[int], list[int]]] = []  # (ids, where answers begin and end)
    for turn in reversed(turns[-1:] if learn == "last" else turns):
        prompt = prompt_ids(tokenizer, messages[:turn], tools)
        answer = answer_ids(tokenizer, messages[: turn + 1], prompt, tools)
        for ids, edges in sequences:
            if ids[: len(prompt) + len(answer)] == prompt + answer:
                edges[:0] = [len(prompt), len(prompt) + len(answer)]
                break
        else:
            if (room := max_length_tokens - len(answer)) >= 2:
                prompt = _shortened(prompt, room)
                sequences.append((prompt + answer, [len(prompt), len(prompt) + len(answer)]))
    return [
        Encoded(
            row["id"], ids, edges[0], between=tuple(zip(edges[1:-1:2], edges[2::2], strict=True))
        )
        for ids, edges in reversed(sequences)
    ]


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
        tokens = rendering.plain_ids(tokenizer, step + "\n")
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
        *rendering.plain_ids(tokenizer, row["text"]),
        end_of_text(tokenizer),
    ]
    done = 1
    while done < len(ids):
        end = min(len(ids), context if done == 1 else done + stride)
        begin = max(0, end - context)
        yield Encoded(row["id"], ids[begin:end], given=done - begin)
        done = end


def opening_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The token that stands before a text: BOS, or EOS where the tokenizer has no BOS."""
    bos = tokenizer.bos_token_id
    return [end_of_text(tokenizer) if bos is None else bos]


def end_of_text(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Raises UserError for a tokenizer that ends turns alone, by its template."""
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{tokenizer.name_or_path}: its tokenizer has no EOS token, by which a text ends; name "
            "one in its tokenizer_config.json, or use another base"
        )
    return int(tokenizer.eos_token_id)


def prompt_ids(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] = (),
) -> list[int]:
    """The ids up to where the answer begins: the same in training and in prediction."""
    return rendering.ids(tokenizer, rendering.rendered(tokenizer, messages, tools, asks=True))


def answer_ids(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    prompt: list[int],
    tools: Sequence[dict[str, Any]] = (),
) -> list[int]:
    """The ids of the answer, with its end-of-turn token.

    messages: the whole conversation, which ends with the answer.   prompt: the ids before the
    answer. Raises UserError where the template renders the whole conversation with another
    beginning than the prompt alone, where it leaves out part of the answer, and where it does not
    end a turn with a special token.
    """
    text = rendering.rendered(tokenizer, messages, tools)
    whole = rendering.ids(tokenizer, text)
    if whole[: len(prompt)] == prompt:
        answer = whole[len(prompt) :]
    else:
        # A token may span the end of the prompt and the beginning of the answer. A model that
        # answers never makes it, because the prompt's ids are given.
        answer = rendering.ids(tokenizer, rendering.after_prompt(tokenizer, messages, tools))
        if tokenizer.decode(prompt + answer) != tokenizer.decode(whole):
            raise UserError(
                f"the tokenizer of {tokenizer.name_or_path} writes an answer otherwise after its "
                "prompt than in the whole conversation; use another chat_template"
            )
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    # ChatML writes a line break after the end of the turn; it is not learned.
    end = next((at for at in range(len(answer), 0, -1) if answer[at - 1] in special), 0)
    # A token that the run adds may be the last word of the answer.
    is_said = (
        end > 0
        and answer[end - 1] not in tokenizer.all_special_ids
        and messages[-1]["content"].rstrip().endswith(tokenizer.decode(answer[end - 1]))
    )
    if not end or is_said or tokenizer.decode(answer[end:]).strip():
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} ends no turn with a special token, "
            "so generation would never stop; use another chat_template"
        )
    return answer[:end]


def end_of_turn(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The token with which the chat template ends an answer."""
    asked = Message(role="user", content="a")
    answer = Message(role="assistant", content="b")
    prompt, faults = prompt_ids(tokenizer, [asked]), []
    # Some templates write no answer without thought after a prompt that lets the model think.
    for each in (answer, Message(**answer, reasoning_content="c")):
        try:
            return answer_ids(tokenizer, [asked, each], prompt)[-1]
        except UserError as fault:
            faults.append(fault)
    raise faults[0]
