"""The rows of a comparison before any statistics: which runs stand behind one checkpoint of one arm, and
their item outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.accuracies import BASE
from harness.analysis.items import Values
from harness.analysis.load import Loaded
from harness.analysis.results import CHECKPOINT
from vzero.arms import REFERENCE


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint ("base", "S1", ...) of an arm, over the seeds it was trained with.

    Attributes:
        arm: "base" for the untrained model, whatever arms it stands before.
        runs: one per seed, seeds ascending.
    """

    name: str
    arm: str
    checkpoint: str
    model: str
    runs: tuple[Loaded, ...]

    def values(self, suite: str, metric: str) -> list[Values]:
        """For each run its items of `suite`."""
        return [run.values(suite, self.checkpoint, metric) for run in self.runs]


def checkpoints(runs: Sequence[Loaded]) -> list[Checkpoint]:
    """Every checkpoint of every arm, the bases first, then V-Zero, then the other arms in the order given."""
    presets, models = {run.key[0] for run in runs}, {run.key[2] for run in runs}
    bases: dict[tuple[str, ...], list[Loaded]] = {}
    trained: dict[tuple[str, ...], list[Loaded]] = {}
    for run in sorted(runs, key=lambda run: run.arm != REFERENCE):
        preset, arm, model, split = run.key
        for checkpoint in run.results.models:
            key = (preset, arm, checkpoint, model, split)
            if checkpoint == BASE:
                common = (preset, BASE, checkpoint, model, split)
                key = common if all(_same_base(run, other) for other in bases.get(common, [])) else key
            (bases if checkpoint == BASE else trained).setdefault(key, []).append(run)
    return [
        _checkpoint(key, members, len(presets) > 1, len(models) > 1)
        for key, members in (*bases.items(), *trained.items())
    ]


def _same_base(one: Loaded, other: Loaded) -> bool:
    """Whether two runs can share a base row. An arm that changes the evaluation (other pictures) has a base
    of its own."""
    if one.seed != other.seed:
        return True
    common = [suite for suite in one.items if suite in other.items]
    return all(one.items[suite].get(BASE) == other.items[suite].get(BASE) for suite in common)


def _checkpoint(
    key: tuple[str, ...], members: Sequence[Loaded], name_preset: bool, name_model: bool
) -> Checkpoint:
    preset, arm, checkpoint, model, _ = key
    runs = sorted(members, key=lambda run: run.seed)
    if checkpoint == CHECKPOINT:  # evaluated alone: its folder's name says all
        return Checkpoint(arm, arm, checkpoint, model, tuple(runs))
    name = BASE if arm == BASE else f"base of {arm}" if checkpoint == BASE else f"{arm} {checkpoint}"
    if parts := [part for part, wanted in ((preset, name_preset), (model, name_model)) if wanted]:
        name += f" ({', '.join(parts)})"
    by_seed = {run.seed: run for run in runs}  # one base per seed, whatever arms share it
    return Checkpoint(name, arm, checkpoint, model, tuple(by_seed.values()))
