"""Repetitions in turn, medians, and whether they can be trusted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")
# Limits of the standard deviation, and of the extremes, relative to the mean: those of pyperf.
SPREAD, REACH = 0.10, 0.50


class Times(BaseModel):
    """Seconds of repetitions; `stable`: whether they can be trusted, None for a single one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    median: float
    min: float
    max: float
    stdev: float
    stable: bool | None
    values: tuple[float, ...]


def now() -> float:
    """Seconds, after everything sent to a GPU is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Seconds that a call takes, and its result."""
    start = now()
    result = call()
    return now() - start, result


@contextmanager
def stopwatch(add: Callable[[float], None]) -> Iterator[None]:
    """Give `add` the seconds spent inside."""
    start = now()
    try:
        yield
    finally:
        add(now() - start)


def interleave(
    sides: Sequence[Callable[[], T]], repetitions: int, say: Callable[[int], None]
) -> list[list[T]]:
    """Call every side in turn, ABAB: what disturbs the machine for a while disturbs both. Results by side;
    `say` is told the repetition."""
    results: list[list[T]] = [[] for _ in sides]
    for repetition in range(repetitions):
        say(repetition + 1)
        for found, side in zip(results, sides, strict=True):
            found.append(side())
    return results


def summary(values: Sequence[float]) -> Times:
    """Of all repetitions."""
    mean, low, high = statistics.fmean(values), min(values), max(values)
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    within = spread <= SPREAD * mean and low >= (1 - REACH) * mean and high <= (1 + REACH) * mean
    return Times(
        median=statistics.median(values),
        min=low,
        max=high,
        stdev=spread,
        stable=within if len(values) > 1 else None,
        values=tuple(values),
    )
