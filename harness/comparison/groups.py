"""Rows of a comparison before any statistics: which runs stand behind one checkpoint of one arm, and their item values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.comparison.load import DEFAULT_ARM, Loaded
from harness.stats import Pairs

Values = Mapping[str, tuple[str, float]]  # item id -> (image, outcome in [0, 1])


@dataclass(frozen=True)
class Group:
    """One row that was measured here: a checkpoint ("base", "S1", ...) of an arm, over the seeds it was trained with.

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
    samples = int(run.results.get("samples") or 1)
    found = run.items.get(suite, {}).get(checkpoint, {})
    return {item: (outcome.image, outcome.value(metric, samples)) for item, outcome in found.items()}


def groups(runs: Sequence[Loaded]) -> list[Group]:
    """Every checkpoint of every arm, the bases first, then V-Zero, then the other arms in the order given."""
    presets = {run.key[0] for run in runs}
    models = {run.key[2] for run in runs}
    bases: dict[tuple[str, ...], list[Loaded]] = {}
    trained: dict[tuple[str, ...], list[Loaded]] = {}
    for run in runs:
        preset, arm, model, split = run.key
        for checkpoint in run.results["models"]:
            key = (preset, "base", checkpoint, model, split) if checkpoint == "base" else (preset, arm, checkpoint, model, split)
            (bases if checkpoint == "base" else trained).setdefault(key, []).append(run)
    ordered = [*bases.items(), *sorted(trained.items(), key=lambda pair: pair[0][1] != DEFAULT_ARM)]
    return [_group(key, members, len(presets) > 1, len(models) > 1) for key, members in ordered]


def _group(key: tuple[str, ...], members: Sequence[Loaded], name_preset: bool, name_model: bool) -> Group:
    preset, arm, checkpoint, model, _ = key
    name = "base" if arm == "base" else f"{arm} {checkpoint}"
    name += (
        f" ({', '.join(part for part, wanted in ((preset, name_preset), (model, name_model)) if wanted)})"
        if name_preset or name_model
        else ""
    )
    by_seed = {run.seed: run for run in sorted(members, key=lambda run: run.seed)}  # one base a seed, whatever arms share it
    return Group(name, arm, checkpoint, model, tuple(by_seed.values()))


def mean_values(all_runs: Sequence[Values]) -> Values:
    """Each item's mean outcome over the runs that answered it."""
    items = dict.fromkeys(item for one in all_runs for item in one)
    return {
        item: (next(one[item][0] for one in all_runs if item in one), fmean(one[item][1] for one in all_runs if item in one))
        for item in items
    }


def pair(base: Values, other: Values) -> Pairs | None:
    """The items both answered; None where there are none."""
    common = [item for item in base if item in other]
    if not common:
        return None
    return Pairs([base[item][1] for item in common], [other[item][1] for item in common], [base[item][0] for item in common])
