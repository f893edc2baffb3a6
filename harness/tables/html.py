"""A table as HTML, and the environment of every page: one file, no script, all escaped."""

from __future__ import annotations

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.tables import words
from harness.tables.table import Table
from harness.tables.text import visible


@cache
def environment(package: str) -> Environment:
    """Templates of `package` beside the shared ones of this room. Everything is escaped; charts and tables
    are `Markup`, which escaped its own text."""
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
    template = environment("harness.tables").get_template("table.html.j2")
    # A number gets an empty second part where others of its column have one, so that they stay aligned.
    detailed = [
        column.kind == "number" and any(row[index].details for row in table.rows)
        for index, column in enumerate(table.columns)
    ]
    width = max((len(cell.detail) for row in table.rows for cell in row), default=0)
    prose = all(column.kind != "number" for column in table.columns)
    return Markup(template.render(table=table, detailed=detailed, width=width, prose=prose))
