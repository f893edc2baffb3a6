"""A published claim and a measurement -> a verdict. Pure functions; the claims are data
(`harness.claims.published`).

Gains are judged against a band fixed before the run, claimed gain +- tolerance:
REPRODUCED       the difference is shown to lie inside the band (two one-sided tests at 5 %)
CONTRADICTED     its 95 % interval lies wholly outside the band
INCONCLUSIVE     neither; with the number of items or seeds that would settle it
Orders (A above B): REPRODUCED when the interval of A - B lies above zero, CONTRADICTED when below.
NOT RUN          nothing was measured
PROTOCOL DEVIATION  something was measured, but not what the claim is about; the reasons, and the verdict of
                    the numbers alone, stay beside it
"""

from __future__ import annotations

import math
from statistics import variance

from harness.claims.schema import Claim, GainClaim, OrderClaim
from harness.claims.verdict import Judgement, Measurement, Settle, Verdict
from harness.stats import power

MIN_PARSED = 0.95
MAX_TRUNCATED = 0.05
STATED = ("harness", "judge", "decoding")  # fields of a protocol, compared where the claim states them


def judge(claim: Claim, measured: Measurement | None, reason: str | None = None) -> Judgement:
    """The verdict on `claim`. The caller chooses the measurement of its model, suite and metric; None, with
    the reason, is NOT RUN."""
    if measured is None:
        return Judgement(verdict=Verdict.NOT_RUN, numbers_alone=Verdict.NOT_RUN, reason=reason)
    alone, p = _compare(claim, measured)
    deviations = deviations_of(claim, measured)
    return Judgement(
        verdict=Verdict.PROTOCOL_DEVIATION if deviations else alone,
        numbers_alone=alone,
        deviations=deviations,
        caveats=_caveats(claim, measured),
        tost_p=p,
        settle=settle(claim, measured) if alone is Verdict.INCONCLUSIVE else (),
    )


def band(claim: GainClaim) -> tuple[float, float]:
    """The gains that count as reproduced, as fractions."""
    return (claim.value - claim.tolerance) / 100, (claim.value + claim.tolerance) / 100


def _compare(claim: Claim, measured: Measurement) -> tuple[Verdict, float | None]:
    """(what the numbers say, p-value of the equivalence test)."""
    error = measured.error
    if error is None or measured.low is None or measured.high is None:
        return Verdict.INCONCLUSIVE, None
    if isinstance(claim, OrderClaim):
        if measured.low > 0:
            return Verdict.REPRODUCED, None
        return (Verdict.CONTRADICTED if measured.high < 0 else Verdict.INCONCLUSIVE), None
    low, high = band(claim)
    p = power.tost_p(measured.gain, error, low, high, measured.freedom or math.inf)
    if p < power.ALPHA:
        return Verdict.REPRODUCED, p
    return (Verdict.CONTRADICTED if measured.high < low or measured.low > high else Verdict.INCONCLUSIVE), p


def deviations_of(claim: Claim, measured: Measurement) -> tuple[str, ...]:
    """Why this measurement is not of what was claimed; empty where it is."""
    found = []
    if measured.parse_rate < MIN_PARSED:
        found.append(
            f"only {_percent(measured.parse_rate)} of the answers could be read (at least "
            f"{_percent(MIN_PARSED)} needed)"
        )
    if measured.truncation_rate > MAX_TRUNCATED:
        found.append(
            f"{_percent(measured.truncation_rate)} of the answers were truncated (at most "
            f"{_percent(MAX_TRUNCATED)} allowed)"
        )
    if measured.n < measured.expected:
        found.append(f"partial suite: {measured.n} of {measured.expected} items scored")
    if measured.partial:
        found.append(f"partial suite: {measured.partial}")
    if measured.of_several:
        found.append(f"measured by {measured.of_several}, the claim is about the accuracy of single answers")
    if claim.n is not None and measured.expected != claim.n:
        found.append(f"{measured.expected} items, the claim is about {claim.n}")
    return tuple(found)


def _caveats(claim: Claim, measured: Measurement) -> tuple[str, ...]:
    found = []
    if measured.low is None:
        found.append("no interval: the items do not give one")
    if len(measured.by_seed) < 2:
        found.append("one seed: the interval holds for this checkpoint, not for the training that made it")
    elif min(measured.by_seed) < 0 < max(measured.by_seed):
        found.append("the seeds disagree about the sign")
    for name in STATED:
        stated = getattr(claim.protocol, name)
        if stated is not None and measured.protocol.get(name) != stated:
            found.append(f"{name}: {stated} in the claim, {measured.protocol.get(name, 'not recorded')} here")
    return tuple(found)


def settle(claim: Claim, measured: Measurement) -> tuple[Settle, ...]:
    """What would settle it: supposing that the measured difference is the true one and, for a gain, that the
    claimed one is."""
    if not measured.error or measured.n == 0:
        return ()
    targets: list[tuple[str, Verdict, float | None]] = []
    if isinstance(claim, OrderClaim):
        verdict = Verdict.REPRODUCED if measured.gain > 0 else Verdict.CONTRADICTED
        targets.append(("the measured difference", verdict, power.error_for_exclusion(abs(measured.gain))))
    else:
        low, high = band(claim)
        inside = power.error_for_equivalence(measured.gain, low, high)
        outside = power.error_for_exclusion(max(low - measured.gain, measured.gain - high))
        verdict = Verdict.REPRODUCED if inside else Verdict.CONTRADICTED
        targets.append(("the measured gain", verdict, inside or outside))
        targets.append(
            (
                "the claimed gain",
                Verdict.REPRODUCED,
                power.error_for_equivalence(claim.value / 100, low, high),
            )
        )
    sized = [(supposing, to, _sizes(measured, target)) for supposing, to, target in targets]
    return tuple(Settle(supposing=one, to=to, items=items, seeds=seeds) for one, to, (items, seeds) in sized)


def _sizes(measured: Measurement, target: float | None) -> tuple[int | None, int | None]:
    """(items, seeds), each alone, at which the standard error falls to `target`; never fewer than there
    are."""
    if target is None or measured.error is None:
        return None, None
    seeds, total = len(measured.by_seed), measured.error**2
    between = min(variance(measured.by_seed) / seeds, total) if seeds > 1 else 0.0
    items = power.items_for_error(target, measured.n, total - between, between)
    more = power.seeds_for_error(target, seeds, between, total - between) if between > 0 else None
    return (None if items is None else max(items, measured.n)), (None if more is None else max(more, seeds))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
