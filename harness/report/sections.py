"""The tables of a run's report, and its summary in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from harness.analysis.results import Results
from harness.claims import departures
from harness.report import claims, held_out, training
from harness.report.findings import caveats, findings
from harness.report.material import StageCost
from harness.tables.table import Table
from harness.tables.terminal import say, show

SUMMARY = ("accuracy", "scorings", "counts", "questions")  # what a result is judged by


def tables(results: Results, cost: Sequence[StageCost]) -> dict[str, Table | None]:
    """By name, in the order of Markdown; None where the run has nothing to show."""
    found = {
        "claims": claims.table(results.claims),
        "accuracy": held_out.accuracy(results),
        "scorings": held_out.scorings(results),
        "by_samples": held_out.by_samples(results),
        "flips": held_out.flips(results),
        "elicitation": held_out.elicitation(results),
        "questions": training.questions(results),
        "calibration": training.calibration(results),
        "asked_families": training.asked_families(results),
        "logged": training.logged(results),
        "families": held_out.families(results),
        "counts": held_out.counts(results),
        "tests": held_out.tests(results),
        "cost": training.cost(cost),
        "departures": departures.table(results.departures or ()),
    }
    return {name: table if table.rows else None for name, table in found.items()}


def show_summary(results: Results, console: Console) -> None:
    """Findings, the main tables, then what the numbers cannot say."""
    for index, sentence in enumerate(findings(results)):
        say(sentence, console, "" if index else "bold")
    found = tables(results, ())
    for table in (found[name] for name in SUMMARY):
        if table:
            show(table, console)
    for warning in results.warnings:
        say(f"Warning: {warning}", console, "yellow")
    for sentence in caveats(results):
        say(sentence, console, "dim")
