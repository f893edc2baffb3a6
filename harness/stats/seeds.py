"""A gain over several training seeds: seeds and images are both draws from many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats.images import RESAMPLES, by_image, freedom, mean_variance, t_interval
from harness.stats.paired import Pairs, differences


@dataclass(frozen=True)
class Spread:
    """A gain over several seeds, as a fraction; both intervals hold seeds and images to be draws from many.

    Attributes:
        mean: unweighted mean of the seeds' gains.
        low, high: two-level bootstrap: seeds and, within each suite, images are drawn with replacement; a
            drawn image counts in every drawn seed, because all seeds answer the same questions.
        t_low, t_high: Student's t with the variance between seeds added to that between images. With few
            seeds the bootstrap shows only (S - 1) / S of the variance between S seeds and is too narrow; this
            one pays for it with its few degrees of freedom.
        p: two-sided p-value of "no difference", by the same t.
        freedom: its degrees of freedom; infinite without spread, None without an interval.
    """

    mean: float
    low: float | None
    high: float | None
    t_low: float | None
    t_high: float | None
    p: float | None = None
    freedom: float | None = None

    @property
    def wide(self) -> tuple[float | None, float | None]:
        """The wider of the two intervals on each side: the one to print where only one is."""
        if None in (self.low, self.high, self.t_low, self.t_high):
            return None, None
        return min(self.low, self.t_low), max(self.high, self.t_high)

    @property
    def direction(self) -> str:
        """ "positive" or "negative" only where both intervals leave out zero on the same side, else
        "unclear"."""
        if None in (self.low, self.high, self.t_low, self.t_high):
            return "unclear"
        if min(self.low, self.t_low) > 0:
            return "positive"
        return "negative" if max(self.high, self.t_high) < 0 else "unclear"


def gain_over_seeds(
    suites: Sequence[Sequence[Pairs]], seed: int, level: float = 0.95, resamples: int = RESAMPLES
) -> Spread:
    """The gain over one or several suites (their unweighted mean) and over seeds: ``suites[suite][seed]``,
    the same items in each seed.

    One seed, or a suite with a single image, gives no interval.

    Raises:
        ValueError: the seeds of a suite do not hold the same items, or the suites not the same number of
            seeds.
    """
    count = {len(seeds) for seeds in suites}
    if (
        len(count) != 1
        or 0 in count
        or any(list(one.images) != list(seeds[0].images) for seeds in suites for one in seeds)
    ):
        raise ValueError("seeds can only be compared on the same items of the same suites")
    seeds = count.pop()
    clustered = []  # for each suite: sums (seeds, images), sizes (images,)
    for one in suites:
        parts = [by_image(differences(pairs), pairs.images) for pairs in one]
        clustered.append((np.stack([sums for sums, _ in parts]), parts[0][1]))
    gains = np.mean([sums.sum(1) / sizes.sum() for sums, sizes in clustered], axis=0)  # (seeds,)
    mean = float(gains.mean())
    if seeds < 2 or any(len(sizes) < 2 for _, sizes in clustered):
        return Spread(mean, None, None, None, None)
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    means = np.zeros(resamples)
    for sums, sizes in clustered:
        kinds, counts = np.unique(
            np.round(np.vstack([sums, sizes]), 12), axis=1, return_counts=True
        )  # as in bootstrap_interval
        drawn = generator.multinomial(len(sizes), counts / counts.sum(), size=resamples)
        means += (
            ((drawn @ kinds[:-1].T) * drawn_seeds).sum(1) / (seeds * (drawn @ kinds[-1])) / len(clustered)
        )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    between_images = [mean_variance(sums.mean(0), sizes, len(clustered)) for sums, sizes in clustered]
    variances = [(float(gains.var(ddof=1)) / seeds, seeds - 1), *between_images]
    t_low, t_high, p = t_interval(mean, variances, level)
    return Spread(mean, float(low), float(high), t_low, t_high, p, freedom(variances))
