"""Tables as LaTeX that needs no package. Everything not ASCII is spelled out, and every character with a
meaning to TeX is escaped."""

from __future__ import annotations

from harness.report.table import Cell, Table
from harness.report.words import visible

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
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
    "\u2190": r"$\leftarrow$",
}
_TONES = {"good": r"\textbf{%s}", "bad": r"\underline{%s}", "printed": r"\textit{%s}"}


def escape(text: str) -> str:
    """Hostile text as LaTeX that prints it: no command, no comment, no alignment tab can come out of it."""
    line = visible(text, 2000).replace("\n", " ")
    return "".join(_SPECIAL.get(c, c if c.isascii() else f"(U+{ord(c):04X})") for c in line)


def table(table: Table) -> str:
    """One `table` float. Better rows are bold, worse ones underlined, numbers that were not measured here in
    italics."""
    if table.text_columns == len(table.columns):  # sentences: they have to break
        columns = rf"p{{{0.94 / len(table.columns):.3f}\textwidth}}" * len(table.columns)
    else:
        columns = "".join("l" if index < table.text_columns else "r" for index in range(len(table.columns)))
    lines = [
        r"\begin{table}",
        rf"\caption{{{escape(table.title)}}}",
        r"\footnotesize",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\hline",
        " & ".join(escape(column) for column in table.columns) + r" \\",
        r"\hline",
    ]
    for index, row in enumerate(table.rows):
        lines.append(
            " & ".join(_cell(cell) for cell in row) + r" \\" + (r" \hline" if index in table.breaks else "")
        )
    lines += [r"\hline", r"\end{tabular}", *(rf"\par {escape(note)}" for note in table.notes), r"\end{table}"]
    return "\n".join(lines) + "\n"


def _cell(cell: Cell) -> str:
    """Braced, so that a cell that begins with `[` or `*` is no argument of the line end before it."""
    text = _TONES.get(cell.tone, "%s").replace("%s", escape(cell.text))
    return "{" + text + (rf" {{\scriptsize ({escape(cell.detail)})}}" if cell.detail else "") + "}"
