"""report.html: one file with nothing outside it, and one script of its own, without which it can be read too.
The template escapes everything but charts and tables, which escape their own text."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup

from harness.analysis.results import AVERAGE, Results
from harness.analysis.verdicts import toy_world
from harness.report import cards, charts, claims, sections
from harness.report.answer import answer, last_gains, tiles
from harness.report.findings import (
    alarms,
    caveats,
    findings,
    incomplete,
    metric_label,
    not_run,
    run_name,
)
from harness.report.held_out import TONES
from harness.report.material import Curves, Material
from harness.report.questions import example, sample
from harness.tables.html import environment
from harness.tables.table import Table
from vzero.arms import REFERENCE

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
    "unanimous": "groups whose rewards are all equal",
    "entropy": "entropy, nats per token",
    "completion_tokens": "tokens per completion",
    "truncated": "truncated completions",
}
BY_SAMPLES = {
    "majority": "maj@k: the majority of k answers is right, %",
    "passed": "pass@k: any of k answers is right, %",
}
Charts = list[tuple[str, Markup]]  # label and chart
SCRIPT = "questions.js"  # the one script of the page, allowed by its digest


@dataclass(frozen=True)
class Part:
    """A folded part of the page: its name in links and templates, its heading, and what it answers."""

    id: str
    title: str
    gist: str


def render(results: Results, material: Material) -> str:
    """The whole page."""
    tables = sections.tables(results, material.cost)
    script = files("harness.report").joinpath("templates", SCRIPT).read_text("utf-8")
    questions, held = cards.rows(material.questions, material.pictures)
    curves, shown = panels(material.curves), example(material.questions)
    return (
        environment("harness.report")
        .get_template("report.html.j2")
        .render(
            results=results,
            material=material,
            tables=tables,
            parts=_parts(results, material, tables, held, bool(curves)),
            run_name=run_name(results),
            incomplete=incomplete(results),
            answer=answer(results),
            toy=toy_world(results.model, results.suites),
            reference=REFERENCE,
            tiles=tiles(results),
            forest=forest(results),
            findings=findings(results),
            alarms=alarms(results),
            caveats=caveats(results),
            not_run=not_run(results),
            claims=claims.ordered(results.claims),
            on_card=claims.on_card,
            cited=claims.cited,
            forests=_forests(results),
            by_samples=_by_samples(results),
            calibrations=_calibrations(results),
            curves=curves,
            example=cards.card(shown) if shown else None,
            sample=[cards.card(one) for one in sample(material.questions)],
            question_rows=questions,
            held=held,
            question_lines=cards.question_lines,
            script=Markup(script),
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _parts(
    results: Results, material: Material, tables: Mapping[str, Table | None], held: int, curves: bool
) -> list[Part]:
    """The parts that this run has something for, in order."""
    details = any(tables[name] for name in ("families", "counts", "tests"))
    found = (
        (
            True,
            "findings",
            "Findings in sentences",
            "every Solver, every alarm, and limits",
        ),
        (results.claims, "claims", "Published claims", "what papers claim, and what this run says of it"),
        (tables["accuracy"], "accuracy", "Held-out accuracy", "every suite and measure, before and after"),
        (
            tables["by_samples"] or tables["elicitation"],
            "kind",
            "Sharpening or learning",
            "the answers it had, more often, or answers it did not have",
        ),
        (tables["scorings"], "scorings", "Benchmarks by their own headlines", "official and verified scores"),
        (
            material.questions,
            "browser",
            "Question browser",
            f"{held:,} of {material.written:,} questions",
        ),
        (
            tables["questions"],
            "questions",
            "Questions and labels",
            "what was asked, and what labels were worth",
        ),
        (curves, "curves", "Learning curves", "what training logged"),
        (tables["flips"], "flips", "Answers that changed", "from wrong to right and back, against the base"),
        (details, "details", "Details", "families, faults, tests"),
        (tables["cost"], "cost", "Cost", "time and tokens by stage"),
        (tables["departures"], "departures", "Departures from the paper", "and how much each may matter"),
        (True, "unrun", "What was not run", "what to look for elsewhere"),
        (True, "provenance", "Provenance", "settings, software, digests"),
    )
    return [Part(name, title, gist) for present, name, title, gist in found if present]


def forest(results: Results) -> Markup:
    """The one chart of the top: the last Solver over its base by measure, then by suite; coloured where
    significant."""
    found = last_gains(results)
    if found is None:
        return charts.NOTHING
    model, where, gains = found
    rows = [(metric_label(metric), gain, where) for metric, gain in gains.items()]
    if AVERAGE in results.gains[model]:
        by_suite = results.gains[model].items()
        rows += [(suite, one["greedy"], "greedy, each suite") for suite, one in by_suite if suite != AVERAGE]
    drawn = [
        charts.ForestRow(name, gain, TONES[gain.direction] or "none", group) for name, gain, group in rows
    ]
    return charts.forest(f"{model} minus base, points", f"Gains of {model} over its base, points", drawn)


def _by_samples(results: Results) -> Charts:
    drawn = (
        (label, charts.by_samples(results.k_curves, which, label)) for which, label in BY_SAMPLES.items()
    )
    return [(label, chart) for label, chart in drawn if chart]


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


def panels(curves: Curves) -> dict[str, Charts]:
    """By role a chart for every number that was logged."""
    return {
        role: [(LABELS[name], charts.curve(LABELS[name], logged[name])) for name in names if name in logged]
        for role, names in PANELS.items()
        if (logged := curves.get(role, {}))
    }
