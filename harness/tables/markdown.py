"""A table as GitHub-flavoured Markdown, and text that stays text in it."""

from __future__ import annotations

import re

from harness.tables.table import Cell, Table
from harness.tables.text import one_line, visible

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
_PUNCTUATION = re.compile(r"([!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~])")
_MARKUP = re.compile(r"([\\`*_\[\]&<|])")


def escape(text: str, limit: int = 600) -> str:
    """Hostile text as one line of inert Markdown: all ASCII punctuation as entities or behind backslashes."""
    return _PUNCTUATION.sub(_inert, one_line(text, limit))


def plain(text: str) -> str:
    """Our own words with names in them: only what could build a table, tag, link or emphasis is escaped."""
    return _MARKUP.sub(_inert, visible(text, 4000).replace("\n", " "))


def _inert(match: re.Match[str]) -> str:
    return _ENTITIES.get(match[1], "\\" + match[1])


def render(table: Table, level: int = 2) -> str:
    """The table under its title, a heading of this level."""
    marks = ("--:" if column.kind == "number" else "---" for column in table.columns)
    lines = [
        f"{'#' * level} {plain(table.title)}",
        "",
        _line([plain(column.heading) for column in table.columns]),
        f"|{'|'.join(marks)}|",
    ]
    for heading, rows in table.shown():
        if heading:
            lines.append(_line([f"**{plain(heading)}**", *("" for _ in table.columns[1:])]))
        lines += [_line([_cell(cell) for cell in row]) for row in rows]
    return "\n".join([*lines, *(f"\n{plain(note)}" for note in table.notes)])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    return plain(cell.text) + (f" ({plain(cell.detail)})" if cell.details else "")
