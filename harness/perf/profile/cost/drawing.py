"""The work of drawing completions: each prompt and picture once and slots refilled, or every completion by
itself in batches that wait."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.perf.profile.cost.training import Group
from harness.perf.profile.flops import Shape, Work


@dataclass(frozen=True)
class Drawing:
    """What an engine computes.

    Attributes:
        prompts, decoding: work before the first token of each completion, and after.
        steps: decode steps; each reads all weights.
        kv_tokens: cached positions that they read.
    """

    prompts: Work
    decoding: Work
    steps: int
    kv_tokens: int

    def __add__(self, other: Drawing) -> Drawing:
        """Both, one after another."""
        return Drawing(
            self.prompts + other.prompts,
            self.decoding + other.decoding,
            self.steps + other.steps,
            self.kv_tokens + other.kv_tokens,
        )


def shared(requests: Sequence[Group], pictures: Iterable[int], slots: int, shape: Shape) -> Drawing:
    """Ours: a completion's place is taken by the next when it ends.

    Args:
        requests: prompts and the completions drawn for each.
        pictures: patches of the distinct pictures.
        slots: completions that decode together.
    """
    seen = list(pictures)
    prompts = Work(
        sum(one.prompt for one in requests),
        sum(one.prompt**2 for one in requests),
        len(requests),
        sum(seen),
        sum(map(shape.vision_pairs, seen)),
    )
    fed = [completion - 1 for one in requests for completion in one.completions]
    read = sum(_read(one.prompt, completion - 1) for one in requests for completion in one.completions)
    return Drawing(prompts, Work(sum(fed), read, sum(fed)), makespan(fed, slots), read)


def separate(requests: Sequence[Group], slots: int, shape: Shape) -> Drawing:
    """Stock `generate`: every completion is a prompt of its own, padded to its batch, and goes on to the
    batch's longest."""
    rows = [(one, completion) for one in requests for completion in one.completions]
    return sum(
        (_batch(rows[start : start + slots], shape) for start in range(0, len(rows), slots)),
        Drawing(Work(0, 0, 0), Work(0, 0, 0), 0, 0),
    )


def _batch(rows: Sequence[tuple[Group, int]], shape: Shape) -> Drawing:
    count, prompt = len(rows), max(one.prompt for one, _ in rows)
    steps = max(completion for _, completion in rows) - 1
    pictures = [one.patches for one, _ in rows]
    prompts = Work(
        count * prompt, count * prompt**2, count, sum(pictures), sum(map(shape.vision_pairs, pictures))
    )
    read = count * _read(prompt, steps)
    return Drawing(prompts, Work(count * steps, read, count * steps), steps, read)


def _read(prompt: int, steps: int) -> int:
    """Cached positions that a completion's decode steps read, the new one included: prompt + 1, prompt + 2
    ..."""
    return steps * prompt + steps * (steps + 1) // 2


def makespan(lengths: Iterable[int], slots: int) -> int:
    """Steps until all are done when each free slot takes the next in order."""
    ends = [0] * slots
    for length in lengths:
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)
