"""Benchmarks by both scorings: the official one that the tables show, and the verified one, where an answer
that cannot be read is wrong.

A gain that the official scoring alone shows, or that comes with answers that could be read for the first
time, is one of format. Suites whose rows hold no verified verdict (the pocket world's) are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from harness.analysis.items import ModelRows
from harness.analysis.measures import Scorings
from harness.runs.sealed import Row
from harness.stats import Gain, Pairs, paired_gain
from vzero.runtime.seeding import derive

OFFICIAL, VERIFIED = "right", "strict"  # the verdicts' keys in samples.jsonl


def scorings(rows: ModelRows, seed: int) -> dict[str, dict[str, Scorings]]:
    """By suite and model."""
    found: dict[str, dict[str, Scorings]] = {}
    for model, suites in rows.items():
        for suite, its_rows in suites.items():
            if its_rows and VERIFIED in its_rows[0]["greedy"]:
                greedy = [row["greedy"] for row in its_rows]
                found.setdefault(suite, {})[model] = Scorings(
                    official=fmean(bool(one[OFFICIAL]) for one in greedy),
                    verified=fmean(bool(one[VERIFIED]) for one in greedy),
                    parsed=fmean(one["answer"] is not None for one in greedy),
                    truncated=fmean(one["finish_reason"] == "length" for one in greedy),
                    **_gains(rows, suite, model, seed),
                )
    return found


def _gains(rows: ModelRows, suite: str, model: str, seed: int) -> dict[str, Any]:
    """The fields of `Scorings` that need the base."""
    before = {row["item_id"]: row for row in rows.get("base", {}).get(suite, ())}
    pairs = [(before[row["item_id"]], row) for row in rows[model][suite] if row["item_id"] in before]
    if model == "base" or not pairs:
        return {}
    # "strict" and "read" are labels of random streams: renaming them would change the intervals.
    official = _gain(pairs, OFFICIAL, derive(seed, "lens", "official", suite, model))
    verified = _gain(pairs, VERIFIED, derive(seed, "lens", "strict", suite, model))
    read = [pair for pair in pairs if all(_read(row) for row in pair)]
    among_read = _gain(read, VERIFIED, derive(seed, "lens", "read", suite, model)) if read else None
    newly_read = sum(_read(two) - _read(one) for one, two in pairs) > 0
    learned = among_read is not None and among_read.direction == "positive"
    of_format = verified.gain > 0 and newly_read and not learned
    return {"gain_official": official, "gain_verified": verified, "format_gain": of_format}


def _read(row: Row) -> bool:
    return row["greedy"]["answer"] is not None


def _gain(pairs: Sequence[tuple[Row, Row]], key: str, seed: int) -> Gain:
    before, after = ([float(row["greedy"][key]) for row in side] for side in zip(*pairs, strict=True))
    return paired_gain([Pairs(before, after, [row["image_sha256"] for row, _ in pairs])], seed)


def warnings(found: Mapping[str, Mapping[str, Scorings]]) -> list[str]:
    """A sentence for each gain that is one of format."""
    return [
        f"The gain of {model} on {suite} is a FORMAT GAIN: more answers could be read, and among those that "
        "could be read before as well it is not significant."
        for suite, models in found.items()
        for model, one in models.items()
        if one.format_gain
    ]


def outside_published(evaluation: Mapping[str, Any] | None) -> list[str]:
    """A sentence for each suite on which the base, by what its evaluate stage wrote, is not where others
    measured it."""
    return [
        f"PROTOCOL DEVIATION: base on {suite} is outside its published band: {one['text']}."
        for suite, found in (evaluation or {"suites": {}})["suites"].items()
        for one in found["published"]["outside"]
    ]
