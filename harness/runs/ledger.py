"""RUN/ledger.jsonl: what happened in a run, in order, appended and never rewritten.

Only the holder of the run's lock appends. A row that a full disk or a power loss left torn is removed before
the next one is written, so the file always parses.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vzero.runtime import artefacts, owned, schemas

NAME = "ledger.jsonl"


def append(run: Path, row: Mapping[str, Any]) -> None:
    """Add one row, synced; `time` (UTC, ISO 8601) is put first."""
    artefacts.append_jsonl(run / NAME, {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **row})


def read(run: Path) -> list[dict[str, Any]]:
    """All rows so far that are of their form, oldest first; none where there is no ledger yet."""
    path = run / NAME
    lines = owned.read_bytes(path).split(b"\n") if path.exists() else []
    return [row for line in lines if (row := _parsed(line)) is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = artefacts.parse_json(line)
        schemas.require_rows([row], "", NAME)
    except ValueError:
        return None
    return row


def attempts(run: Path, stage: str) -> int:
    """How often `stage` was started."""
    return sum(row.get("event") == "stage-started" and row.get("stage") == stage for row in read(run))
