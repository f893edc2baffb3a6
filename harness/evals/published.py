"""Published and third-party figures of the same base model beside a measured one, and whether it lies within
their span."""

from __future__ import annotations

from harness.claims import published
from harness.evals.catalogue import Suite
from harness.evals.results import (
    Figure,
    Greedy,
    HeadlineResult,
    Outside,
    Published,
    Settings,
    SuiteResult,
)


def known_model(name: str) -> str | None:
    """The model of `harness.claims.published` that a checkpoint is, by the last part of its name; None for
    any other."""
    plain = name.rsplit("/", 1)[-1].lower()
    return plain if plain in {one.model for one in published.numbers("base")} else None


def beside(suite: Suite, settings: Settings, found: SuiteResult) -> Published:
    """Figures of the base in percent, their span, and where ours lies outside.

    `outside` is not empty where the 95 % interval of our verified number has no number in common with the
    span of the published ones; a suite limited to some rows is not compared.
    """
    model, metric = known_model(settings.model), suite.published.metric
    entries = (
        published.numbers("base", model, suite.published.suite) if model and suite.published.suite else []
    )
    figures = tuple(
        Figure(value=one.value, source=one.source, certainty=one.certainty)
        for one in entries
        if one.kind == "score" and one.value is not None and one.metric == metric
    )
    values = [one.value for one in figures]
    span = (min(values), max(values)) if values else None
    measured = _measured(metric, found) if found.rows == suite.rows else None
    outside: tuple[Outside, ...] = ()
    if span and measured and (measured[2] < span[0] or measured[0] > span[1]):
        low, value, high = measured
        shown = f"{span[0]:g}" if len(values) == 1 else f"{span[0]:g} to {span[1]:g}"
        text = f"{value:.1f} % ({low:.1f} to {high:.1f}), published {shown} % ({len(values)} figures)"
        outside = (Outside(value=value, low=low, high=high, text=text),)
    return Published(model=model, metric=metric, figures=figures, span=span, outside=outside)


def _measured(metric: str, found: SuiteResult) -> tuple[float, float, float] | None:
    """(low, value, high) in percent of our verified number for a published metric; None: there is none."""
    one: Greedy | HeadlineResult | None = found.headlines.get(metric)
    if metric == "accuracy":
        one = found.greedy
    if one is None or one.verified is None or one.verified_interval is None:
        return None
    low, high = one.verified_interval
    return 100 * low, 100 * one.verified, 100 * high
