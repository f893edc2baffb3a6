"""The profile's charts: where a generation batch's time goes, and stock over ours. Pure functions from the
profile to markup."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.perf.profile.rows import OURS, STOCK
from harness.perf.profile.tables import heading, number
from harness.tables.charts import Scale, line, rect, svg, text

PHASES = ("rollout", "votes", "logprobs", "update")
COLOURS = dict(zip(PHASES, ("i1", "i2", "i3", "i0"), strict=True))
MEASURES = {
    "speedup": "Speed",
    "positions": "Token positions",
    "encoder_passes": "Encoder passes",
    "peak_memory": "Peak memory",
}
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
    known: str


def batches(profile: Mapping[str, Any]) -> dict[str, dict[str, list[Part]]]:
    """Parts by role and side of every generation batch that was run. Stock is given our rollouts and votes,
    so its own are inferred."""
    rows = {
        (one["phase"], one["role"], one["side"]): one["seconds"]["median"]
        for one in profile["phases"]
        if one["target"] == "grpo"
    }
    alone = {
        (one["phase"], one["role"]): one["speedup"] for one in profile["ratios"] if one["target"] != "grpo"
    }
    found: dict[str, dict[str, list[Part]]] = {}
    for role in dict.fromkeys(role for _, role, _ in rows):
        ours = [
            Part(phase, rows[phase, role, OURS], MEASURED) for phase in PHASES if (phase, role, OURS) in rows
        ]
        found[role] = {OURS: ours}
        if ("update", role, STOCK) in rows:
            found[role][STOCK] = [_stock(rows, alone, role, one) for one in ours]
    return found


def _stock(rows: Mapping[Any, float], alone: Mapping[Any, float], role: str, ours: Part) -> Part:
    measured = rows.get((ours.phase, role, STOCK))
    if measured is not None:
        return Part(ours.phase, measured, MEASURED)
    ratio = alone.get((ours.phase, "solver" if ours.phase == "votes" else role))
    return (
        Part(ours.phase, ours.seconds, BORROWED)
        if ratio is None
        else Part(ours.phase, ours.seconds * ratio, SCALED)
    )


def stacked(role: str, sides: Mapping[str, Sequence[Part]]) -> Markup:
    """A bar a side, as long as its seconds."""
    longest = max(sum(one.seconds for one in parts) for parts in sides.values())
    width, left, right, step = 640, 52, 580, 46
    across = Scale(0, longest, left, right)
    drawn = []
    for index, (side, parts) in enumerate(sides.items()):
        y, start = 8 + step * index, 0.0
        drawn.append(text(0, y + 17, side, "strong"))
        for one in parts:
            x, end = across(start), across(start + one.seconds)
            kind = f"dot {COLOURS[one.phase]}" + ("" if one.known == MEASURED else f" {one.known}")
            drawn.append(rect(x, y, max(0.5, end - x - 1), 26, kind))
            if end - x > 34:
                drawn.append(text((x + end) / 2, y + 17, number(one.seconds), "inside", "middle"))
            start += one.seconds
        drawn.append(text(across(start) + 5, y + 17, f"{number(start)} s", "strong"))
    said = "; ".join(
        f"{side}: " + ", ".join(f"{one.phase} {number(one.seconds)} s" for one in parts)
        for side, parts in sides.items()
    )
    return svg(width, step * len(sides), f"Seconds of the {role}'s generation batch by phase. {said}", drawn)


def ratios(found: Sequence[Mapping[str, Any]], measure: str) -> Markup:
    """Stock over ours of one measure, a bar a phase from 1 on a logarithmic scale: right of it ours is
    better."""
    rows = [one for one in found if one[measure]]
    if not rows:
        return Markup("")
    ends = [
        1.0,
        *(one[measure] for one in rows),
        *(end for one in rows if measure == "speedup" for end in one["speedup_range"]),
    ]
    width, left, right, top, step = 300, 116, 258, 8, 17
    across = Scale(math.log(min(ends) / 1.06), math.log(max(ends) * 1.06), left, right)
    drawn: list[Markup] = []
    y, previous = top, None
    for one in rows:
        if heading(one) != previous:
            previous = heading(one)
            y += 8 if drawn else 0
            drawn.append(text(0, y + 9, previous, "title"))
            y += step
        drawn += _bar(one, measure, across, y)
        y += step
    drawn.insert(0, line(across(0), top - 4, across(0), y, "zero"))
    said = ", ".join(f"{heading(one)} {one['phase']} {one[measure]:.2f}" for one in rows)
    return svg(width, y + 4, f"{MEASURES[measure]}, stock over ours: {said}", drawn)


def _bar(one: Mapping[str, Any], measure: str, across: Scale, y: int) -> list[Markup]:
    start, end = sorted((across(0), across(math.log(one[measure]))))
    colour = "i1" if one[measure] >= 1 else "i2"
    drawn = [
        text(8, y + 9, one["phase"]),
        rect(start, y + 1, max(1.0, end - start), 9, f"dot {colour}"),
        text(300, y + 9, f"{one[measure]:.2f}x", "strong", "end"),
    ]
    if measure == "speedup":
        low, high = (across(math.log(bound)) for bound in one["speedup_range"])
        drawn.append(line(low, y + 5.5, high, y + 5.5, "reach"))
    return drawn
