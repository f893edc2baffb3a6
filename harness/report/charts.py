"""The charts of the reports: learning curves, gains with their intervals, calibration, accuracy by number of
samples. Pure functions from numbers to markup; empty where there is nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.analysis.measures import CalibrationBin, SampleCurve
from harness.analysis.results import AVERAGE
from harness.stats import Gain
from harness.tables.charts import Point, Scale, dot, line, path, rect, svg, text, ticks
from harness.tables.words import percent, points

NOTHING = Markup("")
LONGEST_NAME, LETTER = 40, 6.2  # letters of a row's name that are shown, and how wide one is


def colour(model: str, index: int = 0) -> str:
    """The class of a model's colour, the same in every chart; the base has a quiet one."""
    if model == "base":
        return "ib"
    return f"i{(int(model[1:]) if model[1:].isdigit() else index) % 4}"


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Centred running mean over `window` values, shorter at the ends."""
    half = window // 2
    parts = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [math.fsum(part) / len(part) for part in parts]


def _across(scale: Scale, top: float, bottom: float, most: int) -> list[Markup]:
    """The grid of a scale of gains, with its points below."""
    parts = []
    for value in ticks(100 * scale.low, 100 * scale.high, most):
        x = scale(value / 100)
        parts += [
            line(x, top, x, bottom, "zero" if value == 0 else "rule"),
            text(x, bottom + 14, points(value / 100).removesuffix(".0"), "", "middle"),
        ]
    return parts


def _up(scale: Scale, left: float, right: float, factor: float = 1.0) -> list[Markup]:
    """The grid of an upward scale; `factor` is 100 where the labels are percent."""
    parts = []
    for value in ticks(factor * scale.low, factor * scale.high):
        y = scale(value / factor)
        parts += [line(left, y, right, y, "rule"), text(left - 5, y + 3.5, f"{value:g}", "", "end")]
    return parts


def curve(label: str, series: Mapping[int, Sequence[Point]]) -> Markup:
    """One number over optimizer steps, a line per iteration (or seed): values faint, their running mean bold;
    values that are not finite are left out."""
    width, height, left, right, top, bottom = 264, 132, 38, 256, 12, 112
    finite = {key: [(x, y) for x, y in given if math.isfinite(y)] for key, given in series.items()}
    everything = [point for given in finite.values() for point in given]
    if not everything:
        return NOTHING
    steps, values = zip(*everything, strict=True)
    low, high = min(values), max(values)
    if high - low < 1e-9:  # flat: the axis of a share that stayed zero shows nothing below zero
        low, high = (0.0, 1.0) if low == 0 else (low - 0.5 * abs(low), high + 0.5 * abs(high))
    across, up = Scale(min(steps), max(steps), left, right), Scale(low, high, bottom, top)
    parts = _up(up, left, right)
    parts += [
        text(left, bottom + 15, f"{steps[0]:g}"),
        text(right, bottom + 15, f"step {max(steps):g}", "", "end"),
    ]
    for key, given in finite.items():
        means = smooth([y for _, y in given], max(1, len(given) // 8))
        parts += [
            path([(across(x), up(y)) for x, y in given], f"faint i{key % 4}"),
            path([(across(x), up(y)) for (x, _), y in zip(given, means, strict=True)], f"bold i{key % 4}"),
        ]
    return svg(width, height, f"{label} by step", parts)


@dataclass(frozen=True)
class ForestRow:
    """A gain in a forest: the name before it, the class of its marks, and the group it stands in."""

    name: str
    gain: Gain
    kind: str
    group: str = ""


def forest(title: str, label: str, rows: Sequence[ForestRow], among: Sequence[Gain] = ()) -> Markup:
    """Paired gains with their intervals, and with several seeds each seed's own gain as a tick below.

    The scale is that of the gains, `among` those of other charts: an interval of two seeds can be ten times
    as wide as all of them, and ends in an arrow at the edge.
    """
    if not rows:
        return NOTHING
    groups = list(dict.fromkeys(row.group for row in rows if row.group))
    names = max(min(LONGEST_NAME, len(row.name)) for row in rows)
    # A chart of arms is wider and looser: its letters are the page's size, seeds stand below the lines.
    least, step = (28, 18) if groups else (158, 22)
    top, left = 30, max(least, 12 + round(LETTER * names))
    right, width = left + 232, left + 284
    bottom = top + step * len(rows) + 24 * len(groups)
    across = _gain_scale(among or [row.gain for row in rows], left, right)
    parts = [text(0, 12, title, "title"), *_across(across, top - 8, bottom, 5)]
    y, group = top + 4.0, ""
    for row in rows:
        if row.group != group:
            group, y = row.group, y + 24
            parts.append(text(0, y - 16, group, "strong" if group.startswith(AVERAGE) else ""))
        parts += _forest_row(row, across, y, width)
        y += step
    return svg(width, bottom + 20, label, parts)


def _forest_row(row: ForestRow, across: Scale, y: float, width: float) -> list[Markup]:
    name = row.name if len(row.name) <= LONGEST_NAME else f"{row.name[: LONGEST_NAME - 1]}\u2026"
    seeds = row.gain.by_seed if len(row.gain.by_seed) > 1 else ()
    return [
        *_bar(row.gain, across, y, row.kind),
        *(line(across(one), y + 5, across(one), y + 9, f"bar {row.kind}") for one in seeds),
        dot(across(row.gain.gain), y, row.kind),
        text(0, y + 4, name, row.kind),
        text(width, y + 4, points(row.gain.gain), row.kind, "end"),
    ]


def _gain_scale(gains: Sequence[Gain], left: float, right: float) -> Scale:
    """Holds every gain, and intervals as far as the gains reach once more to either side."""
    shown = [value for gain in gains for value in (gain.gain, *gain.by_seed, 0.0)]
    reach = (max(shown) - min(shown)) or 0.01
    ends = [value for gain in gains for value in (gain.low, gain.high) if value is not None]
    low, high = max(min([*ends, *shown]), min(shown) - reach), min(max([*ends, *shown]), max(shown) + reach)
    margin = 0.06 * (high - low)
    return Scale(low - margin, high + margin, left, right)


def _bar(gain: Gain, across: Scale, y: float, kind: str) -> list[Markup]:
    """The interval as far as the chart goes; an arrow where it goes on."""
    if gain.low is None or gain.high is None:
        return []
    low, high = max(gain.low, across.low), min(gain.high, across.high)
    parts = [line(across(low), y, across(high), y, f"bar {kind}")]
    for beyond, x, turn in ((gain.low < low, across(low), 5), (gain.high > high, across(high), -5)):
        if beyond:
            parts.append(path([(x + turn, y - 4), (x, y), (x + turn, y + 4)], f"bar {kind}"))
    return parts


def calibration(bins: Sequence[CalibrationBin], keep: tuple[float, float], iteration: int) -> Markup:
    """Accuracy of the label against c: dots sized by n, Wilson intervals, the kept band shaded; on the
    diagonal c would be the probability of being right."""
    left, right, top, bottom = 34.0, 226.0, 10.0, 172.0
    across, up = Scale(0, 1, left, right), Scale(0, 1, bottom, top)
    most, kind = max((one.n for one in bins), default=1), f"i{iteration % 4}"
    parts = [
        rect(across(keep[0]), top, across(keep[1]) - across(keep[0]), bottom - top, "band"),
        line(left, bottom, right, top, "zero"),
        text(right, bottom + 27, "confidence c", "", "end"),
    ]
    for value in (0, 0.5, 1):
        parts += [
            line(left, up(value), right, up(value), "rule"),
            text(left - 5, up(value) + 3.5, f"{100 * value:.0f}", "", "end"),
            text(across(value), bottom + 14, f"{value:g}", "", "middle"),
        ]
    for one in bins:
        if one.value is None or one.low is None or one.high is None:
            continue
        x = across(one.mean_confidence)
        parts += [
            line(x, up(one.low), x, up(one.high), f"bar {kind}"),
            dot(x, up(one.value), kind, 2 + 5 * math.sqrt(one.n / most)),
        ]
    return svg(240, 204, f"Label accuracy by confidence, iteration {iteration}", parts)


def by_samples(curves: Mapping[str, SampleCurve | None], which: str, label: str) -> Markup:
    """maj@k ("majority") or pass@k ("passed") over k, a line per model; beside maj@k the greedy accuracy of
    each, dashed."""
    shown = {model: one for model, one in curves.items() if one}
    if not shown:
        return NOTHING
    majority = which == "majority"
    lines = {model: one.majority if majority else one.passed for model, one in shown.items()}
    levels = {model: one.greedy for model, one in shown.items()} if majority else {}
    values = [*levels.values(), *(value for one in lines.values() for value in one)]
    margin = 0.02 if max(values) - min(values) < 0.02 else 0.0
    width, left, right, top, bottom = 300, 38, 262, 12, 140
    ks = next(iter(shown.values())).k
    across = Scale(ks[0], ks[-1], left, right)
    up = Scale(min(values) - margin, max(values) + margin, bottom, top)
    parts = [*_up(up, left, right, 100), text(left, bottom + 15, f"k = {ks[0]}")]
    parts.append(text(right, bottom + 15, f"{ks[-1]}", "", "end"))
    kinds = {model: colour(model, index) for index, model in enumerate(shown)}
    parts += [line(left, up(y), right, up(y), f"level {kinds[model]}") for model, y in levels.items()]
    for model, one in lines.items():
        corners = [(across(k), up(value)) for k, value in zip(ks, one, strict=True)]
        parts.append(path(corners, f"bold {kinds[model]}"))
    lowest = 0.0
    for model in sorted(lines, key=lambda model: up(lines[model][-1])):
        lowest = max(up(lines[model][-1]), lowest + 12)  # names may not cover each other
        parts.append(text(right + 4, lowest + 3.5, model, kinds[model]))
    ends = (f"{model} {percent(one[0])} to {percent(one[-1])} %" for model, one in lines.items())
    return svg(width, bottom + 20, f"{label}: {', '.join(ends)}", parts)
