"""The smallest gain that the chosen suites and seeds can tell from nothing, before any hour is spent.

A suite's gain is paired by item (McNemar, Connor 1987); how many items change their answer is assumed. Over seeds, the gain of the average
of all suites has two sources of spread: its items and the luck of training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness import power
from vzero.config import EvaluationConfig

# Items with a gold answer; the pocket suites' follow from the preset.
ITEMS = {
    "mathvista": 1000,
    "mathvision_testmini": 304,
    "logicvista": 447,
    "mmmu_val": 900,
    "mmstar": 1500,
    "hallusionbench": 951,
    "realworldqa": 765,
    "mathverse_vision_only": 788,
}
CHANGED = 0.15  # share of items whose answer turns right or wrong: assumed
SEED_SPREAD = 0.01  # standard deviation of a gain over training seeds: assumed


@dataclass(frozen=True)
class Gain:
    """`smallest` as a fraction, found with 80 % power at 5 %; None where not even all changed items would do or `items` is not known."""

    suite: str
    items: int | None
    smallest: float | None


def resolvable(evaluation: EvaluationConfig, seeds: int) -> list[Gain]:
    """One row a suite for one trained model, then the average of the known suites for the method over `seeds` seeds."""
    rows = [_suite(name, evaluation.items_per_family) for name in evaluation.suites]
    sizes = [row.items for row in rows if row.items]
    if sizes:
        variance = sum(CHANGED / items for items in sizes) / len(sizes) ** 2
        error = math.sqrt((variance + SEED_SPREAD**2) / seeds)
        reach = 1 / (power.error_for_exclusion(1.0) or math.nan)
        rows.append(Gain(f"average, {seeds} seed{'s' if seeds > 1 else ''}", sum(sizes), reach * error))
    return rows


def items(evaluation: EvaluationConfig) -> int:
    """Held-out questions in all; suites of unknown size count as 0."""
    return sum(_count(name, evaluation.items_per_family) or 0 for name in evaluation.suites)


def _suite(name: str, per_family: int) -> Gain:
    count = _count(name, per_family)
    return Gain(name, count, None if count is None else power.detectable_gain(count, CHANGED))


def _count(name: str, per_family: int) -> int | None:
    if name.startswith("pocket_"):
        from vzero.pocket.suites import SUITES

        return len(SUITES[name]) * per_family if name in SUITES else None
    return ITEMS.get(name)
