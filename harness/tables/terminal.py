"""A table on a terminal, never wider than it: headings wrap, then details move under their numbers, then the
columns go into several tables. Everything printed is `rich.text.Text`, so nothing in it is read as markup.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from harness.tables.table import Cell, Column, Table
from harness.tables.text import visible

STYLES = {
    "": "",
    "good": "green",
    "bad": "red",
    "warn": "yellow",
    "dim": "dim",
    "strong": "bold",
    "printed": "italic cyan",
}
READABLE = 16  # characters to which a text that wraps may shrink
LABEL = 10  # characters of the column of labels at the end of a run
GAP = 2  # characters between two columns
PLAIN, WRAPPED, STACKED = range(3)  # layouts: as it is; headings break at spaces; details under numbers too


def show(table: Table, console: Console) -> None:
    """Print title, table (in parts where it is wider than the terminal), and notes."""
    console.print()
    say(table.title, console, "bold")
    for index, (part, layout) in enumerate(_parts(table, console.width)):
        if index:
            console.print()
        console.print(_rich(part, layout, console.width))
    for note in table.notes:
        say(note, console, "dim")


def say(sentence: str, console: Console, style: str = "") -> None:
    """One sentence; it wraps on a terminal and stays a line in a file."""
    console.print(Text(visible(sentence, 4000), style=style), soft_wrap=not console.is_terminal)


def labelled(label: str, sentence: str, console: Console, style: str = "") -> None:
    """A sentence beside its label; on a terminal it wraps at words."""
    text = visible(sentence, 2000)
    width = console.width - LABEL - 1
    wrap = console.is_terminal and width > LABEL
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) if wrap else [text]
    for index, line in enumerate(lines):
        head = f"{'' if index else label:<{LABEL}}"
        console.print(Text.assemble((head, "dim"), (line, style)), soft_wrap=True)


def show_path(label: str, path: Path, console: Console) -> None:
    """A path in one piece, as short as it can be said here."""
    console.print(Text.assemble((f"{label:<{LABEL}}", "dim"), visible(str(short(path)))), soft_wrap=True)


def short(path: Path) -> Path:
    """As it is typed here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def show_next(commands: list[list[str]], console: Console) -> None:
    """What to type next, ready to be copied."""
    for label, command in zip(("Next", ""), commands, strict=False):
        line = shlex.join(["vzero-harness", *command])
        console.print(Text.assemble((f"{label:<{LABEL}}", "dim"), visible(line)), soft_wrap=True)


def _parts(table: Table, width: int) -> Iterator[tuple[Table, int]]:
    """The whole table in the most generous layout that fits, else its columns in several tables."""
    for layout in (PLAIN, WRAPPED, STACKED):
        if _total(_widths(table, layout)) <= width:
            yield table, layout
            return
    widths = _widths(table, STACKED)
    key = [index for index, column in enumerate(table.columns) if column.kind == "key"]
    chosen: list[int] = []
    for index in (index for index in range(len(table.columns)) if index not in key):
        if chosen and _total([widths[one] for one in (*key, *chosen, index)]) > width:
            yield _columns(table, [*key, *chosen]), STACKED
            chosen = []
        chosen.append(index)
    yield _columns(table, [*key, *chosen]), STACKED


def _columns(table: Table, kept: Sequence[int]) -> Table:
    groups = [[[row[index] for index in kept] for row in group] for group in table.groups]
    return replace(table, columns=[table.columns[index] for index in kept], groups=groups)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _widths(table: Table, layout: int) -> list[int]:
    """Characters that each column needs; headings of groups stand in the first."""
    found = []
    longest = max((cell_len(heading) for heading in table.headings), default=0)
    for index, column in enumerate(table.columns):
        lines = [_text(row[index], layout).plain for row in table.rows]
        content = max((cell_len(line) for text in lines for line in text.split("\n")), default=0)
        if column.kind == "text":
            content = min(content, READABLE)
        heading = _heading(column, content, layout)
        found.append(max(content, *(cell_len(line) for line in heading.split("\n")), 0 if index else longest))
    return found


def _heading(column: Column, content: int, layout: int) -> str:
    if layout == PLAIN:
        return column.heading
    words = column.heading.split(" ")
    width = max(content, *(cell_len(word) for word in words))
    return "\n".join(textwrap.wrap(column.heading, width, break_long_words=False, break_on_hyphens=False))


def _text(cell: Cell, layout: int) -> Text:
    text = Text(visible(cell.text, 2000), style=STYLES[cell.tone])
    details = [visible(one) for one in cell.details]
    if layout == STACKED:
        for one in details:
            text.append(f"\n{one}", style="dim")
    elif details:
        text.append(f" ({', '.join(details)})", style="dim")
    return text


def _rich(table: Table, layout: int, width: int) -> RichTable:
    widths = _widths(table, layout)
    fits = _total(widths) <= width
    found = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column, content in zip(table.columns, widths, strict=True):
        found.add_column(
            Text(_heading(column, content, layout)),
            justify="right" if column.kind == "number" else "left",
            no_wrap=column.kind != "text" and fits,
            overflow="fold",
        )
    for heading, rows in table.shown():
        if heading:
            found.add_row(Text(visible(heading), style="bold"))
        for number, row in enumerate(rows):
            found.add_row(*(_text(cell, layout) for cell in row), end_section=number == len(rows) - 1)
    return found
