"""Statistics of paired comparisons: intervals, exact tests, several suites, several seeds.

    paired   two models on the same items, over one or several training seeds: the gain; the mean of one model
    images   clustering by image: bootstrap and Student's t
    tests    McNemar, Wilson, Holm, Benjamini-Hochberg

Equivalence, sizes and powers are in `harness.stats.power`.
"""

from harness.stats.images import RESAMPLES, bootstrap_interval, by_image
from harness.stats.paired import (
    Frozen,
    Gain,
    Interval,
    Pairs,
    bh_corrected,
    direction,
    gain_over_seeds,
    holm_corrected,
    mean_interval,
    paired_gain,
)
from harness.stats.tests import benjamini_hochberg, holm, mcnemar, wilson

__all__ = [
    "RESAMPLES",
    "Frozen",
    "Gain",
    "Interval",
    "Pairs",
    "benjamini_hochberg",
    "bh_corrected",
    "bootstrap_interval",
    "by_image",
    "direction",
    "gain_over_seeds",
    "holm",
    "holm_corrected",
    "mcnemar",
    "mean_interval",
    "paired_gain",
    "wilson",
]
