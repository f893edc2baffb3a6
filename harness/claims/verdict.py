"""What is said of a published claim: the measurement it is judged by, and the verdict as results keep it."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator
from scipy.special import stdtrit

from harness.claims.schema import Certainty
from harness.stats import Frozen, power

LEVEL = 0.95


class Outcome(StrEnum):
    """What the numbers say of a statement, whatever they were measured on."""

    HOLDS = "holds"
    FAILS = "fails"
    OPEN = "open"


class Verdict(StrEnum):
    """What can be said of a claim. TOY: it was measured, but not on what the claim is about."""

    REPRODUCED = "REPRODUCED"
    CONTRADICTED = "CONTRADICTED"
    INCONCLUSIVE = "INCONCLUSIVE"
    TOY = "TOY"
    NOT_RUN = "NOT RUN"
    PROTOCOL_DEVIATION = "PROTOCOL DEVIATION"


OF_OUTCOME = {
    Outcome.HOLDS: Verdict.REPRODUCED,
    Outcome.FAILS: Verdict.CONTRADICTED,
    Outcome.OPEN: Verdict.INCONCLUSIVE,
}


class MeasuredGain(Frozen):
    """A paired difference as results keep it; fractions (0.02 is two points).

    Attributes:
        gain: mean over items (and seeds) of the trained model minus base, or of A minus B for a claim of
            order.
        low, high: 95 % interval, over seeds too where there are several; None where the data gave none.
        n: items scored in both arms; `expected`: items the suite has for this claim.
        by_seed: the gain of each training seed.
        basis: the two checkpoints whose difference it is.
    """

    gain: float
    low: float | None
    high: float | None
    n: int
    expected: int
    by_seed: tuple[float, ...] = ()
    basis: str | None = None


class Measurement(MeasuredGain):
    """The difference, and how it was measured.

    Attributes:
        parse_rate, truncation_rate: shares of answers that could be read and that ran into the token limit;
            the worse of the two arms.
        partial: why it is not the whole suite, where it was limited or shortened on purpose.
        toy: the small world it was measured in; None for the models and suites that papers write of.
        unequal: how the compute of both sides differs; None where it does not.
        of_several: the measure, where it is of several answers to a question and not of one.
        freedom: degrees of freedom behind the interval; None (unknown) counts as infinitely many, which makes
            REPRODUCED harder, never easier.
        protocol: what was used, by the names in `judge.STATED`. Another harness than the claim's is a caveat
            and no deviation: a gain is paired against our own base, measured alike.
    """

    parse_rate: float = Field(ge=0, le=1)
    truncation_rate: float = Field(ge=0, le=1)
    partial: str | None = None
    toy: str | None = None
    unequal: str | None = None
    of_several: str | None = None
    freedom: float | None = None
    protocol: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        if len(bounds) == 1 or (bounds and not bounds[0] <= self.gain <= bounds[1]):
            raise ValueError("a measured gain lies inside its interval, which has two ends or none")
        if not 0 <= self.n <= self.expected:
            raise ValueError("no more items are scored than expected")
        return self

    @property
    def stored(self) -> MeasuredGain:
        """The difference alone."""
        return MeasuredGain(**{name: getattr(self, name) for name in MeasuredGain.model_fields})

    @property
    def error(self) -> float | None:
        """Standard error, from the longer side of the interval."""
        if self.low is None or self.high is None:
            return None
        reach = float(stdtrit(self.freedom or 1e9, (1 + LEVEL) / 2))
        return max(self.gain - self.low, self.high - self.gain) / reach


class Settle(Frozen):
    """What would settle an open claim with 80 % power, each alone, if `supposing` is right.

    Attributes:
        supposing: which difference is taken for the true one.
        to: the outcome that this would lead to.
        items: items in all, seeds unchanged; None where no number of items is enough.
        seeds: seeds in all, items unchanged; None where no number is enough, or with fewer than two seeds
            (their spread is unknown).
    """

    supposing: str
    to: Outcome
    items: int | None
    seeds: int | None

    @property
    def sentence(self) -> str:
        """For people."""
        counts = ((self.items, "items"), (self.seeds, "seeds"))
        ways = [f"{count:,} {what}" for count, what in counts if count is not None]
        would = f"{' or '.join(ways)} would settle it ({self.to.value}, {100 * power.POWER:.0f} % power)"
        if not ways:
            would = "neither more items nor more seeds alone would settle it"
        return f"If {self.supposing} is the true one, {would}."


class Judgement(Frozen):
    """The verdict on one claim.

    Attributes:
        verdict: the one to print; PROTOCOL DEVIATION where there are `deviations`, else TOY in a toy world.
        outcome: what the numbers alone say; None where it is NOT RUN.
        reason: why it is NOT RUN.
        deviations: why the measurement is not of what was claimed.
        caveats: what the numbers leave out although they are of the right thing.
        toy: the world it was measured in, for the verdict TOY.
        p: of the outcome that is nearest: of "outside the band" (TOST) or "on its edge" for a gain, of "no
            difference" for an order. p_holm: the same, corrected over all claims measured together.
        settle: for an inconclusive claim; empty where nothing is known about it.
    """

    verdict: Verdict
    outcome: Outcome | None = None
    reason: str | None = None
    deviations: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    toy: str | None = None
    p: float | None = None
    p_holm: float | None = None
    settle: tuple[Settle, ...] = ()

    @property
    def label(self) -> str:
        """The verdict; of a toy world with what the numbers say there."""
        toy = f": {self.outcome.value} there" if self.verdict is Verdict.TOY and self.outcome else ""
        return self.verdict.value + toy

    @property
    def sentence(self) -> str:
        """The verdict with its reasons, for people."""
        words = self.verdict.value
        if self.reason:
            words += f": {self.reason}"
        if self.verdict is Verdict.TOY and self.outcome:
            words += f": {self.outcome.value} in {self.toy}"
        if self.deviations and self.outcome:
            words += f": {'; '.join(self.deviations)}; the numbers alone: {self.outcome.value}"
        if self.caveats:
            words += f" ({'; '.join(self.caveats)})"
        return " ".join([f"{words}.", *(one.sentence for one in self.settle)])


class Claimed(Frozen):
    """The gain that a claim states and its tolerance, fractions."""

    value: float
    tolerance: float


class ClaimVerdict(Judgement):
    """A claim on file with its verdict, as results.json keeps it. `claimed` is None for a claim of order."""

    id: str
    kind: str
    statement: str
    source: str
    table: str
    certainty: Certainty
    claimed: Claimed | None
    measured: MeasuredGain | None
