"""The collapse alarm: named rules over an iteration's shadow measures, each with the threshold it rings at.

A rule says that a run has left the ground on which its numbers mean what they seem to; it never changes a
number. Thresholds are ours, set before the runs they judge and wide of what healthy pocket runs show: letters
of four options lie near 25 % each; V-Zero's published dump of an early run has one intuitive letter on 92 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Measures = Mapping[str, Any]
FEWEST = 20  # questions below which no rule speaks


@dataclass(frozen=True)
class Rule:
    """`measure` of an iteration (and the one before it, or None) against `threshold`; it rings above it, or
    below where `below`."""

    name: str
    says: str
    threshold: float
    below: bool
    measure: Callable[[Measures, Measures | None], float | None]


def alarms(shadow: Mapping[str, Measures]) -> list[dict[str, Any]]:
    """Every rule that rings: ``{"rule", "iteration", "value", "threshold", "says"}``, in the order of
    iterations and rules."""
    found, before = [], None
    for iteration, measures in shadow.items():
        if measures["valid"]["n"] >= FEWEST:
            for rule in RULES:
                value = rule.measure(measures, before)
                if value is not None and (value < rule.threshold if rule.below else value > rule.threshold):
                    found.append(
                        {
                            "rule": rule.name,
                            "iteration": int(iteration),
                            "value": value,
                            "threshold": rule.threshold,
                            "says": rule.says,
                        }
                    )
        before = measures
    return found


def _rate(measures: Measures, name: str) -> float | None:
    found = measures.get(name)
    return found["value"] if isinstance(found, Mapping) else found


def _largest_letter(name: str) -> Callable[[Measures, Measures | None], float | None]:
    def measure(measures: Measures, before: Measures | None) -> float | None:
        counts = measures.get(name) or {}
        total = sum(counts.values())
        return max(counts.values()) / total if total >= FEWEST else None

    return measure


def _change(name: str) -> Callable[[Measures, Measures | None], float | None]:
    """This iteration's value over the last one's."""

    def measure(measures: Measures, before: Measures | None) -> float | None:
        now, then = _rate(measures, name), None if before is None else _rate(before, name)
        return None if now is None or not then else now / then

    return measure


def _reward_without_yield(measures: Measures, before: Measures | None) -> float | None:
    """How far the filter's yield fell while the mean reward of the written questions rose; None where the
    reward did not rise."""
    if before is None:
        return None
    rewards, kept = (
        [_rate(one, "mean_dual_track") for one in (before, measures)],
        [_rate(one, "kept") for one in (before, measures)],
    )
    if None in rewards or None in kept or rewards[1] <= rewards[0]:
        return None
    return kept[0] - kept[1]


RULES = (
    Rule(
        "one-letter-intuition",
        "the Questioner's intuitive answers are mostly one letter",
        0.6,
        False,
        _largest_letter("letters_intuitive"),
    ),
    Rule(
        "one-letter-labels",
        "the pseudo-labels are mostly one letter",
        0.6,
        False,
        _largest_letter("letters_majority"),
    ),
    Rule(
        "duplicates", "most questions repeat another one", 0.5, False, lambda now, _: _rate(now, "duplicates")
    ),
    Rule(
        "few-families",
        "the questions come from hardly more than two families",
        2.5,
        True,
        lambda now, _: now.get("effective_families"),
    ),
    Rule(
        "families-halved",
        "half of the families are gone since the last iteration",
        0.5,
        True,
        _change("effective_families"),
    ),
    Rule(
        "starved-filter", "the filter keeps hardly any question", 0.1, True, lambda now, _: _rate(now, "kept")
    ),
    Rule(
        "yield-halved",
        "the filter keeps less than half of what it kept in the last iteration",
        0.5,
        True,
        _change("kept"),
    ),
    Rule(
        "reward-without-yield",
        "the reward rose while the filter's yield fell",
        0.1,
        False,
        _reward_without_yield,
    ),
    Rule(
        "intuition-below-chance",
        "the intuitive answers are right less often than guessing",
        0.25,
        True,
        lambda now, _: _rate(now, "intuitive_accuracy"),
    ),
)
