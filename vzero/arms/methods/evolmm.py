"""exp(-(H - 0.90)^2 / (2 * 0.35^2)), H the entropy of the votes in nats

The continuous rewards of EvoLMM, constants included: arXiv 2511.16672; mbzuai-oryx/EvoLMM at de5b0f8,
src/train.py (`gaussian_reward`, `prop_entropy_mu`, `prop_entropy_sigma`, `solver_rewards_soft`).
"""

from __future__ import annotations

import math

from vzero.arms.scored import ScoredAnswer, ScoredQuestion
from vzero.voting import tally

CENTRE, WIDTH = 0.90, 0.35  # of the Proposer's band
SOFTNESS, WEIGHT, WORDS = 0.7, 0.10, 6  # of the Solver's reward; words before the answer that cost nothing


def reward(question: ScoredQuestion) -> float:
    """The Proposer's. In its code a vote that cannot be read is an answer of its own kind (the reply's last
    line); here all of them count as one kind."""
    counted = tally(question.votes)
    if counted.n == 0:
        return 0.0
    counts = [*counted.counts.values(), counted.n - sum(counted.counts.values())]
    entropy = -math.fsum(k / counted.n * math.log(k / counted.n) for k in counts if k)
    return math.exp(-((entropy - CENTRE) ** 2) / (2 * WIDTH**2))


def solver_reward(answer: ScoredAnswer) -> float:
    """p^.7 (1 - .1 over): p the share of the group with the same answer, over = (words - 6) / 6, but
    at least 0 and at most 1. A reply without an answer earns 0 (in its code the last line is the answer)."""
    if answer.answer is None:
        return 0.0
    words = len(answer.text.rpartition("\\boxed{")[0].split())
    over = min(1.0, max(0.0, (words - WORDS) / WORDS))
    share = answer.group.count(answer.answer) / len(answer.group)
    return math.pow(share, SOFTNESS) * (1 - WEIGHT * over)
