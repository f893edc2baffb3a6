"""Two models on the same items, over one or several training seeds: the mean paired difference with its
intervals and test. The one place where a gain is computed.

Everything is a pure function of its arguments; the bootstrap takes a seed. Outcomes are per item, in [0, 1]:
0 or 1 for one answer, a share where several answers were drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.special import ndtri

from harness.stats import images as by_images
from harness.stats.images import RESAMPLES, Clustered, by_image
from harness.stats.power import ALPHA, error_factor
from harness.stats.tests import Name, benjamini_hochberg, holm, mcnemar, wilson

LEVEL = 0.95
NO_WIDTH = 1e-12
FEWEST_SEEDS = 3  # two seeds have one degree of freedom: an interval of t would be 12.7 errors wide
Direction = Literal["positive", "negative", "unclear"]


class Frozen(BaseModel):
    """A record that is stored as JSON: unknown keys, NaN and infinities are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(Frozen):
    """A mean outcome with its two-sided 95 % interval; fractions of 1.

    Attributes:
        low, high: None where the data give none (a single image).
        n: items.
    """

    value: float
    low: float | None
    high: float | None
    n: int


class Gain(Frozen):
    """A paired mean difference over one or several training seeds; fractions (0.02 is two points).

    Attributes:
        gain: mean over items of (other - base); the unweighted mean over suites and over seeds.
        low, high: the 95 % interval to show. One seed: percentile bootstrap over images. Several: the wider,
            on each side, of the bootstrap over seeds and images and of the t interval. Never of width zero:
            see `images.alike_interval`.
        t_low, t_high: Student's t with the image-clustered standard error and the variance between seeds.
            With few seeds the bootstrap shows only (S - 1) / S of the variance between S seeds; this one pays
            for it with its few degrees of freedom.
        p: two-sided p-value of "no difference" by `test`; `p_corrected` the same, corrected over all gains
            that are shown together.
        direction: "positive" or "negative" only where both intervals leave out zero on the same side and p
            (p_corrected, where there is one) is at most .05.
        test: "mcnemar" (exact; one seed, 0/1 outcomes, one item per image), "clustered-t" or "t over seeds
            and images".
        n, images: paired items, and distinct images among them.
        by_seed: the gain of each seed.
        freedom: degrees of freedom of the t interval over seeds; None for one seed or without spread.
        detectable: the smallest true gain that an interval as wide as (low, high) leaves zero out of with
            80 % power.
    """

    gain: float
    low: float | None
    high: float | None
    t_low: float | None
    t_high: float | None
    p: float | None
    p_corrected: float | None = None
    direction: Direction
    test: str
    n: int
    images: int
    by_seed: tuple[float, ...]
    freedom: float | None = None
    detectable: float | None = None


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


def paired_gain(suites: Sequence[Pairs], seed: int, level: float = LEVEL, resamples: int = RESAMPLES) -> Gain:
    """The gain of one training seed over one suite, or the unweighted mean of the gains over several (images
    are then resampled within each suite)."""
    return gain_over_seeds([[one] for one in suites], seed, level, resamples)


def gain_over_seeds(
    suites: Sequence[Sequence[Pairs]],
    seed: int,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    least: float = -1.0,
) -> Gain:
    """The gain over suites and training seeds: ``suites[suite][seed]``, the same items in each seed.

    No interval has a suite with a single image, a mean that includes it, or a mean over two seeds. `least` is
    the smallest value an item can have.

    Raises:
        ValueError: no suites, or the seeds of a suite do not hold the same items.
    """
    clustered = _clustered(suites)
    gains = by_images.mean_by_seed(clustered)
    mean, several = float(gains.mean()), len(gains) > 1
    low = high = t_low = t_high = p = degrees = None
    if all(len(sizes) > 1 for _, sizes in clustered) and (not several or len(gains) >= FEWEST_SEEDS):
        low, high = by_images.bootstrap_interval(clustered, seed, level, resamples)
        parts = by_images.variances(clustered)
        t_low, t_high, p = by_images.t_interval(mean, parts, level)
        alike = by_images.alike_interval(clustered, level, least)
        low, high = alike if high - low < NO_WIDTH else (low, high)
        t_low, t_high = alike if t_high - t_low < NO_WIDTH else (t_low, t_high)
        if several:
            low, high = max(min(low, t_low), -1.0), min(max(high, t_high), 1.0)
            degrees = by_images.freedom(parts)
    test = "t over seeds and images" if several else "clustered-t"
    first = [seeds[0] for seeds in suites]
    images = sum(len(sizes) for _, sizes in clustered)
    if len(suites) == 1 and not several and images == len(first[0].base) and _binary(first[0]):
        changes = np.subtract(first[0].other, first[0].base)
        p, test = mcnemar(int((changes > 0).sum()), int((changes < 0).sum())), "mcnemar"
    return Gain(
        gain=mean,
        low=low,
        high=high,
        t_low=t_low,
        t_high=t_high,
        p=p,
        direction=direction((low, high, t_low, t_high), p),
        test=test,
        n=sum(len(one.base) for one in first),
        images=images,
        by_seed=tuple(map(float, gains)),
        freedom=degrees if degrees is not None and math.isfinite(degrees) else None,
        detectable=_detectable(low, high, level),
    )


def _clustered(suites: Sequence[Sequence[Pairs]]) -> list[Clustered]:
    """Differences by suite, seed and image."""
    if len({len(seeds) for seeds in suites}) != 1 or not suites[0]:
        raise ValueError("seeds can only be compared on the same items of the same suites")
    if any(list(one.images) != list(seeds[0].images) for seeds in suites for one in seeds):
        raise ValueError("seeds can only be compared on the same items of the same suites")
    return [
        by_image([np.subtract(one.other, one.base, dtype=np.float64) for one in seeds], seeds[0].images)
        for seeds in suites
    ]


def direction(bounds: Sequence[float | None], p: float | None) -> Direction:
    """The side of zero on which all `bounds` of the intervals lie, where p is at most .05 as well."""
    known = [bound for bound in bounds if bound is not None]
    if p is None or p > ALPHA or len(known) < len(bounds):
        return "unclear"
    return "positive" if min(known) > 0 else "negative" if max(known) < 0 else "unclear"


def holm_corrected(gains: Mapping[Name, Gain]) -> dict[Name, Gain]:
    """Gains with `p_corrected` by Holm, which then decides the direction."""
    return _corrected(gains, holm)


def bh_corrected(gains: Mapping[Name, Gain]) -> dict[Name, Gain]:
    """Gains with `p_corrected` by Benjamini and Hochberg, which then decides the direction."""
    return _corrected(gains, benjamini_hochberg)


def _corrected(
    gains: Mapping[Name, Gain], adjust: Callable[[Mapping[Name, float | None]], dict[Name, float | None]]
) -> dict[Name, Gain]:
    corrected = adjust({name: gain.p for name, gain in gains.items()})
    return {
        name: gain.model_copy(
            update={
                "p_corrected": p,
                "direction": gain.direction if p is not None and p <= ALPHA else "unclear",
            }
        )
        for name, gain in gains.items()
        for p in (corrected[name],)
    }


def _detectable(low: float | None, high: float | None, level: float) -> float | None:
    if low is None or high is None:
        return None
    return error_factor() * (high - low) / 2 / float(ndtri((1 + level) / 2))


def mean_interval(
    suites: Sequence[Sequence[Mapping[str, tuple[str, float]]]],
    seed: int,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean value over suites and seeds, ``suites[suite][seed]`` = item -> (image, value), with its interval:
    Wilson's for 0/1 values of one seed and suite with one item per image, else as for a gain over zeros.

    Raises:
        ValueError: the seeds of a suite do not hold the same items.
    """
    runs = [[_over_zeros(run) for run in seeds] for seeds in suites]
    gain = gain_over_seeds(runs, seed, level, resamples, least=0.0)
    low, high = gain.low, gain.high
    if gain.test == "mcnemar":
        low, high = wilson(round(gain.gain * gain.n), gain.n, level)
    elif low is not None and high is not None:
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(value=gain.gain, low=low, high=high, n=gain.n)


def _over_zeros(items: Mapping[str, tuple[str, float]]) -> Pairs:
    values, images = [value for _, value in items.values()], [image for image, _ in items.values()]
    return Pairs([0.0] * len(values), values, images)


def _binary(pairs: Pairs) -> bool:
    return all(value in (0, 1) for values in (pairs.base, pairs.other) for value in values)
