"""Keys and values of many completions, grown in place.

Hugging Face's dynamic cache copies itself at every token, and again whenever rows leave it. Here the storage has room to spare and rows
that finish are overwritten by rows from the end, so a step costs what it adds.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache, DynamicLayer

_SPARE_TOKENS = 64


class RoomyLayer(DynamicLayer):
    """One layer's keys and values: (rows, heads, tokens, head size), views into larger storage."""

    def __init__(self, keys: Tensor, values: Tensor, rows: Tensor, room: int) -> None:
        """Start from a prefilled cache; row i of this layer continues row `rows[i]` of `keys` and `values`, with `room` tokens spare."""
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._tokens = keys.shape[-2]
        self._key_storage = _with_room(keys, rows, room)
        self._value_storage = _with_room(values, rows, room)
        self._expose()

    def _expose(self) -> None:
        self.keys = self._key_storage[:, :, : self._tokens]
        self.values = self._value_storage[:, :, : self._tokens]

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """Append (rows, heads, new tokens, head size); returns all keys and values so far."""
        start, self._tokens = self._tokens, self._tokens + key_states.shape[-2]
        if self._tokens > self._key_storage.shape[-2]:
            room = key_states.shape[-2] + max(_SPARE_TOKENS, start // 4)
            self._key_storage = _with_room(self.keys, None, room)
            self._value_storage = _with_room(self.values, None, room)
        self._key_storage[:, :, start : self._tokens] = key_states
        self._value_storage[:, :, start : self._tokens] = value_states
        self._expose()
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows `indices`, in that order. Rows already in place are not copied."""
        moved = (indices != torch.arange(len(indices), device=indices.device)).nonzero()[:, 0]
        for storage in (self._key_storage, self._value_storage):
            storage[moved, :, : self._tokens] = storage[indices[moved], :, : self._tokens]
        self._key_storage = self._key_storage[: len(indices)]
        self._value_storage = self._value_storage[: len(indices)]
        self._expose()

    @classmethod
    def joined(cls, left: RoomyLayer, right: RoomyLayer, unused: int) -> RoomyLayer:
        """The rows of both, aligned at the last token; `left` loses its first `unused` tokens, and what a shorter one lacks is 0."""
        made = cls.__new__(cls)
        DynamicLayer.__init__(made)
        made.dtype, made.device, made.is_initialized = left.dtype, left.device, True
        made._tokens = max(left._tokens - unused, right._tokens)
        made._key_storage = _aligned(left.keys[:, :, unused:], right.keys, made._tokens)
        made._value_storage = _aligned(left.values[:, :, unused:], right.values, made._tokens)
        made._expose()
        return made


def _aligned(above: Tensor, below: Tensor, tokens: int) -> Tensor:
    """New storage with room to spare: rows of `above`, then rows of `below`, each ending at `tokens`. Zeros, not what memory held, stand
    where a row has nothing: attention masks that, but NaN would get through a mask."""
    rows, heads, _, size = above.shape
    storage = above.new_zeros(rows + below.shape[0], heads, tokens + _SPARE_TOKENS, size)
    storage[:rows, :, tokens - above.shape[2] : tokens] = above
    storage[rows:, :, tokens - below.shape[2] : tokens] = below
    return storage


def _with_room(states: Tensor, rows: Tensor | None, room: int) -> Tensor:
    """New storage with `room` more tokens than `states`, holding the given rows of it (all of them for None)."""
    count = states.shape[0] if rows is None else len(rows)
    heads, tokens, size = states.shape[1:]
    storage = states.new_empty(count, heads, tokens + room, size)
    storage[:, :, :tokens] = states if rows is None else states.index_select(0, rows)
    return storage


def fan_out(cache: Cache, rows: Tensor, max_new_tokens: int) -> None:
    """Let row i of `cache` continue what was row `rows[i]`: several completions of one prefilled prompt.

    Layers of other kinds than plain attention (sliding windows, recurrent states) keep their own class.
    """
    room = min(max_new_tokens, _SPARE_TOKENS)
    for i, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[i] = RoomyLayer(layer.keys, layer.values, rows, room)
        else:
            layer.batch_select_indices(rows)


def joinable(cache: Cache) -> bool:
    """Whether rows of other lengths can join: layers of plain attention only."""
    return all(isinstance(layer, RoomyLayer) for layer in cache.layers)


def join(cache: Cache, other: Cache, unused: int) -> None:
    """Append the rows of `other`, and drop the first `unused` tokens of `cache`, which none of its rows uses. Both are joinable."""
    for i, (left, right) in enumerate(zip(cache.layers, other.layers, strict=True)):
        cache.layers[i] = RoomyLayer.joined(left, right, unused)


def without(dead: Tensor) -> Tensor:
    """Row numbers (int64) that remain when `dead` rows (bool) leave, ordered so that few change place: those at the end fill the holes."""
    kept = ~dead
    count = int(kept.sum())
    order = torch.arange(count, device=dead.device)
    holes = dead[:count].nonzero()[:, 0]
    order[holes] = kept[count:].nonzero()[:, 0] + count
    return order
