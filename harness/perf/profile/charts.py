"""The profile's chart: where a generation batch's time goes. Pure functions from the profile to markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.perf.profile.results import OURS, STOCK, Profile, Ratio
from harness.tables.charts import Scale, rect, svg, text
from harness.tables.words import significant

PHASES = ("rollout", "votes", "logprobs", "update")
COLOURS = dict(zip(PHASES, ("i1", "i2", "i3", "i0"), strict=True))
MEASURED, SCALED, BORROWED = "measured", "scaled", "borrowed"


@dataclass(frozen=True)
class Part:
    """Seconds of a phase within a batch, and how they are known.

    Attributes:
        known: "measured"; "scaled", our seconds times the ratio measured for rollouts or votes alone;
            "borrowed", our own seconds where stock's were not measured at all.
    """

    phase: str
    seconds: float
    known: str = MEASURED


def batches(profile: Profile) -> dict[str, dict[str, list[Part]]]:
    """Parts by role and side of every generation batch that was run. Stock is given our rollouts and votes,
    so its own are inferred."""
    seconds = {
        (one.phase, one.role, one.side): one.seconds.median for one in profile.phases if one.target == "grpo"
    }
    found: dict[str, dict[str, list[Part]]] = {}
    for role in dict.fromkeys(role for _, role, _ in seconds):
        phases = [phase for phase in PHASES if (phase, role, OURS) in seconds]
        ours = [Part(phase, seconds[phase, role, OURS]) for phase in phases]
        found[role] = {OURS: ours}
        if ("update", role, STOCK) in seconds:
            found[role][STOCK] = [
                Part(one.phase, seconds[one.phase, role, STOCK])
                if (one.phase, role, STOCK) in seconds
                else _inferred(one, role, profile.ratios)
                for one in ours
            ]
    return found


def _inferred(ours: Part, role: str, ratios: Sequence[Ratio]) -> Part:
    asked = "solver" if ours.phase == "votes" else role  # who draws
    for one in ratios:
        if one.target != "grpo" and (one.phase, one.role) == (ours.phase, asked):
            return Part(ours.phase, ours.seconds * one.speedup, SCALED)
    return Part(ours.phase, ours.seconds, BORROWED)


def stacked(role: str, sides: Mapping[str, Sequence[Part]]) -> Markup:
    """A bar a side, as long as its seconds."""
    across = Scale(0, max(sum(one.seconds for one in parts) for parts in sides.values()), 52, 580)
    drawn, step = [], 46
    for index, (side, parts) in enumerate(sides.items()):
        y, start = 8 + step * index, 0.0
        drawn.append(text(0, y + 17, side, "strong"))
        for one in parts:
            x, end = across(start), across(start + one.seconds)
            kind = f"dot {COLOURS[one.phase]}" + ("" if one.known == MEASURED else f" {one.known}")
            drawn.append(rect(x, y, max(0.5, end - x - 1), 26, kind))
            if end - x > 34:
                drawn.append(text((x + end) / 2, y + 17, significant(one.seconds), "inside", "middle"))
            start += one.seconds
        drawn.append(text(across(start) + 5, y + 17, f"{significant(start)} s", "strong"))
    spoken = "; ".join(
        f"{side}: " + ", ".join(f"{one.phase} {significant(one.seconds)} s" for one in parts)
        for side, parts in sides.items()
    )
    label = f"Seconds of the {role}'s generation batch by phase. {spoken}"
    return svg(640, step * len(sides), label, drawn)
