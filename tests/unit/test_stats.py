"""Statistics against hand-worked cases, scipy's other formulations and a small coverage simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness.stats import (
    Pairs,
    Sample,
    direction,
    gain_over_seeds,
    holm,
    mcnemar,
    mean_interval,
    paired_gain,
    wilson,
)


def pairs(base: list[float], other: list[float], images: list[int] | None = None) -> Pairs:
    return Pairs(base, other, images if images is not None else list(range(len(base))))


def items(values: list[float]) -> Sample:
    return Sample(values, range(len(values)))


def test_numpy_shows_again_what_was_put_off_while_scipy_was_imported():
    assert {"f2py", "testing"} <= {*np.__all__} & {*dir(np)}
    assert np.testing.assert_allclose([1.0], [1.0]) is None


def test_mcnemar_by_hand():
    # 8 won, 2 lost: 2 * (1 + 10 + 45) / 2^10
    assert mcnemar(8, 2) == pytest.approx(2 * 56 / 1024)
    assert mcnemar(2, 8) == mcnemar(8, 2)
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(3, 3) == 1.0


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_scipys_two_sided_binomial_test(wins, losses):
    expected = scipy_stats.binomtest(wins, wins + losses, 0.5).pvalue if wins + losses else 1.0
    assert mcnemar(wins, losses) == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@given(st.integers(1, 400), st.data())
def test_wilson_is_scipys(n, data):
    k = data.draw(st.integers(0, n))
    expected = scipy_stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_by_hand_and_empty():
    z2 = 1.959963984540054**2
    assert wilson(0, 10) == (0.0, pytest.approx(z2 / (10 + z2)))
    assert wilson(0, 0) == (None, None)


def test_holm_by_hand():
    # sorted .01 .03 .04 -> .03, max(.03, .06), max(.06, .04)
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": None}) == pytest.approx(
        {"a": 0.06, "b": 0.03, "c": 0.06, "d": None}
    )
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_and_rejects_what_the_stepwise_procedure_rejects(values):
    adjusted = holm({str(i): p for i, p in enumerate(values)})
    order = np.argsort(values, kind="stable")
    rejected: set[int] = set()
    for rank, i in enumerate(order):  # the textbook procedure: stop at the first that fails
        if values[i] > 0.05 / (len(values) - rank):
            break
        rejected.add(int(i))
    assert all(adjusted[str(i)] >= p for i, p in enumerate(values))
    for i in range(len(values)):
        if abs(adjusted[str(i)] - 0.05) > 1e-12:
            assert (adjusted[str(i)] <= 0.05) == (i in rejected)


def test_normal_interval_is_scipys_paired_t():
    rng = np.random.default_rng(3)
    base, other = rng.integers(0, 11, 60) / 10, rng.integers(0, 11, 60) / 10
    found = paired_gain([pairs(list(base), list(other))], seed=1)
    oracle = scipy_stats.ttest_rel(other, base)
    interval = oracle.confidence_interval(0.95)
    assert found.gain == pytest.approx(np.mean(other - base))
    assert (found.t_low, found.t_high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(oracle.pvalue)
    assert found.test == "clustered-t"


def test_clustering_by_image_equals_a_t_test_on_image_means_when_sizes_are_equal():
    rng = np.random.default_rng(4)
    means = rng.normal(0.1, 0.3, 25)
    differences = np.repeat(means, 4)  # four perfectly dependent items an image
    found = paired_gain([pairs([0.0] * 100, list(differences), [i // 4 for i in range(100)])], seed=1)
    oracle = scipy_stats.ttest_1samp(means, 0)
    assert found.p == pytest.approx(oracle.pvalue)
    assert (found.n, found.images) == (100, 25)
    blind = paired_gain([pairs([0.0] * 100, list(differences))], seed=1)
    ratio = (found.high - found.low) / (blind.high - blind.low)
    assert ratio == pytest.approx(2.0, rel=0.08), "dependence of four items an image doubles the interval"


def test_bootstrap_is_the_enumerated_distribution_for_three_images():
    # sums (1, 0, -1), one item each: 27 equally likely resamples, means in thirds
    values = sorted(
        sum(draw) / 3 for draw in np.array(np.meshgrid([1, 0, -1], [1, 0, -1], [1, 0, -1])).reshape(3, -1).T
    )
    found = paired_gain([pairs([0, 0, 1], [1, 0, 0])], seed=5, level=0.8, resamples=40_000)
    assert found.low == pytest.approx(values[int(0.1 * 27)]) == pytest.approx(-2 / 3)
    assert found.high == pytest.approx(2 / 3)


def test_bootstrap_agrees_with_scipys_and_is_seeded():
    rng = np.random.default_rng(6)
    difference = rng.choice([-1, 0, 0, 1, 1], 300).astype(float)
    mine = paired_gain([pairs([0.0] * 300, list(difference))], seed=7)
    oracle = scipy_stats.bootstrap(
        (difference,), np.mean, method="percentile", n_resamples=10_000, rng=rng
    ).confidence_interval
    assert (mine.low, mine.high) == pytest.approx((oracle.low, oracle.high), abs=0.012)
    assert mine == paired_gain([pairs([0.0] * 300, list(difference))], seed=7)
    assert mine != paired_gain([pairs([0.0] * 300, list(difference))], seed=8)


def test_average_over_suites_is_unweighted_with_the_variance_of_independent_means():
    rng = np.random.default_rng(8)
    first, second = rng.normal(0.2, 0.5, 400), rng.normal(0.0, 0.5, 100)
    found = paired_gain([pairs([0.0] * 400, list(first)), pairs([0.0] * 100, list(second))], seed=9)
    error = math.sqrt(first.var(ddof=1) / 400 + second.var(ddof=1) / 100) / 2
    assert found.gain == pytest.approx((first.mean() + second.mean()) / 2)
    assert found.t_high - found.gain == pytest.approx(1.97 * error, rel=0.01)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_binary_outcomes_use_mcnemar_and_clusters_do_not():
    base, other = [1, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0]
    assert paired_gain([pairs(base, other)], 0).test == "mcnemar"
    assert paired_gain([pairs(base, other)], 0).p == pytest.approx(2 * 6 / 32)
    assert paired_gain([pairs(base, other, [0, 0, 1, 1, 2, 2])], 0).test == "clustered-t"


def test_degenerate_data():
    same = paired_gain([pairs([1, 0, 1], [1, 0, 1])], 0)
    assert (same.gain, same.p, same.direction) == (0, 1.0, "unclear")
    single = paired_gain([pairs([0, 0], [1, 1], [7, 7])], 0)
    assert (single.low, single.high, single.p, single.direction) == (None, None, None, "unclear")
    constant = paired_gain([pairs([0.0, 0.0, 0.0], [0.5, 0.5, 0.5])], 0)
    assert constant.p is None and constant.direction == "unclear"
    with pytest.raises(ValueError):
        paired_gain([pairs([], [])], 0)
    with pytest.raises(ValueError):
        pairs([1], [1, 0], [0])


def test_no_interval_has_width_zero():
    """Nothing gained or lost among n: Tango's score interval, z^2 / (n + z^2) to either side; right or wrong
    throughout: Wilson's. An image counts once, and an average is no surer than its suites."""
    z2 = 1.959964**2
    for n in (2, 20, 500):
        same = paired_gain([pairs([1] * n, [1] * n)], 0)
        assert (same.low, same.high) == (same.t_low, same.t_high)
        assert (-same.low, same.high) == pytest.approx((z2 / (n + z2), z2 / (n + z2)))
        all_won = paired_gain([pairs([0] * n, [1] * n)], 0)
        assert all_won.high == 1 and all_won.low == pytest.approx(1 - 2 * z2 / (n + z2))
    images = paired_gain([pairs([1] * 8, [1] * 8, [0, 0, 1, 1, 2, 2, 3, 3])], 0)
    assert images.high == pytest.approx(z2 / (4 + z2))
    both = paired_gain([pairs([1] * 8, [1] * 8), pairs([0] * 24, [0] * 24)], 0)
    assert both.high == pytest.approx((z2 / (8 + z2) + z2 / (24 + z2)) / 2)
    seeds = gain_over_seeds([[pairs([0] * 9, [0] * 9)] * 3], 0)
    assert seeds.high == pytest.approx(z2 / (9 + z2)) and seeds.detectable > 0
    for value in (0, 1):
        single, shares = items([value] * 6), items([float(value)] * 6)
        for suites in ([[single]], [[shares] * 3], [[single], [shares]]):
            found = mean_interval(suites, 0)
            assert (found.low, found.high) == pytest.approx(wilson(6 * value, 6), abs=1e-12)


def test_direction_needs_both_intervals_and_the_test():
    assert direction((0.01, 0.05, 0.01, 0.05), 0.01) == "positive"
    assert direction((-0.05, -0.01, -0.05, -0.01), 0.01) == "negative"
    assert direction((0.01, 0.05, -0.001, 0.05), 0.04) == "unclear"
    assert direction((0.01, 0.05, 0.01, 0.05), 0.06) == "unclear"
    assert direction((0.01, None, 0.01, 0.05), 0.01) == "unclear"


def test_mean_interval_is_wilson_for_single_answers_and_bootstrap_for_shares():
    assert mean_interval([[items([1, 0, 1, 1])]], 0).low == pytest.approx(wilson(3, 4)[0])
    shares = list(np.random.default_rng(1).integers(0, 11, 200) / 10)
    found = mean_interval([[items(shares)]], 0)
    half = 1.96 * np.std(shares, ddof=1) / math.sqrt(200)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.006)


@pytest.mark.slow
def test_coverage_of_a_known_difference():
    """200 simulated suites of 40 images x 3 dependent items: the intervals cover the true gain about 95 % of
    the time."""
    rng = np.random.default_rng(12)
    covered = covered_normal = blind = 0
    for trial in range(200):
        shift = np.repeat(rng.normal(0.1, 0.3, 40), 3) + rng.normal(0, 0.1, 120)
        found = paired_gain(
            [pairs([0.0] * 120, list(shift), [i // 3 for i in range(120)])], seed=trial, resamples=500
        )
        naive = paired_gain([pairs([0.0] * 120, list(shift))], seed=trial, resamples=500)
        covered += found.low <= 0.1 <= found.high
        covered_normal += found.t_low <= 0.1 <= found.t_high
        blind += naive.low <= 0.1 <= naive.high
    assert 0.90 <= covered / 200 <= 0.99
    assert 0.91 <= covered_normal / 200 <= 0.99
    assert blind / 200 < 0.85, "the simulation must be one where ignoring images fails"
