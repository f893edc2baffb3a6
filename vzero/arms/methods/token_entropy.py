"""0.7 d + 0.3 exp(-(H - 0.90)^2 / (2 * 0.35^2)), d the share of the batch with a lower token entropy

Solver Token Entropy as difficulty: arXiv 2606.27376; mbzuai-oryx/Ask-Solve-Generate at 5b88c44,
BLIP3o/blip3o/train/self_evolving/unified_trainer.py (`_ste_difficulty`, `proposer_reward`) and config.py
(`solver_token_entropy_*`, `proposer_ste_primary_weight`, `proposer_sample_entropy_weight`). A question's
token entropy is the largest among the first five tokens of the Solver's greedy answer; H is that of the
votes. The many bonuses and penalties that its code adds to both are left out.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from vzero.arms.reward_file import shipped
from vzero.arms.scored import ScoredQuestion
from vzero.rewards import INVALID

TOKENS, VOTES = 0.70, 0.30  # weights of both terms
STEEPNESS, MIDDLE = 1.5, 2.0  # of the difficulty where there is nothing to compare with; nats


def reward(question: ScoredQuestion) -> float:
    """Without the batch: the sigmoid by which its code begins. A question whose tokens were not looked at, as
    the audit's, has the second term alone."""
    raw = max(question.token_entropies, default=0.0)
    return _paid(question, raw and 1 / (1 + math.exp(-STEEPNESS * (raw - MIDDLE))))


def score(batch: Sequence[ScoredQuestion | None]) -> list[float]:
    """In its code the comparison is with the last 128 questions of the training, here with the batch."""
    entropies = [max(one.token_entropies, default=0.0) for one in batch if one is not None]
    ordered, rest = sorted(entropies), iter(entropies)
    return [
        INVALID if one is None else _paid(one, bisect_left(ordered, next(rest)) / len(ordered))
        for one in batch
    ]


def _paid(question: ScoredQuestion, difficulty: float) -> float:
    """The second term is nothing where the votes are unanimous."""
    unanimous = len(set(question.votes)) < 2
    return TOKENS * difficulty + VOTES * (0.0 if unanimous else shipped("evolmm").reward(question))
