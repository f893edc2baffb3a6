"""A table as data; `terminal`, `markdown`, `latex`, `csv` and `html` beside it are five views of it.

Example: a table with one group of one row.

    columns = (*keys("suite", "measure"), *numbers("base", "S2", unit="%"), *numbers("gain", "items"))
    row = ("pocket_math", "greedy", Cell.percent(0.61), Cell.percent(0.68), Cell.gain(0.07, 0.03, 0.11), 525)
    Table("Held-out accuracy", columns, [[row]], notes=["Gains in points."])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.tables import words

Tone = Literal["", "good", "bad", "warn", "dim", "strong", "printed"]
Kind = Literal["key", "text", "number"]
Value = str | int | float | None


@dataclass(frozen=True)
class Column:
    """A heading, its unit, and what stands below it.

    Attributes:
        kind: "key" names the row: to the left, never wrapped, not repeated from row to row. "text" is to the
            left and may wrap. "number" is to the right and never wrapped.
    """

    name: str
    kind: Kind = "number"
    unit: str = ""

    @property
    def heading(self) -> str:
        return f"{self.name},{words.NBSP}{self.unit}" if self.unit else self.name


def keys(*names: str) -> tuple[Column, ...]:
    """Columns that name a row; they come first."""
    return tuple(Column(name, "key") for name in names)


def texts(*names: str) -> tuple[Column, ...]:
    """Columns of words and sentences."""
    return tuple(Column(name, "text") for name in names)


def numbers(*names: str, unit: str = "") -> tuple[Column, ...]:
    """Columns of numbers."""
    return tuple(Column(name, "number", unit) for name in names)


@dataclass(frozen=True)
class Cell:
    """Plain text, never markup. Use the constructors below: they know how each kind of value is written.

    Attributes:
        value: what a spreadsheet gets: a share as a fraction, seconds, a count; None where nothing is known.
        tone: what it means; "printed" is a number that was not measured here.
        details: smaller parts behind the text, such as an interval or n.
    """

    text: str
    value: Value = None
    tone: Tone = ""
    details: tuple[str, ...] = ()

    @property
    def detail(self) -> str:
        return ", ".join(self.details)

    @classmethod
    def of(cls, text: str, *details: str, tone: Tone = "") -> Cell:
        return cls(text, text, tone, details)

    @classmethod
    def missing(cls, *reason: str) -> Cell:
        return cls(words.MISSING, None, "dim", reason)

    @classmethod
    def percent(cls, share: float | None, *details: str, tone: Tone = "") -> Cell:
        return cls.missing() if share is None else cls(words.percent(share), share, tone, details)

    @classmethod
    def gain(cls, difference: float | None, low: float | None, high: float | None, tone: Tone = "") -> Cell:
        """A difference in points with its interval."""
        if difference is None:
            return cls.missing()
        return cls(words.points(difference), difference, tone, (words.interval(low, high),))

    @classmethod
    def number(cls, value: float | None, *details: str, digits: int = 3, tone: Tone = "") -> Cell:
        """A count, or a number with `digits` decimals."""
        return cls.missing() if value is None else cls(words.number(value, digits), value, tone, details)

    @classmethod
    def significant(cls, value: float | None, *details: str, digits: int = 3, tone: Tone = "") -> Cell:
        """A measurement in three digits."""
        return cls.missing() if value is None else cls(words.significant(value, digits), value, tone, details)

    @classmethod
    def amount(cls, value: float | None, tone: Tone = "") -> Cell:
        """A large count: 1.2 M."""
        return cls.missing() if value is None else cls(words.amount(value), value, tone)

    @classmethod
    def ratio(cls, value: float | None, *details: str, tone: Tone = "") -> Cell:
        return cls.missing() if value is None else cls(words.ratio(value), value, tone, details)

    @classmethod
    def seconds(cls, value: float | None, tone: Tone = "") -> Cell:
        return cls.missing() if value is None else cls(words.duration(value), value, tone)

    @classmethod
    def size(cls, count: float | None, tone: Tone = "") -> Cell:
        """Bytes."""
        return cls.missing() if count is None else cls(words.size(count), count, tone)


Row = Sequence[Cell | Value]


def as_cell(value: Cell | Value) -> Cell:
    """What may stand in a row as it is: a text, a number, None for what is not there."""
    if isinstance(value, Cell):
        return value
    return Cell.of(value) if isinstance(value, str) else Cell.number(value)


@dataclass(frozen=True)
class Table:
    """Rows in groups; a group is set apart from the next one.

    Attributes:
        notes: sentences below the table.
        headings: a heading above each group, or none at all.
    """

    title: str
    columns: Sequence[Column]
    groups: Sequence[Sequence[Row]]
    notes: Sequence[str] = ()
    headings: Sequence[str] = ()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"A row of {self.title!r} has not one cell per column.")
        if self.headings and len(self.headings) != len(self.groups):
            raise ValueError(f"{self.title!r} has not one heading per group.")

    @property
    def rows(self) -> list[list[Cell]]:
        """All rows, every value as a cell."""
        return [list(map(as_cell, row)) for group in self.groups for row in group]

    def shown(self) -> Iterator[tuple[str, list[list[Cell]]]]:
        """(heading, rows) of each group that has rows; a key is blank where the row above has the same."""
        count = sum(column.kind == "key" for column in self.columns)
        for index, group in enumerate(self.groups):
            above: Row = ()
            rows = []
            for row in group:
                same = 0
                while above and same < count - 1 and row[same] == above[same]:
                    same += 1
                rows.append([*[Cell("")] * same, *map(as_cell, row[same:])])
                above = row
            if rows:
                yield self.headings[index] if self.headings else "", rows
