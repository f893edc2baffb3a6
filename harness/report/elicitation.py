"""The table of the probe: what of a gain the base shows once its answers begin as the trained Solver's do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.table import Cell, Table
from harness.report.words import NBSP, NOTHING, TONES, interval, metric_label, percent, points

Results = Mapping[str, Any]


def elicitation(results: Results) -> Table | None:
    """Suite x metric: base, base with given beginnings, last Solver, and both paired differences."""
    probe = results.get("elicitation")
    if probe is None:
        return None
    last, rows, breaks = probe["model"], [], set()
    for suite in (*results["suites"], *(["average"] if len(results["suites"]) > 1 else [])):
        values = results["average"] if suite == "average" else results["suites"][suite]
        begun = probe["average"] if suite == "average" else probe["suites"].get(suite)
        if not begun or suite not in probe["elicited"]:
            continue
        for index, metric in enumerate(results["metrics"]):
            measured = (values["base"][metric], begun[metric], values[last][metric])
            gains = (probe["elicited"][suite][metric], probe["beyond"][suite][metric])
            rows.append(
                (
                    Cell(suite if index == 0 else ""),
                    Cell(metric_label(metric)),
                    *(Cell(percent(one["value"])) if one else Cell(NOTHING, "dim") for one in measured),
                    *(
                        Cell(points(one["gain"]), TONES[one["direction"]], interval(one["low"], one["high"]))
                        for one in gains
                    ),
                )
            )
        breaks.add(len(rows) - 1)
    words = f"{probe['words']}{NBSP}word{'s' if probe['words'] > 1 else ''}"
    return Table(
        "Elicited or learned",
        (
            "suite",
            "measure",
            "base",
            "base, begun",
            last,
            f"begun{NBSP}\u2212{NBSP}base",
            f"{last}{NBSP}\u2212{NBSP}begun",
        ),
        tuple(rows),
        2,
        (
            f"Under \u201cbase, begun\u201d each answer of the base was made to begin with the first {words} of {last}\u2019s answer "
            "to the same question. What the base gains by that was in it and only had to be elicited; what is left "
            f"to {last} is more than the choice of a beginning.",
        ),
        frozenset(breaks),
    )
