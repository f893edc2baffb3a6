"""Gain against total compute, a point per arm, and the frontier: the arms that no other beats at the same
compute or less. One picture that can stand alone, and its table in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from textwrap import wrap

from markupsafe import Markup

from harness.analysis.accuracies import AVERAGE, BASE
from harness.analysis.comparison import ArmRow, Comparison
from harness.report.findings import metric_label
from harness.stats import Gain
from harness.tables.charts import Point, Scale, dot, line, path, rect, svg, text, ticks
from harness.tables.words import counted, interval, points, ratio
from vzero.arms import REFERENCE, known

WIDTH, LEFT, RIGHT, HEIGHT = 760.0, 46.0, 744.0, 380.0
LETTER, LINE = 6.0, 12.0  # pixels of a letter of a label, and of its height
LOWEST = -0.01  # a point below is named under the chart: losses would squeeze all others
SIDES = ((-0.8, -0.7), (0, -1), (1, 0), (-1, 0), (0, 1), (0.8, -0.7), (0.8, 0.7), (-0.8, 0.7))
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Arm:
    """An arm at its last iteration: total compute over the reference's, the gain over the base."""

    name: str
    compute: float
    gain: Gain
    usable: bool  # not a control or a defect
    reference: bool = False


def arms(comparison: Comparison) -> list[Arm]:
    """Every arm whose compute is known, cheapest first; none where gains are not over the base or the preset
    is no evidence. An arm that is only measured otherwise trains nothing of its own."""
    if comparison.against != BASE:
        return []
    found = {}
    for row in last_rows(comparison):
        score = row.scores.get(AVERAGE if len(comparison.suites) > 1 else comparison.suites[0])
        arm = known(row.arm)
        other = arm is not None and any(key.startswith("evaluation.") for key in arm.changes)
        if score and score.gain and row.compute_ratio and row.evidence and not other:
            usable = arm is None or arm.category not in ("controls", "defects")
            found[row.name] = Arm(title(row), row.compute_ratio, score.gain, usable, row.arm == REFERENCE)
    return sorted(found.values(), key=lambda one: (one.compute, -one.gain.gain))


def last_rows(comparison: Comparison) -> list[ArmRow]:
    """The last checkpoint of every arm, in the order of the rows."""
    last = {title(row): row for row in comparison.rows if row.checkpoint != BASE}
    return list(last.values())


def title(row: ArmRow) -> str:
    """The row's name without its checkpoint: the arm, with preset and model where several stand here."""
    return row.name.replace(f" {row.checkpoint}", "", 1)


def frontier(found: Sequence[Arm]) -> list[Arm]:
    """Arms, controls left out, with a significant gain that is higher than of every cheaper one, cheapest
    first."""
    best: list[Arm] = []
    for one in found:
        if not one.usable or one.gain.direction != "positive":
            continue
        if not best or one.gain.gain > best[-1].gain.gain:
            best.append(one)
    return best


def answer(comparison: Comparison) -> str:
    """What a reader wants first: which arm gains most, at what cost, beside the reference; "" where no gain
    over the base has a known compute."""
    found = arms(comparison)
    if not (best := frontier(found)):
        return f"No gain over the base is significant{_apart(found)}." if found else ""
    most = best[-1]
    said = f"Highest gain{_apart(found)}, {metric_label(comparison.metric)}: {most.name}, {_size(most)}"
    if most.reference:
        return f"{said}."
    said += f", for {ratio(most.compute)} of {REFERENCE}'s total compute."
    return said + "".join(f" {one.name}: {_size(one)}." for one in found if one.reference)


def _apart(found: Sequence[Arm]) -> str:
    """Of which arms nothing is said, where there are any."""
    return "" if all(one.usable for one in found) else ", controls and defects apart"


def _size(one: Arm) -> str:
    return f"{points(one.gain.gain)} points ({interval(one.gain.low, one.gain.high)})"


def sentences(comparison: Comparison) -> list[str]:
    """Which arm to use at which budget; none where no gain is significant."""
    best = frontier(arms(comparison))
    ends = [*(f" to less than {ratio(one.compute)}" for one in best[1:]), *([" on"] if best else [])]
    return [
        f"From {ratio(one.compute)}{end}: {one.name}, {_size(one)}."
        for one, end in zip(best, ends, strict=True)
    ]


def panel(comparison: Comparison) -> Markup:
    """The picture of one measure; empty where no compute is known."""
    found = arms(comparison)
    if len(found) < 2:
        return Markup("")
    best, shown = frontier(found), [one for one in found if one.gain.gain >= LOWEST]
    most = max(one.compute for one in found)
    highest = max(max(one.gain.gain, one.gain.high or 0.0) for one in shown or found)
    across = Scale(0.0, 1.06 * most, LEFT, RIGHT)
    up = Scale(LOWEST, highest + 0.004, HEIGHT, 56.0)
    said = sentences(comparison)
    corners = _corners(best, across, up)
    parts = [*_axes(comparison, across, up), path(corners, "bold i1")]
    taken: list[Box] = [_around(across(one.compute), up(one.gain.gain)) for one in shown]
    for (x, y), (right, other) in pairwise(corners):
        taken.append((x, min(y, other) - 1, right, max(y, other) + 1))
    order = sorted(shown, key=lambda one: (not one.reference, one not in best, -one.gain.gain))
    for one in order:
        parts += _point(one, one in best, across, up, taken)
    y = HEIGHT + 52
    head = f"No gain is significant{_apart(found)}."
    if best:
        head = f"Best arm for a budget{_apart(found)} (total compute, {REFERENCE} = 1.00x):"
    parts.append(text(0, y, head, "strong"))
    for i, sentence in enumerate(said, 1):
        parts.append(text(0, y + 16 * i, sentence))
    y += 16 * len(said) + 20
    if lost := [f"{one.name} {points(one.gain.gain)}" for one in found if one not in shown]:
        for words in wrap(f"Too low for the chart: {', '.join(lost)}.", 110):
            parts.append(text(0, y, words))
            y += 16
    label = f"Gain in {metric_label(comparison.metric)} accuracy by total compute. {' '.join(said)}"
    return svg(WIDTH, y, label, parts)


def _axes(comparison: Comparison, across: Scale, up: Scale) -> list[Markup]:
    where = counted(len(comparison.suites), "suite")
    parts = [
        text(0, 14, f"Gain in accuracy by total compute: {metric_label(comparison.metric)}", "title strong"),
        text(
            0,
            32,
            f"Points over the base model, mean of {where}; lines are 95 % intervals. Filled: the highest",
        ),
        text(
            0,
            46,
            f"significant gain for its compute. Diamond: {REFERENCE}, the reference. "
            "Square: a control or a defect.",
        ),
    ]
    for value in ticks(100 * up.low, 100 * up.high, 7):
        y = up(value / 100)
        parts += [
            line(LEFT, y, RIGHT, y, "zero" if value == 0 else "rule"),
            text(LEFT - 6, y + 3.5, points(value / 100).removesuffix(".0"), "", "end"),
        ]
    for value in ticks(across.low, across.high, 8):
        x = across(value)
        parts += [
            line(x, HEIGHT, x, HEIGHT + 4, "rule"),
            text(x, HEIGHT + 16, f"{value:g}x", "", "middle"),
        ]
    words = f"total compute of training, {REFERENCE} = 1x"
    return [
        *parts,
        line(across(1.0), up(up.high), across(1.0), HEIGHT, "zero"),
        text((LEFT + RIGHT) / 2, HEIGHT + 32, words, "", "middle"),
    ]


def _corners(best: Sequence[Arm], across: Scale, up: Scale) -> list[Point]:
    """Of the line that says what is gained at least, up to each budget."""
    corners: list[Point] = []
    for one in best:
        if corners:
            corners.append((across(one.compute), corners[-1][1]))
        corners.append((across(one.compute), up(one.gain.gain)))
    return [*corners, (RIGHT, corners[-1][1])] if corners else []


def _around(x: float, y: float) -> Box:
    return x - 5, y - 5, x + 5, y + 5


def _point(one: Arm, best: bool, across: Scale, up: Scale, taken: list[Box]) -> list[Markup]:
    """Mark, interval and name; the name where nothing else is, with a line to its point if that is far."""
    x, y, kind = across(one.compute), up(one.gain.gain), "i1" if best else "none"
    kind = "i2" if one.reference else kind
    parts = []
    if one.gain.low is not None and one.gain.high is not None:
        low, high = up(max(one.gain.low, up.low)), up(min(one.gain.high, up.high))
        parts.append(line(x, low, x, high, f"bar {kind}" if best or kind == "i2" else "rule"))
    if one.reference:
        corners = [(x, y - 7), (x + 7, y), (x, y + 7), (x - 7, y), (x, y - 7)]
        parts.append(path(corners, "bold i2 full"))
    elif not one.usable:
        parts.append(rect(x - 4, y - 4, 8, 8, "hollow"))
    else:
        parts.append(dot(x, y, kind if best else "hollow", 5 if best else 3.6))
    place = _free(x, y, LETTER * len(one.name) * (1.12 if best else 1.0), taken)
    if place is not None:
        box, far = place
        taken.append(box)
        middle = (box[1] + box[3]) / 2
        end = box[0] if box[0] > x else box[2]
        if far:
            parts.append(
                line(x, y, min(max(x, box[0]), box[2]) if box[0] < x < box[2] else end, middle, "rule")
            )
        parts.append(text(box[0], middle + 3.5, one.name, "halo strong" if best or kind == "i2" else "halo"))
    return parts


def _free(x: float, y: float, width: float, taken: Sequence[Box]) -> tuple[Box, bool] | None:
    """The nearest place for a name that covers no other and no mark, and whether it is far; None: none."""
    for distance in (8.0, 18.0, 30.0, 44.0, 60.0, 78.0, 98.0):
        for dx, dy in SIDES:
            middle = y + dy * distance
            left = x + dx * distance if dx > 0 else x + dx * distance - width if dx < 0 else x - width / 2
            box = (left, middle - LINE / 2, left + width, middle + LINE / 2)
            inside = box[0] >= LEFT and box[2] <= RIGHT and box[1] >= 52 and box[3] <= HEIGHT - 2
            apart = all(
                box[2] < other[0] or other[2] < box[0] or box[3] < other[1] or other[3] < box[1]
                for other in taken
            )
            if inside and apart:
                return box, distance > 12
    return None


def picture(panels: Sequence[Markup]) -> str:
    """The panels one below the other as a file of their own, light and dark."""
    style = (resources.files("harness.tables") / "templates" / "style.css").read_text(encoding="utf-8")
    heights = [float(one.split("viewBox=", 1)[1].split('"')[1].split()[3]) for one in panels]
    placed, y = [], 16.0
    for one, height in zip(panels, heights, strict=True):
        size = Markup('<svg x="16" y="{:.0f}" width="{:.0f}" height="{:.0f}" ').format(y, WIDTH, height)
        placed.append(size + Markup(one.removeprefix("<svg ")))
        y += height + 28
    head = Markup('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {:.0f} {:.0f}">').format(
        WIDTH + 32, y
    )
    ground = Markup('<style>{}</style><rect width="100%" height="100%" style="fill:var(--paper)"/>')
    return str(head + ground.format(Markup(style)) + Markup("").join(placed) + Markup("</svg>")) + "\n"
