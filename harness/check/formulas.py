"""The method's formulas a second time, from arXiv 2601.10094 and not from `vzero`, which is what they check.

Slow and plain on purpose. Votes are letters or None.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean, stdev

LETTERS = ("A", "B", "C", "D")
_BOX = re.compile(r"\\boxed\{\s*([A-D])\s*\}")
_ANY_BOX = "\\boxed{"
SPREAD_EPSILON = 1e-4  # TRL's


def boxed(text: str) -> str | None:
    """The plain letter in the last box after the reasoning; None also where the box holds anything else,
    which `vzero` may still read."""
    last = text.rfind(_ANY_BOX)
    found = _BOX.match(text, last) if last > text.rfind("</think>") else None
    return found[1] if found else None


def majority(votes: Sequence[str | None]) -> tuple[str | None, float]:
    """(the most frequent answer, the first seen among equals; its share of all votes, unreadable ones
    included)."""
    cast = [vote for vote in votes if vote is not None]
    if not cast:
        return None, 0.0
    most = max(cast.count(vote) for vote in cast)
    winner = next(vote for vote in cast if cast.count(vote) == most)
    return winner, most / len(votes)


def kept(votes: Sequence[str | None], low: float, high: float) -> bool:
    """0.3 <= c <= 0.8 and a real option, up to rounding of the bounds."""
    winner, share = majority(votes)
    return winner in LETTERS and low - 1e-9 <= share <= high + 1e-9


def dual_track(votes: Sequence[str | None] | None, intuitive: str | None) -> float:
    """-1 for an invalid question (no votes were asked), 0 without a readable vote, c / 2 where intuition
    contradicts the majority, and min(c, 1 - c) where it does not, be it that it agrees or that an arm's other
    source of intuition gave no answer."""
    if votes is None:
        return -1.0
    winner, c = majority(votes)
    if winner is None:
        return 0.0
    return min(c, 1 - c) if intuitive in (winner, None) else c / 2


def uncertainty(votes: Sequence[str | None] | None, intuitive: str | None) -> float:
    """min(c, 1 - c); -1 for an invalid question."""
    if votes is None:
        return -1.0
    winner, c = majority(votes)
    return 0.0 if winner is None else min(c, 1 - c)


QUESTIONER_REWARDS = {"dual_track": dual_track, "uncertainty": uncertainty}


def advantages(rewards: Sequence[float]) -> list[float]:
    """(r - mean) / (standard deviation + epsilon) within one group."""
    mean = fmean(rewards)
    spread = stdev(rewards) if len(rewards) > 1 else 0.0
    return [(reward - mean) / (spread + SPREAD_EPSILON) for reward in rewards]
