"""The tables of a run's report, in the order of Markdown; the terminal and the page show the same ones."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.results import Results
from harness.report import claims, held_out, training
from harness.report.material import StageCost
from harness.tables.table import Table


def tables(results: Results, cost: Sequence[StageCost]) -> dict[str, Table | None]:
    """By name; None where the run has nothing to show."""
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
    }
    return {name: table if table.rows else None for name, table in found.items()}
