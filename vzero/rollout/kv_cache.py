"""Keys and values of many completions, in storage that rows enter and leave.

A request's prompt is kept once and its completions keep their own tokens alone (`SharedPrompts`), where the
model attends plainly. Other models get what Hugging Face keeps, with the prompt copied for each completion
(`CopiedPrompts`); rows cannot join these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from vzero.rollout.encoding import Prefilled

_SPARE_TOKENS = 8


@dataclass(frozen=True)
class Arrivals:
    """Units whose completions begin.

    Attributes:
        prefilled: their prompts.
        prompts: (units,) int64, the prompt of each there.
        counts: (units,) int64, how many completions each has.
    """

    prefilled: Prefilled
    prompts: Tensor
    counts: Tensor

    @property
    def source(self) -> Tensor:
        """(rows,) int64, the prompt of each completion."""
        return self.prompts.repeat_interleave(self.counts)


class SharedPrompts(Cache):
    """Each unit's prompt once, and each row's own tokens in columns. All rows write a step into the same one,
    which is free for another step when the rows that were there have left; what a row did not write is hidden
    from it. The model writes (`update`), `attention.attend` reads.

    Attributes:
        keys, values: of each layer, (units, heads, tokens, head size), the prompts, padded on the left.
        hidden: (units, 1, 1, tokens) bool, their padding.
        units, places: (rows,) int64, the unit of each row and its number among the unit's.
        each: rows that a unit has room for.
        cells: (rows,) int64 in [0, units x each), where each row stands if every unit has `each`.
    """

    def __init__(self, arrivals: Arrivals, capacity: int) -> None:
        """Hold the rows of `arrivals`, and never more than `capacity`."""
        super().__init__(layers=[])
        self._column, self._now, self._oldest = 0, 0, 0
        self._take(arrivals)
        self._own = [  # of each layer's keys, then values: (columns, rows, heads, head size)
            one.new_empty(_SPARE_TOKENS, capacity, one.shape[1], one.shape[3])
            for one in (*self.keys, *self.values)
        ]
        self._steps: list[int] = []  # of each column the one that was written into it
        self._written = torch.zeros_like(self.units[:0])  # the same for the model's device
        self._start = torch.zeros_like(self.units)  # of each row its first step
        self._place()

    def _take(self, arrivals: Arrivals) -> None:
        """Their prompts, units and places."""
        layers, of = arrivals.prefilled.cache.layers, arrivals.prompts
        once = len(of) == len(arrivals.prefilled.logits) and bool((of.diff() == 1).all())
        self.keys = [one.keys if once else one.keys.index_select(0, of) for one in layers]
        self.values = [one.values if once else one.values.index_select(0, of) for one in layers]
        self.hidden = arrivals.prefilled.attention_mask[of, None, None] == 0
        counts = arrivals.counts
        self.units = torch.arange(len(of), device=of.device).repeat_interleave(counts)
        first = counts.cumsum(0) - counts
        self.places = torch.arange(len(self.units), device=of.device) - first[self.units]

    def _place(self) -> None:
        """Cells of the rows as they are now."""
        self.each = int(self.places.max()) + 1
        self.cells = self.units * self.each + self.places

    def step(self) -> dict[str, Any]:
        """Make room for one more token of each row; what the model is to be given beside it."""
        if self._steps and min(self._steps) < self._oldest:
            self._column = self._steps.index(min(self._steps))
        else:
            self._column = len(self._steps)
            if self._column == len(self._own[0]):
                self._grow()
            self._steps.append(0)
            self._written = pad(self._written, (0, 1))
        self._steps[self._column] = self._written[self._column] = self._now
        self._now += 1
        seen = self._written >= self._start[:, None]
        return {"attention_mask": seen[:, None, None], "past_key_values": self, "shared_prompts": self}

    def _grow(self) -> None:
        """Storage anew with more columns."""
        columns, rows = len(self._steps), len(self.units)
        for i, old in enumerate(self._own):
            self._own[i] = old.new_empty(columns + max(_SPARE_TOKENS, columns // 4), *old.shape[1:])
            self._own[i][:columns, :rows] = old[:, :rows]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write (rows, heads, 1, head size) of one layer; all of the rows' own so far, each (columns, rows,
        heads, head size)."""
        rows, columns = len(self.units), len(self._steps)
        keys, values = self._own[layer_idx], self._own[layer_idx + len(self.keys)]
        keys[self._column, :rows], values[self._column, :rows] = key_states[:, :, 0], value_states[:, :, 0]
        return keys[:columns, :rows], values[:columns, :rows]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns in use."""
        return len(self._steps)

    def select(self, keep: Tensor) -> None:
        """Keep the rows `keep`, in that order. Rows already in place are not copied."""
        moved = (keep != torch.arange(len(keep), device=keep.device)).nonzero()[:, 0]
        for storage in self._own:
            used = storage[: len(self._steps)]
            used.index_copy_(1, moved, used.index_select(1, keep[moved]))
        self.units, self.places, self._start = self.units[keep], self.places[keep], self._start[keep]
        self._oldest = int(self._start.min())
        self._forget(least=max(1, len(self.hidden) // 4))
        self._place()

    def _forget(self, least: int) -> None:
        """Drop the prompts that no row continues, if they are so many, and the padding that all others
        have."""
        kept, units = torch.unique(self.units, return_inverse=True)
        if len(self.hidden) - len(kept) < least:
            return
        self.units = units
        unused = int((~self.hidden[kept, 0, 0]).any(dim=0).int().argmax())
        self.hidden = self.hidden[kept, ..., unused:]
        for states in (self.keys, self.values):
            for i, one in enumerate(states):  # one by one: all together are large
                states[i] = one[:, :, unused:].index_select(0, kept)

    def join(self, arrivals: Arrivals) -> None:
        """Take in rows of other prompts."""
        self._forget(least=1)
        before, hidden, units, places = (self.keys, self.values), self.hidden, self.units, self.places
        self._take(arrivals)
        width = max(hidden.shape[-1], self.hidden.shape[-1])
        for old, states in zip(before, (self.keys, self.values), strict=True):
            for i, one in enumerate(states):
                states[i] = old[i] = _joined((old[i], one), width)
        masks = (pad(one, (width - one.shape[-1], 0), value=True) for one in (hidden, self.hidden))
        self.hidden = torch.cat([*masks])
        self.units = torch.cat([units, self.units + len(hidden)])
        self.places = torch.cat([places, self.places])
        rows = slice(len(units), len(self.units))
        self._start = torch.cat([self._start, self._start.new_full((rows.stop - rows.start,), self._now)])
        for storage in self._own:  # hidden, but NaN would get through a mask
            storage[: len(self._steps), rows] = 0
        self._place()


def _joined(states: tuple[Tensor, ...], width: int) -> Tensor:
    """(units, heads, `width` tokens, head size), zeros on the left."""
    return torch.cat([pad(one, (0, 0, width - one.shape[2], 0)) for one in states])


class CopiedPrompts:
    """A cache of Hugging Face's with a row for each completion."""

    def __init__(self, arrivals: Arrivals) -> None:
        """Repeat the rows of the prefilled cache."""
        self._cache, self._mask = arrivals.prefilled.cache, arrivals.prefilled.attention_mask
        self.select(arrivals.source)

    def select(self, keep: Tensor) -> None:
        """Keep rows, in the given order and as often as they are named; recurrent states have another method
        for it."""
        self._mask = self._mask[keep]
        for layer in self._cache.layers:
            if isinstance(layer, LinearAttentionCacheLayerMixin):
                layer.reorder_cache(keep)
            else:
                layer.batch_select_indices(keep)

    def step(self) -> dict[str, Any]:
        """As of `SharedPrompts`."""
        self._mask = pad(self._mask, (0, 1), value=1)
        return {"attention_mask": self._mask, "past_key_values": self._cache}


def without(dead: Tensor) -> Tensor:
    """Row numbers (int64) that remain when `dead` rows (bool) leave, ordered so that few change place: those
    at the end fill the holes."""
    kept = ~dead
    count = int(kept.sum())
    order = torch.arange(count, device=dead.device)
    holes = dead[:count].nonzero()[:, 0]
    order[holes] = kept[count:].nonzero()[:, 0] + count
    return order
