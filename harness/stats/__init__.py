"""Statistics of paired comparisons: intervals, exact tests, several suites, several seeds.

    paired   two models on the same items, over one or several training seeds: the gain; the mean of one model
    images   clustering by image: bootstrap and Student's t
    tests    McNemar, Wilson, Holm, Benjamini-Hochberg

Equivalence, sizes and powers are in `harness.stats.power`.
"""

from harness.stats.images import RESAMPLES, by_image
from harness.stats.paired import (
    Cell,
    Frozen,
    Gain,
    Interval,
    Pairs,
    Sample,
    bh_corrected,
    direction,
    gain_over_seeds,
    gains,
    holm_corrected,
    mean_cell,
    mean_interval,
    means,
    paired_gain,
)
from harness.stats.tests import benjamini_hochberg, holm, mcnemar, wilson

__all__ = [
    "RESAMPLES",
    "Cell",
    "Frozen",
    "Gain",
    "Interval",
    "Pairs",
    "Sample",
    "benjamini_hochberg",
    "bh_corrected",
    "by_image",
    "direction",
    "gain_over_seeds",
    "gains",
    "holm",
    "holm_corrected",
    "mcnemar",
    "mean_cell",
    "mean_interval",
    "means",
    "paired_gain",
    "wilson",
]
