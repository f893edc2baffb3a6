"""Small SVG charts: pure functions from numbers to markup. Colours come from the page's style sheet, by
class; every label is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from harness.report.words import metric_label, number, points, visible

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


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Centred running mean over `window` values, shorter at the ends."""
    half = window // 2
    return [
        math.fsum(values[max(0, i - half) : i + half + 1]) / len(values[max(0, i - half) : i + half + 1])
        for i in range(len(values))
    ]


def svg(width: int, height: int, label: str, *parts: str) -> Markup:
    body = Markup("").join(Markup(part) for part in parts)
    return (
        Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, visible(label))
        + body
        + Markup("</svg>")
    )


def text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(visible(text))}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def path(corners: Sequence[Point], kind: str) -> str:
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}" class="{kind}"/>'


def curve(label: str, series: Mapping[int, Sequence[Point]]) -> Markup:
    """One metric over optimizer steps, one line an iteration: values faint, their running mean in front;
    non-finite ones left out."""
    width, height, left, right, top, bottom = 264, 132, 38, 256, 12, 112
    finite = {t: [(x, y) for x, y in given if math.isfinite(y)] for t, given in series.items()}
    everything = [point for given in finite.values() for point in given]
    if not everything:
        return Markup("")
    low, high = min(y for _, y in everything), max(y for _, y in everything)
    if high - low < 1e-9:  # a flat line: nothing measured here is below zero unless its value is
        low, high = (0.0, 1.0) if low == 0 else (low - 0.5 * abs(low), high + 0.5 * abs(high))
    last = max(x for x, _ in everything)
    across, up = Scale(min(x for x, _ in everything), last, left, right), Scale(low, high, bottom, top)
    parts = []
    for value in ticks(low, high):
        parts += [
            line(left, up(value), right, up(value), "rule"),
            text(left - 5, up(value) + 3.5, f"{value:g}", "end"),
        ]
    parts += [
        text(left, bottom + 15, f"{everything[0][0]:g}"),
        text(right, bottom + 15, f"step {last:g}", "end"),
    ]
    for t, given in finite.items():
        if given:
            parts.append(path([(across(x), up(y)) for x, y in given], f"faint i{t % 4}"))
            means = smooth([y for _, y in given], max(1, len(given) // 8))
            parts.append(
                path([(across(x), up(y)) for (x, _), y in zip(given, means, strict=True)], f"bold i{t % 4}")
            )
    return svg(width, height, f"{label} by step", *parts)


def forest(results: Mapping[str, Any], metric: str) -> Markup:
    """Every paired gain over the base with its interval, suites below each other, the average last. One scale
    for all measures."""
    gains = results["gains"]
    suites = [
        suite for suite in (*results["suites"], "average") if any(suite in one for one in gains.values())
    ]
    rows = [
        (suite, model, gains[model][suite][metric])
        for suite in suites
        for model in gains
        if suite in gains[model]
    ]
    if not rows:
        return Markup("")
    shown = [
        one[name] for one in _all_gains(gains) for name in ("gain", "low", "high") if one[name] is not None
    ]
    margin = 0.06 * (max(*shown, 0) - min(*shown, 0)) or 0.01
    width, left, right, step, top = 300, 28, 252, 17, 30
    height = top + step * len(rows) + 24 * len(suites) + 14
    across = Scale(min(*shown, 0) - margin, max(*shown, 0) + margin, left, right)
    bottom = height - 20
    parts = [text(0, 12, metric_label(metric), "start", "title")]
    for value in ticks(100 * across.low, 100 * across.high, 6):
        x = across(value / 100)
        parts += [
            line(x, top - 8, x, bottom, "zero" if value == 0 else "rule"),
            text(x, bottom + 14, points(value / 100).removesuffix(".0"), "middle"),
        ]
    y, previous = float(top), None
    for suite, model, gain in rows:
        if suite != previous:
            y += 20 if previous is None else 24
            parts.append(text(0, y - 6, suite, "start", "strong" if suite == "average" else ""))
            previous = suite
        kind = f"i{int(model[1:]) % 4}"
        if gain["low"] is not None:
            parts.append(line(across(gain["low"]), y + 5, across(gain["high"]), y + 5, f"bar {kind}"))
        parts += [
            f'<circle cx="{across(gain["gain"]):.1f}" cy="{y + 5:.1f}" r="3.6" class="dot {kind}"/>',
            text(0, y + 9, model, "start", kind),
            text(width, y + 9, points(gain["gain"]), "end", kind),
        ]
        y += step
    return svg(width, int(height), f"Paired gains over the base, {metric_label(metric)}", *parts)


def _all_gains(gains: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [gain for suites in gains.values() for by_metric in suites.values() for gain in by_metric.values()]


def calibration(rows: Sequence[Mapping[str, Any]], keep: tuple[float, float], iteration: int) -> Markup:
    """Accuracy of the pseudo-label against c: dots sized by number of questions, Wilson whiskers, the
    diagonal, the kept band shaded."""
    if not rows:
        return Markup("")
    left, right, top, bottom = 34.0, 226.0, 10.0, 172.0
    across, up = Scale(0, 1, left, right), Scale(0, 1, bottom, top)
    most = max(row["n"] for row in rows)
    parts = [
        f'<rect x="{across(keep[0]):.1f}" y="{top}" width="{across(keep[1]) - across(keep[0]):.1f}" height="{bottom - top}" class="band"/>',
        line(left, bottom, right, top, "zero"),
    ]
    for value in (0, 0.5, 1):
        parts += [
            line(left, up(value), right, up(value), "rule"),
            text(left - 5, up(value) + 3.5, f"{100 * value:.0f}", "end"),
            text(across(value), bottom + 14, f"{value:g}", "middle"),
        ]
    parts.append(text(right, bottom + 27, "confidence c", "end"))
    for row in rows:
        x = across(row["mean_confidence"])
        parts += [
            line(x, up(row["low"]), x, up(row["high"]), f"bar i{iteration % 4}"),
            f'<circle cx="{x:.1f}" cy="{up(row["value"]):.1f}" r="{2 + 5 * math.sqrt(row["n"] / most):.1f}" class="dot i{iteration % 4}"/>',
        ]
    return svg(240, 204, f"Label accuracy by confidence, iteration {iteration}", *parts)


def votes(cast: Sequence[str | None], majority: str | None, intuitive: str | None) -> Markup:
    """How often each option was voted for; the majority's bar is filled, the intuitive answer marked,
    unreadable votes last."""
    options = sorted({*"ABCD", *(vote for vote in cast if vote is not None)})
    most = max(len(cast), 1)
    parts = []
    for index, option in enumerate((*options, None)):
        count, y = sum(1 for vote in cast if vote == option), 15 * index
        kind = "chosen" if option is not None and option == majority else "other"
        parts += [
            text(0, y + 11, "?" if option is None else option, "start", "strong" if kind == "chosen" else ""),
            f'<rect x="14" y="{y + 2}" width="{max(1.0, 96 * count / most):.1f}" height="10" class="{kind}"/>',
            text(116, y + 11, number(count), "start"),
        ]
        if option is not None and option == intuitive:
            parts.append(text(134, y + 11, "\u2190 intuitive"))
    return svg(190, 15 * (len(options) + 1), "Votes", *parts)
