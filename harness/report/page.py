"""The comparison of runs as one HTML file: no script, nothing outside it. The template escapes everything;
only charts make markup."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.report import charts, compared, plots
from harness.report.html import template
from harness.report.words import metric_label
from vzero.runtime import artefacts

CURVES = {"reward": "reward", "kl": "KL", "would_keep": "would be kept"}
_STAGE = re.compile(r"\d+-train-(questioner|solver)-(\d+)")


def render(comparison: Mapping[str, Any], curves: Sequence[tuple[str, Any]]) -> str:
    """The whole page."""
    environment, style = template()
    places = [*(["average"] if len(comparison["suites"]) > 1 else []), *comparison["suites"]]
    forests = [plots.arms_forest(comparison, place) for place in places]
    return environment.get_template("comparison.html.j2").render(
        style=style,
        comparison=comparison,
        metric=metric_label(comparison["metric"]),
        claims=compared.cards(comparison["claims"]),
        losses=compared.headline(comparison),
        table=compared.arms(comparison),
        forests=[chart for chart in forests if chart],
        curves=curves,
    )


def curves_of(comparison: Mapping[str, Any], folders: Sequence[Path]) -> list[tuple[str, Any]]:
    """Training curves by arm, role and iteration with a line a seed, from the runs whose stages are still
    there."""
    series: dict[tuple[str, str, str, str], dict[int, list[tuple[float, float]]]] = {}
    for run, folder in zip(comparison["runs"], folders, strict=True):
        for path in sorted(folder.glob("stages/*/metrics.jsonl")):
            if found := _STAGE.fullmatch(path.parent.name):
                rows = artefacts.read_jsonl(path)
                for name, label in CURVES.items():
                    points = [
                        (float(row["step"]), float(row[name]))
                        for row in rows
                        if isinstance(row.get(name), int | float)
                    ]
                    if points:
                        series.setdefault((run["arm"], found[1], found[2], label), {})[run["seed"]] = points
    return [
        (f"{arm}: {role} {t}, {label}", charts.curve(label, lines))
        for (arm, role, t, label), lines in series.items()
    ]
