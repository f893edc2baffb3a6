"""What moves into the slots: units of completions, block after block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from vzero.config import SamplingConfig
from vzero.rollout.encoding import Prefill


@dataclass(frozen=True)
class Unit:
    """Completions of one request that are drawn together, `count` from index `first`; `prompt` is its number
    among the distinct prompts of its block."""

    prompt: int
    seed: int
    sampling: SamplingConfig
    first: int
    count: int


@dataclass(frozen=True)
class Drawn:
    """One finished completion before its tokens are made text; `stopped` if it ended by itself."""

    token_ids: list[int]
    logprobs: list[float]
    stopped: bool


# number of the unit in its block, its completions, tokens of its prompt
UnitFinished = Callable[[int, Sequence[Drawn], int], None]


@dataclass(frozen=True)
class Block:
    """Units whose prompts were encoded together, at least one, in the order they move in; none has more
    completions than there are slots.

    Attributes:
        prefill: reads prompts of the given numbers.
        finished: told of each unit when its last completion has ended.
        last: no other block follows.
    """

    units: Sequence[Unit]
    prefill: Prefill
    finished: UnitFinished
    last: bool


@dataclass
class Drawing:
    """A unit in the slots, of which `left` completions have not ended."""

    number: int
    prompt_tokens: int
    left: int
    finished: UnitFinished
    drawn: dict[int, Drawn] = field(default_factory=dict)

    def end(self, index: int, drawn: Drawn) -> None:
        """Keep a completion that has ended; the last one tells."""
        self.drawn[index], self.left = drawn, self.left - 1
        if not self.left:
            self.finished(self.number, [self.drawn[i] for i in range(len(self.drawn))], self.prompt_tokens)


class Waiting:
    """The units that have not moved in. A block is taken, and so encoded, when those before it have."""

    def __init__(self, blocks: Iterator[Block], together: int) -> None:
        """The first block is taken at once. Units of one prompt move in together where they have at most
        `together` rows, so that it is read once."""
        self._blocks, self.block, self._next, self._together = blocks, next(blocks, None), 0, together

    def wanted(self) -> int | None:
        """How many rows the next to move in need; None where nobody waits."""
        if self.block is not None and self._next == len(self.block.units):
            last, self.block, self._next = self.block.last, None, 0
            self.block = None if last else next(self._blocks, None)
        return None if self.block is None else sum(self._alike(self.block.units))

    def rows(self, slots: int) -> int:
        """How many rows there can ever be together, from here on."""
        if self.block is None or not self.block.last:
            return slots
        return min(slots, sum(unit.count for unit in self.block.units[self._next :]))

    def take(self, free: int) -> tuple[int, list[Unit]]:
        """As many of the block as there is room for, and the number of the first."""
        assert self.block is not None
        units, start = self.block.units, self._next
        while self._next < len(units) and sum(alike := self._alike(units)) <= free:
            self._next += len(alike)
            free -= sum(alike)
        return start, list(units[start : self._next])

    def _alike(self, units: Sequence[Unit]) -> list[int]:
        """Rows of each unit that moves in with the next one, its own first."""
        rows, end, prompt = list[int](), self._next, units[self._next].prompt
        while end < len(units) and units[end].prompt == prompt and sum(rows) <= self._together:
            rows.append(units[end].count)
            end += 1
        return rows if sum(rows) <= self._together else rows[:1]
