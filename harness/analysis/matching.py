"""How many questions a Solver may train on so that its arm has spent as much as the reference."""

from __future__ import annotations

from typing import NamedTuple

from harness.analysis.measures import StageCompute
from harness.analysis.operations import by_stage
from harness.runs.sealed import Run
from vzero.errors import InputError

Stages = dict[str, StageCompute]


class Affordable(NamedTuple):
    """`questions` that make the total equal, and how many were `kept` to choose from; None where a reward
    file keeps some of them later."""

    questions: int
    kept: int | None


def affordable(run: Run, other: Run, iteration: int) -> Affordable:
    """Of a run whose stages before the Solver's training of `iteration` are finished; `other` is the
    reference's.

    The budget is all that the reference spent up to this iteration's end. A question is taken to cost what
    one cost in the reference's training of its Solver in the same iteration; whole generation batches are
    given, the nearest number, since what is left of one is not trained on.

    Raises:
        InputError: what either spent is not known, the Solvers are trained otherwise, or the arm has spent
            the budget before its Solver is trained.
    """
    ours, theirs = _spent(run, iteration), _spent(other, iteration)
    solver, standard = run.preset.solver, other.preset.solver
    if solver.grpo != standard.grpo or solver.objective == "sft":
        raise InputError(
            "Its Solver is trained otherwise than the reference's, so what a question costs is not known "
            "before; compute can't be matched. Leave the arm out, or match --matched steps."
        )
    training = other.of_iteration("train-solver", iteration)
    used = training.manifest["facts"].get("prompts_used") if training else None
    if training is None or not used:
        raise InputError(f"The reference trained its Solver on nothing in iteration {iteration}.")
    epochs = standard.grpo.epochs  # `used` counts a question in each
    each = theirs[training.stage.name].flop / used * epochs
    left = sum(one.flop for one in theirs.values()) - sum(one.flop for one in ours.values())
    batch = min(standard.grpo.prompts_per_generation, used // epochs)
    questions = round(left / each / batch) * batch
    if questions <= 0:
        spent = sum(one.flop for one in ours.values()) / sum(one.flop for one in theirs.values())
        raise InputError(
            f"It has spent {spent:.2f} of the reference's total compute before its Solver is trained in "
            f"iteration {iteration}: nothing is left to match with. Use --matched steps."
        )
    return Affordable(questions, _kept(run, iteration))


def _spent(run: Run, iteration: int) -> Stages:
    found = by_stage(run)
    if found is None:
        raise InputError(f"What {run.path} spent is not recorded, so nothing can be matched to its compute.")
    return {name: one for name, one in found.items() if one.iteration <= iteration}


def _kept(run: Run, iteration: int) -> int | None:
    """Questions that stand ready: those kept by the last stage that labelled, or all that are valid."""
    if run.preset.solver.filter == "own":
        return None
    for name in ("check-options", "recycle", "label", "write-questions"):
        stage = run.of_iteration(name, iteration)
        if stage is not None and name == "check-options":
            return int(stage.manifest["facts"]["answerable"])
        if stage is not None:
            facts = stage.manifest["facts"]
            everything = run.preset.solver.filter != "confidence" or name == "write-questions"
            return int(facts["valid"] if everything and "valid" in facts else facts["kept"])
    return 0
