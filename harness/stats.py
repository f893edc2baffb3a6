"""Statistics of paired comparisons: intervals, exact tests, correction for several suites.

Everything is a pure function of its arguments; the bootstrap takes a seed. Outcomes are per item, in [0, 1]: 0 or 1 for one answer, a
share where several answers were drawn. Items about the same image are not independent, so images, not items, are resampled.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, ndtri, stdtr, stdtrit  # scipy.stats has the same functions and takes seconds to import

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A value with a two-sided interval; `low` and `high` are None where the data cannot give one (a single image)."""

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
        normal_low, normal_high: Student's t with the image-clustered standard error, a cross-check on the bootstrap.
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
        """ "positive" or "negative" only where both intervals leave out zero on the same side and p <= .05, else "unclear"."""
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


def paired_gain(suites: Sequence[Pairs], seed: int, level: float = 0.95, resamples: int = RESAMPLES) -> Gain:
    """The gain over one suite, or the unweighted mean of the gains over several (images are then resampled within each suite).

    A suite with a single image has no interval, and neither has a mean that includes it.
    """
    if not suites:
        raise ValueError("no suites to compare")
    clustered = [_by_image(np.subtract(one.other, one.base, dtype=np.float64), one.images) for one in suites]
    gain = float(np.mean([sums.sum() / sizes.sum() for sums, sizes in clustered]))
    low, high = bootstrap_interval(clustered, seed, level, resamples)
    normal_low, normal_high, p = clustered_t(clustered, level)
    n, images, test = sum(len(one.base) for one in suites), sum(len(sizes) for _, sizes in clustered), "clustered-t"
    if len(suites) == 1 and images == n and _binary(suites[0].base) and _binary(suites[0].other):
        wins = sum(1 for b, o in zip(suites[0].base, suites[0].other, strict=True) if o > b)
        losses = sum(1 for b, o in zip(suites[0].base, suites[0].other, strict=True) if o < b)
        p, test = mcnemar(wins, losses), "mcnemar"
    return Gain(gain, low, high, normal_low, normal_high, p, test, n, images)


def mean_interval(
    suites: Sequence[tuple[Sequence[float], Sequence[Hashable]]], seed: int, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """Mean outcome of (values, images) with an interval: Wilson's for 0/1 outcomes of one suite with one item an image, else bootstrap."""
    clustered = [_by_image(np.asarray(values, dtype=np.float64), images) for values, images in suites]
    n = sum(len(values) for values, _ in suites)
    value = float(np.mean([sums.sum() / sizes.sum() for sums, sizes in clustered]))
    if len(suites) == 1 and len(clustered[0][1]) == n and _binary(suites[0][0]):
        return Interval(value, *wilson(round(value * n), n, level), n)
    return Interval(value, *bootstrap_interval(clustered, seed, level, resamples), n)


def _binary(values: Sequence[float]) -> bool:
    return all(value in (0, 1) for value in values)


def _by_image(values: np.ndarray, images: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of `values` (items,) and number of items for each distinct image, in order of first appearance: two (images,) float64."""
    index: dict[Hashable, int] = {}
    positions = np.array([index.setdefault(image, len(index)) for image in images])
    return np.bincount(positions, weights=values), np.bincount(positions).astype(np.float64)


def bootstrap_interval(
    clustered: Sequence[tuple[np.ndarray, np.ndarray]], seed: int, level: float, resamples: int
) -> tuple[float | None, float | None]:
    """Percentile interval of the mean over suites of (sum of sums / sum of sizes), images drawn with replacement within each suite.

    Images with equal (sum, size) are interchangeable, so how often each *kind* is drawn is multinomial: the same distribution as drawing
    indices, at the cost of a few columns instead of thousands.
    """
    if any(len(sizes) < 2 for _, sizes in clustered):
        return None, None
    generator = np.random.Generator(np.random.PCG64(seed))
    means = np.zeros(resamples)
    for sums, sizes in clustered:
        kinds, counts = np.unique(np.stack([np.round(sums, 12), sizes], axis=1), axis=0, return_counts=True)
        drawn = generator.multinomial(len(sizes), counts / counts.sum(), size=resamples)
        means += (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1]) / len(clustered)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def clustered_t(clustered: Sequence[tuple[np.ndarray, np.ndarray]], level: float) -> tuple[float | None, float | None, float | None]:
    """(low, high, two-sided p of zero) from the linearised, image-clustered standard error.

    For a suite with G images: var(mean) = G / (G - 1) * sum_g (sum_g - mean * size_g)^2 / n^2, which is s^2 / n when each image has one
    item. Suites are independent; degrees of freedom by Welch-Satterthwaite.
    """
    if any(len(sizes) < 2 for _, sizes in clustered):
        return None, None, None
    mean = float(np.mean([sums.sum() / sizes.sum() for sums, sizes in clustered]))
    return _t_interval(mean, [_mean_variance(sums, sizes, len(clustered)) for sums, sizes in clustered], level)


def _mean_variance(sums: np.ndarray, sizes: np.ndarray, suites: int) -> tuple[float, int]:
    """(variance that this suite adds to the mean over `suites` of them, its degrees of freedom)."""
    groups, n = len(sizes), sizes.sum()
    spread = float(((sums - sums.sum() / n * sizes) ** 2).sum())
    return groups / (groups - 1) * spread / n**2 / suites**2, groups - 1


def _t_interval(mean: float, variances: Sequence[tuple[float, int]], level: float) -> tuple[float | None, float | None, float | None]:
    """(low, high, p of zero) from independent (variance, degrees of freedom), whose sum is the variance of `mean`."""
    variance = sum(one for one, _ in variances)
    if variance < 1e-24:  # everything moved alike: no spread to test against
        return mean, mean, 1.0 if abs(mean) < 1e-12 else None
    degrees = variance**2 / sum(one**2 / freedom for one, freedom in variances)
    half = float(stdtrit(degrees, (1 + level) / 2)) * math.sqrt(variance)
    return mean - half, mean + half, float(2 * stdtr(degrees, -abs(mean) / math.sqrt(variance)))


@dataclass(frozen=True)
class Spread:
    """A gain over several seeds, as a fraction; both intervals hold seeds and images to be draws from many.

    Attributes:
        mean: unweighted mean of the seeds' gains.
        low, high: two-level bootstrap: seeds and, within each suite, images are drawn with replacement; a drawn image counts in every
            drawn seed, because all seeds answer the same questions.
        t_low, t_high: Student's t with the variance between seeds added to that between images. With few seeds the bootstrap shows only
            (S - 1) / S of the variance between S seeds and is too narrow; this one pays for it with its few degrees of freedom.
    """

    mean: float
    low: float | None
    high: float | None
    t_low: float | None
    t_high: float | None

    @property
    def direction(self) -> str:
        """ "positive" or "negative" only where both intervals leave out zero on the same side, else "unclear"."""
        if None in (self.low, self.high, self.t_low, self.t_high):
            return "unclear"
        if min(self.low, self.t_low) > 0:
            return "positive"
        return "negative" if max(self.high, self.t_high) < 0 else "unclear"


def gain_over_seeds(suites: Sequence[Sequence[Pairs]], seed: int, level: float = 0.95, resamples: int = RESAMPLES) -> Spread:
    """The gain over one or several suites (their unweighted mean) and over seeds: ``suites[suite][seed]``, the same items in each seed.

    One seed, or a suite with a single image, gives no interval.

    Raises:
        ValueError: the seeds of a suite do not hold the same items, or the suites not the same number of seeds.
    """
    count = {len(seeds) for seeds in suites}
    if len(count) != 1 or 0 in count or any(list(one.images) != list(seeds[0].images) for seeds in suites for one in seeds):
        raise ValueError("seeds can only be compared on the same items of the same suites")
    seeds = count.pop()
    clustered = []  # for each suite: sums (seeds, images), sizes (images,)
    for one in suites:
        parts = [_by_image(np.subtract(pairs.other, pairs.base, dtype=np.float64), pairs.images) for pairs in one]
        clustered.append((np.stack([sums for sums, _ in parts]), parts[0][1]))
    gains = np.mean([sums.sum(1) / sizes.sum() for sums, sizes in clustered], axis=0)  # (seeds,)
    mean = float(gains.mean())
    if seeds < 2 or any(len(sizes) < 2 for _, sizes in clustered):
        return Spread(mean, None, None, None, None)
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    means = np.zeros(resamples)
    for sums, sizes in clustered:
        drawn = generator.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=resamples)
        means += ((drawn @ sums.T) * drawn_seeds).sum(1) / (seeds * (drawn @ sizes)) / len(clustered)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    between_images = [_mean_variance(sums.mean(0), sizes, len(clustered)) for sums, sizes in clustered]
    t_low, t_high, _ = _t_interval(mean, [(float(gains.var(ddof=1)) / seeds, seeds - 1), *between_images], level)
    return Spread(mean, float(low), float(high), t_low, t_high)


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided p-value that items which changed were as likely to be won as lost (McNemar 1947, binomial form)."""
    if wins + losses == 0:
        return 1.0
    return float(min(1.0, 2 * bdtr(min(wins, losses), wins + losses, 0.5)))


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float | None, float | None]:
    """Score interval of a proportion (Wilson 1927); (None, None) for n = 0."""
    if n == 0:
        return None, None
    z = float(ndtri((1 + level) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Holm's (1979) adjusted p-values by name; a missing p-value stays missing and does not count as a test."""
    known = sorted((p, name) for name, p in p_values.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    largest = 0.0
    for rank, (p, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[name] = largest
    return adjusted
