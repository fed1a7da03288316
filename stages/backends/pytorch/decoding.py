"""Answers to many prompts at once.

What all prompts begin with is computed once, and a row that has ended leaves its batch. `generate`
prepares masks, positions and sampling as always; the loop over tokens is ours and is handed to it
as `custom_generate`.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from transformers import Cache, GenerationConfig
from transformers.cache_utils import DynamicLayer

from stages.backends.pytorch.loss import causal_model, causal_parts
from stages.text import batches

SHORTEST_PREFIX_TOKENS = 8  # the shortest beginning that is worth a computation of its own
# of a batch: when as many rows have ended, the keys and values of the others are copied together
COMPACTED_SHARE = 1 / 8
ROOM_TOKENS = 32  # what keys and values get room for at once


@torch.no_grad()
def continuations(
    model: Any,
    prompts: Sequence[list[int]],
    batch_size: int,
    config: GenerationConfig,
    watch: Callable[[int, int], bool] | None = None,
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """(indices of prompts, the ids that follow each up to its end of turn), a batch at a time.

    Prompts of like length are computed together. Those of a batch are padded on the left, after
    what all prompts share.   watch: as in `ModelAnswerer.continued`.
    """
    shared, start = shared_prefix(model, prompts)
    pad, end = config.pad_token_id, config.eos_token_id
    for together in batches.by_length([len(prompt) for prompt in prompts], batch_size):
        longest = len(prompts[together[0]])
        own = [prompts[at][shared:] for at in together]
        ids, mask = padded(own, longest - shared, pad)
        beginning = [prompts[together[0]][:shared]] * len(together)
        options: dict[str, Any] = {}
        if watch:
            options["watch"] = lambda row, new, of=together: watch(of[row], new)
        if start is not None:
            options["past_key_values"] = computed(model, own, start, pad)
        output = model.generate(
            torch.tensor([*map(list.__add__, beginning, ids)], device=model.device),
            attention_mask=torch.tensor(
                [[1] * shared + of_row for of_row in mask], device=model.device
            ),
            generation_config=config,
            custom_generate=decode,
            **options,
        )
        answers = output[:, longest:].tolist()
        yield (
            together,
            [answer[: answer.index(end)] if end in answer else answer for answer in answers],
        )


def padded(
    rows: Sequence[list[int]], width: int, pad: int
) -> tuple[list[list[int]], list[list[int]]]:
    """(ids, mask) of rows that are padded on the left."""
    missing = [width - len(row) for row in rows]
    ids = [[pad] * count + row for count, row in zip(missing, rows, strict=True)]
    return ids, [[0] * count + [1] * (width - count) for count in missing]


def computed(model: Any, own: Sequence[list[int]], start: Cache, pad: int) -> Cache:
    """The keys and values of prompts up to their last token, in room for the first answered ones.

    own: what each has after what all begin with; rows of like length are computed together.
    start: the keys and values of what all begin with.
    """
    lengths = [len(row) - 1 for row in own]
    width, shared = max(lengths), start.get_seq_length()
    cache = Cache(layers=[Roomy(layer, len(own), shared + width) for layer in start.layers])
    for together in batches.split_by_length(lengths):
        if not (longest := max(lengths[at] for at in together)):
            continue
        ids, mask = padded([own[at][:-1] for at in together], longest, pad)
        seen = torch.tensor([[1] * shared + of_row for of_row in mask], device=model.device)
        past = copy.deepcopy(start)
        past.batch_repeat_interleave(len(together))
        causal_parts(model)[0](
            torch.tensor(ids, device=model.device),
            attention_mask=seen,
            position_ids=(seen.cumsum(1) - 1).clamp(min=0)[:, shared:],
            past_key_values=past,
            use_cache=True,
        )
        for whole, part in zip(cache.layers, past.layers, strict=True):
            whole.put(part, together, longest)
    return cache


class Roomy(DynamicLayer):
    """Keys and values with room for those of the next tokens: a token copies its own into it,
    where transformers copies all that there are.
    """

    def __init__(self, start: Any, rows: int, length: int) -> None:
        """start: of what all rows begin with, (1, heads, tokens, size).   length: in tokens."""
        super().__init__()
        self.lazy_initialization(start.keys, start.values)
        self.rooms = [
            states.new_zeros(rows, states.shape[1], length + ROOM_TOKENS, states.shape[3])
            for states in (start.keys, start.values)
        ]
        for room, states in zip(self.rooms, (start.keys, start.values), strict=True):
            room[:, :, : states.shape[2]] = states
        self._show(length)

    def put(self, part: Any, rows: list[int], tokens: int) -> None:
        """The last `tokens` of these rows, at the end of what is shown."""
        for shown, states in ((self.keys, part.keys), (self.values, part.values)):
            shown[rows, :, shown.shape[2] - tokens :] = states[:, :, states.shape[2] - tokens :]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As transformers' cache layers."""
        before, new = self.keys.shape[2], key_states.shape[2]
        if before + new > self.rooms[0].shape[2]:
            more = [0, 0, 0, new + ROOM_TOKENS]
            self.rooms = [F.pad(room, more) for room in self.rooms]
        for room, states in zip(self.rooms, (key_states, value_states), strict=True):
            room[:, :, before : before + new] = states
        self._show(before + new)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """As transformers' cache layers."""
        self.rooms = [room[indices] for room in self.rooms]
        self._show(self.keys.shape[2])

    def _show(self, length: int) -> None:
        self.keys, self.values = (room[:, :, :length] for room in self.rooms)


def shared_prefix(model: Any, prompts: Sequence[list[int]]) -> tuple[int, Cache | None]:
    """How many ids all prompts begin with, and the keys and values of these ids.

    (0, None) where sharing them is not worth it, or would not be exact. It is exact where a model
    is told the positions of its tokens: the padding of shorter prompts lies behind the shared ids,
    so that tokens must attend to all that is not masked.
    """
    if len(prompts) < 2 or not takes_positions(model):
        return 0, None
    shared = min(batches.common_beginning(prompts), min(map(len, prompts)) - 1)
    if shared < SHORTEST_PREFIX_TOKENS:
        return 0, None
    start = causal_parts(model)[0](
        torch.tensor([prompts[0][:shared]], device=model.device), use_cache=True
    ).past_key_values
    return (shared, start) if is_plain(start) else (0, None)


def takes_positions(model: Any) -> bool:
    """Whether a model is told the positions of its tokens, and needs not count them itself."""
    return "position_ids" in inspect.signature(causal_model(model).forward).parameters


def is_plain(cache: Any) -> bool:
    """Whether rows can be taken out of a cache and put into it.

    That is so without a window of attention, a recurrent state or quantised values.
    """
    kinds = (DynamicLayer, Roomy)
    return isinstance(cache, Cache) and all(type(layer) in kinds for layer in cache.layers)


def decode(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: GenerationConfig,
    watch: Callable[[int, int], bool] | None = None,
    **state: Any,
) -> torch.Tensor:
    """The loop of `generate` for one continuation a row.

    Returns (rows, tokens): the prompts and what follows them, padded on the right.   watch:
    told each row's new token, its end too; a row for which it returns False ends there.
    """
    rows, tokens = input_ids.shape
    end, pad = generation_config.eos_token_id, generation_config.pad_token_id
    output = input_ids.new_full((rows, stopping_criteria.max_length), pad)
    output[:, :tokens] = input_ids
    kept = torch.arange(rows, device=input_ids.device)
    going = torch.ones_like(kept, dtype=torch.bool)
    found = model._prefill(input_ids, generation_config, state)
    while True:
        state = model._update_model_kwargs_for_generation(found, state)
        scores = logits_processor(input_ids, found.logits[:, -1].float())
        if generation_config.do_sample:
            new = torch.multinomial(scores.softmax(dim=-1), num_samples=1)[:, 0]
        else:
            new = scores.argmax(dim=-1)
        new = new.where(going, pad)
        output[kept, tokens] = new
        tokens += 1
        if watch:
            at = going.nonzero()[:, 0]
            told = zip(kept[at].tolist(), new[at].tolist(), strict=True)
            going[at] = going.new_tensor([watch(row, token) for row, token in told])
        going &= new != end
        left = int(going.sum())
        if not left or tokens == output.shape[1]:
            return output[:, :tokens]
        input_ids = torch.cat([input_ids, new[:, None]], dim=1)
        if left <= len(kept) * (1 - COMPACTED_SHARE) and is_plain(state.get("past_key_values")):
            stay = going.nonzero()[:, 0]
            state["past_key_values"].batch_select_indices(stay)
            state = {
                name: value[stay] if is_of_rows(value, len(kept)) else value
                for name, value in state.items()
            }
            input_ids, kept, going = input_ids[stay], kept[stay], going[stay]
        found = model(
            **model.prepare_inputs_for_generation(input_ids, next_sequence_length=1, **state),
            return_dict=True,
        )


def is_of_rows(value: Any, rows: int) -> bool:
    """Whether it is (rows, tokens), as the mask and the positions are."""
    return isinstance(value, torch.Tensor) and value.dim() == 2 and len(value) == rows
