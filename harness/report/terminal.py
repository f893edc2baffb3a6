"""A run's results in the terminal."""

from __future__ import annotations

from rich.console import Console

from harness.analysis.results import Results
from harness.report import sections
from harness.report.findings import caveats, findings
from harness.tables.terminal import say, show

SHOWN = ("accuracy", "scorings", "counts", "questions")


def show_results(results: Results, console: Console) -> None:
    """Findings, then the tables a result is judged by, then what the numbers cannot say."""
    for index, sentence in enumerate(findings(results)):
        say(sentence, console, "" if index else "bold")
    tables = sections.tables(results, ())
    for name in SHOWN:
        if table := tables[name]:
            show(table, console)
    for warning in results.warnings:
        say(f"Warning: {warning}", console, "yellow")
    for sentence in caveats(results):
        say(sentence, console, "dim")
