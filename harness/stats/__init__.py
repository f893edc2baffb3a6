"""Statistics of paired comparisons: intervals, exact tests, several suites, several seeds, equivalence and
power.

    paired   two models on the same items: differences, gain, accuracy
    images   clustering by image: bootstrap and Student's t
    seeds    a gain over training seeds and images
    tests    McNemar, Wilson, Holm
    limits   equivalence of what was measured, and the smallest gain it could have shown

Sizes and powers of planned comparisons are in `harness.stats.power`.
"""

from harness.stats.images import RESAMPLES, bootstrap_interval, by_image, clustered_t
from harness.stats.limits import detectable, equivalence
from harness.stats.paired import Gain, Interval, Pairs, differences, mean_interval, paired_gain
from harness.stats.seeds import Spread, gain_over_seeds
from harness.stats.tests import holm, mcnemar, wilson

__all__ = [
    "RESAMPLES",
    "Gain",
    "Interval",
    "Pairs",
    "Spread",
    "bootstrap_interval",
    "by_image",
    "clustered_t",
    "detectable",
    "differences",
    "equivalence",
    "gain_over_seeds",
    "holm",
    "mcnemar",
    "mean_interval",
    "paired_gain",
    "wilson",
]
