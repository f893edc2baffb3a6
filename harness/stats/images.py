"""Outcomes gathered by image, and the two ways to an interval of their mean: resampling images, and Student's
t.

Items about the same image are not independent, so images, not items, are the unit. A suite is a pair (sums,
sizes), both (images,) float64: the sum of an image's outcomes and how many items it has.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats has the same functions and takes seconds to import

RESAMPLES = 10_000
Clustered = tuple[np.ndarray, np.ndarray]


def by_image(values: np.ndarray, images: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of `values` (items,) and number of items for each distinct image, in order of first appearance: two
    (images,) float64."""
    index: dict[Hashable, int] = {}
    positions = np.array([index.setdefault(image, len(index)) for image in images])
    return np.bincount(positions, weights=values), np.bincount(positions).astype(np.float64)


def bootstrap_interval(
    clustered: Sequence[Clustered], seed: int, level: float, resamples: int
) -> tuple[float | None, float | None]:
    """Percentile interval of the mean over suites of (sum of sums / sum of sizes), images drawn with
    replacement within each suite.

    Images with equal (sum, size) are interchangeable, so how often each *kind* is drawn is multinomial: the
    same distribution as drawing indices, at the cost of a few columns instead of thousands.
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


def clustered_t(
    clustered: Sequence[Clustered], level: float
) -> tuple[float | None, float | None, float | None]:
    """(low, high, two-sided p of zero) from the linearised, image-clustered standard error.

    For a suite with G images: var(mean) = G / (G - 1) * sum_g (sum_g - mean * size_g)^2 / n^2, which is s^2 /
    n when each image has one item. Suites are independent; degrees of freedom by Welch-Satterthwaite.
    """
    if any(len(sizes) < 2 for _, sizes in clustered):
        return None, None, None
    mean = float(np.mean([sums.sum() / sizes.sum() for sums, sizes in clustered]))
    return t_interval(mean, [mean_variance(sums, sizes, len(clustered)) for sums, sizes in clustered], level)


def mean_and_variance(clustered: Sequence[Clustered]) -> tuple[float, float, float]:
    """(mean over suites, its variance, degrees of freedom by Welch-Satterthwaite); every suite needs two
    images."""
    mean = float(np.mean([sums.sum() / sizes.sum() for sums, sizes in clustered]))
    variances = [mean_variance(sums, sizes, len(clustered)) for sums, sizes in clustered]
    return mean, sum(one for one, _ in variances), freedom(variances)


def freedom(variances: Sequence[tuple[float, int]]) -> float:
    """Welch-Satterthwaite: degrees of freedom of a sum of independent (variance, degrees of freedom);
    infinite without variance."""
    total = sum(one for one, _ in variances)
    return total**2 / sum(one**2 / degrees for one, degrees in variances) if total > 0 else math.inf


def mean_variance(sums: np.ndarray, sizes: np.ndarray, suites: int) -> tuple[float, int]:
    """(variance that this suite adds to the mean over `suites` of them, its degrees of freedom)."""
    groups, n = len(sizes), sizes.sum()
    spread = float(((sums - sums.sum() / n * sizes) ** 2).sum())
    return groups / (groups - 1) * spread / n**2 / suites**2, groups - 1


def t_interval(
    mean: float, variances: Sequence[tuple[float, int]], level: float
) -> tuple[float | None, float | None, float | None]:
    """(low, high, p of zero) from independent (variance, degrees of freedom), whose sum is the variance of
    `mean`."""
    variance = sum(one for one, _ in variances)
    if variance < 1e-24:  # everything moved alike: no spread to test against
        return mean, mean, 1.0 if abs(mean) < 1e-12 else None
    degrees = freedom(variances)
    half = float(stdtrit(degrees, (1 + level) / 2)) * math.sqrt(variance)
    return mean - half, mean + half, float(2 * stdtr(degrees, -abs(mean) / math.sqrt(variance)))
