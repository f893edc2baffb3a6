"""min(s, 1-s) - cluster's share of the batch; s = c where the writer's answer is the majority, c > .1; else 0

The Challenger's reward of R-Zero, arXiv 2508.05004, as its code had it when its results were published
(Chengsong-Huang/R-Zero at 4ffa715: vllm_service_init/start_vllm_server.py for s,
examples/reward_function/caller_penalty.py for the rest); 9409808 later made s = c always.
"""

from __future__ import annotations

from collections.abc import Sequence

from vzero.arms.repetition import cluster_shares
from vzero.arms.scored import ScoredQuestion
from vzero.rewards import INVALID, uncertainty
from vzero.voting import tally


def reward(question: ScoredQuestion) -> float:
    """Without the batch: min(s, 1-s)."""
    counted = tally(question.votes)
    agreed = counted.answer == question.intuitive and counted.confidence > 0.1
    return uncertainty(question.votes) if agreed else 0.0


def score(batch: Sequence[ScoredQuestion | None]) -> list[float]:
    """Less the share of the batch that asks the same; an invalid question counts as one like no other."""
    shares = cluster_shares(["" if one is None else one.text for one in batch])
    paid = [INVALID if one is None else reward(one) for one in batch]
    return [value - share for value, share in zip(paid, shares, strict=True)]
