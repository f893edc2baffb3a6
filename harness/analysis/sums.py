"""Cells from results that hold no single items (an older format): the run's own numbers, and over seeds the
mean with a t interval."""

from __future__ import annotations

import math
from statistics import fmean, variance
from typing import Any

from harness.analysis.groups import Group
from harness.stats import detectable
from harness.stats.images import freedom, t_interval


def level_of_sums(group: Group, place: str, metric: str) -> tuple[float, float | None, float | None, int]:
    """(accuracy, low, high, items); an interval only where there is one run."""
    entries = [_entry(run.results, place, group.checkpoint, metric) for run in group.runs]
    low, high = (entries[0].get("low"), entries[0].get("high")) if len(entries) == 1 else (None, None)
    return fmean(one["value"] for one in entries), low, high, entries[0].get("n", 0)


def _entry(results: Any, place: str, checkpoint: str, metric: str) -> dict[str, Any]:
    if place in results["suites"]:
        return results["suites"][place][checkpoint][metric]
    stated = results.get("average", {}).get(checkpoint, {}).get(metric)
    entries = [models[checkpoint][metric] for models in results["suites"].values()]
    return stated or {
        "value": fmean(one["value"] for one in entries),
        "n": sum(one.get("n", 0) for one in entries),
    }


def gain_of_sums(group: Group, place: str, metric: str) -> dict[str, Any] | None:
    """The gain over each run's own base as its results state it; None where one does not.

    Over seeds: the variance between them plus, for the images, the mean of the runs' own variances (the seeds
    answer the same images, so it does not shrink with their number).
    """
    stated = [
        run.results.get("gains", {}).get(group.checkpoint, {}).get(place, {}).get(metric)
        for run in group.runs
    ]
    if any(one is None for one in stated):
        return None
    if len(stated) == 1:
        one = stated[0]
        kept = {key: one.get(key) for key in ("gain", "low", "high", "p", "p_holm", "direction", "test")}
        kept |= {"t_low": one.get("normal_low"), "t_high": one.get("normal_high")}
        return {**kept, "detectable": detectable(one.get("low"), one.get("high")), "by_seed": [one["gain"]]}
    gains = [one["gain"] for one in stated]
    errors = [(one["high"] - one["low"]) / 2 / 1.96 for one in stated if one.get("low") is not None]
    found: dict[str, Any] = {
        "gain": fmean(gains),
        "low": None,
        "high": None,
        "p": None,
        "p_holm": None,
        "direction": "unclear",
    }
    if len(errors) == len(stated):
        parts = [
            (variance(gains) / len(gains), len(gains) - 1),
            (fmean(error**2 for error in errors), max(1, stated[0].get("images", 2) - 1)),
        ]
        found["low"], found["high"], found["p"] = t_interval(found["gain"], parts, 0.95)
        if found["low"] > 0 or found["high"] < 0:
            found["direction"] = "positive" if found["low"] > 0 else "negative"
        degrees = freedom(parts)
        found["freedom"] = degrees if math.isfinite(degrees) else None
    found |= {"t_low": found["low"], "t_high": found["high"]}
    return {
        **found,
        "detectable": detectable(found["low"], found["high"]),
        "by_seed": gains,
        "test": "t over seeds, from sums",
    }
