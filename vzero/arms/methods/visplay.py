"""min(c, 1-c) - cluster's share of the batch

The Questioner's reward of VisPlay, arXiv 2511.15661; bruno686/VisPlay at 3aa895b.
"""

from __future__ import annotations

from collections.abc import Sequence

from vzero.arms.repetition import cluster_shares
from vzero.arms.scored import ScoredQuestion
from vzero.rewards import INVALID, uncertainty


def reward(question: ScoredQuestion) -> float:
    """Without the batch: min(c, 1-c)."""
    return uncertainty(question.votes)


def score(batch: Sequence[ScoredQuestion | None]) -> list[float]:
    """Less the share of the batch that asks the same; an invalid question counts as one like no other."""
    shares = cluster_shares(["" if one is None else one.text for one in batch])
    paid = [INVALID if one is None else reward(one) for one in batch]
    return [value - share for value, share in zip(paid, shares, strict=True)]
