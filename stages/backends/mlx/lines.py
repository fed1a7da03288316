"""Sequences that MLX continues side by side, each by tokens of its own: what a beam needs."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.cache import BatchKVCache, KVCache, make_prompt_cache

from stages.backends.shared.beam_search import Likeliest


class Lines:
    """As stages.backends.shared.beam_search.Lines."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def begin(self, prompts: Sequence[list[int]], most: int) -> Likeliest:
        self.most = most
        self.ids = [list(prompt) for prompt in prompts]
        caches = [make_prompt_cache(self.model) for _ in prompts]
        # A window or a recurrent state is not of one line alone once lines are merged.
        self.is_plain = all(type(layer) is KVCache for layer in caches[0])
        if not self.is_plain:
            return self._alone()
        logits = [
            self.model(mx.array([ids]), cache=cache)[:, -1]
            for ids, cache in zip(self.ids, caches, strict=True)
        ]
        self.cache = [BatchKVCache.merge(list(layers)) for layers in zip(*caches, strict=True)]
        return self._likeliest(mx.concatenate(logits))

    def go_on(self, lines: Sequence[int], tokens: Sequence[int]) -> Likeliest:
        self.ids = [[*self.ids[at], token] for at, token in zip(lines, tokens, strict=True)]
        if not self.is_plain:
            return self._alone()
        kept = mx.array([*lines])
        for layer in self.cache:
            layer.filter(kept)
        return self._likeliest(self.model(mx.array([*tokens])[:, None], cache=self.cache)[:, -1])

    def _alone(self) -> Likeliest:
        """Each line by itself and as a whole."""
        logits = [self.model(mx.array([ids]))[:, -1] for ids in self.ids]
        return self._likeliest(mx.concatenate(logits))

    def _likeliest(self, logits: mx.array) -> Likeliest:
        found = nn.log_softmax(logits.astype(mx.float32), axis=-1)
        order = mx.argsort(-found, axis=-1)[:, : self.most]
        nats = mx.take_along_axis(found, order, axis=-1)
        return Likeliest(np.array(order).tolist(), np.array(nats).tolist())
