"""Every claim on file against what these runs measured. A claim whose model, suite or arms are not here is
NOT RUN, with the reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness.analysis.cells import AVERAGE, BASE, cell, counts
from harness.analysis.evaluations import CHECKPOINT
from harness.analysis.groups import Group
from harness.analysis.load import DEFAULT_ARM
from harness.analysis.published_rows import canonical
from harness.claims import published
from harness.claims.judge import Judgement, Measurement, Verdict, judge, sentence
from harness.claims.published import Claim, OrderClaim

POCKET = "pocket"
# The claims' names of a method -> the arms that are that method, and the checkpoint where the claim names
# one.
ARMS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "vzero": ((DEFAULT_ARM,), None),
    "vzero-iteration-1": ((DEFAULT_ARM,), "S1"),
    "vzero-iteration-2": ((DEFAULT_ARM,), "S2"),
    "uncertainty": (("uncertainty", "single-uncertainty"), None),
    "supervised-grpo": (("supervised-grpo", "supervised"), None),
    "mm-upt": (("mm-upt", "majority-voting"), None),
}


def verdicts(groups: Sequence[Group], suites: Sequence[str], metric: str) -> list[dict[str, Any]]:
    """One entry a claim, in the order of the file, as `judge` sees it: ``verdict``, ``says``, ``sentence``,
    ``measured`` and the rest."""
    return [_entry(claim, groups, suites, metric) for claim in published.claims()]


def _entry(claim: Claim, groups: Sequence[Group], suites: Sequence[str], metric: str) -> dict[str, Any]:
    reason, measured = _measure(claim, groups, suites, metric)
    judged = judge(claim, measured)
    worlds = {group.model for group in groups}
    caveats = list(judged.caveats)
    if measured is not None and POCKET in worlds:
        caveats.insert(
            0, "measured in the pocket world of drawings with a model of under a million parameters"
        )
    source = next(one for one in published.load().sources if one.id == claim.source)
    return {
        "id": claim.id,
        "kind": claim.kind,
        "says": claim.says,
        "source": source.title,
        "table": claim.table,
        "certainty": claim.certainty,
        "claimed": None
        if isinstance(claim, OrderClaim)
        else {"value": claim.value / 100, "tolerance": claim.tolerance / 100},
        "verdict": judged.verdict.value,
        "numbers_say": judged.numbers_say.value,
        "reason": reason,
        "measured": None if measured is None else _measured(measured),
        "deviations": list(judged.deviations),
        "caveats": caveats,
        "settle": [{**asdict(one), "to": one.to.value} for one in judged.settle],
        "sentence": _said(judged, reason),
    }


def _said(judged: Judgement, reason: str | None) -> str:
    return f"{Verdict.NOT_RUN.value}: {reason}." if judged.verdict is Verdict.NOT_RUN else sentence(judged)


def _measured(measured: Measurement) -> dict[str, Any]:
    kept = ("gain", "low", "high", "n", "expected", "by_seed")
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(measured).items()
        if key in kept
    }


def _measure(
    claim: Claim, groups: Sequence[Group], suites: Sequence[str], metric: str
) -> tuple[str | None, Measurement | None]:
    """(why it is not run, the measurement)."""
    here = sorted({group.model for group in groups})
    fitting = [group for group in groups if claim.model is None or canonical(group.model) == claim.model]
    if not fitting:
        return f"the claim is about {claim.model}, these runs about {', '.join(here)}", None
    places = [suite for suite in suites if canonical(suite) == claim.suite] or (
        list(suites) if claim.suite == AVERAGE else []
    )
    if not places:
        return f"{claim.suite} was not among the suites ({', '.join(suites)})", None
    if claim.suite == AVERAGE and claim.model is not None:
        return (
            "it is about the average of all sets of the paper's table, and which those are is not known here",
            None,
        )
    better, worse = (claim.better, claim.worse) if isinstance(claim, OrderClaim) else (claim.method, BASE)
    worlds = reversed(dict.fromkeys(map(_world, fitting)))
    pairs = [
        [_find([one for one in fitting if _world(one) == world], name) for name in (better, worse)]
        for world in worlds
    ]
    pair = next((found for found in pairs if None not in found), None)
    if pair is None:
        lost = [name for name in (better, worse) if _find(fitting, name) is None]
        return (
            f"no run of {' or '.join(lost)} is among these"
            if lost
            else f"{better} and {worse} were run by different presets",
            None,
        )
    return _difference(pair[0], pair[1], places, metric)


def _world(group: Group) -> tuple[str, ...]:
    """What two arms must share to be compared: preset, split and, where they were trained here, the model
    they began with."""
    preset, _, model, split = group.runs[0].key
    return preset, split, "" if group.checkpoint == CHECKPOINT else model


def _find(groups: Sequence[Group], method: str) -> Group | None:
    """The last checkpoint of the method's arm, or the one it names."""
    names, checkpoint = ARMS.get(method, ((method,), None))
    found = [group for group in groups if group.arm in names and checkpoint in (None, group.checkpoint)]
    return found[-1] if found else None


def _difference(
    better: Group, worse: Group, places: Sequence[str], metric: str
) -> tuple[str | None, Measurement | None]:
    swapped = better.checkpoint == BASE
    own, other = (worse, better) if swapped else (better, worse)
    found = cell(own, None if other.checkpoint == BASE else other, places, metric)
    if found is None or found["gain"] is None:
        return (
            f"no items of {own.name} and {other.name} can be paired: other questions, or results without single items",
            None,
        )
    gain = found["gain"]
    lows = [one for one in (gain["low"], gain["t_low"]) if one is not None]
    highs = [one for one in (gain["high"], gain["t_high"]) if one is not None]
    low, high = (min(*lows, gain["gain"]), max(*highs, gain["gain"])) if lows and highs else (None, None)
    value = gain["gain"]
    if swapped:
        value, low, high = -value, None if high is None else -high, None if low is None else -low
    faults, kind = (
        [counts(group, places) for group in (own, other)],
        "greedy" if metric == "greedy" else "sampled",
    )
    unparsed, truncated = (
        max(one[f"{what}_{kind}"] or 0.0 for one in faults) for what in ("unparsed", "truncated")
    )
    sign = -1 if swapped else 1
    incomplete = [run.name for group in (own, other) for run in group.runs if run.results.get("missing")]
    return None, Measurement(
        value,
        low,
        high,
        found["n"],
        found["expected"],
        1 - unparsed,
        truncated,
        tuple(sign * one for one in gain["by_seed"]),
        partial=f"{', '.join(dict.fromkeys(incomplete))} not finished" if incomplete else None,
        freedom=gain.get("freedom") or math.inf,
        of_several=metric if metric.startswith(("maj@", "pass@")) else None,
    )
