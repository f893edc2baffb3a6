"""Two models on the same items, over one or several training seeds: the mean paired difference with its
intervals and test. The one place where a gain is computed.

Everything is a pure function of its arguments; the bootstrap takes a seed. Outcomes are per item, in [0, 1]:
0 or 1 for one answer, a share where several answers were drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.special import ndtri

from harness.stats import images as by_images
from harness.stats.images import RESAMPLES, Array, Clustered, by_image
from harness.stats.power import ALPHA, error_factor
from harness.stats.tests import Name, benjamini_hochberg, holm, mcnemar, wilson

LEVEL = 0.95
NO_WIDTH = 1e-12
FEWEST_SEEDS = 3  # two seeds have one degree of freedom: an interval of t would be 12.7 errors wide
Outcomes = Sequence[float] | Array
Direction = Literal["positive", "negative", "unclear"]


class Frozen(BaseModel):
    """A record that is stored as JSON: unknown keys, NaN and infinities are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


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
class Sample:
    """Outcomes of items; `images` names each item's image. Both of one length."""

    values: Outcomes
    images: Sequence[Hashable]


@dataclass(frozen=True)
class Pairs:
    """Outcomes of the same items under two models; `images` names each item's image. All of one length."""

    base: Outcomes
    other: Outcomes
    images: Sequence[Hashable]

    def __post_init__(self) -> None:
        if not len(self.base) == len(self.other) == len(self.images):
            raise ValueError("paired outcomes need the same number of items")
        if not len(self.base):
            raise ValueError("no paired items")


@dataclass(frozen=True)
class Cell:
    """A mean difference whose gain is wanted.

    Attributes:
        suites: ``suites[suite][seed]``, the same items in each seed.
        seed: of the bootstrap's draws.
        least: the smallest value an item can have.

    Raises:
        ValueError: no suites, or the seeds of a suite do not hold the same items.
    """

    suites: Sequence[Sequence[Pairs]]
    seed: int
    resamples: int = RESAMPLES
    least: float = -1.0

    def __post_init__(self) -> None:
        if len({len(seeds) for seeds in self.suites}) != 1 or not self.suites[0]:
            raise ValueError("seeds can only be compared on the same items of the same suites")
        if any(tuple(one.images) != tuple(seeds[0].images) for seeds in self.suites for one in seeds):
            raise ValueError("seeds can only be compared on the same items of the same suites")

    @cached_property
    def clustered(self) -> list[Clustered]:
        """Differences by suite, seed and image."""
        return [
            by_image([np.subtract(one.other, one.base, dtype=np.float64) for one in seeds], seeds[0].images)
            for seeds in self.suites
        ]

    @property
    def spreads(self) -> bool:
        """Whether it has an interval: not with a single image in a suite, nor over two seeds."""
        seeds = len(self.suites[0])
        return all(len(sizes) > 1 for _, sizes in self.clustered) and (seeds == 1 or seeds >= FEWEST_SEEDS)


def paired_gain(suites: Sequence[Pairs], seed: int, level: float = LEVEL, resamples: int = RESAMPLES) -> Gain:
    """The gain of one training seed over one suite, or the unweighted mean of the gains over several (images
    are then resampled within each suite)."""
    return gain_over_seeds([[one] for one in suites], seed, level, resamples)


def gain_over_seeds(
    suites: Sequence[Sequence[Pairs]], seed: int, level: float = LEVEL, resamples: int = RESAMPLES
) -> Gain:
    """The gain over suites and training seeds, as of a `Cell`, which may raise."""
    return gains([Cell(suites, seed, resamples)], level)[0]


def gains(cells: Sequence[Cell], level: float = LEVEL) -> list[Gain]:
    """The gain of each cell. Those of a table are taken together: their bootstraps then share their work."""
    wanted = [cell for cell in cells if cell.spreads]
    drawn = [by_images.Resampled(one.clustered, one.seed, one.resamples) for one in wanted]
    bootstrap = iter(by_images.bootstrap_intervals(drawn, level))
    return [_gain(cell, next(bootstrap) if cell.spreads else None, level) for cell in cells]


def _gain(cell: Cell, bootstrap: tuple[float, float] | None, level: float) -> Gain:
    gains = by_images.mean_by_seed(cell.clustered)
    mean, several = float(gains.mean()), len(gains) > 1
    low = high = t_low = t_high = p = degrees = None
    if bootstrap is not None:
        low, high = bootstrap
        parts = by_images.variances(cell.clustered)
        t_low, t_high, p = by_images.t_interval(mean, parts, level)
        alike = by_images.alike_interval(cell.clustered, level, cell.least)
        low, high = alike if high - low < NO_WIDTH else (low, high)
        t_low, t_high = alike if t_high - t_low < NO_WIDTH else (t_low, t_high)
        if several:
            low, high = max(min(low, t_low), -1.0), min(max(high, t_high), 1.0)
            degrees = by_images.freedom(parts)
    test = "t over seeds and images" if several else "clustered-t"
    first = [seeds[0] for seeds in cell.suites]
    images = sum(len(sizes) for _, sizes in cell.clustered)
    if len(first) == 1 and not several and images == len(first[0].base) and _binary(first[0]):
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
    suites: Sequence[Sequence[Sample]], seed: int, level: float = LEVEL, resamples: int = RESAMPLES
) -> Interval:
    """Mean value over suites and seeds, ``suites[suite][seed]``, with its interval; as of a `Cell`, which may
    raise."""
    return means([mean_cell(suites, seed, resamples)], level)[0]


def mean_cell(suites: Sequence[Sequence[Sample]], seed: int, resamples: int = RESAMPLES) -> Cell:
    """Mean values, as a gain over zeros."""
    over_zeros = [
        [Pairs(np.zeros(len(one.values)), one.values, one.images) for one in seeds] for seeds in suites
    ]
    return Cell(over_zeros, seed, resamples, least=0.0)


def means(cells: Sequence[Cell], level: float = LEVEL) -> list[Interval]:
    """The mean of each `mean_cell` with its interval: Wilson's for 0/1 values of one seed and suite with one
    item per image, else as for a gain over zeros."""
    return [_mean(gain, level) for gain in gains(cells, level)]


def _mean(gain: Gain, level: float) -> Interval:
    low, high = gain.low, gain.high
    if gain.test == "mcnemar":
        low, high = wilson(round(gain.gain * gain.n), gain.n, level)
    elif low is not None and high is not None:
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(value=gain.gain, low=low, high=high, n=gain.n)


def _binary(pairs: Pairs) -> bool:
    return all(np.isin(values, (0, 1)).all() for values in (pairs.base, pairs.other))
