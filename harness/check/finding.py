"""What a rule says about a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One rule on one stage (or on the whole run, stage "").

    Attributes:
        rule: its name, "reward-formula" and the like.
        passed: None where it could not be looked at; `says` then has the reason.
        says: what was found, in one sentence.
    """

    rule: str
    stage: str
    passed: bool | None
    says: str


def all_of(rule: str, stage: str, what: str, checked: int, wrong: Sequence[str]) -> Finding:
    """A rule about every one of `checked` things; `wrong` describes those that break it."""
    if not checked:
        return Finding(rule, stage, None, f"no {what} to look at")
    if not wrong:
        return Finding(rule, stage, True, f"{checked:,} {what} as they should be")
    more = f" and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
    return Finding(
        rule, stage, False, f"{len(wrong):,} of {checked:,} {what} are not: {'; '.join(wrong[:SHOWN])}{more}"
    )
