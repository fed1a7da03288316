"""Sequences that PyTorch continues side by side, each by tokens of its own: what a beam needs."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache

from stages.backends.pytorch import decoding
from stages.backends.shared.beam_search import Likeliest


class Lines:
    """As stages.backends.shared.beam_search.Lines."""

    def __init__(self, model: Any, pad: int) -> None:
        self.model, self.pad = model, pad
        self.cache: Cache | None = None

    @torch.no_grad()
    def begin(self, prompts: Sequence[list[int]], most: int) -> Likeliest:
        self.most = most
        self.ids = [list(prompt) for prompt in prompts]
        self.cache = None
        if not decoding.takes_positions(self.model):
            return self._alone()
        shared, start = decoding.shared_prefix(self.model, prompts)
        longest = max(map(len, prompts))
        ids, mask = decoding.padded(prompts, longest, self.pad)
        where = self.model.device
        self.mask = torch.tensor(mask, device=where)
        if start is None:
            return self._seen(ids, None)
        # What all begin with stands before the padding of what each has of its own.
        own = [prompt[shared:] for prompt in prompts]
        _, mask = decoding.padded(own, longest - shared, self.pad)
        self.mask = torch.tensor([[1] * shared + of_row for of_row in mask], device=where)
        cache = decoding.computed(self.model, own, start, self.pad)
        return self._seen([[row[-1]] for row in own], cache)

    @torch.no_grad()
    def go_on(self, lines: Sequence[int], tokens: Sequence[int]) -> Likeliest:
        self.ids = [[*self.ids[at], token] for at, token in zip(lines, tokens, strict=True)]
        if self.cache is None:
            return self._alone()
        kept = torch.tensor(lines, device=self.mask.device)
        if [*lines] != [*range(len(self.mask))]:
            self.cache.batch_select_indices(kept)
        self.mask = torch.cat([self.mask[kept], self.mask.new_ones(len(lines), 1)], dim=1)
        return self._seen([[token] for token in tokens], self.cache)

    def _seen(self, ids: list[list[int]], cache: Cache | None) -> Likeliest:
        """The next tokens after the last ids of each line, whose keys and values the cache gets."""
        positions = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -len(ids[0]) :]
        found = self.model(
            torch.tensor(ids, device=self.mask.device),
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        self.cache = found.past_key_values
        if not decoding.is_plain(self.cache):
            self.cache = None
            return self._alone()
        return self._likeliest(found.logits[:, -1])

    def _alone(self) -> Likeliest:
        """Each line by itself and as a whole, for models of whose memory no lines can be taken."""
        return self._likeliest(
            torch.cat(
                [
                    self.model(torch.tensor([ids], device=self.model.device)).logits[:, -1]
                    for ids in self.ids
                ]
            )
        )

    def _likeliest(self, logits: torch.Tensor) -> Likeliest:
        found = logits.float().log_softmax(dim=-1).topk(min(self.most, logits.shape[-1]))
        return Likeliest(found.indices.tolist(), found.values.tolist())
