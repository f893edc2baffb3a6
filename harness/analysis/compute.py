"""What a run cost, counted and not timed, and where that differs from another run: equal compute is checked,
not assumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.analysis.ground_truth import pocket_truths, share
from harness.runs.sealed import Run, SealedStage
from vzero.selfplay import MEASUREMENTS


def compute(run: Run) -> dict[str, Any]:
    """Counts over the finished stages of `run`; evaluation is not in them.

    ``images``, ``written`` (questions), ``rollouts`` (completions drawn to be trained on), ``votes`` (a
    frozen Solver's replies: inside the Questioner's reward, for labels, to check options), ``imitated``
    (replies of a fine-tuning), ``steps`` (of the optimizer), ``tokens`` (drawn in all).
    """
    trained = {role: run.of_kind(f"train-{role}") for role in ("questioner", "solver")}
    group = {"questioner": run.preset.questioner.grpo.group_size, "solver": run.preset.solver.grpo.group_size}
    tuned = run.preset.solver.objective == "sft"
    rollouts = {
        role: sum(_fact(one, "prompts_used") * group[role] for one in stages)
        for role, stages in trained.items()
    }
    if tuned:
        rollouts["solver"] = 0
    return {
        "images": sum(_fact(one, "images") for one in run.of_kind("images")),
        "written": sum(_fact(one, "questions") for one in run.of_kind("write-questions")),
        "rollouts": rollouts,
        "votes": {
            "reward": sum(_votes_in_reward(run, one) for one in trained["questioner"]),
            "label": sum(_fact(one, "valid") for one in run.of_kind("label")) * run.preset.solver.votes.n,
            "check": sum(_fact(one, "checked") for one in run.of_kind("check-options"))
            * run.preset.solver.votes.n,
        },
        "imitated": sum(_fact(one, "imitated") for one in trained["solver"]),
        "steps": {role: sum(_fact(one, "steps") for one in stages) for role, stages in trained.items()},
        "tokens": sum(_tokens(one) for one in run.stages.values() if one.stage.kind not in MEASUREMENTS),
    }


def _fact(stage: SealedStage, name: str) -> int:
    return int(stage.manifest["facts"].get(name) or 0)


def _votes_in_reward(run: Run, stage: SealedStage) -> int:
    """Each valid completion was voted on by n replies, and by one more where a frozen model gives the
    intuitive answer."""
    questioner = run.preset.questioner
    each = questioner.votes.n + (questioner.intuition == "base")
    generations = {
        row["generation"]: row["valid"] for row in stage.rows("metrics.jsonl") if row.get("valid") is not None
    }
    size = _fact(stage, "prompts_used") // max(1, _fact(stage, "generations")) * questioner.grpo.group_size
    return sum(round(share * size) for share in generations.values()) * each


def _tokens(stage: SealedStage) -> int:
    drawn = sum(
        int(row.get(name) or 0)
        for row in stage.rows("timings.jsonl")
        for name in ("rollout_tokens", "vote_tokens")
    )
    return drawn or _fact(stage, "tokens")


def differences(mine: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Where two results of `compute` differ: dotted name -> value, reference, and their ratio (None over
    nothing)."""
    ours, theirs = dict(_flat(mine)), dict(_flat(reference))
    return {
        name: {
            "value": ours[name],
            "reference": theirs[name],
            "ratio": round(ours[name] / theirs[name], 4) if theirs[name] else None,
        }
        for name in ours
        if ours[name] != theirs.get(name)
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def trained_on(run: Run) -> dict[str, Any]:
    """What the Solver was trained on in each iteration: how many questions, and in the pocket world how many
    were well-posed and how many labels right (a question without a right option cannot have one)."""
    found = {}
    images = run.stages.get("00-images")
    for stage in run.of_kind("train-solver"):
        labels = run.stages[stage.stage.inputs["labels"]]
        rows = [row for row in labels.rows("labels.jsonl") if row["kept"]]
        truths = (
            pocket_truths(images.folder, [{**row, "valid": True} for row in rows])
            if images and images.has("ground_truth.jsonl")
            else None
        )
        entry: dict[str, Any] = {"questions": len(rows), "well_posed": None, "label_right": None}
        if truths is not None:
            known = [(row, truths[row["question_id"]]) for row in rows]
            entry["well_posed"] = share(one.well_posed for _, one in known)
            labelled = [(row, one) for row, one in known if row["answer"] is not None]
            entry["label_right"] = share(
                one.well_posed and row["answer"] == one.answer for row, one in labelled
            )
        found[str(stage.stage.iteration)] = entry
    return found
