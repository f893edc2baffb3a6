"""A table as data; terminal, Markdown, HTML and LaTeX render the same ones.

The functions that make them, here and there in this package, are pure: results in, `Table` out, None where
there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """Plain text (never markup), what it means ("good", "bad", "dim" or ""), and a smaller second part such
    as an interval."""

    text: str
    tone: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """`text_columns` are the leading columns set to the left; the others hold numbers. `breaks` are rows
    after which a group ends."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    text_columns: int = 1
    notes: tuple[str, ...] = ()
    breaks: frozenset[int] = frozenset()

    @property
    def detailed(self) -> frozenset[int]:
        """Columns of numbers in which some cell has a second part."""
        return frozenset(
            index
            for row in self.rows
            for index, cell in enumerate(row)
            if cell.detail and index >= self.text_columns
        )

    @property
    def detail_width(self) -> int:
        """Characters in the longest second part of a number."""
        return max((len(row[index].detail) for row in self.rows for index in self.detailed), default=0)
