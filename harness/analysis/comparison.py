"""Runs -> the comparison, a JSON object: every number a table of arms shows.

``rows`` are measured here, then published, then third-party. A measured row has ``cells[suite or "average"]``
with ``value, low, high, n, expected`` and, but for the row that is the reference, ``gain``: ``gain, low,
high, t_low, t_high, p, p_holm, direction, detectable, by_seed, test, freedom`` (of the t interval over seeds;
None for one seed, or where there is no spread). Shares and gains are fractions. Over several seeds intervals
and p-values hold seeds and images to be draws from many (`harness.stats.gain_over_seeds`), and an interval is
the wider of the two that function gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.analysis import compute_notes, published_rows
from harness.analysis.cells import AVERAGE, BASE, cell, counts
from harness.analysis.groups import Group, groups
from harness.analysis.load import Loaded
from harness.analysis.verdicts import verdicts
from harness.stats import holm
from vzero.errors import InputError

FORMAT = 1


def compare(
    runs: Sequence[Loaded], against: str = BASE, metric: str | None = None, reference: Sequence[Loaded] = ()
) -> dict[str, Any]:
    """All arms of `runs` beside each other.

    Args:
        against: "base" (each run's own), or the name of a row or arm that gains are taken over.
        metric: "greedy", "sampled", "maj@n", "pass@n"; default the first that all runs have.
        reference: runs whose last checkpoint is the reference, instead of `against`.

    Raises:
        InputError: a metric the runs do not share, a reference that is not there, or no suite at all.
    """
    chosen = _metric([*runs, *reference], metric)
    own = {run.key for run in runs}
    reference = [
        replace(run, arm=f"{run.arm} of {run.name}") if run.key in own else run for run in reference
    ]  # never pooled with `runs`
    found = groups([*runs, *reference])
    over = _reference(found, against, reference)
    suites = list(dict.fromkeys(suite for run in (*runs, *reference) for suite in run.results["suites"]))
    if not suites:
        raise InputError(
            "None of these runs has a finished suite; finish them with the commands that began them."
        )
    rows = [_row(group, over, suites, chosen) for group in found]
    compute_notes.beside(rows, found, over)
    return {
        "format": FORMAT,
        "metric": chosen,
        "against": over.name if over else BASE,
        "suites": suites,
        "rows": [*rows, *published_rows.rows(list(dict.fromkeys(group.model for group in found)), suites)],
        "claims": verdicts(found, suites, chosen),
        "runs": [_run(run) for run in (*runs, *reference)],
        "pooled_from_sums": sorted({row["name"] for row in rows if row["from_sums"]}),
    }


def _metric(runs: Sequence[Loaded], wanted: str | None) -> str:
    shared = [
        name for name in runs[0].results["metrics"] if all(name in run.results["metrics"] for run in runs)
    ]
    if wanted is None and shared:
        return shared[0]
    if wanted not in shared:
        raise InputError(
            f"Not every run was measured by {wanted or 'one metric'}; choose --metric from {', '.join(shared) or 'none'}."
        )
    return wanted


def _reference(found: Sequence[Group], against: str, reference: Sequence[Loaded]) -> Group | None:
    """The row gains are taken over; None for each run's own base."""
    if reference:
        return [group for group in found if any(run in reference for run in group.runs)][-1]
    if against == BASE:
        return None
    named = [
        group for group in found if against in (group.name, group.arm, f"{group.arm} {group.checkpoint}")
    ]
    if not named:
        raise InputError(
            f"There is no {against!r} to compare with; choose base, a run, or one of {', '.join(group.name for group in found)}."
        )
    return named[-1]


def _row(group: Group, over: Group | None, suites: Sequence[str], metric: str) -> dict[str, Any]:
    cells = {suite: cell(group, over, [suite], metric) for suite in suites}
    if len(suites) > 1 and all(cells.values()):
        cells[AVERAGE] = cell(group, over, suites, metric)
    gains = {suite: found["gain"] for suite in suites if (found := cells[suite]) and found["gain"]}
    for suite, p in holm({suite: gain["p"] for suite, gain in gains.items()}).items():
        gains[suite]["p_holm"] = p
        if p is None or p > 0.05:
            gains[suite]["direction"] = "unclear"
    return {
        "kind": "measured",
        "name": group.name,
        "arm": group.arm,
        "checkpoint": group.checkpoint,
        "model": group.model,
        "seeds": [run.seed for run in group.runs],
        "cells": cells,
        **counts(group, suites),
        "from_sums": any(cell["from_sums"] for cell in cells.values() if cell),
    }


def _run(run: Loaded) -> dict[str, Any]:
    results = run.results
    return {
        "name": run.name,
        "arm": run.arm,
        "seed": run.seed,
        "preset": results.get("preset"),
        "model": results.get("model"),
        "split": results.get("split"),
        "complete": results.get("complete", True),
        "missing": dict(results.get("missing") or {}),
        "warnings": list(results.get("warnings") or []),
    }
