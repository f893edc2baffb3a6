"""A published claim and a measurement -> a verdict. Pure functions; the claims are data
(`harness.claims.published`).

Gains are judged against a band fixed before the run, claimed gain +- tolerance:
holds   the difference is shown to lie inside the band (two one-sided tests at 5 %)
fails   its 95 % interval lies wholly outside the band
open    neither; with the number of items or seeds that would settle it
Orders (A above B): holds when the interval of A - B lies above zero, fails when below. What holds or fails
must do so after Holm's correction over all claims measured together (`judge_all`).

REPRODUCED, CONTRADICTED, INCONCLUSIVE  a claim that holds, fails, is open, on what it is about
TOY              measured in a toy world: holds, fails or open there, which settles nothing about large models
NOT RUN          nothing was measured
PROTOCOL DEVIATION  something was measured, but not what the claim is about; the reasons, and the verdict of
                    the numbers alone, stay beside it
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import variance

from harness.claims.schema import Claim, GainClaim, OrderClaim
from harness.claims.verdict import OF_OUTCOME, Judgement, Measurement, Outcome, Settle, Verdict
from harness.stats import holm, power

MIN_PARSED = 0.95
MAX_TRUNCATED = 0.05
MAX_MISSING = 0.005  # of a suite's items; so many may be set aside as unusable
STATED = ("harness", "judge", "decoding")  # fields of a protocol, compared where the claim states them


Asked = tuple[Claim, Measurement | None, str | None]  # the claim, what was measured, why nothing was


def judge_all(asked: Sequence[Asked]) -> list[Judgement]:
    """The verdicts on several claims together: what holds or fails by itself and not after Holm's correction
    over all that were measured is open."""
    found = [judge(*one) for one in asked]
    p_holm = holm({claim.id: one.p for (claim, _, _), one in zip(asked, found, strict=True)})
    tests = sum(p is not None for p in p_holm.values())
    corrected = []
    for (claim, measured, _), one in zip(asked, found, strict=True):
        p = p_holm[claim.id]
        if p is not None and p >= power.ALPHA and one.outcome in (Outcome.HOLDS, Outcome.FAILS) and measured:
            caveat = f"it {one.outcome.value} by itself, not after Holm's correction over {tests} claims"
            one = _judgement(claim, measured, Outcome.OPEN, one.p, (caveat,))
        corrected.append(one.model_copy(update={"p_holm": p}))
    return corrected


def judge(claim: Claim, measured: Measurement | None, reason: str | None = None) -> Judgement:
    """The verdict on one claim by itself. The caller chooses the measurement of its model, suite and metric;
    None, with the reason, is NOT RUN."""
    if measured is None:
        return Judgement(verdict=Verdict.NOT_RUN, reason=reason)
    return _judgement(claim, measured, *_compare(claim, measured))


def _judgement(
    claim: Claim, measured: Measurement, outcome: Outcome, p: float | None, caveats: tuple[str, ...] = ()
) -> Judgement:
    deviations = deviations_of(claim, measured)
    verdict = Verdict.TOY if measured.toy else OF_OUTCOME[outcome]
    return Judgement(
        verdict=Verdict.PROTOCOL_DEVIATION if deviations else verdict,
        outcome=outcome,
        deviations=deviations,
        caveats=(*caveats, *_caveats(claim, measured)),
        toy=measured.toy,
        p=p,
        settle=settle(claim, measured) if outcome is Outcome.OPEN else (),
    )


def band(claim: GainClaim) -> tuple[float, float]:
    """The gains that count as reproduced, as fractions."""
    return (claim.value - claim.tolerance) / 100, (claim.value + claim.tolerance) / 100


def _compare(claim: Claim, measured: Measurement) -> tuple[Outcome, float | None]:
    """(what the numbers say, p-value of the nearest outcome)."""
    error, freedom = measured.error, measured.freedom or math.inf
    if error is None or measured.low is None or measured.high is None:
        return Outcome.OPEN, None
    if isinstance(claim, OrderClaim):
        p = power.difference_p(measured.gain, error, freedom)
        nearest = Outcome.HOLDS if measured.low > 0 else Outcome.FAILS if measured.high < 0 else Outcome.OPEN
        return (nearest if p < power.ALPHA else Outcome.OPEN), p
    low, high = band(claim)
    inside = power.tost_p(measured.gain, error, low, high, freedom)
    if inside < power.ALPHA:
        return Outcome.HOLDS, inside
    outside = power.difference_p(max(low - measured.gain, measured.gain - high, 0.0), error, freedom)
    apart = measured.high < low or measured.low > high
    fails = apart and outside < power.ALPHA
    return (Outcome.FAILS if fails else Outcome.OPEN), min(inside, outside)


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
    if measured.n < (1 - MAX_MISSING) * measured.expected:
        found.append(f"partial suite: {measured.n} of {measured.expected} items scored")
    if measured.partial:
        found.append(f"partial suite: {measured.partial}")
    if measured.of_several:
        found.append(f"measured by {measured.of_several}, the claim is about the accuracy of single answers")
    if claim.n is not None and measured.expected != claim.n:
        found.append(f"{measured.expected} items, the claim is about {claim.n}")
    return tuple(found)


def _caveats(claim: Claim, measured: Measurement) -> tuple[str, ...]:
    found = [f"unequal compute: {measured.unequal}"] if measured.unequal else []
    if 0 < measured.expected - measured.n <= MAX_MISSING * measured.expected:
        found.append(f"{measured.n} of {measured.expected} items scored")
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
    targets: list[tuple[str, Outcome, float | None]] = []
    if isinstance(claim, OrderClaim):
        outcome = Outcome.HOLDS if measured.gain > 0 else Outcome.FAILS
        targets.append(("the measured difference", outcome, power.error_for_exclusion(abs(measured.gain))))
    else:
        low, high = band(claim)
        inside = power.error_for_equivalence(measured.gain, low, high)
        outside = power.error_for_exclusion(max(low - measured.gain, measured.gain - high))
        outcome = Outcome.HOLDS if inside else Outcome.FAILS
        targets.append(("the measured gain", outcome, inside or outside))
        targets.append(
            (
                "the claimed gain",
                Outcome.HOLDS,
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
