"""report.html: one file without scripts or links to anything outside it. The template escapes everything;
only `charts` makes markup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from harness.report import answers, asked, charts, compared, elicitation, held_out, plots, training, words
from harness.report.collect import Material

PANELS = {
    "questioner": ("reward", "kl", "valid", "would_keep", "confidence", "agreement", "entropy", "truncated"),
    "solver": ("reward", "kl", "unanimous", "entropy", "completion_tokens", "truncated"),
}
PANEL_LABELS = {
    "reward": "reward",
    "kl": "KL to the stage's start",
    "valid": "valid questions",
    "would_keep": "valid questions the filter would keep",
    "confidence": "mean confidence c",
    "agreement": "intuitive = majority",
    "unanimous": "groups of equal rewards",
    "entropy": "entropy, nats a token",
    "completion_tokens": "tokens a completion",
    "truncated": "completions cut off",
}
VOTE_LIMIT = 400


def render(results: Mapping[str, Any], material: Material) -> str:
    """The whole page."""
    environment, style = template()
    return environment.get_template("report.html.j2").render(
        style=style,
        results=results,
        material=material,
        run_name=words.run_name(results),
        findings=words.findings(results),
        claims=compared.cards(results["claims"]),
        not_run=words.not_run(results),
        alarms=words.alarms(results),
        flips=answers.flips(results),
        by_samples=_by_samples(results),
        caveats=words.caveats(results),
        accuracy=held_out.accuracy(results),
        elicitation=elicitation.elicitation(results),
        tests=held_out.tests(results),
        lenses=held_out.lenses(results),
        counts=held_out.counts(results),
        iterations=asked.iterations(results),
        calibration=asked.calibration(results),
        asked=asked.asked_families(results),
        families=held_out.held_out_families(results),
        training=training.training(results),
        cost=training.cost(material.cost),
        votes=charts.votes,
        vote_limit=VOTE_LIMIT,
        forests=[charts.forest(results, metric) for metric in results["metrics"]] if results["gains"] else [],
        calibrations=_calibrations(results),
        curves=curves(material),
    )


def template() -> tuple[Environment, str]:
    """The environment of every page (what is not a chart is escaped), and the style sheet."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("harness.report"), PackageLoader("harness.tables")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        visible=words.visible,
        question_lines=words.question_lines,
        number=words.number,
        percent=words.percent,
        points=words.points,
        bounds=lambda measured: words.interval(measured["low"], measured["high"]),
    )
    return environment, environment.loader.get_source(environment, "style.css")[0]


def _calibrations(results: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        (f"iteration {t}", charts.calibration(one["calibration"], tuple(results["keep"]), int(t)))
        for t, one in results["ground_truth"].items()
        if one["calibration"]
    ]


def _by_samples(results: Mapping[str, Any]) -> list[tuple[str, Any]]:
    kinds = (
        ("majority", "maj@k: the majority of k answers is right"),
        ("passed", "pass@k: any of k answers is right"),
    )
    return [
        (label, chart)
        for which, label in kinds
        if (chart := plots.by_samples(results["k_curves"], which, label))
    ]


def curves(material: Material) -> dict[str, list[tuple[str, Any]]]:
    """Charts by role: (label, chart) for every metric that was logged."""
    found: dict[str, list[tuple[str, Any]]] = {}
    for role, names in PANELS.items():
        runs = {t: rows for (kind, t), rows in material.curves.items() if kind == role}
        for name in names:
            series = {
                t: [
                    (float(row["step"]), float(row[name]))
                    for row in rows
                    if isinstance(row.get(name), int | float)
                ]
                for t, rows in runs.items()
            }
            if any(series.values()):
                found.setdefault(role, []).append(
                    (PANEL_LABELS[name], charts.curve(PANEL_LABELS[name], series))
                )
    return found
