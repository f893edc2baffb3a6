"""What a measurement shows of sameness, and the smallest gain it could have shown."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.special import ndtri

from harness.stats.images import by_image, mean_and_variance
from harness.stats.paired import Pairs, differences
from harness.stats.power import ALPHA, POWER, tost_p


def equivalence(suites: Sequence[Pairs], low: float, high: float) -> float | None:
    """p-value of "the true gain is not inside (low, high)" by two one-sided t-tests on the image-clustered
    error (Schuirmann 1987).

    The gain is that of one suite or the unweighted mean over several. Below .05 the two models are shown to
    be the same up to the band. None where a suite has a single image.
    """
    clustered = [by_image(differences(one), one.images) for one in suites]
    if any(len(sizes) < 2 for _, sizes in clustered):
        return None
    mean, variance, freedom = mean_and_variance(clustered)
    return tost_p(mean, variance**0.5, low, high, freedom)


def detectable(
    low: float | None, high: float | None, level: float = 0.95, alpha: float = ALPHA, power: float = POWER
) -> float | None:
    """The smallest true gain that an interval this wide leaves zero out of with this power: (z_(1 - alpha/2)
    + z_power) standard errors.

    The standard error is the interval's half width over z; None without an interval.
    """
    if low is None or high is None:
        return None
    error = (high - low) / 2 / float(ndtri((1 + level) / 2))
    return float(ndtri(1 - alpha / 2) + ndtri(power)) * error
