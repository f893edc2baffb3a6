"""Outcomes grouped by image, and the two ways to an interval of their mean: resampling images, and Student's
t.

Items about the same image are not independent, so images, not items, are the unit. A suite is a pair (sums,
sizes): the sums of each image's outcomes, (seeds, images) float64, and how many items it has, (images,)
float64. Every seed answers the same items, so seeds and images are crossed.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # scipy.stats has the same functions and takes seconds to import

from harness.stats.tests import wilson

RESAMPLES = 10_000
Array = NDArray[np.float64]
Clustered = tuple[Array, Array]


def by_image(seeds: Sequence[Sequence[float] | Array], images: Sequence[Hashable]) -> Clustered:
    """A suite from the values of its items, (items,) for each seed, and the image of each item; images stand
    in order of first appearance."""
    positions = _positions(tuple(images))
    sums = np.stack([np.bincount(positions, weights=np.asarray(values, np.float64)) for values in seeds])
    return sums.astype(np.float64), np.bincount(positions).astype(np.float64)


@lru_cache(maxsize=64)
def _positions(images: tuple[Hashable, ...]) -> NDArray[np.intp]:
    """The number of each item's image. A table asks for the same few suites hundreds of times."""
    index: dict[Hashable, int] = {}
    return np.array([index.setdefault(image, len(index)) for image in images], np.intp)


def mean_by_seed(suites: Sequence[Clustered]) -> Array:
    """The unweighted mean over suites of each suite's mean over items: (seeds,)."""
    return np.asarray(np.mean([sums.sum(1) / sizes.sum() for sums, sizes in suites], axis=0))


class Resampled(NamedTuple):
    """A mean over seeds and suites whose interval is wanted; `seed` is that of the draws."""

    suites: Sequence[Clustered]
    seed: int
    resamples: int


def bootstrap_intervals(wanted: Sequence[Resampled], level: float) -> list[tuple[float, float]]:
    """Percentile interval of each mean. Seeds and, within each suite, images are drawn with replacement; a
    drawn image counts in every drawn seed.

    Images of one seed with equal (sum, size) are interchangeable, so how often each *kind* is drawn is
    multinomial: the same distribution as drawing indices, at the cost of a few columns instead of thousands.
    Several seeds make nearly as many kinds as images: there the images are drawn, once for all means of the
    same `seed`, and multiplied with all of these together (a table has hundreds).
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, one in enumerate(wanted):
        seeds, sizes = len(one.suites[0][0]), tuple(len(sizes) for _, sizes in one.suites)
        alike.setdefault((seeds, sizes, one.seed, one.resamples, seeds == 1 and i), []).append(i)
    found: dict[int, tuple[float, float]] = {}
    for places in alike.values():
        means = _resampled([wanted[i] for i in places])
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
        found |= zip(places, zip(low.tolist(), high.tolist(), strict=True), strict=True)
    return [found[i] for i in range(len(wanted))]


def _resampled(alike: Sequence[Resampled]) -> Array:
    """Resampled means, (resamples, means), of one or of several with as many seeds and images."""
    (suites, seed, resamples), seeds = alike[0], len(alike[0].suites[0][0])
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    means = np.zeros((resamples, len(alike)))
    for place, (sums, sizes) in enumerate(suites):
        if seeds > 1:
            kinds = np.vstack([row for one in alike for row in one.suites[place]])
            drawn = _images_drawn(seed, place, len(sizes), resamples)
        else:
            kinds, counts = np.unique(np.round(np.vstack([sums, sizes]), 12), axis=1, return_counts=True)
            drawn = generator.multinomial(len(sizes), counts / counts.sum(), resamples).astype(np.float64)
        found = (drawn @ kinds.T).reshape(resamples, len(alike), seeds + 1)
        means += (found[..., :-1] * drawn_seeds[:, None]).sum(2) / (seeds * found[..., -1]) / len(suites)
    return means


@lru_cache(maxsize=32)
def _images_drawn(seed: int, place: int, images: int, resamples: int) -> Array:
    """How often each image of the suite at `place` is in each resample, (resamples, images) float64."""
    generator = np.random.Generator(np.random.PCG64([seed, place]))
    drawn = generator.integers(images, size=(resamples, images)) + images * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * images)
    return counts.reshape(resamples, images).astype(np.float64)


def variances(suites: Sequence[Clustered]) -> list[tuple[float, int]]:
    """(variance, degrees of freedom) of each independent part of the mean: the seeds, where there are
    several, and the images of each suite.

    For a suite with G images: var(mean) = G / (G - 1) * sum_g (sum_g - mean * size_g)^2 / n^2, which is s^2 /
    n when each image has one item.
    """
    gains = mean_by_seed(suites)
    found = [(float(gains.var(ddof=1)) / len(gains), len(gains) - 1)] if len(gains) > 1 else []
    for sums, sizes in suites:
        images, n, mean_sums = len(sizes), sizes.sum(), sums.mean(0)
        spread = float(((mean_sums - mean_sums.sum() / n * sizes) ** 2).sum())
        found.append((images / (images - 1) * spread / n**2 / len(suites) ** 2, images - 1))
    return found


def freedom(variances: Sequence[tuple[float, int]]) -> float:
    """Welch-Satterthwaite: degrees of freedom of a sum of independent (variance, degrees of freedom);
    infinite without variance."""
    total = sum(one for one, _ in variances)
    return total**2 / sum(one**2 / degrees for one, degrees in variances) if total > 0 else math.inf


def t_interval(
    mean: float, variances: Sequence[tuple[float, int]], level: float
) -> tuple[float, float, float | None]:
    """(low, high, two-sided p of zero) of a `mean` whose variance is the sum of these independent ones."""
    variance = sum(one for one, _ in variances)
    if variance < 1e-24:  # everything moved alike: no spread to test against
        return mean, mean, 1.0 if abs(mean) < 1e-12 else None
    degrees = freedom(variances)
    half = float(stdtrit(degrees, (1 + level) / 2)) * math.sqrt(variance)
    return mean - half, mean + half, float(2 * stdtr(degrees, -abs(mean) / math.sqrt(variance)))


def alike_interval(suites: Sequence[Clustered], level: float, least: float) -> tuple[float, float]:
    """Interval of a mean whose images were all found alike, where neither resampling nor a variance shows
    any spread: as many images as Wilson's interval allows of 0 in G may be at an end of the range, [least,
    1]. Without a gain or a loss it is Tango's (1998) score interval, +-z^2 / (G + z^2)."""
    low = high = 0.0
    for sums, sizes in suites:
        mean, share = float(sums.mean(0).sum() / sizes.sum()), wilson(0, len(sizes), level)[1] or 0.0
        low += (mean - share * (mean - least)) / len(suites)
        high += (mean + share * (1 - mean)) / len(suites)
    return low, high
