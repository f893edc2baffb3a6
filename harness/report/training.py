"""Tables of the trainings, and of what stages took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.table import Cell, Results, Table
from harness.report.words import NOTHING, duration, number

TRAINING = (("reward", 3), ("kl", 4), ("grad_norm", 2), ("completion_tokens", 1), ("truncated", 3))


def training(results: Results) -> Table | None:
    """Each training stage: means over its first and its last eighth of steps."""
    found = results["training"]
    if not found:
        return None
    rows = []
    for name, one in found.items():
        cells = []
        for metric, digits in TRAINING:
            ends = one.get(metric)
            cells.append(
                Cell(f"{number(ends['first'], digits)} \u2192 {number(ends['last'], digits)}")
                if ends
                else Cell(NOTHING, "dim")
            )
        rows.append((Cell(name), Cell(number(one["steps"])), *cells))
    return Table(
        "Training",
        ("stage", "steps", *(metric.replace("_", " ") for metric, _ in TRAINING)),
        tuple(rows),
        1,
        ("Mean over the first and over the last eighth of the optimizer steps.",),
    )


def cost(stages: Sequence[Mapping[str, Any]]) -> Table | None:
    """Seconds of each finished stage and of its phases. Not part of the results: measured, and different each
    time."""
    phases = list(dict.fromkeys(name for one in stages for name in one["phases"]))
    if not stages:
        return None
    rows = [
        (
            Cell(one["name"]),
            Cell(duration(one["seconds"])),
            *(
                Cell(duration(one["phases"].get(name)), "" if name in one["phases"] else "dim")
                for name in phases
            ),
            Cell(number(one["tokens"]), "" if one["tokens"] else "dim"),
        )
        for one in stages
    ]
    total = Cell(duration(sum(one["seconds"] or 0 for one in stages)))
    rows.append((Cell("all"), total, *(Cell("") for _ in phases), Cell("")))
    return Table(
        "Cost",
        ("stage", "time", *phases, "tokens"),
        tuple(rows),
        1,
        ("Of a stage that was killed and resumed, only the last attempt is timed.",),
        frozenset({len(rows) - 2}),
    )
