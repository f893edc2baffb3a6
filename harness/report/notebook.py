"""Tables and charts in a notebook: in a frame of their own, so that the style of reports stays there."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup, escape

from harness.tables.html import environment
from harness.tables.html import render as table
from harness.tables.table import Table

PAGE = '{% extends "page.html.j2" %}{% block main %}{{ body }}{% endblock %}'
STYLE = "width:100%;border:0"


@dataclass(frozen=True)
class Shown:
    """What Jupyter shows as a frame: tables, and charts with their captions; `height` in pixels."""

    parts: tuple[Table | tuple[str, Markup], ...]
    height: int = 400

    def _repr_html_(self) -> str:
        body = Markup("").join(
            Markup("<h3>{}</h3>{}").format(one.title, table(one))
            if isinstance(one, Table)
            else Markup("<figure><figcaption>{}</figcaption>{}</figure>").format(*one)
            for one in self.parts
        )
        template = environment("harness.report").from_string(PAGE)
        page = template.render(body=Markup('<div class="panels">{}</div>').format(body))
        return f'<iframe sandbox srcdoc="{escape(page)}" style="{STYLE}" height="{self.height}"></iframe>'
