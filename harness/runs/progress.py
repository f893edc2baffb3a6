"""How far the running stage is: its progress file read as it grows, and what follows from it (rate, time
left)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from vzero.errors import InputError
from vzero.runtime import owned


@dataclass(frozen=True)
class Position:
    """Where a stage is. `whole`: seconds of all its steps at the rate of this attempt, None before it can be
    told."""

    done: int
    total: int
    unit: str
    metrics: dict[str, float]
    whole: float | None

    @property
    def share(self) -> float:
        return min(1.0, self.done / max(1, self.total))


class _Row(BaseModel):
    """As `vzero.runtime.progress` writes it; `time` is seconds since the epoch."""

    time: float
    done: int
    total: int
    unit: str
    metrics: dict[str, float]


@dataclass
class ProgressReader:
    """Follows one attempt of one stage. Rows of earlier attempts (before `begin`, seconds since the epoch) do
    not enter the rate."""

    path: Path
    begin: float
    position: Position | None = None
    _offset: int = 0
    _first: _Row | None = None
    _torn: bytes = field(default=b"", repr=False)

    def refresh(self) -> Position | None:
        """Read what was written since the last call; the latest position, or None while there is none of this
        attempt."""
        for row in self._new_rows():
            if row.time < self.begin:
                continue
            first = self._first
            if first is None or (first.unit, first.total) != (row.unit, row.total) or row.done < first.done:
                self._first = first = row  # a new phase of the stage: its rate is its own
            advanced, seconds = row.done - first.done, row.time - first.time
            whole = row.total * seconds / advanced if advanced > 0 and seconds > 0 else None
            self.position = Position(row.done, row.total, row.unit, row.metrics, whole)
        return self.position

    def _new_rows(self) -> list[_Row]:
        try:
            with open(owned.open_own(self.path), "rb") as stream:
                if stream.seek(0, 2) < self._offset:  # the stage emptied its folder and began again
                    self._offset, self._torn = 0, b""
                stream.seek(self._offset)
                data = stream.read()
        except (OSError, InputError):  # not there yet, or no longer
            return []
        self._offset += len(data)
        *lines, self._torn = (self._torn + data).split(b"\n")
        return [row for row in map(_parse, lines) if row is not None]


def _parse(line: bytes) -> _Row | None:
    try:
        return _Row.model_validate_json(line)
    except ValidationError:
        return None
