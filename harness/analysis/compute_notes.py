"""Equal compute is a rule: where an arm took more or less than the yardstick in all, or other images,
questions, votes, rollouts, steps or tokens, the difference stands in its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from harness.analysis.accuracies import BASE
from harness.analysis.checkpoints import Checkpoint
from harness.analysis.load import Loaded
from harness.analysis.measures import Compute
from harness.tables.words import ratio
from vzero.arms import REFERENCE

TOLERANCE = 0.005
TOTAL = "total compute"  # floating-point operations
# These hang on what models write: equal plans differ a little.
LOOSER = {TOTAL: 0.02, "votes": 0.02, "tokens drawn": 0.05}
Spent = dict[str, float]  # "images", "questioner steps", ... -> count


class Beside(NamedTuple):
    """What a checkpoint took (means over its seeds), its total over the reference's, None where either is not
    known, how they differ in words, None where they do not, and what of either total was estimated."""

    spent: Spent
    ratio: float | None = None
    note: str | None = None
    estimated: str | None = None


def beside(found: Sequence[Checkpoint], over: Checkpoint | None) -> list[Beside]:
    """For each checkpoint what it took beside the yardstick.

    The yardstick is the reference where it was trained, else V-Zero, else the first trained arm, at the same
    checkpoint of the same preset.
    """
    arms = [one.arm for one in found if one.checkpoint != BASE]
    yardstick = REFERENCE if REFERENCE in arms else arms[0] if arms else BASE
    if over is not None and over.checkpoint != BASE:
        yardstick = over.arm
    known = {(_preset(one), one.checkpoint): one for one in found if one.arm == yardstick}
    last = {_preset(one): one for one in found if one.arm == yardstick and one.checkpoint != BASE}
    return [
        _beside(one, known.get((_preset(one), one.checkpoint)), last.get(_preset(one)), yardstick)
        for one in found
    ]


def _beside(own: Checkpoint, other: Checkpoint | None, last: Checkpoint | None, yardstick: str) -> Beside:
    """`last` is the yardstick's last checkpoint, which totals are shown over."""
    spent = _spent(own)
    if own.checkpoint == BASE:
        return Beside(spent)
    ratio = None
    if last is not None and yardstick == REFERENCE:
        ours, theirs = (one.get(TOTAL) for one in _shared(own, last))
        ratio = ours / theirs if ours and theirs else None
    estimated = _estimated(own, other, last)
    if own.arm == yardstick:
        return Beside(spent, ratio, estimated=estimated)
    missing = f"{yardstick} of preset {_preset(own)} is not here"
    return Beside(spent, ratio, _apart(own, other, yardstick) if other else missing, estimated)


def _estimated(*checkpoints: Checkpoint | None) -> str | None:
    """What of a total was taken from means, where one was."""
    runs = (run for one in checkpoints if one is not None for run in one.runs)
    return next((spent.estimated for run in runs if (spent := run.results.compute) and spent.estimated), None)


def between(own: Checkpoint, other: Checkpoint) -> str | None:
    """How the compute of two trained checkpoints differs; None where it does not, or one is untrained."""
    if BASE in (own.checkpoint, other.checkpoint):
        return None
    return _apart(own, other, other.name)


def _apart(own: Checkpoint, other: Checkpoint, name: str) -> str | None:
    return difference(*_shared(own, other), name)


def _shared(own: Checkpoint, other: Checkpoint) -> tuple[Spent, Spent]:
    """What both took on the seeds that both have, as their gains are: other seeds keep other numbers of
    questions."""
    seeds = {run.seed for run in own.runs} & {run.seed for run in other.runs}
    ours, theirs = (
        _spent(replace(one, runs=tuple(run for run in one.runs if not seeds or run.seed in seeds)))
        for one in (own, other)
    )
    return ours, theirs


def _preset(checkpoint: Checkpoint) -> str:
    return checkpoint.runs[0].results.preset


def difference(own: Mapping[str, float], other: Mapping[str, float], name: str) -> str | None:
    """ "1.31x the total compute, 2.19x the solver steps, no votes (beside v-zero)" for every measure known of
    both that differs by more than half a percent (`LOOSER`: more), the total with them; None where none
    does."""
    if not own or not other:
        return f"not recorded for both this arm and {name}"
    differs = [
        key
        for key in other
        if key in own and abs(own[key] - other[key]) > LOOSER.get(key, TOLERANCE) * max(abs(other[key]), 1)
    ]
    if differs and TOTAL in own and TOTAL in other:  # said first, and where it is equal too
        differs = list(dict.fromkeys([TOTAL, *differs]))
    parts = [_ratio(key, own[key], other[key]) for key in differs]
    return f"{', '.join(parts)} (beside {name})" if parts else None


def _ratio(what: str, own: float, other: float) -> str:
    if not own:
        return f"no {what}"
    return f"{ratio(own / other)} the {what}" if other else f"{own:,.0f} {what} against none"


def _spent(checkpoint: Checkpoint) -> Spent:
    if checkpoint.checkpoint == BASE:
        return {}
    found = [_of_run(run, checkpoint.checkpoint) for run in checkpoint.runs]
    keys = [key for key in found[0] if all(key in one for one in found)]  # an unfinished run counts less
    return {key: fmean(one[key] for one in found) for key in keys}


def _of_run(run: Loaded, checkpoint: str) -> Spent:
    """Images and optimizer steps up to `checkpoint`; at the run's last one all that was counted."""
    results = run.results
    iteration = int(checkpoint[1:]) if checkpoint[1:].isdigit() else 1
    found: Spent = _total(results.compute, iteration, checkpoint == results.models[-1])
    if results.images:
        found["images"] = float(results.images.used)
    for role in ("questioner", "solver") if results.training else ():
        stages = [one for name, one in results.training.items() if f"-{role}-" in name]
        found[f"{role} steps"] = float(sum(one.steps for one in stages if one.iteration <= iteration))
    if (spent := results.compute) and checkpoint == results.models[-1]:
        found |= {"images": spent.images, "questions": spent.written}
        found |= {"questioner rollouts": spent.rollouts.questioner, "solver rollouts": spent.rollouts.solver}
        found |= {"questioner steps": spent.steps.questioner, "solver steps": spent.steps.solver}
        found |= {"votes": sum(spent.votes.model_dump().values()), "imitated replies": spent.imitated}
        found |= {"tokens drawn": spent.tokens}
    return found


def _total(spent: Compute | None, iteration: int, last: bool) -> Spent:
    """Operations up to an iteration; those of a whole run where its stages are not known one by one."""
    if spent is None:
        return {}
    if spent.stages is not None:
        return {TOTAL: sum(one.flop for one in spent.stages.values() if one.iteration <= iteration)}
    return {TOTAL: spent.flop} if last and spent.flop is not None else {}
