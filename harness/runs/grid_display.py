"""A grid's index as a table in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

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


def show_grid(folder: Path, index: Mapping[str, Any], console: Console) -> None:
    """One row a run: how far it is, and where its compute differs from the reference's of the same seed."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("run", "category", "state", f"compute beside {index['reference']}"):
        table.add_column(column, no_wrap=column == "run", overflow="fold")
    for name, entry in index["runs"].items():
        table.add_row(Text(name), entry["category"], entry["state"], Text(beside(entry)))
    console.print(table)
    states = Counter(entry["state"] for entry in index["runs"].values())
    console.print(
        f"{folder}: " + ", ".join(f"{count} {state}" for state, count in states.items()),
        markup=False,
        soft_wrap=True,
    )


def beside(entry: Mapping[str, Any]) -> str:
    """Where this run's counts differ from the reference's, in words."""
    if entry["state"] == "failed":
        return entry["reason"]
    if "compute_differs" not in entry:
        return ""
    parts = [_part(name, one) for name in SHOWN if (one := entry["compute_differs"].get(name)) is not None]
    return ", ".join(parts) or "equal"


def _part(name: str, one: Mapping[str, Any]) -> str:
    words = name.replace(".", " ")
    return f"{words} {one['value']:,}" if one["ratio"] is None else f"{words} x{one['ratio']:.2f}"
