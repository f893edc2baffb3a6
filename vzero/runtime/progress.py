"""How far a stage is: a log of small rows that a runner reads while the stage writes it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from vzero.runtime import owned


@dataclass(frozen=True)
class Progress:
    """Appends rows of time (seconds since 1970), done, total, unit and metrics to one file."""

    path: Path

    def update(self, done: int, total: int, unit: str, metrics: dict[str, float] | None = None) -> None:
        """Say that `done` of `total` are finished. Not synced: losing a row of progress costs nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        row = {
            "time": time.time(),
            "done": done,
            "total": total,
            "unit": unit,
            "metrics": dict(metrics or {}),
        }
        appending = owned.open_own(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with open(appending, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
