"""For readers that are not yet converted: typed results and comparisons in the shape of dictionaries. Goes with
the last of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.comparison import Comparison
from harness.analysis.results import Results
from harness.claims.verdict import ClaimVerdict


def as_before(results: Results) -> Any:
    """results.json as it was."""
    found = results.model_dump(mode="json")
    found["suites"] = {
        s: {m: _measured(one) for m, one in models.items()} for s, models in found["suites"].items()
    }
    for key in ("gains", "gains_over_previous"):
        found[key] = {model: _gains(gains) for model, gains in found[key].items()}
    if probe := found["elicitation"]:
        probe["suites"] = {suite: _measured(one) for suite, one in probe["suites"].items()}
        probe["elicited"], probe["beyond"] = _gains(probe["elicited"]), _gains(probe["beyond"])
    found["families"] = {
        s: {
            f: {m: {"n": one["n"], **one["accuracy"]} for m, one in models.items()}
            for f, models in families.items()
        }
        for s, families in found["families"].items()
    }
    found["lenses"] = {
        suite: {model: _scorings(one) for model, one in models.items()}
        for suite, models in found.pop("scorings").items()
    }
    found["training"] = {
        name: {"steps": one["steps"], "iteration": one["iteration"], **one["metrics"]}
        for name, one in found["training"].items()
    }
    found["alarms"] = [{**one, "says": one["message"]} for one in found["alarms"]]
    found["claims"] = [_claim(one) for one in results.claims]
    return found


def comparison_as_before(comparison: Comparison) -> Any:
    """The comparison as it was."""
    found = comparison.model_dump(mode="json")
    rows = [{**row, "kind": "measured", "cells": row.pop("scores")} for row in found["rows"]]
    rows += [{**row, "cells": row.pop("numbers")} for row in found.pop("published")]
    found |= {"rows": rows, "claims": [_claim(one) for one in comparison.claims], "pooled_from_sums": []}
    return found


def _claim(one: ClaimVerdict) -> dict[str, Any]:
    found = {**one.model_dump(mode="json"), "says": one.statement, "sentence": one.sentence}
    return {**found, "numbers_say": one.numbers_alone.value}


def _measured(one: Mapping[str, Any]) -> dict[str, Any]:
    return {**one["accuracy"], **{key: count for key, count in one.items() if key != "accuracy" and count}}


def _gains(suites: Mapping[str, Any]) -> dict[str, Any]:
    return {place: {metric: _gain(one) for metric, one in by.items()} for place, by in suites.items()}


def _gain(one: Mapping[str, Any]) -> dict[str, Any]:
    return {**one, "normal_low": one["t_low"], "normal_high": one["t_high"]}


def _scorings(one: Mapping[str, Any]) -> dict[str, Any]:
    found = {**one, "strict": one["verified"], "gain_strict": one["gain_verified"]}
    return {key: value for key, value in found.items() if value is not None}
