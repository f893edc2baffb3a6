"""A comparison in every format `vzero-harness table` offers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.comparison import Comparison
from harness.report import compared
from harness.report.before import comparison_as_before

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report.table import Table

SUITE_WIDTH, ARM_WIDTH = 16, 16  # columns of a terminal
BESIDE = 4  # the last columns, which stand in a table of their own in a terminal


def render(found: Any, name: str, folders: Sequence[Path] = ()) -> str:
    """The text of one format: "md", "latex", "csv", "json" or "html". `folders` are the runs', for curves on
    the page."""
    if name == "json" and isinstance(found, Comparison):
        return found.model_dump_json(indent=2) + "\n"
    comparison = _dictionary(found)
    if name == "csv":
        from harness.report import sheet

        return sheet.render(comparison)
    if name == "latex":
        from harness.report import latex

        return "\n".join(
            latex.table(one) for one in (compared.arms(comparison), compared.claims(comparison["claims"]))
        )
    if name == "html":
        from harness.report import page

        return page.render(comparison, page.curves_of(comparison, folders))
    from harness.report import markdown

    return (
        "\n\n".join(
            markdown.table(one) for one in (compared.arms(comparison), compared.claims(comparison["claims"]))
        )
        + "\n"
    )


def _dictionary(found: Any) -> Any:
    return comparison_as_before(found) if isinstance(found, Comparison) else found


def write(text: str, path: Path) -> None:
    """Write a file whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    from vzero.errors import FULL_DISK, InputError
    from vzero.runtime import artefacts

    try:
        artefacts.write_text(path, text)
    except OSError as error:
        if error.errno in FULL_DISK:
            raise
        raise InputError(f"Cannot write {path}: {error.strerror}; choose another --out.") from None


def show(found: Any, console: Console) -> None:
    """The table in the terminal, in parts as wide as it is, then the losses and the claims that were
    measured."""
    from harness.report import terminal

    comparison = _dictionary(found)
    suites = list(comparison["suites"])
    each = max(1, (console.width - ARM_WIDTH) // SUITE_WIDTH - 1)
    for start in range(0, len(suites), each):
        whole = compared.arms(comparison, suites[start : start + each])
        console.print(_stacked(compared.columns(whole, [*range(len(whole.columns) - BESIDE)])))
    console.print(
        _stacked(compared.columns(whole, [0, *range(len(whole.columns) - BESIDE, len(whole.columns))]))
    )
    for sentence in compared.notes(comparison):
        terminal.say(sentence, console, "dim")
    for sentence in compared.losses(comparison):
        terminal.say(sentence, console, "")
    entries = [one for one in comparison["claims"] if one["verdict"] != "NOT RUN"]
    for one in entries:
        terminal.say(f"{one['says']}: {one['sentence']}", console, "bold")
    terminal.say(
        f"{len(comparison['claims']) - len(entries)} published claims were not run (--format md says why).",
        console,
        "dim",
    )


def _stacked(table: Table) -> Any:
    """The details of a cell under its number instead of behind it."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    from harness.report.terminal import STYLES
    from harness.report.words import visible

    found = RichTable(
        title=Text(table.title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for index, column in enumerate(table.columns):
        found.add_column(
            Text(column), justify="left" if index < table.text_columns else "right", overflow="fold"
        )
    for index, row in enumerate(table.rows):
        cells = []
        for cell in row:
            text = Text(visible(cell.text), style=STYLES[cell.tone])
            for part in cell.detail.split(", ") if cell.detail else ():
                text.append(f"\n{visible(part)}", style="dim")
            cells.append(text)
        found.add_row(*cells, end_section=index in table.breaks)
    return found
