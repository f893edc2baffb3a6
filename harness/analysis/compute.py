"""What a run cost, counted and not timed: equal compute is checked, not assumed."""

from __future__ import annotations

from harness.analysis.measures import ByRole, Compute, Votes
from harness.analysis.operations import by_stage
from harness.runs.sealed import Run, SealedStage
from vzero.selfplay import MEASUREMENTS


def compute(run: Run, operations: bool = True) -> Compute:
    """Counts over the finished stages of `run`; evaluation is not in them. Without `operations`, for which
    the model's layers are built, those are unknown."""
    questioners, solvers = run.of_kind("train-questioner"), run.of_kind("train-solver")
    questioner, solver = run.preset.questioner, run.preset.solver
    drawn = 0 if solver.objective == "sft" else solver.grpo.group_size
    stages = by_stage(run) if operations else None
    return Compute(
        images=_total(run.of_kind("images"), "images"),
        written=_total(run.of_kind("write-questions"), "questions"),
        rollouts=ByRole(
            questioner=_total(questioners, "prompts_used") * questioner.grpo.group_size,
            solver=_total(solvers, "prompts_used") * drawn,
        ),
        votes=Votes(
            reward=sum(_votes_in_reward(run, one) for one in questioners),
            label=_total(run.of_kind("label"), "valid") * solver.votes.n,
            check=_total(run.of_kind("check-options"), "checked") * solver.votes.n,
        ),
        imitated=_total(solvers, "imitated"),
        steps=ByRole(questioner=_total(questioners, "steps"), solver=_total(solvers, "steps")),
        tokens=sum(_tokens(one) for one in run.stages.values() if one.stage.kind not in MEASUREMENTS),
        stages=stages,
        flop=sum(one.flop for one in stages.values()) if stages is not None else None,
    )


def _total(stages: list[SealedStage], fact: str) -> int:
    return sum(_fact(one, fact) for one in stages)


def _fact(stage: SealedStage, name: str) -> int:
    return int(stage.manifest["facts"].get(name) or 0)


def _votes_in_reward(run: Run, stage: SealedStage) -> int:
    """Each valid completion was voted on by n replies, by one more where a frozen model gives the intuitive
    answer, and by one where the entropies of a greedy one are looked at."""
    questioner = run.preset.questioner
    each = questioner.votes.n + (questioner.intuition == "base") + bool(questioner.token_entropies)
    generations = {
        row["generation"]: row["valid"] for row in stage.rows("metrics.jsonl") if row.get("valid") is not None
    }
    size = _fact(stage, "prompts_used") // max(1, _fact(stage, "generations")) * questioner.grpo.group_size
    return int(sum(round(share * size) for share in generations.values())) * each


def _tokens(stage: SealedStage) -> int:
    drawn = sum(
        int(row.get(name) or 0)
        for row in stage.rows("timings.jsonl")
        for name in ("rollout_tokens", "vote_tokens")
    )
    return int(drawn) or _fact(stage, "tokens")
