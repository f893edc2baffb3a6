"""Rewards of both roles: pure functions of votes and answers.

Shares are quotients of whole numbers, so that rewards equal on paper are equal in floating point and a group
of them has no spread.
"""

from __future__ import annotations

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


def group_majority(answers: Sequence[str | None]) -> list[float]:
    """1.0 for each of a group's `answers` that is the group's own majority, else 0.0.

    The reward of TTRL (arXiv 2504.16084; PRIME-RL/TTRL at 3e2cc93,
    verl/verl/utils/reward_score/ttrl/ttt_metrics.py) and of MM-UPT (arXiv 2505.22453; waltonfuture/MM-UPT at
    f51d7b6, verl/workers/reward/function.py). There replies without an answer can be the majority; here they
    cannot.
    """
    answer = tally(answers).answer
    return [pseudo_label(one, answer) for one in answers]


def pseudo_label(answer: str | None, label: str | None) -> float:
    """The Solver's reward: 1.0 where its `answer` is the `label`, else 0.0; None equals nothing."""
    return 1.0 if answer is not None and answer == label else 0.0


def _doubt(counted: Tally) -> float:
    """min(c, 1 - c) of a tally; 0.0 without an answer."""
    if counted.answer is None:
        return 0.0
    top = counted.counts[counted.answer]
    return min(top, counted.n - top) / counted.n
