"""The Questioner's rewards by name, as the preset's `questioner.reward` chooses them.

Some compare the questions of a generation batch with each other: those of other methods, which are reward
files in vzero/arms/methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vzero import rewards
from vzero.arms.reward_file import RewardFile, read_source, shipped
from vzero.arms.scored import ScoredQuestion
from vzero.config import QuestionerConfig


def _against_intuition(
    formula: Callable[[Sequence[str | None], str], float],
) -> Callable[[ScoredQuestion], float]:
    """Without an intuitive answer the branch of agreement, so that silence is never paid more."""
    return lambda one: (
        rewards.uncertainty(one.votes) if one.intuitive is None else formula(one.votes, one.intuitive)
    )


def _paid(formula: str, reward: Callable[[ScoredQuestion], float]) -> RewardFile:
    return RewardFile(formula, {"reward": reward})


DUAL_TRACK = _paid(
    "min(c, 1-c) where intuition and majority agree, 0.5c where they do not",
    _against_intuition(rewards.dual_track),
)
_OURS: Mapping[str, RewardFile] = {
    "dual_track": DUAL_TRACK,
    "uncertainty": _paid("min(c, 1-c), whatever the intuition", lambda one: rewards.uncertainty(one.votes)),
    "zero_sum": _paid("1-c", lambda one: rewards.zero_sum(one.votes)),
    "capped_mismatch": _paid(
        "min(c, 1-c) where intuition and majority agree, min(0.5c, 1-c) where they do not",
        _against_intuition(rewards.capped_mismatch),
    ),
}


def named(name: str) -> RewardFile:
    """The reward that the package has under this name."""
    return _OURS[name] if name in _OURS else shipped(name)


def reward_of(settings: QuestionerConfig) -> RewardFile:
    """The Questioner's reward that a preset chooses.

    Raises:
        InputError: its own text is no reward file.
    """
    return named(settings.reward) if settings.reward_source is None else read_source(settings.reward_source)
