"""Scores of a suite that are no mean over its items: what its authors publish beside, or instead of,
accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.evals.results import Lenses
from harness.scoring import ScoredResponse

Right = Mapping[str, bool]  # item id -> whether it was answered right, by one lens


@dataclass(frozen=True)
class _Problem:
    """We-Math: one problem asked in steps and as a whole."""

    steps: tuple[bool, ...]
    whole: bool


def wemath(right: Right, together: Mapping[str, Mapping[str, str]]) -> dict[str, float]:
    """We-Math's strict and loose score, fractions (arXiv 2407.01284, section 3; github.com/We-Math/We-Math).

    A problem counts 1, and half of that where all its steps are right and the whole is wrong (inadequate
    generalization); nothing where the whole is wrong besides a wrong step (insufficient knowledge), or right
    in spite of wrong steps (rote memorization): of one wrong step by the strict score, of all steps wrong by
    the loose one.

    Args:
        right: ids are "problem/key", with keys like 2steps_1, 2steps_2, 2steps_multi.
    """
    found: dict[str, dict[str, bool]] = {}
    for key, flag in right.items():
        problem, _, step = key.rpartition("/")
        found.setdefault(f"{problem}/{step[:1]}", {})[step] = flag
    problems = [
        _Problem(tuple(flag for step, flag in steps.items() if not step.endswith("multi")), whole)
        for steps in found.values()
        for step, whole in steps.items()
        if step.endswith("multi")
    ]
    if not problems:
        return {}
    return {
        "strict score": sum(_worth(one, all(one.steps)) for one in problems) / len(problems),
        "loose score": sum(_worth(one, any(one.steps)) for one in problems) / len(problems),
    }


def _worth(problem: _Problem, mastered: bool) -> float:
    if problem.whole:
        return float(mastered)
    return 0.5 * all(problem.steps)


def hallusionbench(right: Right, together: Mapping[str, Mapping[str, str]]) -> dict[str, float]:
    """Mean of the accuracy by item, by figure and by question, a fraction: the average that boards show."""
    if not right:
        return {}
    rates = [sum(right.values()) / len(right)]
    for name in ("figure", "question"):
        sets: dict[str, bool] = {}
        for key, flag in right.items():
            member = together[key][name]
            sets[member] = sets.get(member, True) and flag
        rates.append(sum(sets.values()) / len(sets))
    return {"average of three accuracies": sum(rates) / 3}


EXTRAS: Mapping[str, Callable[[Right, Mapping[str, Mapping[str, str]]], dict[str, float]]] = {
    "wemath": wemath,
    "hallusionbench": hallusionbench,
}


def scores(suite: str, rows: Sequence[tuple[str, Mapping[str, str], ScoredResponse]]) -> dict[str, Lenses]:
    """The extra scores of `suite` by name; empty for suites without any.

    Args:
        rows: (item id, the sets it belongs to, the scored response) of every item with gold.
    """
    if suite not in EXTRAS:
        return {}
    together = {key: sets for key, sets, _ in rows}
    official = EXTRAS[suite]({key: scored.right for key, _, scored in rows}, together)
    verified = EXTRAS[suite]({key: scored.verified for key, _, scored in rows}, together)
    return {name: Lenses(official=official[name], verified=verified[name]) for name in official}
