"""Accuracy by number of samples: does voting help, is any answer right, and how does one answer compare.

Sharpening moves maj@1 (one sampled answer) up to where maj@k already was and leaves pass@k behind; learning
lifts both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from harness.analysis.items import ModelItems
from harness.analysis.measures import Flips, SampleCurve
from harness.evals.metrics import greedy_correct, is_right, pass_at, right_samples
from harness.runs.sealed import Row


def majority_at(rows: Sequence[Row]) -> NDArray[np.float64]:
    """maj@k of each item, ``(items, k = 1..n)``: the share of the n cyclic windows of k consecutive samples
    whose majority (ties: seen first) is right. Each row has n samples.

    Samples are drawn independently, so every window is a draw of k and the mean is unbiased; for k = n ties
    make the n windows differ, and the one that starts at the first sample alone is the item's maj@n.
    """
    answers = [[one["answer"] for one in row["sampled"]] for row in rows]
    codes = np.array([[-1 if one is None else of.index(one) for one in of] for of in answers])
    same = (codes[:, :, None] == codes[:, None, :]) & (codes >= 0)[:, :, None]  # (items, n, n)
    right = np.array([[is_right(row, one) for one in row["sampled"]] for row in rows])
    n = codes.shape[1]
    windows = np.array([n] * (n - 1) + [1])
    wins: NDArray[np.float64] = np.zeros(codes.shape)
    for start in range(n):
        order = np.roll(np.arange(n), -start)
        # Of the first k samples from `start` on, how many say what sample i says: (items, i, k). Samples that
        # are alike have the same count, and argmax takes the first.
        votes = same[:, order[:, None], order].cumsum(axis=2, dtype=np.int32)
        won = np.take_along_axis(right[:, order], votes.argmax(axis=1), axis=1) & votes.any(axis=1)
        wins += won & (start < windows)
    shares: NDArray[np.float64] = wins / windows
    return shares


def by_k(suites: Mapping[str, Sequence[Row]], samples: int) -> SampleCurve | None:
    """Averages over suites of equal weight; None where a suite has no answers."""
    if not suites or not all(suites.values()):
        return None
    ks = range(1, samples + 1)
    majority = [majority_at(rows).T.tolist() for rows in suites.values()]
    right = [[right_samples(row) for row in rows] for rows in suites.values()]
    return SampleCurve(
        k=list(ks),
        majority=[_mean(suite[k - 1] for suite in majority) for k in ks],
        passed=[_mean([pass_at(one, samples, k) for one in suite] for suite in right) for k in ks],
        greedy=_mean([greedy_correct(row) for row in rows] for rows in suites.values()),
    )


def _mean(suites: Iterable[Sequence[float]]) -> float:
    return fmean(math.fsum(values) / len(values) for values in suites)


def flips(base: ModelItems, other: ModelItems) -> Flips:
    """Greedy answers that changed sides between two models on the same items."""
    common = [item for item in base if item in other]
    gained = [item for item in common if other[item].greedy and not base[item].greedy]
    lost = [item for item in common if base[item].greedy and not other[item].greedy]
    return Flips(items=len(common), gained=gained, lost=lost)
