"""report.html: one file without scripts or links to anything outside it. The template escapes everything but
charts and tables, which escape their own text."""

from __future__ import annotations

import re

from markupsafe import Markup

from harness.analysis.results import AVERAGE, Results
from harness.report import charts, claims, sections
from harness.report.findings import alarms, caveats, findings, metric_label, not_run, run_name
from harness.report.material import Curves, Material
from harness.tables.html import environment
from harness.tables.text import visible

PANELS = {
    "questioner": ("reward", "kl", "valid", "would_keep", "confidence", "agreement", "entropy", "truncated"),
    "solver": ("reward", "kl", "unanimous", "entropy", "completion_tokens", "truncated"),
}
LABELS = {
    "reward": "reward",
    "kl": "KL to the stage's start",
    "valid": "valid questions",
    "would_keep": "valid questions the filter would keep",
    "confidence": "mean confidence c",
    "agreement": "intuitive = majority",
    "unanimous": "groups of equal rewards",
    "entropy": "entropy, nats per token",
    "completion_tokens": "tokens per completion",
    "truncated": "truncated completions",
}
BY_SAMPLES = {
    "majority": "maj@k: the majority of k answers is right, %",
    "passed": "pass@k: any of k answers is right, %",
}
OPTION = re.compile(r"(?=(?<!\w)[A-D]\))")  # where an option begins
Charts = list[tuple[str, Markup]]  # label and chart


def render(results: Results, material: Material) -> str:
    """The whole page."""
    by_samples = (
        (label, charts.by_samples(results.k_curves, which, label)) for which, label in BY_SAMPLES.items()
    )
    return (
        environment("harness.report")
        .get_template("report.html.j2")
        .render(
            results=results,
            material=material,
            tables=sections.tables(results, material.cost),
            run_name=run_name(results),
            findings=findings(results),
            warnings=[*results.warnings, *alarms(results)],
            caveats=caveats(results),
            not_run=not_run(results),
            claims=claims.ordered(results.claims),
            on_card=claims.on_card,
            forests=_forests(results),
            by_samples=[(label, chart) for label, chart in by_samples if chart],
            calibrations=_calibrations(results),
            curves={role: panels for role in PANELS if (panels := _panels(material.curves, role))},
            votes=charts.votes,
            question_lines=question_lines,
        )
    )


def _forests(results: Results) -> list[Markup]:
    """Gains over the base, a chart per metric on one scale: suites below each other, the average last."""
    everything = [
        gain for of_model in results.gains.values() for one in of_model.values() for gain in one.values()
    ]
    return [
        charts.forest(
            metric_label(metric),
            f"Paired gains over the base, {metric_label(metric)}",
            [
                charts.ForestRow(model, gains[place][metric], charts.colour(model), place)
                for place in (*results.suites, AVERAGE)
                for model, gains in results.gains.items()
                if place in gains
            ],
            everything,
        )
        for metric in results.metrics
        if everything
    ]


def _calibrations(results: Results) -> Charts:
    return [
        (f"iteration {t}: label right, %", charts.calibration(one.calibration, results.keep, t))
        for t, one in results.ground_truth.items()
        if one.calibration and results.keep
    ]


def _panels(curves: Curves, role: str) -> Charts:
    """A chart for every number that was logged."""
    logged = curves.get(role, {})
    names = [name for name in PANELS[role] if name in logged]
    return [(LABELS[name], charts.curve(LABELS[name], logged[name])) for name in names]


def question_lines(text: str) -> list[str]:
    """A question's stem, then each option on a line of its own."""
    return [line for part in OPTION.split(visible(text)) if (line := part.strip())]
