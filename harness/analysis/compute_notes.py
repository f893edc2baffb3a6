"""Equal compute is a rule: where an arm took other images, rollouts or steps than the yardstick, the
difference stands in its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from harness.analysis.accuracies import BASE
from harness.analysis.checkpoints import Checkpoint
from harness.analysis.load import Loaded
from vzero.arms import REFERENCE

TOLERANCE = 0.005
Spent = dict[str, float]  # "images", "questioner steps", ... -> count


def beside(found: Sequence[Checkpoint], over: Checkpoint | None) -> list[tuple[Spent, str | None]]:
    """For each checkpoint what it took (means over its seeds) and how that differs from the yardstick; None
    where it does not.

    The yardstick is the reference where it was trained, else V-Zero, else the first trained arm, at the same
    checkpoint.
    """
    spent = [{} if one.checkpoint == BASE else _spent(one) for one in found]
    arms = [one.arm for one in found if one.checkpoint != BASE]
    yardstick = REFERENCE if REFERENCE in arms else arms[0] if arms else BASE
    if over is not None and over.checkpoint != BASE:
        yardstick = over.arm
    known = {one.checkpoint: own for one, own in zip(found, spent, strict=True) if one.arm == yardstick}
    return [
        (
            own,
            None
            if one.checkpoint == BASE or one.arm == yardstick
            else difference(own, known.get(one.checkpoint, {}), yardstick),
        )
        for one, own in zip(found, spent, strict=True)
    ]


def difference(own: Mapping[str, float], other: Mapping[str, float], name: str) -> str | None:
    """ "optimizer steps 40 (v-zero: 80)" for every measure known of both that differs by more than half a
    percent; None where none does."""
    if not own or not other:
        return f"not recorded for both this arm and {name}"
    parts = [
        f"{key} {own[key]:,.0f} ({name}: {other[key]:,.0f})"
        for key in other
        if key in own and abs(own[key] - other[key]) > TOLERANCE * max(abs(other[key]), 1)
    ]
    return "; ".join(parts) or None


def _spent(checkpoint: Checkpoint) -> Spent:
    found = [_of_run(run, checkpoint.checkpoint) for run in checkpoint.runs]
    keys = dict.fromkeys(key for one in found for key in one)
    return {key: fmean(one.get(key, 0.0) for one in found) for key in keys}


def _of_run(run: Loaded, checkpoint: str) -> Spent:
    """Images and optimizer steps up to `checkpoint`; at the run's last one also its rollouts."""
    results = run.results
    iteration = int(checkpoint[1:]) if checkpoint[1:].isdigit() else 1
    found: Spent = {"images": float(results.images.used)} if results.images else {}
    for role in ("questioner", "solver") if results.training else ():
        stages = [one for name, one in results.training.items() if f"-{role}-" in name]
        found[f"{role} steps"] = float(sum(one.steps for one in stages if one.iteration <= iteration))
    if results.compute and checkpoint == results.models[-1]:
        rollouts, steps = results.compute.rollouts, results.compute.steps
        found |= {"images": results.compute.images}
        found |= {"questioner rollouts": rollouts.questioner, "solver rollouts": rollouts.solver}
        found |= {"questioner steps": steps.questioner, "solver steps": steps.solver}
    return found
