"""Charts of several models or arms: the forest of arms, accuracy over the number of samples. Drawn like those
of `charts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from harness.report.charts import Scale, line, path, svg, text, ticks
from harness.report.words import TONES, percent, points

KIND = {"good": "good", "bad": "bad", "": "none"}
LONGEST_NAME, CHARACTER = 40, 6.2  # letters of a row's name that are shown, and how wide one is


def arms_forest(comparison: Mapping[str, Any], place: str) -> Markup:
    """The gain of every measured row on one suite (or the average): dot, interval, and each seed's own gain
    as a tick below it.

    The scale is that of the gains: an interval of two seeds can be ten times as wide as all of them, and ends
    in an arrow at the edge.
    """
    rows = [
        (row["name"], cell["gain"])
        for row in comparison["rows"]
        if row["kind"] == "measured"
        if (cell := row["cells"].get(place))
    ]
    rows = [(name, gain) for name, gain in rows if gain]
    if not rows:
        return Markup("")
    top, step, left = (
        30,
        22,
        max(158, 12 + round(CHARACTER * min(LONGEST_NAME, max(len(name) for name, _ in rows)))),
    )
    right, width, height = left + 246, left + 302, top + step * len(rows) + 22
    across = _scale_of([gain for _, gain in rows], left, right)
    parts = [text(0, 12, place, "start", "title")]
    for value in ticks(100 * across.low, 100 * across.high, 5):
        x = across(value / 100)
        parts += [
            line(x, top - 8, x, height - 18, "zero" if value == 0 else "rule"),
            text(x, height - 4, points(value / 100).removesuffix(".0"), "middle"),
        ]
    for index, (name, gain) in enumerate(rows):
        y, kind = top + step * index + 4.0, KIND[TONES[gain["direction"]]]
        parts += _bar(gain, across, y, kind)
        parts += [
            line(across(one), y + 5, across(one), y + 9, f"bar {kind}")
            for one in gain["by_seed"]
            if len(gain["by_seed"]) > 1
        ]
        parts += [
            f'<circle cx="{across(gain["gain"]):.1f}" cy="{y:.1f}" r="3.6" class="dot {kind}"/>',
            text(
                0,
                y + 4,
                name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "\u2026",
                "start",
                "strong" if kind != "none" else "",
            ),
            text(width, y + 4, points(gain["gain"]), "end", ""),
        ]
    return svg(width, height, f"Gains on {place} by arm", *parts)


def _scale_of(gains: Sequence[Mapping[str, Any]], left: float, right: float) -> Scale:
    """Holds every gain, and intervals as far as the gains reach once more to either side."""
    shown = [value for gain in gains for value in (gain["gain"], *gain["by_seed"], 0.0)]
    reach = (max(shown) - min(shown)) or 0.01
    ends = [value for gain in gains for value in (gain["low"], gain["high"]) if value is not None]
    low, high = max(min([*ends, *shown]), min(shown) - reach), min(max([*ends, *shown]), max(shown) + reach)
    margin = 0.06 * (high - low)
    return Scale(low - margin, high + margin, left, right)


def _bar(gain: Mapping[str, Any], across: Scale, y: float, kind: str) -> list[str]:
    """The interval as far as the chart goes; an arrow where it goes on."""
    if gain["low"] is None:
        return []
    low, high = max(gain["low"], across.low), min(gain["high"], across.high)
    parts = [line(across(low), y, across(high), y, f"bar {kind}")]
    for beyond, x, turn in ((gain["low"] < low, across(low), 1), (gain["high"] > high, across(high), -1)):
        if beyond:
            parts.append(path([(x + 5 * turn, y - 4), (x, y), (x + 5 * turn, y + 4)], f"bar {kind}"))
    return parts


def by_samples(curves: Mapping[str, Any], which: str, label: str) -> Markup:
    """maj@k ("majority") or pass@k ("passed") over k, one line a model; beside maj@k the greedy accuracy,
    dashed."""
    shown = {model: one for model, one in curves.items() if one}
    if not shown:
        return Markup("")
    greedy = which == "majority"  # the level that voting is compared with
    values = [
        value for one in shown.values() for value in (*one[which], *([one["greedy"]] if greedy else []))
    ]
    low, high = min(values), max(values)
    low, high = (low - 0.02, high + 0.02) if high - low < 0.02 else (low, high)
    width, left, right, top, bottom = 300, 38, 262, 12, 140
    ks = next(iter(shown.values()))["k"]
    across, up = Scale(ks[0], ks[-1], left, right), Scale(low, high, bottom, top)
    parts = []
    for value in ticks(100 * low, 100 * high):
        parts += [
            line(left, up(value / 100), right, up(value / 100), "rule"),
            text(left - 5, up(value / 100) + 3.5, f"{value:g}", "end"),
        ]
    parts += [text(left, bottom + 15, f"k = {ks[0]}"), text(right, bottom + 15, f"{ks[-1]}", "end")]
    heights = sorted(((up(one[which][-1]), model) for model, one in shown.items()))
    labels = _apart([y for y, _ in heights])
    for index, (model, one) in enumerate(shown.items()):
        if greedy:
            parts.append(
                line(left, up(one["greedy"]), right, up(one["greedy"]), f"level i{_colour(model, index)}")
            )
        parts.append(
            path(
                [(across(k), up(value)) for k, value in zip(one["k"], one[which], strict=True)],
                f"bold i{_colour(model, index)}",
            )
        )
    for (_, model), y in zip(heights, labels, strict=True):
        parts.append(text(right + 4, y + 3.5, model, "start", f"i{_colour(model, list(shown).index(model))}"))
    ends = ", ".join(
        f"{model} {percent(one[which][0])} to {percent(one[which][-1])} %" for model, one in shown.items()
    )
    return svg(width, bottom + 20, f"{label}: {ends}", *parts)


def _colour(model: str, index: int) -> str:
    """The report's colour of an iteration; the base has none of its own."""
    return "b" if model == "base" else str(int(model[1:]) % 4 if model[1:].isdigit() else index % 4)


def _apart(heights: list[float], gap: float = 12.0) -> list[float]:
    """Labels at these heights (ascending), pushed down until none covers another."""
    found: list[float] = []
    for y in heights:
        found.append(max(y, found[-1] + gap) if found else y)
    return found
