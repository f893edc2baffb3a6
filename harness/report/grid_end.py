"""The end of a grid in the terminal: a row per arm, the page with everything, and what to type next."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from harness.analysis.comparison import ArmRow, Comparison, beside, compare
from harness.analysis.load import load
from harness.analysis.results import AVERAGE
from harness.report import formats, frontier
from harness.report.findings import metric_label
from harness.report.held_out import TONES
from harness.runs.grid import GridIndex
from harness.tables import terminal
from harness.tables.table import Cell, Table, keys, numbers
from harness.tables.words import NBSP, counted, percent
from vzero.errors import InputError

PAGE = "arms.html"


def finish(folder: Path) -> Comparison | None:
    """Compare the finished runs of the grid in `folder` and write its page; None where there are none."""
    try:
        found = load([folder])
        comparison = compare(found)
    except InputError:
        return None
    page = formats.render(comparison, "html", [run.folder for run in found], beside(comparison, found))
    formats.write(page, folder / PAGE)
    return comparison


def show(
    comparison: Comparison | None, index: GridIndex, folder: Path, console: Console, verbose: bool
) -> None:
    """The table of arms (with `verbose` all of it), what failed, the page, the next commands."""
    if comparison is not None and verbose:
        formats.show(comparison, console)
    elif comparison is not None:
        terminal.show(table(comparison), console)
    console.print()
    for name, entry in index.runs.items():
        if entry.state == "failed":
            terminal.labelled("Failed", f"{name}: {entry.reason}", console, "red")
    if comparison is None:
        return
    if best := frontier.answer(comparison):
        terminal.labelled("Best", best, console)
    terminal.show_path("Page", folder / PAGE, console)
    name = str(terminal.short(folder))
    terminal.show_next([["open", name], ["table", name, "--metric", "T=1"]], console)


def table(comparison: Comparison) -> Table:
    """The base and the last checkpoint of each arm: accuracy and gain with their intervals."""
    place = AVERAGE if len(comparison.suites) > 1 else comparison.suites[0]
    last = {row.arm: row for row in comparison.rows}
    rows = [_row(row, place) for row in last.values()]
    where = f"average of {len(comparison.suites)} suites" if place == AVERAGE else place
    seeds = max(len(row.seeds) for row in last.values())
    toy = "" if all(row.evidence for row in last.values()) else "; too small to judge"
    return Table(
        f"Arms: {metric_label(comparison.metric)} accuracy, {where}, {counted(seeds, 'seed')}{toy}",
        (*keys("arm"), *numbers(f"accuracy,{NBSP}%", "gain, points")),
        [rows],
    )


def _row(row: ArmRow, place: str) -> tuple[Cell, Cell, Cell]:
    score = row.scores.get(place)
    if score is None:
        return Cell.of(row.name), Cell.missing(), Cell.missing()
    known = score.low is not None and score.high is not None
    bounds = (f"{percent(score.low)} to {percent(score.high)}",) if known else ()
    gain = score.gain
    gained = Cell.gain(gain.gain, gain.low, gain.high, TONES[gain.direction]) if gain else Cell.missing()
    return Cell.of(row.name), Cell.percent(score.value, *bounds), gained
