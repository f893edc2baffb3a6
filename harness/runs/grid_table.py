"""A grid's index as a table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from harness.runs.grid import GridEntry, GridIndex
from harness.tables.table import Cell, Table, Tone, keys, texts

SHOWN = (
    "written",
    "votes.reward",
    "votes.label",
    "votes.check",
    "rollouts.questioner",
    "rollouts.solver",
    "steps.solver",
    "imitated",
)
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
    found = []
    for name in SHOWN:
        if (one := entry.compute_differs.get(name)) is not None:
            ratio = one["ratio"]
            how = f"{one['value']:,}" if ratio is None else f"x{ratio:.2f}"
            found.append(f"{name.replace('.', ' ')} {how}")
    return ", ".join(found) or "equal"
