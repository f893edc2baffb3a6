"""Keys and values of many completions, in storage that rows enter and leave.

Hugging Face's dynamic cache copies itself at every token, and again whenever rows leave it. Here the storage
is larger than what it holds in both directions, so a step costs what it adds: rows that finish are
overwritten by rows from the end, and rows that join are written behind them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicLayer
from transformers.cache_utils import LinearAttentionCacheLayerMixin

# Few: on a CPU, attention over rows far apart in memory took twice as long as over rows side by side.
_SPARE_TOKENS = 8


class PreallocatedLayer(DynamicLayer):
    """One layer's keys and values: (rows, heads, tokens, head size), views into larger storage.

    A row is zero left of its prompt: attention masks that, but NaN would get through a mask.
    """

    def __init__(self, keys: Tensor, values: Tensor, rows: Tensor, spare: int, capacity: int) -> None:
        """Start from a prefilled cache: row i continues row `rows[i]` of `keys` and `values`.

        Args:
            keys, values: (prompts, heads, tokens, head size).
            spare: tokens that can be added before the storage grows.
            capacity: rows it can ever hold.
        """
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        heads, tokens, size = keys.shape[1:]
        self._key_storage, self._value_storage = (
            keys.new_empty(capacity, heads, tokens + spare, size) for _ in range(2)
        )
        self._rows, self._first, self._end = 0, 0, tokens
        self.join(keys, values, rows, 0)

    def _expose(self) -> None:
        self.keys, self.values = (
            storage[: self._rows, :, self._first : self._end]
            for storage in (self._key_storage, self._value_storage)
        )

    def _resize(self, left: int, right: int) -> None:
        """New storage for `left` tokens before the first and `right` after the last."""
        for name in ("_key_storage", "_value_storage"):
            old = getattr(self, name)
            new = old.new_empty(*old.shape[:2], left + self._end - self._first + right, old.shape[3])
            new[: self._rows, :, :left] = 0
            new[: self._rows, :, left : new.shape[2] - right] = old[: self._rows, :, self._first : self._end]
            setattr(self, name, new)
        self._first, self._end = left, left + self._end - self._first

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append (rows, heads, new tokens, head size); returns all keys and values so far."""
        added = key_states.shape[-2]
        if self._end + added > self._key_storage.shape[2]:
            self._resize(0, added + max(_SPARE_TOKENS, (self._end - self._first) // 4))
        start, self._end = self._end, self._end + added
        self._key_storage[: self._rows, :, start : self._end] = key_states
        self._value_storage[: self._rows, :, start : self._end] = value_states
        self._expose()
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows `indices`, in that order. Rows already in place are not copied."""
        moved = (indices != torch.arange(len(indices), device=indices.device)).nonzero()[:, 0]
        for storage in (self._key_storage, self._value_storage):
            # Whole rows: faster than the tokens that are there, which do not lie side by side.
            storage.index_copy_(0, moved, storage.index_select(0, indices[moved]))
        self._rows = len(indices)
        self._expose()

    def join(self, keys: Tensor, values: Tensor, rows: Tensor, unused: int) -> None:
        """Append rows `rows` of prefilled `keys` and `values`, so that their last token stands beside the
        last of those here; the first `unused` tokens here are dropped."""
        tokens = keys.shape[2]
        if tokens > self._end:
            self._resize(tokens, self._key_storage.shape[2] - self._end)
        self._first = min(self._first + unused, self._end - tokens)
        added = slice(self._rows, self._rows + len(rows))
        for storage, states in ((self._key_storage, keys), (self._value_storage, values)):
            storage[added, :, : self._end - tokens] = 0
            torch.index_select(states, 0, rows, out=storage[added, :, self._end - tokens : self._end])
        self._rows = added.stop
        self._expose()


def fan_out(cache: Cache, rows: Tensor, max_new_tokens: int, capacity: int) -> None:
    """Let row i of `cache` continue what was row `rows[i]`: several completions of one prefilled prompt. At
    most `capacity` rows are ever held, so others can `join` when these leave.

    Layers of other kinds than plain attention (sliding windows, recurrent states) keep their own class.
    """
    spare = min(max_new_tokens, _SPARE_TOKENS)
    for i, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[i] = PreallocatedLayer(layer.keys, layer.values, rows, spare, capacity)
        else:
            select_rows(layer, rows)


def select_rows(layer: Any, rows: Tensor) -> None:
    """Keep `rows` of a layer, in their order and as often as they are named; recurrent states have another
    method for it."""
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        layer.reorder_cache(rows)
    else:
        layer.batch_select_indices(rows)


def joinable(cache: Cache) -> bool:
    """Whether rows of other lengths can join: layers of plain attention only."""
    return all(isinstance(layer, PreallocatedLayer) for layer in cache.layers)


def join(cache: Cache, prefilled: Cache, rows: Tensor, unused: int) -> None:
    """Append rows `rows` of a prefilled cache to a joinable one, and drop its first `unused` tokens, which
    none of its rows uses."""
    for layer, new in zip(cache.layers, prefilled.layers, strict=True):
        layer.join(new.keys, new.values, rows, unused)


def without(dead: Tensor) -> Tensor:
    """Row numbers (int64) that remain when `dead` rows (bool) leave, ordered so that few change place: those
    at the end fill the holes."""
    kept = ~dead
    count = int(kept.sum())
    order = torch.arange(count, device=dead.device)
    holes = dead[:count].nonzero()[:, 0]
    order[holes] = kept[count:].nonzero()[:, 0] + count
    return order
