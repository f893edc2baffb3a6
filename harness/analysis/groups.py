"""Rows of a comparison before any statistics: which runs stand behind one checkpoint of one arm, and their
item values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.analysis.evaluations import CHECKPOINT
from harness.analysis.load import DEFAULT_ARM, Loaded
from harness.analysis.outcomes import reader
from harness.stats import Pairs

BASE = "base"
Values = Mapping[str, tuple[str, float]]  # item id -> (image, outcome in [0, 1])


@dataclass(frozen=True)
class Group:
    """One row that was measured here: a checkpoint ("base", "S1", ...) of an arm, over the seeds it was
    trained with.

    Attributes:
        arm: "base" for the untrained model, whatever arms it stands before.
        runs: one a seed, seeds ascending.
    """

    name: str
    arm: str
    checkpoint: str
    model: str
    runs: tuple[Loaded, ...]

    def values(self, suite: str, metric: str) -> list[Values]:
        """For each run its items of `suite`; empty where the run has none or holds sums only."""
        return [values(run, suite, self.checkpoint, metric) for run in self.runs]


def values(run: Loaded, suite: str, checkpoint: str, metric: str) -> Values:
    """What one checkpoint of one run made of each item."""
    value = reader(metric, int(run.results.get("samples") or 1))
    found = run.items.get(suite, {}).get(checkpoint, {})
    return {item: (outcome.image, value(outcome)) for item, outcome in found.items()}


def groups(runs: Sequence[Loaded]) -> list[Group]:
    """Every checkpoint of every arm, the bases first, then V-Zero, then the other arms in the order given."""
    presets = {run.key[0] for run in runs}
    models = {run.key[2] for run in runs}
    bases: dict[tuple[str, ...], list[Loaded]] = {}
    trained: dict[tuple[str, ...], list[Loaded]] = {}
    for run in sorted(runs, key=lambda run: run.arm != DEFAULT_ARM):
        preset, arm, model, split = run.key
        for checkpoint in run.results["models"]:
            key = (preset, arm, checkpoint, model, split)
            if checkpoint == BASE:
                common = (preset, BASE, checkpoint, model, split)
                key = common if all(_same_base(run, other) for other in bases.get(common, [])) else key
            (bases if checkpoint == BASE else trained).setdefault(key, []).append(run)
    return [
        _group(key, members, len(presets) > 1, len(models) > 1)
        for key, members in (*bases.items(), *trained.items())
    ]


def _same_base(one: Loaded, other: Loaded) -> bool:
    """Whether two runs can share a base row. An arm that changes the evaluation (other pictures) has a base
    of its own."""
    if one.seed != other.seed:
        return True
    if not (one.items and other.items):
        return all(
            one.results["suites"][suite].get(BASE) == other.results["suites"].get(suite, {}).get(BASE)
            for suite in one.results["suites"]
        )
    return all(
        one.items[suite].get(BASE) == other.items[suite].get(BASE)
        for suite in one.items
        if suite in other.items
    )


def _group(key: tuple[str, ...], members: Sequence[Loaded], name_preset: bool, name_model: bool) -> Group:
    preset, arm, checkpoint, model, _ = key
    if checkpoint == CHECKPOINT:  # evaluated alone: its folder's name says all
        return Group(arm, arm, checkpoint, model, tuple(sorted(members, key=lambda run: run.seed)))
    name = BASE if arm == BASE else f"base of {arm}" if checkpoint == BASE else f"{arm} {checkpoint}"
    name += (
        f" ({', '.join(part for part, wanted in ((preset, name_preset), (model, name_model)) if wanted)})"
        if name_preset or name_model
        else ""
    )
    by_seed = {
        run.seed: run for run in sorted(members, key=lambda run: run.seed)
    }  # one base a seed, whatever arms share it
    return Group(name, arm, checkpoint, model, tuple(by_seed.values()))


def mean_values(all_runs: Sequence[Values]) -> Values:
    """Each item's mean outcome over the runs that answered it."""
    items = dict.fromkeys(item for one in all_runs for item in one)
    return {
        item: (
            next(one[item][0] for one in all_runs if item in one),
            fmean(one[item][1] for one in all_runs if item in one),
        )
        for item in items
    }


def pair(base: Values, other: Values) -> Pairs | None:
    """The items both answered; None where there are none."""
    common = [item for item in base if item in other]
    if not common:
        return None
    return Pairs(
        [base[item][1] for item in common],
        [other[item][1] for item in common],
        [base[item][0] for item in common],
    )
