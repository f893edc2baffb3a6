"""Exact tests and intervals of counts, and corrections for several tests.

Closed forms on `scipy.special`: the libraries' own versions (scipy.stats, statsmodels) are the tests' oracles
and take a second or more to import, which a command that prints a table cannot spend.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

from scipy.special import bdtr, ndtri

Name = TypeVar("Name", bound=Hashable)


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided p-value that items which changed were as likely to be won as lost (McNemar 1947,
    binomial form)."""
    if wins + losses == 0:
        return 1.0
    return float(min(1.0, 2 * bdtr(min(wins, losses), wins + losses, 0.5)))


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float | None, float | None]:
    """Score interval of a proportion (Wilson 1927); (None, None) for n = 0."""
    if n == 0:
        return None, None
    z = float(ndtri((1 + level) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def holm(p_values: Mapping[Name, float | None]) -> dict[Name, float | None]:
    """Holm's (1979) adjusted p-values by name; a missing p-value stays missing and does not count as a
    test."""
    known = sorted(((p, name) for name, p in p_values.items() if p is not None), key=lambda one: one[0])
    adjusted: dict[Name, float | None] = dict.fromkeys(p_values)
    largest = 0.0
    for rank, (p, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[name] = largest
    return adjusted


def benjamini_hochberg(p_values: Mapping[Name, float | None]) -> dict[Name, float | None]:
    """Adjusted p-values by name (Benjamini and Hochberg 1995): of what is then called significant, at most
    one in twenty is expected to be luck, and where nothing is true, all of it is at most one time in twenty.
    A missing p-value stays missing and does not count as a test."""
    known = sorted(((p, name) for name, p in p_values.items() if p is not None), key=lambda one: -one[0])
    adjusted: dict[Name, float | None] = dict.fromkeys(p_values)
    least = 1.0
    for rank, (p, name) in zip(range(len(known), 0, -1), known, strict=True):
        least = min(least, p * len(known) / rank)
        adjusted[name] = least
    return adjusted
