"""A grid's index as a table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from harness.runs.grid import GridEntry, GridIndex
from harness.tables.table import Cell, Table, Tone, keys, texts

TONES: dict[str, Tone] = {"done": "good", "failed": "bad"}


def grid_table(folder: Path, index: GridIndex) -> Table:
    """One row a run: how far it is, and where its compute differs from the reference's of the same seed."""
    states = Counter(entry.state for entry in index.runs.values())
    rows = [
        (
            Cell.of(name),
            Cell.of(entry.category),
            Cell.of(entry.state, tone=TONES.get(entry.state, "")),
            Cell.of(_beside(entry)),
        )
        for name, entry in index.runs.items()
    ]
    return Table(
        "Runs",
        (*keys("run"), *texts("category", "state", f"compute against {index.reference}")),
        [rows],
        notes=[f"{folder}: " + ", ".join(f"{count} {state}" for state, count in states.items())],
    )


def _beside(entry: GridEntry) -> str:
    """Where this run's counts differ from the reference's, in words."""
    if entry.state == "failed":
        return entry.reason or ""
    if entry.compute_differs is None:
        return ""
    found = [
        f"{name.replace('.', ' ')} "
        + (f"{one['value']:,}" if one["ratio"] is None else f"x{one['ratio']:.2f}")
        for name, one in entry.compute_differs.items()
    ]
    return ", ".join(found) or "equal"
