"""What the rules say about a run."""

from __future__ import annotations

from collections.abc import Sequence

from harness.stats import Frozen

SHOWN = 3


class Finding(Frozen):
    """One rule on one stage, or on the whole run (stage "").

    Attributes:
        rule: its name, "reward-formula" and the like.
        passed: None where it had nothing to look at; `message` then has the reason.
        message: what was found, in one sentence.
    """

    rule: str
    stage: str
    passed: bool | None
    message: str


class Report(Frozen):
    """All findings on a run. It passes where none failed."""

    passed: bool
    failed: int
    not_checked: int
    findings: list[Finding]

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> Report:
        """`findings`, counted."""
        failed = sum(one.passed is False for one in findings)
        unchecked = sum(one.passed is None for one in findings)
        return cls(passed=not failed, failed=failed, not_checked=unchecked, findings=list(findings))

    @property
    def broken(self) -> list[str]:
        """Names of the rules that failed."""
        return list(dict.fromkeys(one.rule for one in self.findings if one.passed is False))


def finding(rule: str, stage: str, passed: bool | None, message: str) -> Finding:
    """A finding."""
    return Finding(rule=rule, stage=stage, passed=passed, message=message)


def all_of(rule: str, stage: str, what: str, checked: int, wrong: Sequence[str]) -> Finding:
    """A rule about every one of `checked` things; `wrong` describes those that break it."""
    if not checked:
        return finding(rule, stage, None, f"no {what} to look at")
    if not wrong:
        return finding(rule, stage, True, f"{checked:,} {what} as they should be")
    more = f" and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
    message = f"{len(wrong):,} of {checked:,} {what} are not: {'; '.join(wrong[:SHOWN])}{more}"
    return finding(rule, stage, False, message)
