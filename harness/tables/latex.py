"""A table as LaTeX with booktabs: all of it is ASCII, and what has a meaning to TeX is escaped."""

from __future__ import annotations

import re

from harness.tables.table import Cell, Column, Table
from harness.tables.text import visible

_SPECIAL = {c: rf"\{c}" for c in "{}$&#_%"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "\u2212": "$-$",
    "\u2013": "--",
    "\u00a0": "~",
    "\u2192": r"$\to$",
    "\u2248": r"$\approx$",
    "\u2190": r"$\leftarrow$",
}
_TONES = {
    "good": r"\textbf{%s}",
    "strong": r"\textbf{%s}",
    "bad": r"\underline{%s}",
    "printed": r"\textit{%s}",
}


def escape(text: str) -> str:
    """Hostile text as LaTeX that prints it: no command, comment or alignment tab can come out of it."""
    line = visible(text, 2000).replace("\n", " ")
    return "".join(_SPECIAL.get(c, c if c.isascii() else f"(U+{ord(c):04X})") for c in line)


def render(table: Table) -> str:
    """One `table` float. Better is bold, worse underlined, a number that was not measured here in italics."""
    lines = [
        r"\begin{table} % needs \usepackage{booktabs}",
        rf"\caption{{{escape(table.title)}}}",
        rf"\label{{tab:{_label(table.title)}}}",
        r"\footnotesize",
        rf"\begin{{tabular}}{{{''.join(_column(column, len(table.columns)) for column in table.columns)}}}",
        r"\toprule",
        " & ".join(escape(column.heading) for column in table.columns) + r" \\",
    ]
    for heading, rows in table.shown():
        lines.append(r"\midrule")
        if heading:
            lines.append(rf"\multicolumn{{{len(table.columns)}}}{{l}}{{\textbf{{{escape(heading)}}}}} \\")
        lines += [" & ".join(_cell(cell) for cell in row) + r" \\" for row in rows]
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par {escape(note)}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _label(title: str) -> str:
    """Letters and digits of a title: "arms-by-suite-t-1"."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower())) or "table"


def _column(column: Column, count: int) -> str:
    if column.kind == "text":  # sentences have to break
        return rf"p{{{0.94 / count:.3f}\textwidth}}"
    return "r" if column.kind == "number" else "l"


def _cell(cell: Cell) -> str:
    """Braced, so that a cell that begins with `[` or `*` is no argument of the line end before it."""
    text = _TONES.get(cell.tone, "%s").replace("%s", escape(cell.text))
    return "{" + text + (rf" {{\scriptsize ({escape(cell.detail)})}}" if cell.details else "") + "}"
