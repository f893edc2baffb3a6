"""A gain over several seeds: a two-level bootstrap worked out by hand, and what widens its intervals."""

from __future__ import annotations

import itertools
import math
from statistics import fmean

import numpy as np
import pytest

from harness.stats import Cell, Pairs, by_image, direction, gain_over_seeds, gains
from harness.stats.images import Resampled, bootstrap_intervals, t_interval, variances


def gains_of(table: list[list[float]], images: list[int] | None = None) -> list[Pairs]:
    """One suite whose seeds (rows) differ from the base by these numbers."""
    return [Pairs([0.0] * len(row), row, images or list(range(len(row)))) for row in table]


def bootstrap(suites: list[list[Pairs]], seed: int, level: float = 0.95, resamples: int = 10_000):
    """The bootstrap alone; `gain_over_seeds` shows the wider of it and the t interval."""
    clustered = [by_image([one.other for one in seeds], seeds[0].images) for seeds in suites]
    return bootstrap_intervals([Resampled(clustered, seed, resamples)], level)[0]


def test_two_levels_by_hand():
    """Two seeds, two images: 4 x 4 equally likely draws of (seeds, images); seed 0 gains on image 0 only,
    seed 1 on both."""
    table = [[1.0, 0.0], [1.0, 1.0]]
    draws = list(itertools.product(range(2), repeat=2))
    values = sorted(
        fmean(table[seed][image] for seed in seeds for image in images) for seeds in draws for images in draws
    )
    assert values == [0.0] + [0.5] * 4 + [0.75] * 4 + [1.0] * 7
    assert gain_over_seeds([gains_of(table)], seed=3).gain == 0.75
    assert (
        bootstrap([gains_of(table)], 3, 0.7, 40_000) == (values[math.ceil(0.15 * 16) - 1], 1.0) == (0.5, 1.0)
    )
    # t: seeds' gains .5 and 1, variance of their mean 1/16 with 1 degree of freedom; image means 1 and .5,
    # the same sum 1/8, Welch-Satterthwaite: (1/8)^2 / (2 (1/16)^2) = 2 degrees of freedom
    two = 0.7 * math.sqrt(2 / (1 - 0.7**2))  # the quantile of t with 2 degrees of freedom, in closed form
    clustered = by_image(np.array(table), [0, 1])
    low, high, _ = t_interval(0.75, variances([clustered]), 0.7)
    assert high - 0.75 == pytest.approx(two * math.sqrt(1 / 8)) == pytest.approx(0.75 - low)


def test_both_levels_widen_the_interval():
    """Additive world, 40 seeds and 300 images: the variance of the mean is the sum of both levels', in either
    interval."""
    rng = np.random.default_rng(4)
    luck, items = rng.normal(0, 0.03, 40), rng.normal(0.1, 0.4, 300)
    table = [[float(shift + value) for value in items] for shift in luck]
    error = math.sqrt(luck.var(ddof=1) / 40 + items.var(ddof=1) / 300)
    found = gain_over_seeds([gains_of(table)], seed=1)
    low, high = bootstrap([gains_of(table)], 1)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert (found.low, found.high) == (min(low, found.t_low), max(high, found.t_high))
    assert found.t_high - found.t_low == pytest.approx(2 * 1.97 * error, rel=0.02)
    low, high = bootstrap([gains_of([list(items)] * 40)], 1)  # seeds without luck: the images' spread is left
    assert high - low == pytest.approx(2 * 1.96 * items.std(ddof=1) / math.sqrt(300), rel=0.05)
    same = gain_over_seeds(
        [gains_of([[shift] * 300 for shift in luck])], seed=1
    )  # images all alike: the seeds' luck is left
    assert same.t_high - same.t_low == pytest.approx(2 * 2.0227 * luck.std(ddof=1) / math.sqrt(40), rel=1e-3)


def test_one_draw_of_seeds_serves_all_suites():
    """A seed's luck is the same in every suite, so averaging suites does not shrink it."""
    luck = [[shift] * 50 for shift in (-0.1, 0.0, 0.1, 0.2)]
    assert bootstrap([gains_of(luck)] * 3, 2) == pytest.approx(bootstrap([gains_of(luck)], 2), abs=1e-12)
    one, three = (gain_over_seeds([gains_of(luck)] * count, seed=2) for count in (1, 3))
    assert (three.t_low, three.t_high) == pytest.approx((one.t_low, one.t_high))


def test_images_not_items_are_resampled():
    table = [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
    assert bootstrap([gains_of(table, [7, 7, 8, 8])], 0, 0.6) == (
        0.0,
        1.0,
    )  # a quarter of the draws takes one image twice: 0 or 1


def test_no_interval_without_two_images():
    found = gain_over_seeds([gains_of([[1.0, 1.0], [0.0, 0.0]], [5, 5])], 0)
    assert (found.gain, found.low, found.t_high, found.p, found.direction) == (
        0.5,
        None,
        None,
        None,
        "unclear",
    )
    assert found.by_seed == (1.0, 0.0)
    with pytest.raises(ValueError, match="same items"):
        gain_over_seeds([[*gains_of([[1.0, 0.0]]), *gains_of([[1.0, 0.0]], [1, 0])]], 0)
    with pytest.raises(ValueError, match="same items"):
        gain_over_seeds([gains_of([[1.0, 0.0]]), gains_of([[1.0, 0.0], [1.0, 0.0]])], 0)


def test_a_direction_needs_both_intervals():
    assert direction((0.05, 0.15, -0.01, 0.21), 0.01) == "unclear"
    assert direction((0.05, 0.15, 0.01, 0.19), 0.01) == "positive"
    assert direction((-0.15, -0.05, -0.19, -0.01), 0.01) == "negative"


def test_a_gain_is_the_same_beside_others() -> None:
    """Cells of one table share their draws: one or several seeds and suites, other sizes, other draws."""
    rng = np.random.default_rng(8)

    def suite(seeds: int, items: int, images: int) -> list[Pairs]:
        places = list(rng.integers(images, size=items))
        return gains_of((rng.integers(-10, 11, (seeds, items)) / 10).tolist(), places)

    shapes = [(1, [(30, 30)]), (3, [(30, 9)]), (3, [(30, 9)]), (3, [(40, 40), (30, 9)]), (4, [(30, 9)])]
    cells = [
        Cell([suite(seeds, *size) for size in sizes], seed, resamples)
        for seeds, sizes in shapes
        for seed, resamples in ((5, 200), (5, 300), (6, 200))
    ]
    alone = [gain_over_seeds(one.suites, one.seed, resamples=one.resamples) for one in cells]
    for one, together in zip(alone, gains(cells), strict=True):
        assert (together.low, together.high) == pytest.approx((one.low, one.high), abs=1e-12)
        assert together.by_seed == one.by_seed and together.p == one.p
    assert len({one.low for one in alone}) == len(cells), "every cell has draws or values of its own"
