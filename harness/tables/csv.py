"""A table as CSV: values, not words (shares as fractions of 1); text can be no formula in a spreadsheet."""

from __future__ import annotations

import csv
import io

from harness.tables.table import Table, Value
from vzero.errors import escaped

_FULL_WIDTH = ("\uff1d", "\uff0b", "\uff0d", "\uff20")  # spreadsheets read these like = + - @
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", *_FULL_WIDTH)


def guarded(value: Value) -> Value:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    plain = escaped(value.replace("\x00", ""))
    return f"'{plain}" if value.strip("\x00 ").startswith(_FORMULA) else plain


def render(table: Table) -> str:
    """A line of headings, then a line per row; what is not known is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([guarded(column.heading) for column in table.columns])
    for row in table.rows:
        writer.writerow([guarded(cell.value) for cell in row])
    return stream.getvalue()
