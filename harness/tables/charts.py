"""The parts of a chart as SVG: pure functions from numbers to markup.

No library draws these: matplotlib, plotly and altair write a chart with its own colours and fonts, or need a
script. These marks are classes of the page's style sheet, so that they follow its light and dark mode, stay
text for a screen reader, and cost a kilobyte each. Every label is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.tables.text import visible

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Linear map of [low, high] to pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / ((self.high - self.low) or 1.0) * (self.end - self.start)


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """At most `most` + 1 round values (1, 2 or 5 times a power of ten apart) inside [low, high]."""
    raw = (high - low) / most
    if not math.isfinite(raw) or raw <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def svg(width: float, height: float, label: str, parts: Sequence[Markup]) -> Markup:
    """One chart; `label` says in words what it shows."""
    head = '<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>'
    return Markup(head).format(width, height, visible(label, 4000), Markup("").join(parts))


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(
        x, y, anchor, kind, visible(words)
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(
        x1, y1, x2, y2, kind
    )


def path(corners: Sequence[Point], kind: str) -> Markup:
    shown = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return Markup('<polyline points="{}" class="{}"/>').format(shown, kind)


def rect(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"/>').format(
        x, y, width, height, kind
    )


def dot(x: float, y: float, kind: str, radius: float = 3.6) -> Markup:
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" class="dot {}"/>').format(x, y, radius, kind)
