"""The Questioner's rewards by name, as the preset's `questioner.reward` chooses them.

A reward sees a whole generation batch, since some of them compare its questions with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vzero import rewards
from vzero.arms.repetition import cluster_shares


@dataclass(frozen=True)
class ScoredQuestion:
    """A valid question as it is paid.

    Attributes:
        text: the question with its options.
        intuitive: the intuitive answer; None where the frozen model that gives it gave none.
        votes: of the frozen Solver, None for one that could not be read.
    """

    text: str
    intuitive: str | None
    votes: tuple[str | None, ...]


@dataclass(frozen=True)
class QuestionerReward:
    """A reward of questions.

    Attributes:
        name: as in the preset.
        formula: in one line, for people.
        source: where the formula comes from.
        single: what one valid question earns by itself.
        less_repetition: whether a question's share of repetition in the batch is taken off
            (vzero.arms.repetition); an invalid question counts as one like no other.
    """

    name: str
    formula: str
    source: str
    single: Callable[[ScoredQuestion], float]
    less_repetition: bool = False

    def score(self, batch: Sequence[ScoredQuestion | None]) -> list[float]:
        """A reward for each question of a generation batch; None is an invalid one, which earns -1."""
        paid = [rewards.INVALID if one is None else self.single(one) for one in batch]
        if not self.less_repetition:
            return paid
        shares = cluster_shares(["" if one is None else one.text for one in batch])
        return [value - share for value, share in zip(paid, shares, strict=True)]


def _against_intuition(
    formula: Callable[[Sequence[str | None], str], float],
) -> Callable[[ScoredQuestion], float]:
    """Without an intuitive answer the branch of agreement, so that silence is never paid more."""
    return lambda one: (
        rewards.uncertainty(one.votes) if one.intuitive is None else formula(one.votes, one.intuitive)
    )


_ALL = (
    QuestionerReward(
        "dual_track",
        "min(c, 1-c) where intuition and majority agree, 0.5c where they do not",
        "V-Zero, arXiv 2601.10094",
        _against_intuition(rewards.dual_track),
    ),
    QuestionerReward(
        "uncertainty",
        "min(c, 1-c), whatever the intuition",
        "V-Zero, arXiv 2601.10094, ablation",
        lambda one: rewards.uncertainty(one.votes),
    ),
    QuestionerReward(
        "zero_sum",
        "1-c",
        "summaries of V-Zero, not the paper itself",
        lambda one: rewards.zero_sum(one.votes),
    ),
    QuestionerReward(
        "capped_mismatch",
        "min(c, 1-c) where intuition and majority agree, min(0.5c, 1-c) where they do not",
        "ours",
        _against_intuition(rewards.capped_mismatch),
    ),
    QuestionerReward(
        "r_zero",
        "min(s, 1-s) - cluster's share of the batch; s = c where the majority is the writer's answer and c >"
        " 0.1, else 0",
        "R-Zero, arXiv 2508.05004; its code at 4ffa715",
        lambda one: rewards.agreed_uncertainty(one.votes, one.intuitive),
        less_repetition=True,
    ),
    QuestionerReward(
        "visplay",
        "min(c, 1-c) - cluster's share of the batch",
        "VisPlay, arXiv 2511.15661; its code at 3aa895b",
        lambda one: rewards.uncertainty(one.votes),
        less_repetition=True,
    ),
    QuestionerReward(
        "evolmm",
        "exp(-(H - 0.90)^2 / (2 * 0.35^2)), H the entropy of the votes in nats",
        "EvoLMM, arXiv 2511.16672; its code at de5b0f8",
        lambda one: rewards.entropy_band(one.votes),
    ),
)
REWARDS: Mapping[str, QuestionerReward] = {one.name: one for one in _ALL}
