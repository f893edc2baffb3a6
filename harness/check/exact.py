"""Exact invariants: what was recorded, recomputed. Rewards, votes, tallies, filter decisions and advantages
leave no room for luck."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

from harness.check import formulas
from harness.check.finding import Finding, all_of, finding
from harness.runs.sealed import Row, Run, SealedStage

ROLLOUTS = "rollouts.jsonl"
CLOSE = 2e-3  # advantages are float32 quotients with an epsilon in the denominator


def findings(run: Run) -> list[Finding]:
    """Every exact rule on every stage it speaks about."""
    labelled = (*run.of_kind("label"), *run.of_kind("recycle"))
    results = [one for stage in labelled for one in _labels(run, stage)]
    for role in ("questioner", "solver"):
        for stage in run.of_kind(f"train-{role}"):
            if not stage.has(ROLLOUTS):
                steps = stage.manifest["facts"].get("steps")
                reason = f"it has no {ROLLOUTS}: fine-tuning draws none" if steps else "trained on nothing"
                results.append(finding("rollouts-recorded", stage.stage.name, None, reason))
                continue
            rows = stage.rows(ROLLOUTS)
            size = (run.preset.questioner if role == "questioner" else run.preset.solver).grpo.group_size
            results += [groups(stage.stage.name, rows, size), advantages(stage.stage.name, rows)]
            results += [_questioner(run, stage, rows)] if role == "questioner" else _solver(run, stage, rows)
    return results


def _labels(run: Run, stage: SealedStage) -> list[Finding]:
    """Majority, confidence and filter of every label, and each vote as its text says."""
    config, name, labels = run.preset.solver, stage.stage.name, stage.rows("labels.jsonl")
    if config.labels != "majority" or run.preset.defects:
        return [finding("labels-are-majorities", name, None, "this arm labels otherwise")]
    wrong = [row["question_id"] for row in labels if not _is_majority(row)]
    results = [all_of("labels-are-majorities", name, "labels", len(labels), wrong)]
    if config.filter == "confidence" and not config.answerable and run.preset.step_matched is None:
        odd = [
            row["question_id"]
            for row in labels
            if row["kept"] != formulas.kept(row["votes"], config.keep_low, config.keep_high)
        ]
        results.append(all_of("filter-keeps-the-band", name, "filter decisions", len(labels), odd))
    if stage.stage.kind == "recycle":
        inputs = {role: run.stages[source] for role, source in stage.stage.inputs.items()}
        bought = inputs["labels"].rows("labels.jsonl") if "labels" in inputs else []
        return [*results, recycled(name, labels, bought, inputs["rollouts"].rows(ROLLOUTS))]
    return [*results, _votes(name, labels, stage.rows("votes.jsonl"))]


def _is_majority(row: Row) -> bool:
    winner, share = formulas.majority(row["votes"])
    return bool(row["answer"] == winner and abs(row["confidence"] - share) < 1e-9)


def _votes(name: str, labels: Sequence[Row], votes: Sequence[Row]) -> Finding:
    """A vote is what its text says, and a label's votes are those that were cast."""
    wrong = [
        f"{row['question_id']} vote {row['index']}"
        for row in votes
        if (letter := formulas.boxed(row["text"])) is not None and letter != row["answer"]
    ]
    cast = {
        key: [vote["answer"] for vote in group]
        for key, group in groupby(votes, lambda row: row["question_id"])
    }
    if votes:
        wrong += [row["question_id"] for row in labels if cast.get(row["question_id"]) != list(row["votes"])]
    return all_of("votes-are-what-was-said", name, "votes", len(votes), wrong)


def recycled(name: str, labels: Sequence[Row], bought: Sequence[Row], rollouts: Sequence[Row]) -> Finding:
    """The votes of a recycled label are those that the Questioner's reward paid for, of a question that was
    asked of that image."""
    asked = defaultdict(list)
    for row in rollouts:
        asked[row["prompt"], tuple(row["votes"] or ())].append(row["text"])
    known = {row["question_id"] for row in bought}
    ours = [row for row in labels if row["question_id"] not in known]
    wrong = [
        row["question_id"]
        for row in ours
        if not any(row["text"] in text for text in asked[row["image_id"], tuple(row["votes"])])
    ]
    return all_of("recycled-votes-were-cast", name, "recycled labels", len(ours), wrong)


def groups(name: str, rows: Sequence[Row], size: int) -> Finding:
    """Completions come in whole groups of one prompt."""
    torn = []
    for start in range(0, len(rows), size):
        group = rows[start : start + size]
        one_prompt = len({(row["generation"], row["prompt"]) for row in group}) == 1
        if not one_prompt or [row["index"] for row in group] != list(range(size)):
            torn.append(f"group {start // size}")
    return all_of("groups-are-whole", name, "groups", len(rows) // size, torn)


def advantages(name: str, rows: Sequence[Row]) -> Finding:
    """The advantage in the loss is that of the recorded rewards: sign, scale and order."""
    wrong = []
    for (generation, prompt), group in groupby(rows, key=lambda row: (row["generation"], row["prompt"])):
        members = list(group)
        expected = formulas.advantages([one["reward"] for one in members])
        wrong += [
            f"generation {generation}, {prompt}, completion {row['index']}: {row['advantage']:+.3f} instead "
            f"of {value:+.3f}"
            for row, value in zip(members, expected, strict=True)
            if abs(row["advantage"] - value) > CLOSE * max(1.0, abs(value))
        ]
    return all_of("advantages-follow-rewards", name, "advantages", len(rows), wrong)


def _questioner(run: Run, stage: SealedStage, rows: Sequence[Row]) -> Finding:
    """The Questioner's reward is the formula of its votes and its intuitive answer."""
    config, name = run.preset.questioner, stage.stage.name
    formula = formulas.QUESTIONER_REWARDS.get(config.reward)
    if formula is None or any("votes" not in row for row in rows):
        return finding("reward-formula", name, None, f"the reward {config.reward} is not recomputed here")
    wrong = [
        f"{row['prompt']}/{row['index']}: {row['reward']:g}"
        for row in rows
        if abs(row["reward"] - formula(row["votes"], row["intuitive"])) > 1e-9
        or (row["votes"] is not None and len(row["votes"]) != config.votes.n)
    ]
    return all_of("reward-formula", name, "rewards", len(rows), wrong)


def _solver(run: Run, stage: SealedStage, rows: Sequence[Row]) -> list[Finding]:
    """The Solver is trained on kept questions, on the labels its votes gave, and paid 1 exactly where it says
    the label."""
    name, config = stage.stage.name, run.preset.solver
    if config.objective != "labels":
        return [finding("reward-formula", name, None, "this arm pays the Solver otherwise")]
    wrong = []
    for row in rows:
        letter = formulas.boxed(row["text"])
        if letter is not None and row["reward"] != (1.0 if letter == row["label"] else 0.0):
            wrong.append(f"{row['prompt']}/{row['index']}: {row['reward']:g}")
        elif "boxed" not in row["text"] and row["reward"] != 0:
            wrong.append(f"{row['prompt']}/{row['index']} paid without a box")
    results = [all_of("reward-formula", name, "rewards", len(rows), wrong)]
    iteration = stage.stage.iteration
    found = (run.of_iteration(kind, iteration) for kind in ("select", "recycle", "label"))
    labelled = next((stage for stage in found if stage is not None), None)
    if labelled is not None and config.labels == "majority":
        kept = {row["question_id"]: row["answer"] for row in labelled.rows("labels.jsonl") if row["kept"]}
        prompts = {row["prompt"]: row["label"] for row in rows}
        odd = [key for key, label in prompts.items() if key not in kept or kept[key] != label]
        results.append(all_of("trained-on-its-labels", name, "training questions", len(prompts), odd))
    return results
