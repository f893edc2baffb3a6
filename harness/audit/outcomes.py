"""Every possible outcome of the Solver's votes on one question, and what a reward makes of each.

Ten votes over A-D and "unreadable" have 1,001 possible counts, so expectations are sums over all of them. The
order of votes matters to a majority only among equally frequent answers; each of those is seen first equally
often, which the sum takes in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np

from harness.audit.rules import Rules
from vzero.arms.scored import ScoredQuestion
from vzero.parsing import OPTIONS

SLOTS = (*OPTIONS, None)  # None: a vote that could not be read
ENUMERABLE = 21_000  # count vectors; 24 votes have 20,475


def enumerable(votes: int) -> bool:
    """Whether so many votes have few enough outcomes."""
    return math.comb(votes + len(OPTIONS), len(OPTIONS)) <= ENUMERABLE


@dataclass(frozen=True)
class Outcomes:
    """All outcomes of the votes, by the counts of A, B, C, D, unreadable and the leader among equals.

    Attributes:
        counts: (outcomes, 5).
        ways: (outcomes,) orders of the votes that end in the outcome.
        reward: (outcomes, 4) by intuitive answer.
        confidence: (outcomes,).
        kept: (outcomes,) 1.0 where the filter keeps the question.
        majority: (outcomes,) place of the majority among A-D; -1 where there is none.
    """

    counts: np.ndarray
    ways: np.ndarray
    reward: np.ndarray
    confidence: np.ndarray
    kept: np.ndarray
    majority: np.ndarray

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, rules: Rules, votes: int) -> Outcomes:
        """What `rules` make of `votes` votes."""
        counts, ways, rewards, tallies = [], [], [], []
        for cast in reversed([*combinations_with_replacement(SLOTS, votes)]):
            count = [cast.count(slot) for slot in SLOTS]
            orders = _orders(cast)
            coefficient = math.factorial(votes) / math.prod(map(math.factorial, count))
            for order in orders:
                counts.append(count)
                ways.append(coefficient / len(orders))
                asked = [ScoredQuestion("", letter, tuple(order)) for letter in OPTIONS]
                rewards.append([rules.reward(one) for one in asked])
                tallies.append(rules.count(order))
        return cls(
            np.array(counts),
            np.array(ways),
            np.array(rewards),
            np.array([one.confidence for one in tallies]),
            np.array([float(rules.keep(one)) for one in tallies]),
            np.array([-1 if one.answer is None else OPTIONS.index(one.answer) for one in tallies]),
        )

    def probabilities(self, slots: np.ndarray) -> np.ndarray:
        """(outcomes,) chance of each, when single votes fall into A, B, C, D, unreadable with chances
        `slots`."""
        return self.ways * np.prod(slots**self.counts, axis=1)


def _orders(cast: Sequence[str | None]) -> list[list[str | None]]:
    """The votes, once for each answer that may lead: the equally most frequent ones, each first once."""
    top = max(cast.count(letter) for letter in OPTIONS)
    leaders: list[str | None] = [letter for letter in OPTIONS if top and cast.count(letter) == top]
    return [sorted(cast, key=lambda vote: vote != leader) for leader in leaders or [None]]
