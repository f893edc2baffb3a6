"""Exact invariants: what was recorded, recomputed. Rewards, votes, tallies, filter decisions and advantages
leave no room for luck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from harness.check import formulas
from harness.check.finding import Finding, all_of
from harness.runs.sealed import Run, SealedStage

Row = Mapping[str, Any]
ROLLOUTS = "rollouts.jsonl"
CLOSE = 2e-3  # advantages are float32 quotients with an epsilon in the denominator


def findings(run: Run) -> list[Finding]:
    """Every exact rule on every stage it speaks about."""
    found = []
    for stage in run.of_kind("label"):
        found += _labels(run, stage)
    for stage in (*run.of_kind("train-questioner"), *run.of_kind("train-solver")):
        if not stage.has(ROLLOUTS):
            reason = (
                "trained on nothing"
                if not stage.manifest["facts"].get("steps")
                else f"it has no {ROLLOUTS} (an older version, or fine-tuning)"
            )
            found.append(Finding("rollouts-recorded", stage.stage.name, None, reason))
            continue
        rows = stage.rows(ROLLOUTS)
        found += [_groups(run, stage, rows), _advantages(stage, rows)]
        found += (
            [_questioner(run, stage, rows)]
            if stage.stage.kind == "train-questioner"
            else _solver(run, stage, rows)
        )
    return found


def _switched(section: Any, name: str, usual: Any) -> bool:
    """Whether an arm set a switch that changes what the rule would check; presets without that switch have
    the usual."""
    return getattr(section, name, usual) != usual


def _labels(run: Run, stage: SealedStage) -> list[Finding]:
    """Majority, confidence and filter of every label, and each vote as its text says."""
    config, name, labels = run.preset.solver, stage.stage.name, stage.rows("labels.jsonl")
    if _switched(config, "labels", "majority") or getattr(run.preset, "defects", ()):
        return [Finding("labels-are-majorities", name, None, "this arm labels otherwise")]
    wrong_label = [row["question_id"] for row in labels if not _is_majority(row)]
    found = [all_of("labels-are-majorities", name, "labels", len(labels), wrong_label)]
    if not (
        _switched(config, "filter", "confidence")
        or _switched(config, "answerable", False)
        or _switched(run.preset, "step_matched", None)
    ):
        odd = [
            row["question_id"]
            for row in labels
            if row["kept"] != formulas.kept(row["votes"], config.keep_low, config.keep_high)
        ]
        found.append(all_of("filter-keeps-the-band", name, "filter decisions", len(labels), odd))
    votes = stage.rows("votes.jsonl")
    misread = [
        f"{row['question_id']} vote {row['index']}"
        for row in votes
        if (letter := _letter(row)) is not None and letter != row["answer"]
    ]
    cast = {
        key: [vote["answer"] for vote in group]
        for key, group in groupby(votes, key=lambda row: row["question_id"])
    }
    lost = [
        row["question_id"] for row in labels if votes and cast.get(row["question_id"]) != list(row["votes"])
    ]
    found.append(all_of("votes-are-what-was-said", name, "votes", len(votes), [*misread, *lost]))
    return found


def _is_majority(row: Row) -> bool:
    winner, share = formulas.majority(row["votes"])
    return row["answer"] == winner and abs(row["confidence"] - share) < 1e-9


def _letter(row: Row) -> str | None:
    return formulas.boxed(row["text"])


def _groups(run: Run, stage: SealedStage, rows: Sequence[Row]) -> Finding:
    """Completions come in whole groups of one prompt."""
    role = run.preset.questioner if stage.stage.kind == "train-questioner" else run.preset.solver
    size = role.grpo.group_size
    torn = [
        f"group {start // size}"
        for start in range(0, len(rows), size)
        if len({(row["generation"], row["prompt"]) for row in rows[start : start + size]}) != 1
        or [row["index"] for row in rows[start : start + size]] != list(range(size))
    ]
    return all_of("groups-are-whole", stage.stage.name, "groups", len(rows) // size, torn)


def _advantages(stage: SealedStage, rows: Sequence[Row]) -> Finding:
    """The advantage in the loss is that of the recorded rewards: sign, scale and order."""
    wrong, count = [], 0
    for (generation, prompt), group in groupby(rows, key=lambda row: (row["generation"], row["prompt"])):
        members = list(group)
        count += len(members)
        for row, expected in zip(
            members, formulas.advantages([one["reward"] for one in members]), strict=True
        ):
            if abs(row["advantage"] - expected) > CLOSE * max(1.0, abs(expected)):
                said = f"generation {generation}, {prompt}, completion {row['index']}: {row['advantage']:+.3f} instead of {expected:+.3f}"
                wrong.append(said)
    return all_of("advantages-follow-rewards", stage.stage.name, "advantages", count, wrong)


def _questioner(run: Run, stage: SealedStage, rows: Sequence[Row]) -> Finding:
    """The Questioner's reward is the formula of its votes and its intuitive answer."""
    formula = formulas.QUESTIONER_REWARDS.get(run.preset.questioner.reward)
    name = stage.stage.name
    if formula is None or any("votes" not in row for row in rows):
        return Finding(
            "reward-formula", name, None, f"the reward {run.preset.questioner.reward} is not recomputed here"
        )
    n = run.preset.questioner.votes.n
    wrong = [
        f"{row['prompt']}/{row['index']}: {row['reward']:g}"
        for row in rows
        if abs(row["reward"] - formula(row["votes"], row["intuitive"])) > 1e-9
        or (row["votes"] is not None and len(row["votes"]) != n)
    ]
    return all_of("reward-formula", name, "rewards", len(rows), wrong)


def _solver(run: Run, stage: SealedStage, rows: Sequence[Row]) -> list[Finding]:
    """The Solver is trained on kept questions, on the labels its votes gave, and paid 1 exactly where it says
    the label."""
    name, config = stage.stage.name, run.preset.solver
    if _switched(config, "objective", "labels"):
        return [Finding("reward-formula", name, None, "this arm pays the Solver otherwise")]
    paid = [row for row in rows if formulas.boxed(row["text"]) is not None]
    wrong = [
        f"{row['prompt']}/{row['index']}: {row['reward']:g}"
        for row in paid
        if row["reward"] != (1.0 if formulas.boxed(row["text"]) == row["label"] else 0.0)
    ]
    wrong += [
        f"{row['prompt']}/{row['index']} paid without a box"
        for row in rows
        if "boxed" not in row["text"] and row["reward"] != 0
    ]
    found = [all_of("reward-formula", name, "rewards", len(rows), wrong)]
    labelled = run.of_iteration("label", stage.stage.iteration)
    if labelled is not None and not _switched(config, "labels", "majority"):
        labels = {row["question_id"]: row for row in labelled.rows("labels.jsonl")}
        prompts = {row["prompt"]: row["label"] for row in rows}
        odd = [
            key
            for key, label in prompts.items()
            if key not in labels or not labels[key]["kept"] or labels[key]["answer"] != label
        ]
        found.append(all_of("trained-on-its-labels", name, "training questions", len(prompts), odd))
    return found
