"""Published and third-party figures of the same base model beside a measured one, and whether it lies within
their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.claims import published
from harness.evals.catalogue import Suite
from harness.stats import wilson


def known_model(settings: Mapping[str, Any]) -> str | None:
    """The model of `harness.claims.published` that the evaluated checkpoint is, by the last part of its name;
    None for any other."""
    name = settings.get("published_as") or str(settings["model"]).rsplit("/", 1)[-1]
    models = {one.model for one in published.numbers("base")}
    return next((model for model in models if model == name.lower()), None)


def beside(suite: Suite, settings: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of the base in percent, their spread, and where ours lies outside.

    `outside` is not empty where the 95 % interval of our official accuracy has no number in common with the
    span of the published ones; a suite limited to some rows is not compared. `measured` is in percent.
    """
    model = known_model(settings)
    metric = suite.published.metric
    entries = (
        published.numbers("base", model, suite.published.suite) if model and suite.published.suite else []
    )
    entries = [
        one for one in entries if one.kind == "score" and one.value is not None and one.metric == metric
    ]
    values = [one.value for one in entries if one.value is not None]
    shown = [{"value": one.value, "source": one.source, "certainty": one.certainty} for one in entries]
    result: dict[str, Any] = {
        "model": model,
        "metric": metric,
        "figures": shown,
        "span": [min(values), max(values)] if values else None,
        "outside": [],
    }
    measured = _measured(metric, found)
    if values and measured is not None and found["rows"] == suite.rows:
        low, value, high = measured
        if high < min(values) or low > max(values):
            span = f"{min(values):g}" if len(values) == 1 else f"{min(values):g} to {max(values):g}"
            text = f"{value:.1f} % ({low:.1f} to {high:.1f}), published {span} % ({len(values)} figures)"
            result["outside"].append({"value": value, "low": low, "high": high, "text": text})
    return result


def _measured(metric: str, found: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """(low, value, high) in percent of our number for a published metric; None where we have none with an
    interval."""
    if metric == "worst-case accuracy":
        one = found["together"]["worst case"]
        return _percent(one["official"], wilson(round((one["official"] or 0) * one["n"]), one["n"]))
    if metric == "accuracy":
        return _percent(found["greedy"]["official"], found["greedy"]["official_interval"])
    return None


def _percent(
    value: float | None, interval: Sequence[float | None] | None
) -> tuple[float, float, float] | None:
    low, high = interval or (None, None)
    return None if value is None or low is None or high is None else (100 * low, 100 * value, 100 * high)
