"""The collapse alarm: named rules over an iteration's questions and labels, each with the threshold it fires
at.

A rule says that a run has left the ground on which its numbers mean what they seem to; it never changes a
number. Thresholds are ours, set before the runs they judge and wide of what healthy pocket runs show: letters
of four options lie near 25 % each; V-Zero's published dump of an early run has one intuitive letter on 92 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.analysis.measures import Alarm, GroundTruth, Rate

FEWEST = 20  # questions below which no rule speaks
Measure = Callable[[GroundTruth, GroundTruth | None], float | None]  # of an iteration and the one before it


@dataclass(frozen=True)
class Rule:
    """It fires where `measure` is above `threshold`, or below it where `below`."""

    name: str
    message: str
    threshold: float
    measure: Measure
    below: bool = False


def alarms(iterations: Mapping[int, GroundTruth]) -> list[Alarm]:
    """Every rule that fires, in the order of iterations and rules."""
    found, before = [], None
    for iteration, now in iterations.items():
        for rule in RULES if now.valid.n >= FEWEST else ():
            value = rule.measure(now, before)
            if value is not None and (value < rule.threshold if rule.below else value > rule.threshold):
                found.append(
                    Alarm(
                        rule=rule.name,
                        iteration=iteration,
                        value=value,
                        threshold=rule.threshold,
                        message=rule.message,
                    )
                )
        before = now
    return found


def _value(measures: GroundTruth | None, name: str) -> float | None:
    found: Rate | float | None = getattr(measures, name, None)
    return found.value if isinstance(found, Rate) else found


def _level(name: str) -> Measure:
    return lambda now, before: _value(now, name)


def _largest_letter(name: str) -> Measure:
    def measure(now: GroundTruth, before: GroundTruth | None) -> float | None:
        counts: Mapping[str, int] = getattr(now, name) or {}
        total = sum(counts.values())
        return max(counts.values()) / total if total >= FEWEST else None

    return measure


def _change(name: str) -> Measure:
    """This iteration's value over the last one's."""

    def measure(now: GroundTruth, before: GroundTruth | None) -> float | None:
        value, then = _value(now, name), _value(before, name)
        return None if value is None or not then else value / then

    return measure


def _reward_without_yield(now: GroundTruth, before: GroundTruth | None) -> float | None:
    """How far the filter's yield fell while the mean reward of the written questions rose; None where the
    reward did not rise."""
    rewards = [_value(one, "mean_dual_track") for one in (before, now)]
    kept = [_value(one, "kept") for one in (before, now)]
    (reward_then, reward_now), (kept_then, kept_now) = rewards, kept
    if reward_then is None or reward_now is None or kept_then is None or kept_now is None:
        return None
    return kept_then - kept_now if reward_now > reward_then else None


RULES = (
    Rule(
        "one-letter-intuition",
        "the Questioner's intuitive answers are mostly one letter",
        0.6,
        _largest_letter("letters_intuitive"),
    ),
    Rule(
        "one-letter-labels",
        "the labels are mostly one letter",
        0.6,
        _largest_letter("letters_majority"),
    ),
    Rule("duplicates", "most questions repeat another one", 0.5, _level("duplicates")),
    Rule(
        "few-families",
        "the questions are of hardly more than two kinds (families: counting shapes, comparing bars)",
        2.5,
        _level("effective_families"),
        below=True,
    ),
    Rule(
        "families-halved",
        "half of the kinds of question (families) are gone since the last iteration",
        0.5,
        _change("effective_families"),
        below=True,
    ),
    Rule("starved-filter", "the filter keeps hardly any question", 0.1, _level("kept"), below=True),
    Rule(
        "yield-halved",
        "the filter keeps less than half of what it kept in the iteration before",
        0.5,
        _change("kept"),
        below=True,
    ),
    Rule("reward-without-yield", "the reward rose while the filter's yield fell", 0.1, _reward_without_yield),
    Rule(
        "intuition-below-chance",
        "the intuitive answers are right less often than guessing",
        0.25,
        _level("intuitive_accuracy"),
        below=True,
    ),
)
