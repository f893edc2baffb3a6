"""Repetitions in turn, medians, and whether they can be trusted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
SPREAD, REACH = (
    0.10,
    0.50,
)  # limits of the standard deviation, and of the extremes, relative to the mean (those of pyperf)


def now() -> float:
    """Seconds, after everything sent to a GPU is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


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


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, extremes, standard deviation, all values, and `stable` (None for a single value)."""
    mean, spread = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    stable = None
    if len(values) > 1:
        stable = (
            spread <= SPREAD * mean
            and min(values) >= (1 - REACH) * mean
            and max(values) <= (1 + REACH) * mean
        )
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "stdev": spread,
        "stable": stable,
        "values": list(values),
    }
