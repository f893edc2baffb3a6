"""Decoding in slots: a completion leaves at the token that ends it, and when enough slots are free the next
requests move in.

Rows that joined at different times stand side by side: the cache is aligned at its right end, and what is to
the left of a row's prompt is masked. Nothing waits for the longest completion, and a draw depends on its row
alone, so who its neighbours are changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from vzero.config import SamplingConfig
from vzero.rollout.encoding import Prefill, Prefilled
from vzero.rollout.kv_cache import fan_out, join, joinable, without
from vzero.rollout.sampling import draw, uniforms

_FREE = 0.25  # share of the slots that is free before new rows move in: moving in copies the cache


@dataclass(frozen=True)
class Unit:
    """Completions of one request that are drawn together, `count` from index `first`; `prompt` is its number
    among the distinct prompts."""

    prompt: int
    seed: int
    first: int
    count: int


@dataclass(frozen=True)
class Drawn:
    """One finished completion before its tokens are made text; `stopped` if it ended by itself."""

    token_ids: list[int]
    logprobs: list[float]
    stopped: bool


@dataclass(frozen=True)
class Rules:
    """How tokens are drawn: `forbidden` and `ends` are (vocabulary,) bool, tokens never drawn and tokens that
    end a turn."""

    sampling: SamplingConfig
    forbidden: Tensor
    ends: Tensor


@dataclass
class _Slots:
    """The rows being drawn.

    Attributes:
        cache: keys and values so far, `columns` wide.
        logits: (rows, vocabulary) for the token to draw.
        mask: (rows, columns and more) int64, 0 left of a row's prompt.
        positions: (..., rows, 1) int64 of the token to draw, in the model's own layout.
        step: (rows,) int64, tokens drawn.
        numbers: (rows, max_new_tokens) float64 uniforms.
        seen: (rows, vocabulary) bool, or None where no repetition penalty asks for it.
        place: (rows,) int64, each row's number among all.
    """

    cache: Cache
    columns: int
    logits: Tensor
    mask: Tensor
    positions: Tensor
    step: Tensor
    numbers: Tensor
    seen: Tensor | None
    place: Tensor

    def select(self, keep: Tensor) -> None:
        """Keep the given rows, in the given order. Logits are left: the next step makes new ones."""
        for name in ("mask", "step", "numbers", "place"):
            setattr(self, name, getattr(self, name)[keep])
        self.positions = self.positions.index_select(-2, keep)
        self.seen = None if self.seen is None else self.seen[keep]
        for layer in self.cache.layers:
            layer.batch_select_indices(keep)

    def advance(self, model: Any, token: Tensor) -> None:
        """Feed each row the token it drew; new logits."""
        if self.seen is not None:
            self.seen.scatter_(1, token[:, None], True)
        self.columns += 1
        if self.columns > self.mask.shape[1]:
            self.mask = torch.nn.functional.pad(self.mask, (0, 64), value=1)
        self.logits = model(
            input_ids=token[:, None],
            attention_mask=self.mask[:, : self.columns],
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        self.positions = self.positions + 1
        self.step = self.step + 1

    def join(self, other: _Slots, source: Tensor) -> None:
        """Take in rows that continue the prompts `source` of `other`'s prefilled cache; columns that no row
        here uses are dropped."""
        unused = int(self.mask[:, : self.columns].any(dim=0).int().argmax())
        join(self.cache, other.cache, source, unused)
        width = max(self.columns - unused, other.columns)
        masks = (self.mask[:, unused : self.columns], other.mask[:, : other.columns])
        self.mask = torch.cat([torch.nn.functional.pad(mask, (width - mask.shape[1], 0)) for mask in masks])
        self.columns = width
        self.positions = torch.cat([self.positions, other.positions], dim=-2)
        for name in ("logits", "step", "numbers", "place"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))
        if self.seen is not None and other.seen is not None:
            self.seen = torch.cat([self.seen, other.seen])


class _Found:
    """What was drawn, by row number.

    Attributes:
        tokens, logprobs: (rows, max_new_tokens) int64 and float32.
        lengths: (rows,) int64.
        stopped: (rows,) bool, ended by itself.
    """

    def __init__(self, rows: int, limit: int, device: torch.device) -> None:
        self.tokens = torch.zeros(rows, limit, dtype=torch.int64, device=device)
        self.logprobs = torch.zeros(rows, limit, device=device)
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        self.stopped = torch.zeros(rows, dtype=torch.bool, device=device)

    def record(self, slots: _Slots, token: Tensor, logprob: Tensor, ends: Tensor) -> Tensor:
        """Write a step down; which rows it finished, (rows,) bool."""
        self.tokens[slots.place, slots.step], self.logprobs[slots.place, slots.step] = token, logprob
        ended = ends[token]
        done = ended | (slots.step == self.tokens.shape[1] - 1)
        gone = slots.place[done]
        self.lengths[gone], self.stopped[gone] = slots.step[done] + 1, ended[done]
        return done

    def rows(self, first: int, count: int) -> list[Drawn]:
        """Some rows in order."""
        columns = (self.tokens, self.logprobs, self.lengths, self.stopped)
        rows = zip(*(one[first : first + count].tolist() for one in columns), strict=True)
        return [Drawn(ids[:length], values[:length], end) for ids, values, length, end in rows]


# number of the unit, its completions, tokens of its prompt
UnitFinished = Callable[[int, Sequence[Drawn], int], None]


def decode(
    model: Any,
    units: Sequence[Unit],
    prefill: Prefill,
    rules: Rules,
    slots: int,
    finished: UnitFinished,
) -> None:
    """Draw every completion of `units`.

    Args:
        model: Hugging Face's, in evaluation mode and without gradients.
        units: in the order they move in; none with more completions than `slots`.
        prefill: reads prompts of the given numbers.
        slots: completions that decode together at most.
        finished: told of each unit when its last completion has ended.
    """
    starts = [0, *accumulate(unit.count for unit in units)]
    unit_of = [i for i, unit in enumerate(units) for _ in range(unit.count)]
    left = [unit.count for unit in units]
    limit, total = rules.sampling.max_new_tokens, len(unit_of)
    found = _Found(total, limit, rules.ends.device)
    waiting, rows = deque(units), None
    sizes: list[int] = []

    def read_next(free: int) -> tuple[_Slots, Tensor]:
        fresh, source, prompts = _read(_next(waiting, free), prefill, rules, starts[len(sizes)])
        sizes.extend(prompts)
        return fresh, source

    while rows is not None or waiting:
        if rows is None:
            capacity = min(slots, total - starts[len(sizes)])
            rows, source = read_next(slots)
            fan_out(rows.cache, source, limit, capacity)
        free = slots - len(rows.place)
        if waiting and free >= max(_FREE * slots, waiting[0].count) and joinable(rows.cache):
            rows.join(*read_next(free))
        numbers = rows.numbers.gather(1, rows.step[:, None])[:, 0]
        token, logprob = draw(rows.logits, rules.sampling, numbers, rules.forbidden, rows.seen)
        done = found.record(rows, token, logprob, rules.ends)
        for place in rows.place[done].tolist():
            i = unit_of[place]
            left[i] -= 1
            if not left[i]:
                finished(i, found.rows(starts[i], units[i].count), sizes[i])
        keep = without(done)
        if len(keep) == 0:
            rows = None
            continue
        if len(keep) < len(done):
            token = token[keep]
            rows.select(keep)
        rows.advance(model, token)


def _next(waiting: deque[Unit], free: int) -> list[Unit]:
    """As many of the waiting as there is room for, at least one."""
    moving = [waiting.popleft()]
    free -= moving[0].count
    while waiting and waiting[0].count <= free:
        moving.append(waiting.popleft())
        free -= moving[-1].count
    return moving


def _read(
    units: Sequence[Unit], prefill: Prefill, rules: Rules, first: int
) -> tuple[_Slots, Tensor, list[int]]:
    """Read each distinct prompt of `units` once.

    Returns:
        Rows numbered from `first`, with the cache of the prompts; for each row its prompt there, (rows,)
        int64; each unit's prompt tokens.
    """
    prompts = list(dict.fromkeys(unit.prompt for unit in units))
    prefilled = prefill(prompts)
    number = {prompt: i for i, prompt in enumerate(prompts)}
    device, sizes = prefilled.logits.device, prefilled.attention_mask.sum(dim=1).tolist()
    source = torch.tensor([number[unit.prompt] for unit in units for _ in range(unit.count)], device=device)
    rows = _Slots(
        cache=prefilled.cache,
        columns=prefilled.attention_mask.shape[1],
        logits=prefilled.logits[source],
        mask=prefilled.attention_mask[source],
        positions=prefilled.next_position.index_select(-2, source),
        step=torch.zeros(len(source), dtype=torch.int64, device=device),
        numbers=_numbers(units, rules.sampling).to(device),
        seen=_seen(prefilled)[source] if rules.sampling.repetition_penalty != 1 else None,
        place=first + torch.arange(len(source), device=device),
    )
    return rows, source, [sizes[number[unit.prompt]] for unit in units]


def _numbers(units: Sequence[Unit], sampling: SamplingConfig) -> Tensor:
    """Uniform numbers (rows, max_new_tokens) float64; zeros for greedy decoding, which needs none."""
    if sampling.temperature == 0:
        return torch.zeros(sum(one.count for one in units), sampling.max_new_tokens, dtype=torch.float64)
    limit = sampling.max_new_tokens
    rows = [uniforms(one.seed, one.first + i, limit) for one in units for i in range(one.count)]
    return torch.from_numpy(np.stack(rows))


def _seen(prefilled: Prefilled) -> Tensor:
    """Which tokens each prompt holds: (prompts, vocabulary) bool. Padding does not count, though its token
    may also end turns: in its place stands the prompt's own last token, since padding is on the left."""
    ids = prefilled.token_ids
    held = ids.where(prefilled.attention_mask.bool(), ids[:, -1:])
    return torch.zeros_like(prefilled.logits, dtype=torch.bool).scatter_(1, held, True)
