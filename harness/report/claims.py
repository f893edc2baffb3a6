"""Verdicts on the published claims, as a table and as the cards of a page; those with a measurement first."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.verdicts import OTHER_MODEL
from harness.claims.schema import Certainty
from harness.claims.verdict import ClaimVerdict, Outcome, Verdict
from harness.tables.table import Cell, Table, Tone, texts
from harness.tables.words import counted, interval, points

TONES: dict[Verdict, Tone] = {
    Verdict.REPRODUCED: "good",
    Verdict.CONTRADICTED: "bad",
    Verdict.TOY: "",
    Verdict.PROTOCOL_DEVIATION: "warn",
    Verdict.INCONCLUSIVE: "",
    Verdict.NOT_RUN: "dim",
}
OUTCOMES = {Outcome.HOLDS: "holds", Outcome.FAILS: "fails", Outcome.OPEN: "stays open"}
CERTAINTIES: dict[Certainty, str] = {
    "read": "read there",
    "secondary": "as others quote it",
    "inferred": "inferred, not read",
}


def ordered(claims: Sequence[ClaimVerdict]) -> list[ClaimVerdict]:
    """By verdict: reproduced, contradicted, toy, not measured as claimed, inconclusive, not run."""
    return sorted(claims, key=lambda one: list(TONES).index(one.verdict))


def table(claims: Sequence[ClaimVerdict]) -> Table:
    """Every claim on file."""
    rows = [
        (
            one.statement,
            cited(one),
            Cell.of(one.label, tone=TONES[one.verdict]),
            f"{measured(one)}; {one.sentence}" if one.measured else one.reason or "",
        )
        for one in ordered(claims)
    ]
    return Table("Claims", texts("claim", "source", "verdict", "here"), [rows])


def in_words(claim: ClaimVerdict) -> str:
    """The verdict in lower case: "not run", "holds in the toy world"."""
    if claim.verdict is Verdict.TOY and claim.outcome:
        return f"{OUTCOMES[claim.outcome]} in the toy world"
    if claim.reason and claim.reason.startswith(OTHER_MODEL):
        return "about other models"
    return claim.verdict.value.lower()


def cited(claim: ClaimVerdict) -> str:
    """Where it is published, and how it was read there."""
    place = f", {claim.table}" if claim.table not in claim.source else ""
    return f"{claim.source}{place} ({CERTAINTIES[claim.certainty]})"


def measured(claim: ClaimVerdict) -> str:
    """The measured gain in points with its interval; nothing where there is none."""
    found = claim.measured
    return f"{points(found.gain)} points ({interval(found.low, found.high)})" if found else ""


def on_card(claim: ClaimVerdict) -> str:
    """What a card says below the claim: what was measured, what was claimed, on how much."""
    found = claim.measured
    if found is None:
        return claim.reason or ""
    claimed = f"; claimed {points(claim.claimed.value)}" if claim.claimed else ""
    seeds = counted(len(found.by_seed) or 1, "seed")
    basis = f"{found.basis} \u00b7 " if found.basis else ""
    sizes = f"{found.n:,} of {found.expected:,} questions \u00b7 {seeds}"
    return f"{basis}{measured(claim)}{claimed} \u00b7 {sizes}"
