"""The comparison of runs as one HTML file: no script, nothing outside it. The template escapes everything but
charts and tables, which escape their own text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from harness.analysis.comparison import Comparison
from harness.analysis.results import AVERAGE
from harness.report import arms, charts, claims
from harness.report.findings import metric_label
from harness.report.held_out import TONES
from harness.report.material import points_of
from harness.tables.charts import Point
from harness.tables.html import environment
from harness.tables.table import Cell, Table, keys, numbers, texts
from vzero.runtime import artefacts

CURVES = {"reward": "reward", "kl": "KL", "would_keep": "would be kept"}
_STAGE = re.compile(r"\d+-train-(questioner|solver)-(\d+)")


def render(comparison: Comparison, folders: Sequence[Path] = ()) -> str:
    """The whole page; `folders` are the runs', for their learning curves."""
    places = [*([AVERAGE] if len(comparison.suites) > 1 else []), *comparison.suites]
    template = environment("harness.report").get_template("comparison.html.j2")
    return template.render(
        comparison=comparison,
        metric=metric_label(comparison.metric),
        claims=claims.ordered(comparison.claims),
        on_card=claims.on_card,
        losses=arms.headline(comparison),
        table=arms.table(comparison),
        runs=runs(comparison),
        forests=[chart for place in places if (chart := forest(comparison, place))],
        curves=learning_curves(comparison, folders),
    )


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
                found = points_of(artefacts.read_jsonl(path))
                for name, label in CURVES.items():
                    if name in found:
                        series.setdefault((run.arm, stage[1], stage[2], label), {})[run.seed] = found[name]
    return [
        (f"{arm}: {role} {t}, {label}", charts.curve(label, lines))
        for (arm, role, t, label), lines in series.items()
    ]
