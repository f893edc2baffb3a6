"""Text that somebody else wrote (a model, a data set, a file name), made safe to show."""

from __future__ import annotations

from vzero.errors import escaped


def visible(text: str, limit: int = 600) -> str:
    """Control, bidirectional and surrogate characters as escapes; line breaks kept, length bounded."""
    shown = escaped(text[:limit])
    return shown if len(text) <= limit else f"{shown} \u2026 (+{len(text) - limit:,} characters)"


def one_line(text: str, limit: int = 600) -> str:
    """The same on one line, runs of white space as single spaces."""
    return " ".join(visible(text, limit).split())
