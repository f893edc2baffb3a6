"""Rewards of both roles: pure functions of votes and answers.

Shares are quotients of whole numbers, so that rewards equal on paper are equal in floating point and a group
of them has no spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vzero.voting import Tally, tally

INVALID = -1.0


def dual_track(votes: Sequence[str | None], intuitive: str | None) -> float:
    """The Questioner's reward: the intuitive answer against the majority of the frozen Solver's votes.

    r = min(c, 1 - c) where they agree, 0.5 c where they do not, 0 where no vote could be parsed; c as in
    `voting.tally`. -1 where `intuitive` is None, which stands for an invalid question. Never above 0.5.
    Source: arXiv 2601.10094.
    """
    if intuitive is None:
        return INVALID
    counted = tally(votes)
    if counted.answer is None or counted.answer == intuitive:
        return _doubt(counted)
    return 0.5 * counted.confidence


def uncertainty(votes: Sequence[str | None]) -> float:
    """min(c, 1 - c), which pays most where the Solver is torn; 0.0 where no vote could be parsed."""
    return _doubt(tally(votes))


def zero_sum(votes: Sequence[str | None]) -> float:
    """1 - c, what the Solver loses; 0.0 where no vote could be parsed.

    A *reading* of V-Zero as a two-player zero-sum game, which summaries of the paper give and the paper does
    not. It pays most for what the Solver cannot agree on, right option or none.
    """
    counted = tally(votes)
    return 0.0 if counted.answer is None else (counted.n - counted.counts[counted.answer]) / counted.n


def capped_mismatch(votes: Sequence[str | None], intuitive: str | None) -> float:
    """`dual_track` whose mismatch branch is min(0.5 c, 1 - c): the same up to c = 2/3, then falling to 0.

    Ours. It closes the hole of the paper's formula, which pays a trivial question with a deliberately wrong
    guess as much as the best question (0.5), though the filter drops it.
    """
    if intuitive is None:
        return INVALID
    counted = tally(votes)
    if counted.answer is None or counted.answer == intuitive:
        return _doubt(counted)
    return min(0.5 * counted.confidence, zero_sum(votes))


def agreed_uncertainty(votes: Sequence[str | None], own: str | None) -> float:
    """min(s, 1 - s) with s = c where the majority is the writer's `own` answer and c > 0.1, else s = 0.

    R-Zero's uncertainty as its code had it when its results were published (Chengsong-Huang/R-Zero at
    4ffa715: vllm_service_init/start_vllm_server.py for s, examples/reward_function/caller_penalty.py for the
    rest); 9409808 later made s = c always.
    """
    counted = tally(votes)
    return _doubt(counted) if counted.answer == own and counted.confidence > 0.1 else 0.0


def entropy_band(votes: Sequence[str | None], centre: float = 0.90, width: float = 0.35) -> float:
    """exp(-(H - centre)^2 / (2 width^2)), H the entropy of the votes in nats: EvoLMM's reward of its
    Proposer.

    Source, constants included: arXiv 2511.16672; mbzuai-oryx/EvoLMM at de5b0f8, src/train.py
    (`gaussian_reward`, `prop_entropy_mu`, `prop_entropy_sigma`). There a vote that cannot be read is an
    answer of its own kind (the reply's last line); here all of them count as one kind.
    """
    counted = tally(votes)
    if counted.n == 0:
        return 0.0
    counts = [*counted.counts.values(), counted.n - sum(counted.counts.values())]
    entropy = -math.fsum(k / counted.n * math.log(k / counted.n) for k in counts if k)
    return math.exp(-((entropy - centre) ** 2) / (2 * width**2))


def group_majority(answers: Sequence[str | None]) -> list[float]:
    """1.0 for each of a group's `answers` that is the group's own majority, else 0.0.

    The reward of TTRL (arXiv 2504.16084; PRIME-RL/TTRL at 3e2cc93,
    verl/verl/utils/reward_score/ttrl/ttt_metrics.py) and of MM-UPT (arXiv 2505.22453; waltonfuture/MM-UPT at
    f51d7b6, verl/workers/reward/function.py). There replies without an answer can be the majority; here they
    cannot.
    """
    answer = tally(answers).answer
    return [pseudo_label(one, answer) for one in answers]


def self_consistency(
    answers: Sequence[str | None],
    words: Sequence[int],
    softness: float = 0.7,
    weight: float = 0.10,
    target: int = 6,
) -> list[float]:
    """p^softness (1 - weight * over) for each of a group's `answers`: EvoLMM's reward of its Solver.

    p is the share of the group with the same answer; over = min(1, max(0, (words - target) / target)) with
    the `words` before the answer. Source, constants included: arXiv 2511.16672; mbzuai-oryx/EvoLMM at
    de5b0f8, src/train.py (`solver_rewards_soft`). A reply without an answer earns 0.0 (there its last line is
    the answer).
    """
    counts = tally(answers).counts
    over = [min(1.0, max(0.0, (count - target) / target)) for count in words]
    return [
        0.0 if answer is None else (counts[answer] / len(answers)) ** softness * (1 - weight * extra)
        for answer, extra in zip(answers, over, strict=True)
    ]


def pseudo_label(answer: str | None, label: str | None) -> float:
    """The Solver's reward: 1.0 where its `answer` is the `label`, else 0.0; None equals nothing."""
    return 1.0 if answer is not None and answer == label else 0.0


def _doubt(counted: Tally) -> float:
    """min(c, 1 - c) of a tally; 0.0 without an answer."""
    if counted.answer is None:
        return 0.0
    top = counted.counts[counted.answer]
    return min(top, counted.n - top) / counted.n
