"""Accuracy by number of samples: does voting help, is any answer right, and how does one answer compare.

Sharpening moves maj@1 (one sampled answer) up to where maj@k already was and leaves pass@k behind; learning
lifts both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean

from harness.analysis.items import ModelItems
from harness.analysis.measures import Flips, SampleCurve
from harness.evals.metrics import greedy_correct, majority_right, pass_at
from harness.runs.sealed import Row


def majority_at(row: Row, k: int) -> float:
    """maj@k of one item: the share of the n cyclic windows of k consecutive samples whose majority (ties:
    seen first) is right.

    Samples are drawn independently, so every window is a draw of k and the mean is unbiased; for k = n ties
    make the n windows differ, and the one that starts at the first sample alone is the item's maj@n.
    """
    answers = row["sampled"]
    n = len(answers)
    starts = range(n if k < n else 1)
    return fmean(majority_right(row, [answers[(start + i) % n] for i in range(k)]) for start in starts)


def by_k(suites: Mapping[str, Sequence[Row]], samples: int) -> SampleCurve | None:
    """Averages over suites of equal weight; None where a suite has no answers."""
    if not suites or not all(suites.values()):
        return None
    ks = list(range(1, samples + 1))
    return SampleCurve(
        k=ks,
        majority=[_mean(suites, partial(majority_at, k=k)) for k in ks],
        passed=[_mean(suites, partial(pass_at, k=k)) for k in ks],
        greedy=_mean(suites, greedy_correct),
    )


def _mean(suites: Mapping[str, Sequence[Row]], measure: Callable[[Row], float]) -> float:
    return fmean(math.fsum(measure(row) for row in rows) / len(rows) for rows in suites.values())


def flips(base: ModelItems, other: ModelItems) -> Flips:
    """Greedy answers that changed sides between two models on the same items."""
    common = [item for item in base if item in other]
    gained = [item for item in common if other[item].greedy and not base[item].greedy]
    lost = [item for item in common if base[item].greedy and not other[item].greedy]
    return Flips(items=len(common), gained=gained, lost=lost)
