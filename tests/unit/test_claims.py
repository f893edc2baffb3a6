"""Verdicts: hand-worked bands, and how often they are right in simulated worlds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.claims.judge import band, judge, judge_all
from harness.claims.published import GainClaim, OrderClaim
from harness.claims.schema import Protocol
from harness.claims.verdict import OF_OUTCOME, Measurement, Outcome, Settle, Verdict

COMMON = {
    "model": None,
    "suite": "s",
    "metric": "accuracy",
    "n": None,
    "source": "x",
    "table": "1",
    "certainty": "read",
}
CLAIM = GainClaim(id="g", kind="gain", statement="two points", method="v", value=2.0, tolerance=1.0, **COMMON)
ORDER = OrderClaim(id="o", kind="order", statement="v above w", better="v", worse="w", **COMMON)
SEEDS = (0.018, 0.020, 0.022)


def measured(gain: float, half: float, **changes: object) -> Measurement:
    """A gain with the 95 % interval gain +- half, of three seeds."""
    whole = {"gain": gain, "low": gain - half, "high": gain + half, "n": 1000, "expected": 1000}
    whole |= {"parse_rate": 1.0, "truncation_rate": 0.0, "by_seed": SEEDS}
    return Measurement.model_validate({**whole, **changes})


def test_the_band_is_in_fractions() -> None:
    assert band(CLAIM) == pytest.approx((0.01, 0.03))


@pytest.mark.parametrize(
    ("gain", "half", "verdict"),
    [
        # The 90 % interval has .839 times the half width of the 95 % one; the band is .01 to .03.
        (0.020, 0.0118, Verdict.REPRODUCED),  # 90 %: +- .0099
        (0.020, 0.0121, Verdict.INCONCLUSIVE),  # 90 %: +- .0102
        (0.025, 0.0055, Verdict.REPRODUCED),
        (0.025, 0.0065, Verdict.INCONCLUSIVE),
        (0.000, 0.0099, Verdict.CONTRADICTED),  # up to .0099
        (0.000, 0.0101, Verdict.INCONCLUSIVE),
        (0.050, 0.0190, Verdict.CONTRADICTED),  # a larger gain than claimed is no reproduction either
        (0.050, 0.0210, Verdict.INCONCLUSIVE),
        (0.020, 0.2000, Verdict.INCONCLUSIVE),
    ],
)
def test_gains_by_hand(gain: float, half: float, verdict: Verdict) -> None:
    found = judge(CLAIM, measured(gain, half))
    assert found.verdict is verdict and OF_OUTCOME[found.outcome] is verdict
    assert bool(found.settle) == (verdict is Verdict.INCONCLUSIVE)
    assert found.p is not None and (found.p < 0.05) == (verdict is not Verdict.INCONCLUSIVE)


@pytest.mark.parametrize(
    ("gain", "half", "verdict"),
    [
        (0.010, 0.009, Verdict.REPRODUCED),
        (0.010, 0.0101, Verdict.INCONCLUSIVE),
        (-0.010, 0.009, Verdict.CONTRADICTED),
        (0.0, 0.001, Verdict.INCONCLUSIVE),
    ],
)
def test_orders_by_hand(gain: float, half: float, verdict: Verdict) -> None:
    found = judge(ORDER, measured(gain, half))
    assert found.verdict is verdict and (found.p < 0.05) == (verdict is not Verdict.INCONCLUSIVE)
    assert found.p == pytest.approx(2 * scipy_stats.norm.sf(abs(gain) / (half / 1.959964)), abs=1e-6)


def test_the_longer_side_of_a_lopsided_interval_counts() -> None:
    assert judge(CLAIM, measured(0.02, 0.005)).verdict is Verdict.REPRODUCED
    assert judge(CLAIM, measured(0.02, 0.005, low=0.006)).verdict is Verdict.INCONCLUSIVE


def test_few_degrees_of_freedom_take_a_t_distribution() -> None:
    # 2 degrees of freedom: 95 % needs 4.303, 90 % needs 2.920 errors. Half width .0143 -> 90 % +- .0097; as
    # if normal +- .0120.
    assert judge(CLAIM, measured(0.02, 0.0143, freedom=2)).verdict is Verdict.REPRODUCED
    assert judge(CLAIM, measured(0.02, 0.0143)).verdict is Verdict.INCONCLUSIVE


def test_nothing_measured_and_no_interval() -> None:
    assert judge(CLAIM, None).verdict is Verdict.NOT_RUN
    bare = judge(CLAIM, measured(0.02, 0.0, low=None, high=None))
    assert bare.verdict is Verdict.INCONCLUSIVE and bare.settle == () and "no interval" in bare.caveats[0]


def test_no_spread_at_all() -> None:
    assert judge(CLAIM, measured(0.02, 0.0)).verdict is Verdict.REPRODUCED
    assert judge(CLAIM, measured(0.04, 0.0)).verdict is Verdict.CONTRADICTED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parse_rate": 0.949}, "94.9 % of the answers could be read"),
        ({"truncation_rate": 0.051}, "5.1 % of the answers were truncated"),
        ({"n": 994}, "994 of 1000 items"),
        ({"partial": "--limit 100"}, "--limit 100"),
    ],
)
def test_deviations_come_first_and_keep_what_the_numbers_say(changes: dict[str, object], reason: str) -> None:
    found = judge(CLAIM, measured(0.02, 0.005, **changes))
    assert found.verdict is Verdict.PROTOCOL_DEVIATION and found.outcome is Outcome.HOLDS
    assert len(found.deviations) == 1 and reason in found.deviations[0]
    assert found.sentence.startswith("PROTOCOL DEVIATION: ")
    assert "the numbers alone: holds" in found.sentence


def test_the_limits_themselves_are_no_deviation() -> None:
    assert (
        judge(CLAIM, measured(0.02, 0.005, parse_rate=0.95, truncation_rate=0.05)).verdict
        is Verdict.REPRODUCED
    )


def test_a_few_unusable_rows_are_a_caveat() -> None:
    found = judge(CLAIM, measured(0.02, 0.005, n=995))
    assert found.verdict is Verdict.REPRODUCED and found.caveats == ("995 of 1000 items scored",)


def test_another_number_of_items_than_claimed_is_a_deviation() -> None:
    about = CLAIM.model_copy(update={"n": 1000})
    assert judge(about, measured(0.02, 0.005)).verdict is Verdict.REPRODUCED
    assert judge(about, measured(0.02, 0.005, n=500, expected=500)).verdict is Verdict.PROTOCOL_DEVIATION


def test_another_harness_is_a_caveat() -> None:
    stated = CLAIM.model_copy(update={"protocol": Protocol(harness="VLMEvalKit")})
    assert judge(stated, measured(0.02, 0.005, protocol={"harness": "VLMEvalKit"})).caveats == ()
    found = judge(stated, measured(0.02, 0.005, protocol={"harness": "lmms-eval"}))
    assert found.verdict is Verdict.REPRODUCED and found.caveats == (
        "harness: VLMEvalKit in the claim, lmms-eval here",
    )
    assert "not recorded" in judge(stated, measured(0.02, 0.005)).caveats[0]


def test_seeds_that_are_few_or_disagree_are_said() -> None:
    assert "one seed" in judge(CLAIM, measured(0.02, 0.005, by_seed=(0.02,))).caveats[0]
    assert "disagree" in judge(CLAIM, measured(0.02, 0.005, by_seed=(0.05, -0.01))).caveats[0]


def test_what_would_settle_an_order_by_hand() -> None:
    # Error .01 / 1.96; .005 away from zero needs .005 / 2.8016: (2.8016 / .9800)^2 = 8.1728 times the items.
    found = judge(ORDER, measured(0.005, 0.01, by_seed=()))
    needed = Settle(supposing="the measured difference", to=Outcome.HOLDS, items=8173, seeds=None)
    assert found.settle == (needed,)
    reversed_ = judge(ORDER, measured(-0.005, 0.01, by_seed=()))
    assert reversed_.settle == (needed.model_copy(update={"to": Outcome.FAILS}),)
    assert "8,173 items would settle it (holds, 80 % power)" in found.sentence


def test_what_would_settle_a_gain_by_hand() -> None:
    # Error .02 / 1.96 = .010204. If zero is true: the band is .01 away, needs .01 / 2.8016 = .0035694: 8.1728
    # times the items. If the claim is true: the middle of a band of half width .01 needs .01 / 2.9264 =
    # .0034172: 8.9174 times the items.
    found = judge(CLAIM, measured(0.0, 0.02, by_seed=()))
    assert [(one.to, one.items) for one in found.settle] == [
        (Outcome.FAILS, 8173),
        (Outcome.HOLDS, 8918),
    ]
    assert (
        judge(CLAIM, measured(0.04, 0.02, by_seed=())).settle == found.settle
    )  # as far above the band as zero is below


def test_items_cannot_settle_what_the_seeds_leave_open() -> None:
    # Seeds .02 to either side of their mean: variance .0008, of the mean .0004, error .02.
    # The order needs .01 / 2.8016 = .00357: more seeds, not more items.
    by_seed = (-0.01, 0.03)
    half = 1.959964 * math.sqrt(0.0004 + 0.000001)
    [found] = judge(ORDER, measured(0.01, half, by_seed=by_seed)).settle
    assert found.items is None
    # room for the seeds: .0000127409 - .000001 = .0000117409; 2 * .0004 / .0000117409 = 68.1
    assert found.seeds == 69


def test_few_seeds_do_not_make_the_items_look_uncertain() -> None:
    # Error of the seeds .01, of the items .005. With 2.5 degrees of freedom 95 % is 3.56 errors, not 1.96;
    # the gain needs .03 / 2.8016.
    by_seed, freedom = (0.03 - math.sqrt(0.0003), 0.03, 0.03 + math.sqrt(0.0003)), 2.5
    half = float(scipy_stats.t.ppf(0.975, freedom)) * math.hypot(0.01, 0.005)
    found, target = judge(ORDER, measured(0.03, half, by_seed=by_seed, freedom=freedom)), (0.03 / 2.8016) ** 2
    assert found.verdict is Verdict.INCONCLUSIVE and found.settle[0].seeds == 4 == math.ceil(
        3 * 0.0001 / (target - 0.000025)
    )
    assert found.settle[0].items == pytest.approx(1000 * 0.000025 / (target - 0.0001), rel=0.01)
    assert judge(ORDER, measured(0.03, half, by_seed=by_seed)).settle[0].seeds is None, (
        "as if the interval were a normal one"
    )


def test_votes_are_not_the_single_answers_a_claim_is_about() -> None:
    found = judge(CLAIM, measured(0.02, 0.005, of_several="maj@10"))
    assert found.verdict is Verdict.PROTOCOL_DEVIATION and "maj@10" in found.deviations[0]


def test_a_gain_on_the_very_edge_is_settled_by_no_size() -> None:
    [at_measured, at_claimed] = judge(CLAIM, measured(0.01, 0.004)).settle
    assert at_measured.items is None or at_measured.items > 10**9
    assert at_claimed.to is Outcome.HOLDS


@pytest.mark.parametrize(
    "changes",
    [
        {"gain": math.nan},
        {"low": None},
        {"gain": 0.5},
        {"n": 1001},
        {"parse_rate": 1.1},
        {"truncation_rate": -0.1},
        {"by_seed": (math.inf,)},
    ],
)
def test_impossible_measurements_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Measurement.model_validate({**measured(0.02, 0.005).model_dump(), **changes})


def share(true: float, verdict: Verdict, n: int = 1500, changed: float = 0.1, worlds: int = 2000) -> float:
    """Share of simulated worlds with this verdict on CLAIM, when the true paired gain is `true`."""
    wins, losses = (changed + true) / 2, (changed - true) / 2
    drawn = np.random.default_rng(11).multinomial(n, [wins, losses, 1 - changed], size=worlds)
    found = 0
    for won, lost, _ in drawn:
        gain = float(won - lost) / n
        half = 1.959964 * math.sqrt((float(won + lost) / n - gain**2) / n)
        found += judge(CLAIM, measured(gain, half, n=n, expected=n)).verdict is verdict
    return found / worlds


@pytest.mark.slow
def test_a_true_claim_is_seldom_contradicted_and_an_edge_seldom_reproduced() -> None:
    assert share(0.02, Verdict.CONTRADICTED) <= 0.01
    assert share(0.01, Verdict.CONTRADICTED) <= 0.035  # on the edge: one side of a 95 % interval
    assert share(0.03, Verdict.CONTRADICTED) <= 0.035
    assert share(0.01, Verdict.REPRODUCED, n=20_000) <= 0.06  # nominal .05
    assert share(0.03, Verdict.REPRODUCED, n=20_000) <= 0.06


@pytest.mark.slow
def test_the_promised_sizes_settle_four_times_in_five() -> None:
    variance = 0.1 - 0.02**2
    items = math.ceil(variance / (0.01 / 2.9264) ** 2)  # if the claim is true
    assert 0.77 <= share(0.02, Verdict.REPRODUCED, n=items) <= 0.83
    items = math.ceil(0.1 / (0.01 / 2.8016) ** 2)  # if there is no gain
    assert 0.77 <= share(0.0, Verdict.CONTRADICTED, n=items) <= 0.83


TOY = "the pocket world"


@pytest.mark.parametrize(
    ("gain", "half", "outcome"), [(0.01, 0.009, "holds"), (-0.01, 0.009, "fails"), (0.0, 0.009, "open")]
)
def test_a_toy_world_settles_nothing(gain: float, half: float, outcome: str) -> None:
    found = judge(ORDER, measured(gain, half, toy=TOY))
    assert (found.verdict, found.outcome) == (Verdict.TOY, outcome)
    assert found.label == f"TOY: {outcome} there"
    assert found.sentence.startswith(f"TOY: {outcome} in the pocket world")
    for word in ("REPRODUCED", "CONTRADICTED", "INCONCLUSIVE"):
        assert word not in found.model_dump_json() + found.sentence
    partial = judge(ORDER, measured(gain, half, toy=TOY, partial="--limit 5"))
    assert partial.verdict is Verdict.PROTOCOL_DEVIATION
    assert not any(word in partial.sentence for word in ("REPRODUCED", "CONTRADICTED"))


def test_unequal_compute_is_on_the_card() -> None:
    found = judge(ORDER, measured(0.01, 0.009, unequal="solver steps 72 (w: 37)"))
    assert found.caveats[0] == "unequal compute: solver steps 72 (w: 37)"


def test_claims_judged_together_are_corrected() -> None:
    """Three orders, by hand: z = 2.2 (p = .0278) alone is significant, as the least of three it is not:
    3 * .0278 > .05; z = 4 (p = .00006) still is."""
    claims = [ORDER.model_copy(update={"id": f"o{i}"}) for i in range(3)]
    one = 0.01 / 1.959964
    weak, strong, none = (measured(z * one, 0.01) for z in (2.2, 4.0, 0.5))
    assert judge(claims[0], weak).outcome is Outcome.HOLDS
    alone = judge_all([(claims[0], weak, None)])
    assert alone[0].outcome is Outcome.HOLDS and alone[0].p_holm == pytest.approx(0.0278, abs=1e-4)
    together = judge_all([(claims[0], weak, None), (claims[1], none, None), (claims[2], none, None)])
    assert together[0].outcome is Outcome.OPEN and together[0].verdict is Verdict.INCONCLUSIVE
    assert together[0].p_holm == pytest.approx(3 * 0.0278, abs=1e-3) and together[0].settle
    assert together[0].caveats[0] == "it holds by itself, not after Holm's correction over 3 claims"
    kept = judge_all([(claims[0], strong, None), (claims[1], none, None), (claims[2], None, "not here")])
    assert kept[0].outcome is Outcome.HOLDS and kept[2].p_holm is None
    assert kept[0].p_holm == pytest.approx(2 * kept[0].p)
