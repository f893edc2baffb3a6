"""Equivalence, power and sizes: against tables, hand-worked cases and simulated worlds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats import mcnemar, power

Z95, Z975, Z80 = 1.6448536, 1.9599640, 0.8416212  # normal quantiles, from a printed table


@pytest.mark.parametrize(
    ("value", "error", "low", "high", "freedom", "p"),
    [
        (0.0, 1.0, -Z95, Z95, math.inf, 0.05),  # the 90 % interval just touches the band
        (0.0, 1.0, -Z975, Z975, math.inf, 0.025),
        (1.0, 1.0, -10.0, 1.0 + Z95, math.inf, 0.05),  # the nearer edge decides
        (2.0, 1.0, 0.0, 2.0, math.inf, 0.5),  # on the edge
        (0.0, 1.0, -2.919986, 2.919986, 2, 0.05),  # t with 2 degrees of freedom
        (0.0, 0.0, -1.0, 1.0, math.inf, 0.0),
        (1.0, 0.0, -1.0, 1.0, math.inf, 1.0),  # the band is open
    ],
)
def test_equivalence_by_hand(
    value: float, error: float, low: float, high: float, freedom: float, p: float
) -> None:
    assert power.tost_p(value, error, low, high, freedom) == pytest.approx(p, abs=1e-6)


@given(st.floats(-3, 3), st.floats(0.05, 3), st.floats(0.1, 4))
def test_equivalence_is_the_90_percent_interval_inside_the_band(
    value: float, error: float, half: float
) -> None:
    inside = -half < value - Z95 * error and value + Z95 * error < half
    margin = min(abs(value - Z95 * error + half), abs(value + Z95 * error - half))
    if margin > 1e-6:
        assert (power.tost_p(value, error, -half, half) < 0.05) == inside


def test_bad_bands_are_refused() -> None:
    for error, low, high in ((-1.0, 0.0, 1.0), (1.0, 1.0, 1.0), (1.0, 2.0, 1.0)):
        with pytest.raises(ValueError):
            power.tost_p(0.0, error, low, high)


@pytest.mark.parametrize(("true", "error"), [(0.0, 0.3), (0.2, 0.3), (0.9, 0.1), (1.0, 0.3), (0.0, 0.7)])
def test_equivalence_power_matches_simulation(true: float, error: float) -> None:
    estimates = np.random.default_rng(7).normal(true, error, 40_000)
    shown = np.mean((estimates - Z95 * error > -1) & (estimates + Z95 * error < 1))
    assert power.tost_power(true, error, -1.0, 1.0) == pytest.approx(shown, abs=0.01)


def test_error_for_equivalence() -> None:
    # In the middle of the band both tests fail alike: 2 Phi(h / e - z95) - 1 = .8, so h / e = z95 + z90 =
    # 1.644854 + 1.281552.
    assert power.error_for_equivalence(0.0, -1.0, 1.0) == pytest.approx(1 / (1.6448536 + 1.2815516), rel=1e-6)
    # Near one edge only that one matters: distance / e = z95 + z80.
    assert power.error_for_equivalence(0.9, -9.0, 1.0) == pytest.approx(0.1 / (Z95 + Z80), rel=1e-6)
    assert power.error_for_equivalence(1.0, -1.0, 1.0) is None
    assert power.error_for_equivalence(-2.0, -1.0, 1.0) is None


def test_error_for_exclusion() -> None:
    assert power.error_for_exclusion(2.8015852) == pytest.approx(1.0, rel=1e-6)
    assert power.error_for_exclusion(0.0) is None
    assert power.error_for_exclusion(-1.0) is None


@pytest.mark.parametrize(
    ("target", "items", "item_variance", "seed_variance", "expected"),
    [
        (0.01, 1000, 0.0004, 0.0, 4000),  # half the error: four times the items
        (0.02, 1000, 0.0004, 0.0, 1000),
        (0.01, 1000, 0.0004, 0.00005, 8000),  # the seeds take half of the room
        (0.01, 1000, 0.0004, 0.0001, None),  # the seeds alone are as uncertain as that
        (0.01, 3, 0.0003, 0.0, 9),
    ],
)
def test_sizes_by_hand(
    target: float, items: int, item_variance: float, seed_variance: float, expected: int | None
) -> None:
    assert power.items_for_error(target, items, item_variance, seed_variance) == expected
    assert power.seeds_for_error(target, items, item_variance, seed_variance) == expected


@pytest.mark.parametrize(
    ("gain", "changed", "low", "high"),
    [(0.017, 0.1, 2650, 2750), (0.017, 0.2, 5350, 5450), (0.026, 0.1, 1130, 1170), (0.026, 0.2, 2280, 2350)],
)
def test_items_the_papers_gains_would_take(gain: float, changed: float, low: int, high: int) -> None:
    assert low <= power.items_for_gain(gain, changed) <= high  # 2.7K to 5.4K for +1.7, 1.2K to 2.3K for +2.6


def test_items_for_gain_when_every_change_is_a_win() -> None:
    # d = g = .1: n = (1.959964 sqrt(.1) + .841621 sqrt(.09))^2 / .01 = (.619795 + .252486)^2 / .01 = 76.09
    assert power.items_for_gain(0.1, 0.1) == 77
    assert power.items_for_gain(-0.1, 0.1) == 77
    for gain, changed in ((0.0, 0.1), (0.2, 0.1), (0.1, 1.1)):
        with pytest.raises(ValueError):
            power.items_for_gain(gain, changed)


def test_items_for_gain_give_the_promised_power() -> None:
    gain, changed = 0.05, 0.2
    items = power.items_for_gain(gain, changed)
    drawn = np.random.default_rng(3).multinomial(
        items, [(changed + gain) / 2, (changed - gain) / 2, 1 - changed], size=3000
    )
    shown = np.mean([mcnemar(int(wins), int(losses)) <= 0.05 for wins, losses, _ in drawn])
    assert 0.74 <= shown <= 0.83  # the exact test is a little conservative


@given(st.integers(20, 20_000), st.floats(0.02, 0.6))
def test_detectable_gain_is_the_inverse_of_items_for_gain(items: int, changed: float) -> None:
    gain = power.detectable_gain(items, changed)
    if gain is None:
        assert power.items_for_gain(changed, changed) > items
    else:
        assert power.items_for_gain(gain, changed) <= items
        assert gain < 1e-4 or power.items_for_gain(gain * 0.99, changed) > items - 1


def test_detectable_gain_of_a_known_suite() -> None:
    assert power.detectable_gain(1000, 0.1) == pytest.approx(0.028, abs=0.001)  # 2.8 sqrt(.1 / 1000)
    assert power.detectable_gain(5, 0.1) is None
    with pytest.raises(ValueError):
        power.detectable_gain(0, 0.1)
