"""Votes on one question -> majority answer, confidence, keep or drop (METHOD: vote, filter)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vzero.parsing import OPTIONS

# Shares of distinct vote counts differ by at least 1/n, so this forgives rounding in a threshold (0.1 + 0.2)
# and nothing else.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Tally:
    """The count of one question's votes.

    Attributes:
        answer: the most frequent parsed vote, the one seen first among equals; None when no vote was parsed.
        confidence: c in [0, 1], votes of `answer` / `n`; 0.0 when `answer` is None.
        counts: votes of each parsed answer, in the order first seen; unparsed votes (None) are not in it.
        n: all votes, unparsed ones included.
    """

    answer: str | None
    confidence: float
    counts: Mapping[str, int]
    n: int


def tally(votes: Sequence[str | None]) -> Tally:
    """Count `votes`, None standing for a reply without a readable answer."""
    counts = Counter(vote for vote in votes if vote is not None)
    if not counts:
        return Tally(None, 0.0, counts, len(votes))
    answer = max(counts, key=counts.__getitem__)  # the first of equals: counts keep the order first seen
    return Tally(answer, counts[answer] / len(votes), counts, len(votes))


def keep(tally: Tally, low: float = 0.3, high: float = 0.8) -> bool:
    """Whether the Solver trains on this question: its majority is one of A-D and low <= c <= high."""
    return tally.answer in OPTIONS and low - _ROUNDING <= tally.confidence <= high + _ROUNDING
