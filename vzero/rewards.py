"""Rewards of both roles: pure functions of votes and answers.

Shares are quotients of whole numbers, so that rewards equal on paper are equal in floating point and a group of them has no spread.
"""

from __future__ import annotations

from collections.abc import Sequence

from vzero.voting import Tally, tally

INVALID = -1.0


def dual_track(votes: Sequence[str | None], intuitive: str | None) -> float:
    """The Questioner's reward: intuition (`intuitive`) against reasoning (the majority of the frozen Solver's `votes`).

    r = min(c, 1 - c) where they agree, 0.5 * c where they do not, 0 where no vote could be parsed; c as in `voting.tally`.
    -1 where `intuitive` is None, which stands for an invalid question. Never above 0.5. Source: arXiv 2601.10094.
    """
    if intuitive is None:
        return INVALID
    counted = tally(votes)
    if counted.answer is None:
        return 0.0
    if counted.answer == intuitive:
        return _doubt(counted)
    return 0.5 * counted.confidence


def uncertainty(votes: Sequence[str | None]) -> float:
    """min(c, 1 - c), which pays most where the Solver is torn; 0.0 where no vote could be parsed."""
    return _doubt(tally(votes))


def pseudo_label(answer: str | None, label: str | None) -> float:
    """The Solver's reward: 1.0 where its `answer` is the majority's `label`, else 0.0; None equals nothing."""
    return 1.0 if answer is not None and answer == label else 0.0


def _doubt(counted: Tally) -> float:
    """min(c, 1 - c) of a tally; 0.0 without an answer."""
    if counted.answer is None:
        return 0.0
    top = counted.counts[counted.answer]
    return min(top, counted.n - top) / counted.n
