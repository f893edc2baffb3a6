"""A published claim and a measurement -> a verdict. Pure functions; the claims are data
(`harness.claims.published`).

Gains are judged against a band fixed before the run, claimed gain +- tolerance:
REPRODUCED       the difference is shown to lie inside the band (two one-sided tests at 5 %)
CONTRADICTED     its 95 % interval lies wholly outside the band
INCONCLUSIVE     neither; with the number of items or seeds that would settle it
Orders (A above B): REPRODUCED when the interval of A - B lies above zero, CONTRADICTED when below.
NOT RUN          nothing was measured
PROTOCOL DEVIATION  something was measured, but not what the claim is about; reasons and what the numbers alone would say stay beside it
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import variance

from scipy.special import stdtrit

from harness.claims.schema import Claim, GainClaim, OrderClaim
from harness.stats import power

MIN_PARSED = 0.95
MAX_TRUNCATED = 0.05
LEVEL = 0.95
STATED = (
    "harness",
    "judge",
    "decoding",
)  # fields of a protocol that are compared where the claim states them


class Verdict(StrEnum):
    """What can be said of a claim."""

    REPRODUCED = "REPRODUCED"
    CONTRADICTED = "CONTRADICTED"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_RUN = "NOT RUN"
    PROTOCOL_DEVIATION = "PROTOCOL DEVIATION"


@dataclass(frozen=True)
class Measurement:
    """A paired difference as we measured it; fractions (0.02 is two points).

    Attributes:
        gain: mean over items (and seeds) of the trained model minus base, or of A minus B for a claim of
            order.
        low, high: 95 % interval, over seeds too where there are several; None where the data gave none.
        n: items scored in both arms; `expected`: items the suite has for this claim.
        parse_rate, truncation_rate: shares of answers that could be read and that ran into the token limit;
            the worse of the two arms.
        by_seed: the gain of each training seed.
        partial: why it is not the whole suite, where it was limited or shortened on purpose.
        of_several: the measure, where it is of several answers to a question and not of one.
        freedom: degrees of freedom behind the interval; infinite where unknown, which makes REPRODUCED
            harder, never easier.
        protocol: what was used, by the names in `STATED`. Another harness than the claim's is a caveat and no
            deviation: a gain is paired against our own base, measured alike.
    """

    gain: float
    low: float | None
    high: float | None
    n: int
    expected: int
    parse_rate: float
    truncation_rate: float
    by_seed: tuple[float, ...] = ()
    partial: str | None = None
    of_several: str | None = None
    freedom: float = math.inf
    protocol: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = (
            self.gain,
            self.low or 0.0,
            self.high or 0.0,
            self.parse_rate,
            self.truncation_rate,
            *self.by_seed,
        )
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a measurement needs finite numbers")
        if (self.low is None) != (self.high is None) or (
            self.low is not None and not self.low <= self.gain <= self.high
        ):
            raise ValueError("a measured gain lies inside its interval, which has two ends or none")
        if not (
            0 <= self.n <= self.expected and 0 <= self.parse_rate <= 1 and 0 <= self.truncation_rate <= 1
        ):
            raise ValueError("rates lie in [0, 1] and no more items are scored than expected")

    @property
    def error(self) -> float | None:
        """Standard error, from the longer side of the interval."""
        if self.low is None or self.high is None:
            return None
        return max(self.gain - self.low, self.high - self.gain) / float(
            stdtrit(min(self.freedom, 1e9), (1 + LEVEL) / 2)
        )


@dataclass(frozen=True)
class Settle:
    """What would settle an open claim with 80 % power, each alone, if `supposing` is right.

    Attributes:
        supposing: which difference is taken for the true one.
        to: the verdict that this would lead to.
        items: items in all, seeds unchanged; None where no number of items is enough.
        seeds: seeds in all, items unchanged; None where no number is enough, or with fewer than two seeds
            (their spread is unknown).
    """

    supposing: str
    to: Verdict
    items: int | None
    seeds: int | None


@dataclass(frozen=True)
class Judgement:
    """The verdict on one claim.

    Attributes:
        verdict: the one to print; PROTOCOL DEVIATION whenever there are `deviations`.
        numbers_say: the verdict of the numbers alone.
        deviations: why the measurement is not of what was claimed.
        caveats: what the numbers leave out although they are of the right thing.
        tost_p: p-value of the equivalence test; None for claims of order and without an interval.
        settle: for an inconclusive claim; empty where nothing is known about it.
    """

    claim: str
    verdict: Verdict
    numbers_say: Verdict
    deviations: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    tost_p: float | None = None
    settle: tuple[Settle, ...] = ()


def judge(claim: Claim, measured: Measurement | None) -> Judgement:
    """The verdict on `claim`. The caller chooses the measurement of its model, suite and metric; None is NOT
    RUN."""
    if measured is None:
        return Judgement(claim.id, Verdict.NOT_RUN, Verdict.NOT_RUN)
    says, p = _compare(claim, measured)
    deviations = deviations_of(claim, measured)
    return Judgement(
        claim.id,
        Verdict.PROTOCOL_DEVIATION if deviations else says,
        says,
        deviations,
        _caveats(claim, measured),
        p,
        settle(claim, measured) if says is Verdict.INCONCLUSIVE else (),
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
    p = power.tost_p(measured.gain, error, low, high, measured.freedom)
    if p < power.ALPHA:
        return Verdict.REPRODUCED, p
    return (Verdict.CONTRADICTED if measured.high < low or measured.low > high else Verdict.INCONCLUSIVE), p


def deviations_of(claim: Claim, measured: Measurement) -> tuple[str, ...]:
    """Why this measurement is not of what was claimed; empty where it is."""
    found = []
    if measured.parse_rate < MIN_PARSED:
        found.append(
            f"only {_percent(measured.parse_rate)} of the answers could be read (at least {_percent(MIN_PARSED)} needed)"
        )
    if measured.truncation_rate > MAX_TRUNCATED:
        found.append(
            f"{_percent(measured.truncation_rate)} of the answers were cut off (at most {_percent(MAX_TRUNCATED)} allowed)"
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
    return tuple(Settle(supposing, to, *_sizes(measured, target)) for supposing, to, target in targets)


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


def sentence(judgement: Judgement) -> str:
    """The verdict with its reasons, for people."""
    said = judgement.verdict.value
    if judgement.deviations:
        said += f": {'; '.join(judgement.deviations)}; the numbers alone: {judgement.numbers_say.value}"
    if judgement.caveats:
        said += f" ({'; '.join(judgement.caveats)})"
    return f"{said}." + "".join(f" {_needed(one)}" for one in judgement.settle)


def _needed(one: Settle) -> str:
    ways = [
        f"{count:,} {what}"
        for count, what in ((one.items, "items"), (one.seeds, "seeds"))
        if count is not None
    ]
    if not ways:
        return f"If {one.supposing} is the true one, neither more items nor more seeds alone would settle it."
    return f"If {one.supposing} is the true one, {' or '.join(ways)} would settle it ({one.to.value}, 80 % power)."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
