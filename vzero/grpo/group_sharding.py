"""Which process takes which part of a generation batch.

Each optimizer step is cut into as many equal runs of whole prompts as there are processes, so that a step
takes the prompts it would take with one process, and groups stay whole:

    prompts of a generation, 2 steps, 2 processes    0 1 2 3 | 4 5 6 7
    process 0 takes                                  0 1       4 5
    process 1 takes                                      2 3       6 7
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from vzero.runtime import processes
from vzero.runtime.processes import World

T = TypeVar("T")


@dataclass(frozen=True)
class GroupSharding:
    """How anything that is in the order of a generation batch (prompts, groups, completions) is dealt out and
    put together again.

    Attributes:
        steps: optimizer steps of a generation batch.
        world: who deals, and who is asked.
    """

    steps: int = 1
    world: World = field(default_factory=World)

    def own(self, values: Sequence[T]) -> list[T]:
        """This process's part of a generation batch's `values`, in order."""
        return self._part(values, self.world.rank)

    def dealt(self, values: Sequence[T]) -> list[T]:
        """The same values, process by process: the order in which accelerate hands out a batch."""
        return [value for rank in range(self.world.size) for value in self._part(values, rank)]

    def whole(self, own: Sequence[T]) -> list[T]:
        """Everyone's `own`, in the order of the generation batch. All processes must ask."""
        return self.merged(processes.all_gather_object(list(own)) if self.world.size > 1 else [own])

    def merged(self, parts: Sequence[Sequence[T]]) -> list[T]:
        """The parts of all processes, by rank, in the order of the generation batch.

        Raises:
            ValueError: they are not equally long, or not whole steps.
        """
        lengths = {len(part) for part in parts}
        if len(lengths) != 1 or len(parts[0]) % self.steps:
            raise ValueError(
                f"Parts of {sorted(lengths)} values are not {self.steps} equal optimizer steps of {len(parts)} processes."
            )
        each = len(parts[0]) // self.steps
        return [
            value
            for step in range(self.steps)
            for part in parts
            for value in part[step * each : (step + 1) * each]
        ]

    def _part(self, values: Sequence[T], rank: int) -> list[T]:
        each, rest = divmod(len(values), self.steps * self.world.size)
        if rest:
            raise ValueError(
                f"{len(values)} values do not divide into {self.steps} steps of {self.world.size} processes."
            )
        starts = ((step * self.world.size + rank) * each for step in range(self.steps))
        return [value for start in starts for value in values[start : start + each]]
