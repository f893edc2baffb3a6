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
    """Cuts anything that is in the order of a generation batch (prompts, groups, completions) into parts.

    Attributes:
        steps: optimizer steps of a generation batch.
        world: the processes, and which of them this is.
    """

    steps: int = 1
    world: World = field(default_factory=World)

    def shard(self, values: Sequence[T]) -> list[T]:
        """This process's part of a generation batch's `values`, in order."""
        each, rest = divmod(len(values), self.steps * self.world.size)
        if rest:
            raise ValueError(
                f"{len(values)} values do not divide into {self.steps} steps of {self.world.size} processes."
            )
        starts = ((step * self.world.size + self.world.rank) * each for step in range(self.steps))
        return [value for start in starts for value in values[start : start + each]]

    def all_gather(self, shard: Sequence[T]) -> list[T]:
        """Everyone's `shard`, in the order of the generation batch. All processes must ask."""
        return self.merge(processes.all_gather_object(list(shard)) if self.world.size > 1 else [shard])

    def merge(self, shards: Sequence[Sequence[T]]) -> list[T]:
        """The shards of all processes, by rank, in the order of the generation batch.

        Raises:
            ValueError: they are not equally long, or not whole steps.
        """
        lengths = {len(shard) for shard in shards}
        if len(lengths) != 1 or len(shards[0]) % self.steps:
            raise ValueError(
                f"Shards of {sorted(lengths)} values are not {self.steps} equal optimizer steps of "
                f"{len(shards)} processes."
            )
        each = len(shards[0]) // self.steps
        starts = [step * each for step in range(self.steps)]
        return [value for start in starts for shard in shards for value in shard[start : start + each]]
