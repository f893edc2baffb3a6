"""Results as tables in the terminal. Everything printed is `rich.text.Text`, so nothing in it can be read as
markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from harness.report import asked, held_out
from harness.report.table import Cell, Table
from harness.report.words import caveats, findings, visible

STYLES = {"good": "green", "bad": "red", "dim": "dim", "printed": "italic cyan", "": ""}
WIDE = 108  # columns needed for a gain beside every Solver


def show(results: Mapping[str, Any], console: Console) -> None:
    """Findings, then the tables a result is judged by, then what the numbers cannot say."""
    for index, sentence in enumerate(findings(results)):
        say(sentence, console, "bold" if index == 0 else "")
    solvers = [model for model in held_out.expected_models(results) if model != "base"]
    gain_models = solvers if console.width >= WIDE + 24 * (len(solvers) - 2) else solvers[-1:]
    for table in (
        held_out.accuracy(results, gain_models),
        held_out.lenses(results),
        held_out.counts(results),
        asked.iterations(results),
    ):
        if table is not None:
            console.print(render(table))
    for warning in results["warnings"]:
        say(f"Warning: {warning}", console, "yellow")
    for sentence in caveats(results):
        say(sentence, console, "dim")


def say(sentence: str, console: Console, style: str) -> None:
    """One sentence, hostile characters in it made visible."""
    console.print(Text(visible(sentence, 4000), style=style), soft_wrap=not console.is_terminal)


def render(table: Table) -> RichTable:
    """One table. Details (intervals, counts) stand behind the number in the same cell."""
    found = RichTable(
        title=Text(table.title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption=Text("\n".join(table.notes), style="dim") if table.notes else None,
        caption_justify="left",
    )
    for index, column in enumerate(table.columns):
        found.add_column(
            Text(column),
            justify="left" if index < table.text_columns else "right",
            overflow="fold",
            no_wrap=index < table.text_columns,
        )
    for index, row in enumerate(table.rows):
        found.add_row(*(_cell(cell) for cell in row), end_section=index in table.breaks)
    return found


def _cell(cell: Cell) -> Text:
    text = Text(visible(cell.text), style=STYLES[cell.tone])
    return text.append(f" ({visible(cell.detail)})", style="dim") if cell.detail else text


def show_paths(paths: Sequence[Path], console: Console) -> None:
    """Where the files are, unbroken, so that a terminal can link them."""
    for path in paths:
        console.print(Text(str(path)), soft_wrap=True)
