"""A table as HTML, and the environment of every page: one file, no script, all escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.tables import words
from harness.tables.table import Cell, Column, Table
from harness.tables.text import visible


def environment(package: str) -> Environment:
    """Templates of `package` beside the shared `page.html.j2` and `style.css`; whatever is no chart and no
    table is escaped."""
    found = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("harness.tables")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        visible=visible,
        table=render,
        number=words.number,
        percent=words.percent,
        points=words.points,
        counted=words.counted,
    )
    return found


def render(table: Table) -> Markup:
    """The table without its title, which is a heading of the page. Where it is too wide it scrolls."""
    width = max((len(cell.detail) for row in table.rows for cell in row), default=0)
    head = _join(
        Markup('<th scope="col"{}>{}</th>').format(_class(_side(column)), visible(column.heading))
        for column in table.columns
    )
    body = _join(_group(table, heading, rows) for heading, rows in table.shown())
    notes = _join(Markup('<p class="notes">{}</p>\n').format(visible(note, 4000)) for note in table.notes)
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table style="--detail: {}ch">\n'
        "<thead><tr>{}</tr></thead>\n{}</table></div>\n{}"
    ).format(visible(table.title), width, head, body, notes)


def _group(table: Table, heading: str, rows: Sequence[Sequence[Cell]]) -> Markup:
    title = Markup('<tr class="group"><th scope="rowgroup" colspan="{}">{}</th></tr>\n')
    detailed = [any(row[index].details for row in table.rows) for index in range(len(table.columns))]
    lines = [Markup("<tr>{}</tr>\n").format(_join(map(_cell, table.columns, row, detailed))) for row in rows]
    head = title.format(len(table.columns), visible(heading)) if heading else Markup("")
    return Markup("<tbody>\n{}{}</tbody>\n").format(head, _join(lines))


def _cell(column: Column, cell: Cell, detailed: bool) -> Markup:
    """A number gets an empty second part where others of its column have one, so that they stay aligned."""
    wanted = cell.details or (detailed and column.kind == "number")
    small = Markup("<small>{}</small>").format(visible(cell.detail)) if wanted else ""
    return Markup("<td{}>{}{}</td>").format(_class(_side(column), cell.tone), visible(cell.text), small)


def _side(column: Column) -> str:
    return "" if column.kind == "number" else "t"


def _class(*names: str) -> Markup:
    found = " ".join(name for name in names if name)
    return Markup(' class="{}"').format(found) if found else Markup("")


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)
