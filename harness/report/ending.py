"""The end of a run in the terminal: the verdict, the gain, the alarms, where the report is and what to type
next. Everything else is in the report."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console

from harness.analysis.alarms import RULES
from harness.analysis.results import AVERAGE, Results
from harness.claims.verdict import Verdict
from harness.report.claims import OUTCOMES
from harness.report.findings import metric_label, said_of_nature
from harness.tables import terminal
from harness.tables.words import counted, interval, points
from vzero.presets import preset_names


def show(results: Results, report: Path, console: Console) -> None:
    """At most 15 lines on 80 columns."""
    terminal.labelled("Verdict", verdict(results), console, "bold")
    for label, sentence in zip(("Gain", ""), gain(results), strict=False):
        terminal.labelled(label, sentence, console)
    terminal.labelled("Alarms", alarms(results), console, "yellow" if results.alarms else "")
    if results.warnings:
        count = f"{len(results.warnings)}, in the report and with --verbose"
        terminal.labelled("Warnings", count, console, "yellow")
    if results.missing:
        terminal.labelled("Missing", ", ".join(results.missing), console, "yellow")
    terminal.show_path("Report", report, console)
    terminal.show_next(next_commands(results, report.parent), console)


def verdict(results: Results) -> str:
    """What the run says of the published claims."""
    if not results.evidence:
        return f"none: the preset {results.preset} shows that the program runs, and is too small to judge"
    measured = [one for one in results.claims if one.verdict is not Verdict.NOT_RUN]
    unrun = len(results.claims) - len(measured)
    rest = f"; {counted(unrun, 'claim')} not run" if unrun else ""
    if not measured:
        return f"none: no published claim was measured{rest}"
    if len(measured) > 1:
        counts = Counter(one.label for one in measured)
        return ", ".join(f"{count} x {label}" for label, count in counts.items()) + rest
    (one,) = measured
    there = " in the toy world" if one.verdict is Verdict.TOY else ""
    said = f"{OUTCOMES[one.outcome]}{there}" if one.outcome else "is not judged"
    return f"{one.verdict.value}: \u201c{one.statement}\u201d {said}{rest}"


def gain(results: Results) -> list[str]:
    """The last Solver's gain over the base with its intervals, and of which kind it is."""
    if not results.gains:
        return ["none: no trained Solver and base were measured on the same questions"]
    model, gains = list(results.gains.items())[-1]
    place = AVERAGE if AVERAGE in gains else next(iter(gains), None)
    if place is None:
        return [f"none: {model} and the base were not measured on the same questions"]
    found = gains[place]
    each = [
        f"{metric_label(metric)} {points(one.gain)} ({interval(one.low, one.high)})"
        for metric in results.metrics[:2]
        if (one := found.get(metric))
    ]
    judged = "" if results.evidence else "; not judged"
    where = f"{found[results.metrics[0]].n:,} questions"
    kind = said_of_nature(results, model) if results.evidence else []
    return [f"{model} over the base, points: {', '.join(each)}; {where}{judged}", *kind]


def brief(results: Results) -> str:
    """The same without model and intervals: for one of a grid's lines, which ends at 80 columns."""
    gains = next(reversed(results.gains.values()), {})
    found = gains.get(AVERAGE) or next(iter(gains.values()), {})
    sizes = (f"{metric_label(one)} {points(found[one].gain)}" for one in results.metrics[:2] if one in found)
    return ", ".join(sizes) or "none"


def alarms(results: Results) -> str:
    """Which rules of the collapse alarm fired."""
    if not results.alarms:
        return f"none of {len(RULES)} fired"
    fired = [f"{one.message} (iteration {one.iteration})" for one in results.alarms[:2]]
    rest = "; \u2026" if len(results.alarms) > len(fired) else ""
    return f"{len(results.alarms)} fired: {'; '.join(fired)}{rest}"


def next_commands(results: Results, run: Path) -> list[list[str]]:
    """To look at the run; and the experiment that answers what it leaves open."""
    look = ["open", str(terminal.short(run))]
    if not results.evidence:
        return [look, ["reproduce", "--preset", "pocket"]]
    if results.preset in preset_names():
        return [look, ["reproduce", "--preset", results.preset, "--arms", "controls", "--seeds", "3"]]
    return [look]
