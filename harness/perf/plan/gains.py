"""The smallest gain that the chosen suites and seeds can show to be significant, before any hour is spent.

A suite's gain is paired by item (McNemar, Connor 1987); how many items change their answer is assumed. Over
seeds, the gain of the average of all suites has two sources of spread: its items and the luck of training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.stats import power
from harness.tables.words import counted
from vzero.config import EvaluationConfig

CHANGED = 0.15  # share of items whose answer turns right or wrong: assumed
SEED_SPREAD = 0.01  # standard deviation of a gain over training seeds: assumed


@dataclass(frozen=True)
class SmallestGain:
    """`smallest` as a fraction, found with 80 % power at 5 %; None where not even all changed items would do
    or `items` is not known."""

    suite: str
    items: int | None
    smallest: float | None


def resolvable(evaluation: EvaluationConfig, seeds: int) -> list[SmallestGain]:
    """One row per suite for one trained model, then the average of the known suites for the method over
    `seeds` seeds."""
    counts = {name: _count(name, evaluation) for name in evaluation.suites}
    found = [
        SmallestGain(name, count, None if count is None else power.detectable_gain(count, CHANGED))
        for name, count in counts.items()
    ]
    sizes = [count for count in counts.values() if count]
    if sizes:
        variance = sum(CHANGED / count for count in sizes) / len(sizes) ** 2
        error = math.sqrt((variance + SEED_SPREAD**2) / seeds)
        reach = 1 / (power.error_for_exclusion(1.0) or math.nan)
        found.append(SmallestGain(f"average, {counted(seeds, 'seed')}", sum(sizes), reach * error))
    return found


def items(evaluation: EvaluationConfig) -> int:
    """Held-out questions in all; suites of unknown size count as 0."""
    return sum(_count(name, evaluation) or 0 for name in evaluation.suites)


def _count(name: str, evaluation: EvaluationConfig) -> int | None:
    """Items with a gold answer; None for a suite of unknown size."""
    from harness.evals.catalogue import suites

    suite = suites().get(name)
    if suite is None:
        return None
    scored = suite.sized(evaluation.items_per_family, evaluation.split).scored
    return min(scored, evaluation.limit or scored)
