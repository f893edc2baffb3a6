"""Sharpening or learning: which of the two a model's gains over its base show.

Sharpening: the model gives the same answers as before, more often. Learning: it answers what it could not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.analysis.measures import LABELS
from harness.stats import Gain
from harness.tables.words import points

Kind = Literal["sharpening", "learning", "both", "open"]


@dataclass(frozen=True)
class Nature:
    """What kind of gain it is, the sentence that says what shows it, and the measures that were sharpened."""

    kind: Kind
    reason: str
    sharpened: tuple[str, ...] = ()


def nature(metrics: Sequence[str], gains: Mapping[str, Gain]) -> Nature | None:
    """Of the gains by `metrics` (greedy, sampled, maj@n, pass@n); None where no single answer gained.

    Sharpening shows where single answers gain more than maj@n does, interval above interval. Learning shows
    where maj@n and pass@n both rise. maj@n alone is no sign of learning: a vote of n answers is also right
    more often where they agree more often. A pass@n that falls alone is a loss of diversity, whatever else.
    """
    *single, majority, passed = metrics
    rose = [metric for metric in single if gains[metric].direction == "positive"]
    if not rose:
        return None
    vote, reach = gains[majority], gains[passed]
    above = tuple(metric for metric in rose if _above(gains[metric], vote))
    sharper = [
        f"{LABELS.get(metric, metric)} gains more than {majority} ({points(gains[metric].gain)} against "
        f"{points(vote.gain)} points, and the intervals do not overlap)"
        for metric in above
    ]
    wider = f"{majority} and {passed} both rise ({points(vote.gain)}, {points(reach.gain)})"
    learned = [wider] if vote.direction == reach.direction == "positive" else []
    shown = " and ".join(sharper + learned)
    if learned:
        return Nature("both" if sharper else "learning", f"{shown}.", above)
    fell = f" {passed} falls ({points(reach.gain)})." if reach.direction == "negative" else ""
    if sharper:
        return Nature(
            "sharpening", f"{shown}.{fell} Learning would lift both {majority} and {passed}.", above
        )
    return Nature(
        "open",
        f"neither is significant.{fell} Sharpening would lift single answers more than {majority}; learning "
        f"would lift both {majority} and {passed}.",
    )


def _above(one: Gain, other: Gain) -> bool:
    """Whether the whole interval of one gain lies above the other's."""
    return one.low is not None and other.high is not None and one.low > other.high
