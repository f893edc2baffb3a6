"""The numbers that suites' authors publish, from verdicts on single items: the mean over tasks, pairs of
which both are right, and so on. Each is the unweighted mean over strata of the mean over units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.evals.catalogue import Headline
from harness.stats import Interval, Pairs, Sample, mean_interval

Stratum = Mapping[str, tuple[str, float]]  # unit -> (picture, or whatever else clusters it; value in [0, 1])


class Judged(NamedTuple):
    """One item's verdict. `group`: its value of each group; `together`: set name -> the set it belongs to."""

    id: str
    image: str
    group: Mapping[str, str]
    together: Mapping[str, str]
    right: bool


def strata(headline: Headline, rows: Sequence[Judged]) -> list[Stratum]:
    """The units that a headline counts, by stratum; none where there are no items."""
    if headline.over is not None:
        groups: dict[str, list[Judged]] = {}
        for row in rows:
            groups.setdefault(row.group.get(headline.over, ""), []).append(row)
        return [_items(members) for members in groups.values()]
    if headline.score is not None:
        found = [_problems(headline.score, rows)]
    else:
        found = [_items(rows) if name == "item" else _sets(name, rows) for name in headline.sets]
    return found if all(found) else []


def mean(found: Sequence[Stratum], seed: int) -> Interval | None:
    """A headline with its interval: the same statistic over resampled units; None where there are none."""
    samples = [
        Sample([one for _, one in stratum.values()], [one for one, _ in stratum.values()])
        for stratum in found
    ]
    return mean_interval([[sample] for sample in samples], seed) if found else None


def pairs(before: Sequence[Stratum], after: Sequence[Stratum]) -> list[Pairs]:
    """The same units before and after, by stratum: a headline's gain is the mean of their differences."""
    return [
        Pairs(
            base=[value for _, value in one.values()],
            other=[other[unit][1] for unit in one],
            images=[image for image, _ in one.values()],
        )
        for one, other in zip(before, after, strict=True)
    ]


def _items(rows: Sequence[Judged]) -> Stratum:
    return {row.id: (row.image, float(row.right)) for row in rows}


def _sets(name: str, rows: Sequence[Judged]) -> Stratum:
    right: dict[str, bool] = {}
    for row in rows:
        if name in row.together:
            member = row.together[name]
            right[member] = right.get(member, True) and row.right
    return {member: (member, float(flag)) for member, flag in right.items()}


def _problems(score: str, rows: Sequence[Judged]) -> Stratum:
    """We-Math's problems, each asked in steps and as a whole (arXiv 2407.01284, section 3;
    github.com/We-Math/We-Math).

    A problem counts 1, and half of that where all its steps are right and the whole is wrong (inadequate
    generalization); nothing where the whole is wrong besides a wrong step (insufficient knowledge), or right
    in spite of wrong steps (rote memorization): of one wrong step by the strict score, of all steps wrong by
    the loose one. Ids are "problem/key", with keys like 2steps_1, 2steps_2, 2steps_multi.
    """
    problems: dict[str, dict[str, bool]] = {}
    for row in rows:
        problem, _, step = row.id.rpartition("/")
        problems.setdefault(f"{problem}/{step[:1]}", {})[step] = row.right
    found: dict[str, tuple[str, float]] = {}
    for name, flags in problems.items():
        whole = next((flag for step, flag in flags.items() if step.endswith("multi")), None)
        steps = [flag for step, flag in flags.items() if not step.endswith("multi")]
        if whole is not None:
            mastered = all(steps) if score == "strict" else any(steps)
            found[name] = (name, float(mastered) if whole else 0.5 * all(steps))
    return found
