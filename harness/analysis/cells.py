"""One cell of a comparison: the level of a row on a suite (or on the average of several) and its paired gain
over the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from harness.analysis.groups import BASE, Group, mean_values, pair, values
from harness.analysis.sums import gain_of_sums, level_of_sums
from harness.stats import Gain, Pairs, Spread, detectable, gain_over_seeds, mean_interval, paired_gain
from vzero.runtime.seeding import derive

AVERAGE = "average"
RESAMPLES = 2000


def cell(group: Group, over: Group | None, suites: Sequence[str], metric: str) -> dict[str, Any] | None:
    """One suite or the average of several: the level and the gain; None where some run was not measured on
    all of them."""
    if any(
        group.checkpoint not in run.results["suites"].get(suite, {}) for run in group.runs for suite in suites
    ):
        return None
    by_suite = {suite: group.values(suite, metric) for suite in suites}
    place, seed = suites[0] if len(suites) == 1 else AVERAGE, derive(0, "table", group.name, metric, *suites)
    expected = sum(
        max(run.results.get("expected", {}).get(suite, 0) for run in group.runs) for suite in suites
    )
    if all(all(runs) for runs in by_suite.values()):
        value, low, high = _level(by_suite, seed)
        n = sum(len(runs[0]) for runs in by_suite.values())
        gain, sums = (
            (None, False)
            if group is over or (over is None and group.checkpoint == BASE)
            else _gain(group, over, by_suite, metric, place, seed)
        )
    else:
        value, low, high, n = level_of_sums(group, place, metric)
        gain, sums = (
            (gain_of_sums(group, place, metric) if over is None and group.checkpoint != BASE else None),
            True,
        )
    return {
        "value": value,
        "low": low,
        "high": high,
        "n": n,
        "expected": max(expected, n),
        "gain": gain,
        "from_sums": sums,
    }


def _level(by_suite: Mapping[str, Sequence[Any]], seed: int) -> tuple[float, float | None, float | None]:
    runs = [
        [([value for _, value in run.values()], [image for image, _ in run.values()]) for run in seeds]
        for seeds in by_suite.values()
    ]
    if len(runs[0]) == 1:
        found = mean_interval([one[0] for one in runs], seed, resamples=RESAMPLES)
        return found.value, found.low, found.high
    nothing = [[Pairs([0.0] * len(values), values, images) for values, images in seeds] for seeds in runs]
    try:
        spread = gain_over_seeds(nothing, seed, resamples=RESAMPLES)
    except ValueError:  # the seeds were not asked the same items
        return fmean(fmean(fmean(values) for values, _ in seeds) for seeds in runs), None, None
    low, high = spread.wide
    return spread.mean, None if low is None else max(low, 0.0), None if high is None else min(high, 1.0)


def _gain(
    group: Group,
    over: Group | None,
    by_suite: Mapping[str, Sequence[Any]],
    metric: str,
    place: str,
    seed: int,
) -> tuple[dict[str, Any] | None, bool]:
    """(the paired gain over the reference, whether it rests on sums alone). Over another arm it is of the
    seeds that both have, so that the luck of either's training is in the differences; where they share none,
    each seed is held against the other's mean."""
    if over is None and len(group.runs) == 1 and (stated := gain_of_sums(group, place, metric)) is not None:
        return stated, False  # the run's own report says it, from more resamples
    shared = [
        i
        for i, run in enumerate(group.runs)
        if over is not None and run.seed in {one.seed for one in over.runs}
    ]
    if shared and len(shared) < len(group.runs):
        group = replace(group, runs=tuple(group.runs[i] for i in shared))
        by_suite = {suite: [runs[i] for i in shared] for suite, runs in by_suite.items()}
    paired = [
        [pair(base, own) for base, own in zip(_bases(group, over, suite, metric), runs, strict=True)]
        for suite, runs in by_suite.items()
    ]
    if any(one is None for seeds in paired for one in seeds):
        return None, False
    by_seed = [
        fmean((sum(seeds[i].other) - sum(seeds[i].base)) / len(seeds[i].base) for seeds in paired)
        for i in range(len(group.runs))
    ]
    if len(by_seed) == 1:
        return _of_gain(paired_gain([seeds[0] for seeds in paired], seed, resamples=RESAMPLES)), False
    try:
        return _of_spread(gain_over_seeds(paired, seed, resamples=RESAMPLES), by_seed), False
    except ValueError:
        return None, False


def _bases(group: Group, over: Group | None, suite: str, metric: str) -> list[Any]:
    """For each run of `group` the item values it is compared with: its own base, or the reference of the same
    seed (the mean over the reference's seeds where that seed is not among them: see `_gain`)."""
    if over is None:
        return [values(run, suite, BASE, metric) for run in group.runs]
    by_seed = {run.seed: values(run, suite, over.checkpoint, metric) for run in over.runs}
    mean = mean_values(list(by_seed.values()))
    return [by_seed.get(run.seed, mean) for run in group.runs]


def _of_gain(gain: Gain) -> dict[str, Any]:
    return {
        "gain": gain.gain,
        "low": gain.low,
        "high": gain.high,
        "t_low": gain.normal_low,
        "t_high": gain.normal_high,
        "p": gain.p,
        "p_holm": None,
        "direction": gain.direction,
        "detectable": detectable(gain.low, gain.high),
        "by_seed": [gain.gain],
        "test": gain.test,
        "freedom": None,
    }


def _of_spread(spread: Spread, by_seed: Sequence[float]) -> dict[str, Any]:
    low, high = (None if one is None else min(max(one, -1.0), 1.0) for one in spread.wide)
    return {
        "gain": spread.mean,
        "low": low,
        "high": high,
        "t_low": spread.t_low,
        "t_high": spread.t_high,
        "p": spread.p,
        "p_holm": None,
        "direction": spread.direction,
        "detectable": detectable(low, high),
        "by_seed": list(by_seed),
        "test": "t over seeds and images",
        "freedom": spread.freedom if spread.freedom is not None and math.isfinite(spread.freedom) else None,
    }


def counts(group: Group, suites: Sequence[str]) -> dict[str, Any]:
    """Shares of answers that could not be read or were cut off, over all suites and seeds, by kind of
    answer."""
    entries = [
        run.results["suites"].get(suite, {}).get(group.checkpoint) for run in group.runs for suite in suites
    ]
    found: dict[str, Any] = {}
    for what in ("unparsed", "truncated"):
        for kind in ("greedy", "sampled"):
            counts = [entry[f"{what}_{kind}"] for entry in entries if entry and f"{what}_{kind}" in entry]
            total = sum(one["n"] for one in counts)
            found[f"{what}_{kind}"] = sum(one["value"] for one in counts) / total if total else None
    return found
