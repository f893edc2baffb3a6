"""The comparison of runs as one HTML file: no script, nothing outside it. The template escapes everything but
charts and tables, which escape their own text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from harness.analysis.comparison import ArmRow, Comparison
from harness.analysis.results import AVERAGE
from harness.analysis.verdicts import toy_world
from harness.report import arms, charts, claims, frontier
from harness.report.findings import metric_label
from harness.report.held_out import TONES
from harness.report.material import points_of
from harness.stats import Gain
from harness.tables.charts import Point
from harness.tables.html import environment
from harness.tables.table import Cell, Table, keys, numbers, texts
from vzero.arms import CATEGORIES, known
from vzero.arms.own import CATEGORY as OWN
from vzero.runtime import artefacts

CURVES = {"reward": "reward", "kl": "KL", "would_keep": "would be kept"}
_STAGE = re.compile(r"\d+-train-(questioner|solver)-(\d+)")


def render(comparison: Comparison, folders: Sequence[Path] = (), others: Sequence[Comparison] = ()) -> str:
    """The whole page; `folders` are the runs', for their learning curves, `others` the same runs by other
    measures."""
    places = [*([AVERAGE] if len(comparison.suites) > 1 else []), *comparison.suites]
    forests = [chart for place in places if (chart := forest(comparison, place))]
    template = environment("harness.report").get_template("comparison.html.j2")
    return template.render(
        comparison=comparison,
        answer=frontier.answer(comparison),
        toy=all(toy_world(run.model, comparison.suites) for run in comparison.runs),
        metric=metric_label(comparison.metric),
        claims=claims.ordered(comparison.claims),
        on_card=claims.on_card,
        cited=claims.cited,
        losses=arms.headline(comparison),
        mixed=arms.mixed(comparison),
        table=arms.table(comparison),
        runs=runs(comparison),
        frontiers=[chart for one in (comparison, *others) if (chart := frontier.panel(one))],
        ranking=ranking(comparison, others),
        forests=forests,
        curves=learning_curves(comparison, folders),
    )


def ranking(comparison: Comparison, others: Sequence[Comparison] = ()) -> Table:
    """Every arm at its last iteration by its gain, grouped by its kind."""
    place = AVERAGE if len(comparison.suites) > 1 else comparison.suites[0]
    columns = [comparison, *others]
    by_name = [{row.name: row for row in one.rows} for one in columns]

    def gain(row: ArmRow | None) -> Gain | None:
        score = row.scores.get(place) if row else None
        return score.gain if score else None

    groups: dict[str, list[ArmRow]] = {kind: [] for kind in (*CATEGORIES, OWN)}
    for row in frontier.last_rows(comparison):
        arm = known(row.arm)
        groups[arm.category if arm else OWN].append(row)
    lines = []
    for rows in groups.values():
        ranked = sorted(rows, key=lambda row: -(one.gain if (one := gain(row)) else -1.0))
        lines.append([_ranked(row, [gain(rows.get(row.name)) for rows in by_name]) for row in ranked])
    shown = [f"{metric_label(one.metric)}, gain" for one in columns]
    return Table(
        "Arms by gain, last iteration",
        (*keys("arm"), *numbers(*shown, "total compute", "seeds")),
        lines,
        [
            "Gain in points with its 95 % interval, coloured where significant; compute over v-zero's.",
            *arms.estimates(comparison),
        ],
        list(groups),
    )


def _ranked(row: ArmRow, gains: Sequence[Gain | None]) -> list[Cell]:
    cells = [
        Cell.gain(one.gain, one.low, one.high, TONES[one.direction]) if one else Cell.missing()
        for one in gains
    ]
    return [Cell.of(frontier.title(row)), *cells, arms.total(row), Cell.number(len(row.seeds))]


def forest(comparison: Comparison, place: str) -> Markup:
    """The gain of every row on one suite or on average, coloured where it is significant."""
    rows = [
        charts.ForestRow(row.name, score.gain, TONES[score.gain.direction] or "none")
        for row in comparison.rows
        if (score := row.scores.get(place)) and score.gain
    ]
    return charts.forest(place, f"Gains on {place} by arm", rows)


def runs(comparison: Comparison) -> Table:
    """The runs that were compared."""
    rows = [
        (
            *(run.name, run.arm, run.seed, run.preset, run.model, run.split),
            "finished" if run.complete else Cell.of(f"missing {', '.join(run.missing)}", tone="bad"),
        )
        for run in comparison.runs
    ]
    columns = (*keys("run"), *texts("arm"), *numbers("seed"), *texts("preset", "model", "split", "state"))
    return Table("Runs", columns, [rows])


def learning_curves(comparison: Comparison, folders: Sequence[Path]) -> list[tuple[str, Markup]]:
    """By arm, role and iteration with a line per seed, from the runs whose stages are still there."""
    series: dict[tuple[str, str, str, str], dict[int, list[Point]]] = {}
    for run, folder in zip(comparison.runs, folders, strict=False):
        for path in sorted(folder.glob("stages/*/metrics.jsonl")):
            if stage := _STAGE.fullmatch(path.parent.name):
                found = points_of(artefacts.read_rows(path))
                for name, label in CURVES.items():
                    if name in found:
                        series.setdefault((run.arm, stage[1], stage[2], label), {})[run.seed] = found[name]
    return [
        (f"{arm}: {role} {t}, {label}", charts.curve(label, lines))
        for (arm, role, t, label), lines in series.items()
    ]
