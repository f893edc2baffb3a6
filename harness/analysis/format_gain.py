"""Benchmarks by the suites' own headlines: official, by their published rules, and verified, where an answer
that cannot be read is wrong.

A verified gain that comes with answers that could be read for the first time is one of format. Suites whose
rows hold no verified verdict (the pocket world's) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean

from harness.analysis.items import ModelRows
from harness.analysis.measures import Scorings
from harness.evals import catalogue
from harness.evals.catalogue import Headline, Suite
from harness.evals.headline import Judged, Stratum, strata
from harness.evals.headline import pairs as paired
from harness.evals.results import EvaluationResults
from harness.runs.sealed import Row
from harness.stats import Frozen, Gain, paired_gain
from vzero.runtime.seeding import derive

VERIFIED, OFFICIAL = "verified", "official"  # keys of the verdicts in samples.jsonl


class Compared(Frozen):
    """The same items under two models, greedy answers.

    Attributes:
        official, verified: gains of the suite's headline by its own statistic; official None where some
            answer has no official verdict.
        parsed: shares of answers that could be read, before and after.
        both_parsed: the verified gain among the items whose answer could be read both times.
        format_gain: the verified gain is positive, more answers could be read, and `both_parsed` is not
            significant.
    """

    official: Gain | None
    verified: Gain
    parsed: tuple[float, float]
    both_parsed: Gain | None
    format_gain: bool


def compared(suite: Suite, pairs: Sequence[tuple[Row, Row]], seeds: Callable[[str], int]) -> Compared:
    """Rows of one suite, before and after; `seeds` gives the seed of each random stream by its label."""
    # "strict" and "read" are labels of random streams: renaming them would change the intervals.
    decided = all(row["greedy"].get(OFFICIAL) is not None for pair in pairs for row in pair)
    official = _gain(suite.headlines[0], pairs, OFFICIAL, seeds("official")) if decided else None
    verified = _gain(suite.headlines[0], pairs, VERIFIED, seeds("strict"))
    both = [pair for pair in pairs if all(map(_read, pair))]
    among_read = _gain(Headline(), both, VERIFIED, seeds("read")) if both else None
    before, after = (fmean(map(_read, side)) for side in zip(*pairs, strict=True))
    learned = among_read is not None and among_read.direction == "positive"
    format_gain = verified.gain > 0 and after > before and not learned
    return Compared(
        official=official,
        verified=verified,
        parsed=(before, after),
        both_parsed=among_read,
        format_gain=format_gain,
    )


def scorings(rows: ModelRows, seed: int) -> dict[str, dict[str, Scorings]]:
    """By suite and model."""
    found: dict[str, dict[str, Scorings]] = {}
    for model, suites in rows.items():
        for suite, its_rows in suites.items():
            if its_rows and VERIFIED in its_rows[0]["greedy"]:
                before = {row["item_id"]: row for row in rows.get("base", {}).get(suite, ())}
                pairs = [(before[row["item_id"]], row) for row in its_rows if row["item_id"] in before]
                gain = None
                if model != "base" and pairs:
                    gain = compared(catalogue.find(suite), pairs, partial(_stream, seed, suite, model))
                headline = catalogue.find(suite).headlines[0]
                found.setdefault(suite, {})[model] = Scorings(
                    headline=headline.name,
                    official=_value(headline, its_rows, OFFICIAL),
                    verified=_value(headline, its_rows, VERIFIED),
                    parsed=fmean(map(_read, its_rows)),
                    truncated=fmean(row["greedy"]["finish_reason"] == "length" for row in its_rows),
                    gain_official=gain and gain.official,
                    gain_verified=gain and gain.verified,
                    format_gain=gain and gain.format_gain,
                )
    return found


def _stream(seed: int, suite: str, model: str, lens: str) -> int:
    return derive(seed, "lens", lens, suite, model)


def _read(row: Row) -> bool:
    return row["greedy"]["answer"] is not None


def _strata(headline: Headline, rows: Sequence[Row], lens: str) -> list[Stratum]:
    """Rows of runs made before groups were kept count as single items."""
    judged = [
        Judged(
            row["item_id"],
            row["image_sha256"],
            row.get("group", {}),
            row.get("together", {}),
            row["greedy"][lens],
        )
        for row in rows
    ]
    return strata(headline, judged)


def _value(headline: Headline, rows: Sequence[Row], lens: str) -> float | None:
    if any(row["greedy"].get(lens) is None for row in rows):
        return None
    found = _strata(headline, rows, lens)
    return fmean(fmean(value for _, value in one.values()) for one in found) if found else None


def _gain(headline: Headline, pairs: Sequence[tuple[Row, Row]], lens: str, seed: int) -> Gain:
    before, after = (_strata(headline, side, lens) for side in zip(*pairs, strict=True))
    return paired_gain(paired(before, after), seed)


def warnings(found: Mapping[str, Mapping[str, Scorings]]) -> list[str]:
    """A sentence for each gain that is one of format."""
    return [
        f"The gain of {model} on {suite} is a FORMAT GAIN: more answers could be read, and among those that "
        "could be read before as well it is not significant."
        for suite, models in found.items()
        for model, one in models.items()
        if one.format_gain
    ]


def outside_published(evaluation: EvaluationResults) -> list[str]:
    """A sentence for each suite on which the base, by what its evaluate stage wrote, is not where others
    measured it."""
    return [
        f"PROTOCOL DEVIATION: base on {suite} is outside its published band: {one.text}."
        for suite, found in evaluation.suites.items()
        if found.published is not None
        for one in found.published.outside
    ]
