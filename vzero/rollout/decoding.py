"""Decoding in slots: a completion leaves at the token that ends it, and when enough slots are free the next
requests move in; they are read when there is room for them, so a stream without end keeps the slots full.

Rows that joined at different times stand side by side: all write into the same column, and what was written
before a row came is hidden from it. Nothing waits for the longest completion, and a draw depends on its row
alone, so who its neighbours are changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vzero.config import SamplingConfig
from vzero.rollout.encoding import Prefilled
from vzero.rollout.kv_cache import Arrivals, CopiedPrompts, SharedPrompts, without
from vzero.rollout.sampling import draw, uniforms
from vzero.rollout.units import Block, Drawing, Drawn, Unit, Waiting

_FREE = 0.25  # share of the slots that is free before new rows move in: that copies the prompts


@dataclass(frozen=True)
class Rules:
    """What holds for every draw: `forbidden` and `ends` are (vocabulary,) bool, tokens never drawn and tokens
    that end a turn."""

    forbidden: Tensor
    ends: Tensor


@dataclass
class _Slots:
    """The rows being drawn.

    Attributes:
        logits: (rows, vocabulary) for the token to draw.
        positions: (..., rows, 1) int64 of the token to draw, in the model's own layout.
        step: (rows,) int64, tokens drawn; `limit` those that may be.
        numbers: (rows, most tokens of any) float64 uniforms.
        seen: (rows, vocabulary) bool, or None where no repetition penalty asks for it.
        place: (rows,) int64, where each row's draws are kept.
        kind: (rows,) int64, how each row is sampled: its place in `kinds`.
    """

    logits: Tensor
    positions: Tensor
    step: Tensor
    limit: Tensor
    numbers: Tensor
    seen: Tensor | None
    place: Tensor
    kind: Tensor
    kinds: list[SamplingConfig]

    def draw(self, rules: Rules) -> tuple[Tensor, Tensor]:
        """A token for each row, and its log-probability: (rows,) each."""
        numbers = self.numbers.gather(1, self.step[:, None])[:, 0]
        if len(self.kinds) == 1:
            return draw(self.logits, self.kinds[0], numbers, rules.forbidden, self.seen)
        tokens, logprobs = torch.empty_like(self.step), torch.empty_like(numbers, dtype=torch.float32)
        for number, sampling in enumerate(self.kinds):
            rows = (self.kind == number).nonzero()[:, 0]
            if len(rows):
                seen = None if self.seen is None else self.seen[rows]
                found = draw(self.logits[rows], sampling, numbers[rows], rules.forbidden, seen)
                tokens[rows], logprobs[rows] = found
        return tokens, logprobs

    def _seen_tokens(self) -> Tensor:
        """`seen`; of rows that need none, nothing."""
        return torch.zeros_like(self.logits, dtype=torch.bool) if self.seen is None else self.seen

    def select(self, keep: Tensor) -> None:
        """Keep the given rows, in the given order. Logits are left: the next step makes new ones."""
        for name in ("step", "limit", "numbers", "place", "kind"):
            setattr(self, name, getattr(self, name)[keep])
        self.positions = self.positions.index_select(-2, keep)
        self.seen = None if self.seen is None else self.seen[keep]

    def advance(self, model: Any, cache: SharedPrompts | CopiedPrompts, token: Tensor) -> None:
        """Feed each row the token it drew; new logits."""
        if self.seen is not None:
            self.seen.scatter_(1, token[:, None], True)
        self.logits = model(
            input_ids=token[:, None],
            position_ids=self.positions,
            use_cache=True,
            logits_to_keep=1,
            **cache.step(),
        ).logits[:, -1]
        self.positions = self.positions + 1
        self.step = self.step + 1

    def join(self, other: _Slots) -> None:
        """Take in other rows, which share `kinds`."""
        self.positions = torch.cat([self.positions, other.positions], dim=-2)
        longer = other.numbers.shape[1] - self.numbers.shape[1]  # the others were numbered as they came
        self.numbers = torch.cat([F.pad(self.numbers, (0, longer)), other.numbers])
        if self.seen is not None or other.seen is not None:
            self.seen = torch.cat([self._seen_tokens(), other._seen_tokens()])
        for name in ("logits", "step", "limit", "place", "kind"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))


class _Found:
    """What the rows have drawn so far.

    Attributes:
        tokens, logprobs: (slots, most tokens of any row) int64 and float32, by a row's place.
        free: places that no row has.
    """

    def __init__(self, slots: int, device: torch.device) -> None:
        self.tokens = torch.zeros(slots, 0, dtype=torch.int64, device=device)
        self.logprobs = torch.zeros(slots, 0, device=device)
        self.free = list(range(slots))
        self._owner: dict[int, tuple[Drawing, int]] = {}

    def widen(self, limit: int) -> None:
        """Make room for completions of `limit` tokens."""
        more = max(0, limit - self.tokens.shape[1])
        self.tokens, self.logprobs = (F.pad(one, (0, more)) for one in (self.tokens, self.logprobs))

    def enter(self, unit: Drawing) -> list[int]:
        """Places for a unit's completions."""
        taken = [self.free.pop() for _ in range(unit.left)]
        self._owner |= {place: (unit, index) for index, place in enumerate(taken)}
        return taken

    def record(self, slots: _Slots, token: Tensor, logprob: Tensor, ends: Tensor) -> Tensor:
        """Write a step down, and tell of units it finished; which rows it finished, (rows,) bool."""
        self.tokens[slots.place, slots.step], self.logprobs[slots.place, slots.step] = token, logprob
        ended = ends[token]
        done = ended | (slots.step == slots.limit - 1)
        places = slots.place[done].tolist()
        if places:
            lengths = (slots.step[done] + 1).tolist()
            tokens, logprobs = (one[places, : max(lengths)].tolist() for one in (self.tokens, self.logprobs))
            rows = zip(places, tokens, logprobs, lengths, ended[done].tolist(), strict=True)
            for place, ids, values, length, stopped in rows:
                unit, index = self._owner.pop(place)
                unit.end(index, Drawn(ids[:length], values[:length], stopped))
            self.free += places
        return done


def decode(model: Any, blocks: Iterator[Block], rules: Rules, slots: int, shares: bool) -> None:
    """Draw every completion of every unit, at most `slots` together.

    Args:
        model: Hugging Face's, in evaluation mode and without gradients.
        blocks: taken when there is room.
        shares: whether the model can read prompts that several rows share (see attention.py).
    """
    waiting, found = Waiting(blocks, int(_FREE * slots)), _Found(slots, rules.ends.device)
    kinds = list[SamplingConfig]()
    while waiting.wanted() is not None:
        capacity = waiting.rows(slots)
        rows, arrivals = _read(waiting, slots, kinds, found)
        cache = SharedPrompts(arrivals, capacity) if shares else CopiedPrompts(arrivals)
        del arrivals  # its cache is large
        while True:
            free = slots - len(rows.place)
            if isinstance(cache, SharedPrompts) and free >= _FREE * slots:
                wanted = waiting.wanted()
                if wanted is not None and wanted <= free:
                    others, arrivals = _read(waiting, free, kinds, found)
                    rows.join(others)
                    cache.join(arrivals)
                    del others, arrivals
            token, logprob = rows.draw(rules)
            done = found.record(rows, token, logprob, rules.ends)
            keep = without(done)
            if len(keep) == 0:
                break
            if len(keep) < len(done):
                token = token[keep]
                rows.select(keep)
                cache.select(keep)
            rows.advance(model, cache, token)
        del rows, cache  # before the next prompts are read


def _read(waiting: Waiting, free: int, kinds: list[SamplingConfig], found: _Found) -> tuple[_Slots, Arrivals]:
    """Read each distinct prompt of the units that move in once; their rows. What is new among their samplings
    is added to `kinds`."""
    block = waiting.block
    assert block is not None
    first, units = waiting.take(free)
    prompts = list(dict.fromkeys(unit.prompt for unit in units))
    prefilled = block.prefill(prompts)
    number = {prompt: i for i, prompt in enumerate(prompts)}
    device, sizes = prefilled.logits.device, prefilled.attention_mask.sum(dim=1).tolist()
    of, counts = [number[unit.prompt] for unit in units], [unit.count for unit in units]
    arrivals = Arrivals(prefilled, torch.tensor(of, device=device), torch.tensor(counts, device=device))
    found.widen(max(unit.sampling.max_new_tokens for unit in units))
    places = [
        place
        for i, unit in enumerate(units, first)
        for place in found.enter(Drawing(i, sizes[number[unit.prompt]], unit.count, block.finished))
    ]
    source = arrivals.source
    kinds += [one for one in dict.fromkeys(unit.sampling for unit in units) if one not in kinds]
    kind = [kinds.index(unit.sampling) for unit in units for _ in range(unit.count)]
    penalised = any(unit.sampling.repetition_penalty != 1 for unit in units)
    rows = _Slots(
        logits=prefilled.logits[source],
        positions=prefilled.next_position.index_select(-2, source),
        step=torch.zeros(len(source), dtype=torch.int64, device=device),
        limit=torch.tensor([kinds[one].max_new_tokens for one in kind], device=device),
        numbers=_numbers(units, found.tokens.shape[1]).to(device),
        seen=_seen(prefilled)[source] if penalised else None,
        place=torch.tensor(places, device=device),
        kind=torch.tensor(kind, device=device),
        kinds=kinds,
    )
    return rows, arrivals


def _numbers(units: Sequence[Unit], width: int) -> Tensor:
    """Uniform numbers (rows, width) float64; zeros for greedy decoding, which needs none."""
    each = [
        uniforms([(one.seed, one.first + i) for i in range(one.count)], width)
        if one.sampling.temperature
        else np.zeros((one.count, width))
        for one in units
    ]
    return torch.from_numpy(np.concatenate(each))


def _seen(prefilled: Prefilled) -> Tensor:
    """Which tokens each prompt holds: (prompts, vocabulary) bool. Padding does not count, though its token
    may also end turns: in its place stands the prompt's own last token, since padding is on the left."""
    ids = prefilled.token_ids
    held = ids.where(prefilled.attention_mask.bool(), ids[:, -1:])
    return torch.zeros_like(prefilled.logits, dtype=torch.bool).scatter_(1, held, True)
