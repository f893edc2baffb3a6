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
    """What kind of gain it is, and the sentence that says what shows it."""

    kind: Kind
    reason: str


def nature(metrics: Sequence[str], gains: Mapping[str, Gain]) -> Nature | None:
    """Of the gains by `metrics` (greedy, sampled, maj@n, pass@n); None where no single answer gained.

    Sharpening shows where single answers gain more than maj@n does, interval above interval, or where pass@n
    falls. Learning shows where maj@n and pass@n both rise. maj@n alone is no sign of learning: a vote of n
    answers is also right more often where they agree more often.
    """
    *single, majority, passed = metrics
    rose = [metric for metric in single if gains[metric].direction == "positive"]
    if not rose:
        return None
    vote, reach = gains[majority], gains[passed]
    sharper = [
        f"{LABELS.get(metric, metric)} gains more than {majority} ({points(gains[metric].gain)} against "
        f"{points(vote.gain)} points, and the intervals do not overlap)"
        for metric in rose
        if _above(gains[metric], vote)
    ]
    if reach.direction == "negative":
        sharper.append(f"{passed} falls ({points(reach.gain)})")
    wider = f"{majority} and {passed} both rise ({points(vote.gain)}, {points(reach.gain)})"
    learned = [wider] if vote.direction == reach.direction == "positive" else []
    shown = " and ".join(sharper + learned)
    if sharper and learned:
        return Nature("both", f"{shown}.")
    if learned:
        return Nature("learning", f"{shown}.")
    if sharper:
        return Nature("sharpening", f"{shown}. Learning would lift both {majority} and {passed}.")
    return Nature(
        "open",
        f"neither is significant. Sharpening would lift single answers more than {majority}, or lower "
        f"{passed}; learning would lift both {majority} and {passed}.",
    )


def _above(one: Gain, other: Gain) -> bool:
    """Whether the whole interval of one gain lies above the other's."""
    return one.low is not None and other.high is not None and one.low > other.high
