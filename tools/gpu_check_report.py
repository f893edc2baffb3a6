"""What `gpu_check.py` finds: typed, as JSON and as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Values = dict[str, Any]  # measured numbers and words, JSON as they are


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Check(_Record):
    """A number that has to lie between two ends, both included; `judged` is false where it only does on a
    GPU."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    judged: bool = True

    @property
    def in_range(self) -> bool:
        """Nothing measured is out of range, as is anything that is not a number."""
        if not self.judged:
            return True
        low, high = float("-inf") if self.low is None else self.low, self.high
        return self.value is not None and low <= self.value <= (float("inf") if high is None else high)

    @property
    def bounds(self) -> str:
        """In words."""
        ends = {"at least": self.low, "at most": self.high}
        return " and ".join(f"{word} {end:g}" for word, end in ends.items() if end is not None)


Found = tuple[Values, list[Check], dict[str, float]]  # what a section returns: measured, checks, rates


class Section(_Record):
    """One section: `state` says whether it ended; `rates` are what `vzero-harness plan` takes from it."""

    state: Literal["done", "failed", "out of time"]
    seconds: float
    commit: str | None = None
    measured: Values = {}
    checks: tuple[Check, ...] = ()
    rates: dict[str, float] = {}
    error: str = ""

    @property
    def in_range(self) -> bool:
        return self.state == "done" and all(check.in_range for check in self.checks)


class Report(_Record):
    """All sections so far. `dry`: tiny shapes on the CPU, which prove that the program runs and no more."""

    card: str
    device: str
    dry: bool
    provenance: Values
    sections: dict[str, Section] = {}

    @property
    def rates(self) -> dict[str, float]:
        """Of all sections; the mean where several have one."""
        found: dict[str, list[float]] = {}
        for section in self.sections.values():
            for name, value in section.rates.items():
                found.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in found.items()}


def markdown(report: Report, planned: tuple[str, ...]) -> str:
    """The page: what is out of range first, then every section."""
    packages = report.provenance["packages"]
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    git = report.provenance["git"]
    lines = [
        f"# {report.device}",
        "",
        f"Commit {git['commit'][:12] + (' and changes' if git['dirty'] else '') if git else 'not known'}; "
        f"Python {report.provenance['python']}; {versions}.",
        "",
    ]
    if report.dry:
        lines += ["**A dry run on the CPU: no number here says anything about a GPU.**", ""]
    lines += [*_verdict(report, planned), ""]
    for name, section in report.sections.items():
        lines += _section(name, section)
    return "\n".join(lines)


def _verdict(report: Report, planned: tuple[str, ...]) -> list[str]:
    bad = [
        f"- {name}: {check.name} is {_number(check.value)}, expected {check.bounds}"
        for name, section in report.sections.items()
        for check in section.checks
        if not check.in_range
    ]
    bad += [
        f"- {name}: {section.state}{': ' + section.error.splitlines()[-1] if section.error else ''}"
        for name, section in report.sections.items()
        if section.state != "done"
    ]
    bad += [f"- {name}: not run yet" for name in planned if name not in report.sections]
    return ["Out of range or missing:", "", *bad] if bad else ["Everything is in range."]


def _section(name: str, section: Section) -> list[str]:
    lines = [f"## {name}", "", f"{section.state} in {section.seconds:.0f} s", ""]
    if section.checks:
        lines += ["| check | found | expected | |", "|---|--:|---|---|"]
        for one in section.checks:
            mark = ("in range" if one.in_range else "**out**") if one.judged else "a GPU's"
            lines.append(f"| {one.name} | {_number(one.value)} | {one.bounds} | {mark} |")
        lines.append("")
    rows = list(_flat(section.measured))
    if rows:
        lines += [
            "| measured | |",
            "|---|--:|",
            *(f"| {key} | {_number(value)} |" for key, value in rows),
            "",
        ]
    return lines


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        nested = isinstance(value, Mapping)
        found += _flat(value, f"{prefix}{key}, ") if nested else [(prefix + key, value)]
    return found


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "none" if value is None else str(value).replace("|", "/").replace("\n", " ")
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
