"""Benchmarks by both lenses: the official scoring that the tables show, and the strict one, where an answer
that cannot be read is wrong.

A gain that the official lens alone shows, or that comes with answers that could be read for the first time,
is one of format. Pure functions of samples.jsonl; suites whose rows hold no strict verdict (the pocket
world's) are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from harness.stats import Gain, Pairs, paired_gain
from vzero.runtime.seeding import derive

Row = Mapping[str, Any]
LENSES = (("official", "right"), ("strict", "strict"))


def measure(
    rows: Mapping[str, Mapping[str, Sequence[Row]]], seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Suite -> model -> ``official``, ``strict``, ``parsed``, ``truncated`` (shares of the greedy answers),
    and over the base ``gain_official``, ``gain_strict`` and ``format_gain``.

    Args:
        rows: model -> suite -> rows of samples.jsonl.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for model, by_suite in rows.items():
        for suite, its_rows in by_suite.items():
            if its_rows and "strict" in its_rows[0]["greedy"]:
                found.setdefault(suite, {})[model] = {**_levels(its_rows), **_gains(rows, suite, model, seed)}
    return found


def _levels(rows: Sequence[Row]) -> dict[str, float]:
    greedy = [row["greedy"] for row in rows]
    return {
        **{lens: fmean(bool(one[key]) for one in greedy) for lens, key in LENSES},
        "parsed": fmean(one["answer"] is not None for one in greedy),
        "truncated": fmean(one["finish_reason"] == "length" for one in greedy),
    }


def _gains(
    rows: Mapping[str, Mapping[str, Sequence[Row]]], suite: str, model: str, seed: int
) -> dict[str, Any]:
    before = {row["item_id"]: row for row in rows.get("base", {}).get(suite, ())}
    pairs = [(before[row["item_id"]], row) for row in rows[model][suite] if row["item_id"] in before]
    if model == "base" or not pairs:
        return {}
    gains = {lens: _gain(pairs, key, derive(seed, "lens", lens, suite, model)) for lens, key in LENSES}
    read = [pair for pair in pairs if all(row["greedy"]["answer"] is not None for row in pair)]
    among_read = _gain(read, "strict", derive(seed, "lens", "read", suite, model)) if read else None
    newly_read = (
        sum(
            (two["greedy"]["answer"] is not None) - (one["greedy"]["answer"] is not None)
            for one, two in pairs
        )
        > 0
    )
    of_format = (
        gains["strict"].gain > 0 and newly_read and (among_read is None or among_read.direction != "positive")
    )
    return {
        **{f"gain_{lens}": {**asdict(gain), "direction": gain.direction} for lens, gain in gains.items()},
        "format_gain": of_format,
    }


def _gain(pairs: Sequence[tuple[Row, Row]], key: str, seed: int) -> Gain:
    values = [[float(row["greedy"][key]) for row in side] for side in zip(*pairs, strict=True)]
    return paired_gain([Pairs(values[0], values[1], [row["image_sha256"] for row, _ in pairs])], seed)


def outside(evaluation: Mapping[str, Any] | None) -> list[str]:
    """A sentence for each suite on which the base, by what its evaluate stage wrote, is not where others
    measured it."""
    return [
        f"PROTOCOL DEVIATION: base on {suite} is outside its published band: {one['text']}."
        for suite, found in (evaluation or {"suites": {}})["suites"].items()
        for one in found["published"]["outside"]
    ]


def warnings(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """A sentence for each gain that is one of format."""
    return [
        f"The gain of {model} on {suite} is a FORMAT GAIN: more answers could be read, and among those that could be read before as well "
        "it is not told from zero."
        for suite, models in found.items()
        for model, one in models.items()
        if one.get("format_gain")
    ]
