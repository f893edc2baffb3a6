"""Planning and equivalence: is a difference inside a band, how much could a suite show, how many items or
seeds would it take.

Differences are fractions (0.02 is two points), errors are standard errors of their means. Sizes and powers
use the normal approximation, good for the hundreds of items of a suite and optimistic for fewer than about
five seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

from scipy.special import ndtr, ndtri, stdtr

ALPHA = 0.05
POWER = 0.8


def tost_p(value: float, error: float, low: float, high: float, freedom: float = math.inf) -> float:
    """p-value of "the true difference is not inside (low, high)": two one-sided t-tests, the larger counts
    (Schuirmann 1987).

    Below alpha exactly when the 1 - 2 alpha interval lies inside the band. Without any spread (error 0) it is
    0 inside, 1 elsewhere.
    """
    if error < 0 or not low < high:
        raise ValueError("equivalence needs error >= 0 and low < high")
    if error == 0:
        return 0.0 if low < value < high else 1.0
    return max(_tail((low - value) / error, freedom), _tail((value - high) / error, freedom))


def difference_p(value: float, error: float, freedom: float = math.inf) -> float:
    """Two-sided p-value of "the true difference is zero" by Student's t. Without any spread it is 0 or 1."""
    if error == 0:
        return 1.0 if value == 0 else 0.0
    return 2 * _tail(-abs(value) / error, freedom)


def _tail(t: float, freedom: float) -> float:
    return float(ndtr(t) if math.isinf(freedom) else stdtr(freedom, t))


def tost_power(true: float, error: float, low: float, high: float, alpha: float = ALPHA) -> float:
    """Chance that the equivalence test succeeds when the difference is really `true` and its estimate has
    this standard error."""
    z = _quantile(1 - alpha)
    if error <= 0:
        return 1.0 if low < true < high else 0.0
    return max(0.0, float(ndtr((high - true) / error - z) - ndtr((low - true) / error + z)))


def error_for_equivalence(
    true: float, low: float, high: float, alpha: float = ALPHA, power: float = POWER
) -> float | None:
    """Largest standard error at which the equivalence test has this power; None where `true` is not inside
    the band: no size can do it."""
    if not low < true < high:
        return None
    return _largest(lambda error: tost_power(true, error, low, high, alpha) >= power, high - low)


def error_for_exclusion(distance: float, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """Largest standard error at which a two-sided 1 - alpha interval leaves out a point `distance` away with
    this power; None at 0."""
    return None if distance <= 0 else distance / error_factor(alpha, power)


@cache
def _quantile(share: float) -> float:
    """Of the standard normal distribution; searches ask for the same one again and again."""
    return float(ndtri(share))


def error_factor(alpha: float = ALPHA, power: float = POWER) -> float:
    """How many standard errors away an effect must be to be seen with this power: 2.80 for .05 and .8."""
    return _quantile(1 - alpha / 2) + _quantile(power)


def _largest(enough: Callable[[float], bool], ceiling: float) -> float:
    """The largest number in (0, ceiling) that is `enough`, by bisection; `enough` holds near 0 and, once
    lost, stays lost."""
    low, high = 0.0, ceiling
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return low


def items_for_error(
    target: float, items: int, item_variance: float, seed_variance: float = 0.0
) -> int | None:
    """Items at which the standard error falls to `target`, seeds unchanged; None where the seeds alone
    already exceed it.

    Args:
        items: measured so far.
        item_variance: what these items add to the variance of the mean; falls with 1 / items.
        seed_variance: what the seeds add; more items do not change it.
    """
    room = target**2 - seed_variance
    return None if room <= 0 else max(1, _up(items * item_variance / room))


def seeds_for_error(target: float, seeds: int, seed_variance: float, item_variance: float) -> int | None:
    """Seeds at which the standard error falls to `target`, items unchanged; None where the items alone
    already exceed it."""
    return items_for_error(target, seeds, seed_variance, item_variance)


def _up(number: float) -> int:
    """Rounded up, forgiving floating point just above a whole number."""
    return math.ceil(number - 1e-9 * max(1.0, number))


def items_for_gain(gain: float, changed: float, alpha: float = ALPHA, power: float = POWER) -> int:
    """Items for McNemar's test to show a paired gain with this power, when a share `changed` of items changes
    (Connor 1987).

    n = (z_alpha/2 sqrt(d) + z_power sqrt(d - g^2))^2 / g^2, with d = `changed` >= |g|.
    """
    if gain == 0 or not abs(gain) <= changed <= 1:
        raise ValueError("needs 0 < |gain| <= changed <= 1")
    spread = _quantile(1 - alpha / 2) * math.sqrt(changed) + _quantile(power) * math.sqrt(changed - gain**2)
    return _up(spread**2 / gain**2)


def detectable_gain(items: int, changed: float, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """The smallest paired gain that `items` items show with this power (Connor 1987); None where not even a
    gain of `changed` is shown."""
    if items < 1 or not 0 < changed <= 1:
        raise ValueError("needs items >= 1 and 0 < changed <= 1")
    if items_for_gain(changed, changed, alpha, power) > items:
        return None
    low, high = 0.0, changed  # a larger gain always needs fewer items
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (low, middle) if items_for_gain(middle, changed, alpha, power) <= items else (middle, high)
        )
    return high
