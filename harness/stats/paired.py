"""Two models on the same items: the mean paired difference with its intervals and test.

Everything is a pure function of its arguments; the bootstrap takes a seed. Outcomes are per item, in [0, 1]:
0 or 1 for one answer, a share where several answers were drawn.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats.images import RESAMPLES, bootstrap_interval, by_image, clustered_t
from harness.stats.tests import mcnemar, wilson


@dataclass(frozen=True)
class Interval:
    """A value with a two-sided interval; `low` and `high` are None where the data cannot give one (a single
    image)."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Gain:
    """A paired mean difference, as a fraction (0.02 is two points).

    Attributes:
        gain: mean over items of (other - base); over suites, the unweighted mean of the suites' gains.
        low, high: percentile bootstrap, resampling images.
        normal_low, normal_high: Student's t with the image-clustered standard error, a cross-check on the
            bootstrap.
        p: two-sided p-value of "no difference" by `test`.
        test: "mcnemar" (exact; 0/1 outcomes, one item an image) or "clustered-t".
        n: paired items.
        images: distinct images among them.
    """

    gain: float
    low: float | None
    high: float | None
    normal_low: float | None
    normal_high: float | None
    p: float | None
    test: str
    n: int
    images: int

    @property
    def direction(self) -> str:
        """ "positive" or "negative" only where both intervals leave out zero on the same side and p <= .05,
        else "unclear"."""
        bounds = (self.low, self.high, self.normal_low, self.normal_high)
        if self.p is None or self.p > 0.05 or any(bound is None for bound in bounds):
            return "unclear"
        if min(self.low, self.normal_low) > 0:
            return "positive"
        return "negative" if max(self.high, self.normal_high) < 0 else "unclear"


@dataclass(frozen=True)
class Pairs:
    """Outcomes of the same items under two models; `images` names each item's image. All of one length."""

    base: Sequence[float]
    other: Sequence[float]
    images: Sequence[Hashable]

    def __post_init__(self) -> None:
        if not len(self.base) == len(self.other) == len(self.images):
            raise ValueError("paired outcomes need the same number of items")
        if not len(self.base):
            raise ValueError("no paired items")


def differences(pairs: Pairs) -> np.ndarray:
    """Other minus base, item by item: (items,) float64."""
    return np.subtract(pairs.other, pairs.base, dtype=np.float64)


def paired_gain(suites: Sequence[Pairs], seed: int, level: float = 0.95, resamples: int = RESAMPLES) -> Gain:
    """The gain over one suite, or the unweighted mean of the gains over several (images are then resampled
    within each suite).

    A suite with a single image has no interval, and neither has a mean that includes it.
    """
    if not suites:
        raise ValueError("no suites to compare")
    clustered = [by_image(differences(one), one.images) for one in suites]
    gain = float(np.mean([sums.sum() / sizes.sum() for sums, sizes in clustered]))
    low, high = bootstrap_interval(clustered, seed, level, resamples)
    normal_low, normal_high, p = clustered_t(clustered, level)
    n, images, test = (
        sum(len(one.base) for one in suites),
        sum(len(sizes) for _, sizes in clustered),
        "clustered-t",
    )
    if len(suites) == 1 and images == n and _binary(suites[0].base) and _binary(suites[0].other):
        wins = sum(1 for b, o in zip(suites[0].base, suites[0].other, strict=True) if o > b)
        losses = sum(1 for b, o in zip(suites[0].base, suites[0].other, strict=True) if o < b)
        p, test = mcnemar(wins, losses), "mcnemar"
    return Gain(gain, low, high, normal_low, normal_high, p, test, n, images)


def mean_interval(
    suites: Sequence[tuple[Sequence[float], Sequence[Hashable]]],
    seed: int,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean outcome of (values, images) with an interval: Wilson's for 0/1 outcomes of one suite with one item
    an image, else bootstrap."""
    clustered = [by_image(np.asarray(values, dtype=np.float64), images) for values, images in suites]
    n = sum(len(values) for values, _ in suites)
    value = float(np.mean([sums.sum() / sizes.sum() for sums, sizes in clustered]))
    if len(suites) == 1 and len(clustered[0][1]) == n and _binary(suites[0][0]):
        return Interval(value, *wilson(round(value * n), n, level), n)
    return Interval(value, *bootstrap_interval(clustered, seed, level, resamples), n)


def _binary(values: Sequence[float]) -> bool:
    return all(value in (0, 1) for value in values)
