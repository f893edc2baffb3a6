"""Learning happened: the loss that was minimised is the objective, its KL term included, and the weights
moved and stayed near."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import numpy as np

from harness.check.exact import ROLLOUTS
from harness.check.finding import Finding
from harness.runs.sealed import Run, SealedStage
from vzero.runtime.stage import input_folder

Row = Mapping[str, Any]
MOST_KL = 0.5  # nats a token, mean over completions; healthy pocket runs stay below .11
LEAST_MOVE, MOST_MOVE = 1e-7, 0.5  # of the norm of the weights
ROUNDING = 1e-6  # of a recorded loss
FALLS = 3.09  # standard errors: one-sided p = .001
KL_SEEN = 1e-6  # a KL term below this is within rounding and proves nothing


def findings(run: Run) -> list[Finding]:
    """The rules on every training stage that took a step."""
    found = []
    for stage in (*run.of_kind("train-questioner"), *run.of_kind("train-solver")):
        metrics = stage.rows("metrics.jsonl")
        if not metrics:
            found.append(Finding("weights-moved", stage.stage.name, None, "trained on nothing"))
            continue
        settings = (
            run.preset.questioner if stage.stage.kind == "train-questioner" else run.preset.solver
        ).grpo
        found += [_weights(run, stage, settings.freeze_vision), _gradients(stage, metrics)]
        if stage.stage.kind == "train-solver" and getattr(run.preset.solver, "objective", "labels") == "sft":
            found.append(Finding("kl-bounded", stage.stage.name, None, "fine-tuning has no KL term"))
            continue
        found.append(_kl(stage, metrics, settings.kl_coefficient))
        if stage.has(ROLLOUTS) and settings.loss == "dapo":
            found += _loss(stage, metrics, stage.rows(ROLLOUTS), settings.kl_coefficient)
        if stage.has(ROLLOUTS):
            found.append(_trend(stage, stage.rows(ROLLOUTS)))
    return found


def _weights(run: Run, stage: SealedStage, vision_frozen: bool) -> Finding:
    """How far the trained weights are from those training started with."""
    role = "questioner" if stage.stage.kind == "train-questioner" else "solver"
    name = stage.stage.name
    before, after = (
        _tensors(folder)
        for folder in (
            input_folder(run.path, run.preset, role, stage.stage.inputs[role]),
            stage.folder / "checkpoint",
        )
    )
    if before is None or after is None:
        return Finding(
            "weights-moved", name, None, "a checkpoint is not here, or its weights cannot be compared"
        )
    if before.keys() != after.keys():
        return Finding(
            "weights-moved",
            name,
            False,
            "the checkpoint has other tensors than the one training started from",
        )
    seeing = [key for key in before if ".visual." in f".{key}"]
    if vision_frozen and any(not np.array_equal(before[key], after[key]) for key in seeing):
        return Finding("weights-moved", name, False, "the image encoder was to be frozen and moved")
    size = math.sqrt(sum(float((before[key].astype(np.float64) ** 2).sum()) for key in before))
    moved = math.sqrt(
        sum(
            float(((after[key].astype(np.float64) - before[key].astype(np.float64)) ** 2).sum())
            for key in before
        )
    )
    share = moved / size
    if not LEAST_MOVE <= share <= MOST_MOVE:
        return Finding(
            "weights-moved",
            name,
            False,
            f"the weights moved by {share:.2g} of their norm; {'nothing was learnt' if share < LEAST_MOVE else 'training blew up'}",
        )
    return Finding("weights-moved", name, True, f"the weights moved by {share:.2g} of their norm")


def _tensors(folder: Path) -> dict[str, np.ndarray] | None:
    """All weights of a checkpoint; None where a number format (bfloat16) cannot be read without torch, or
    there is none."""
    from safetensors.numpy import load_file

    found: dict[str, np.ndarray] = {}
    try:
        for path in sorted(folder.glob("*.safetensors")):
            found |= load_file(path)
    except (TypeError, KeyError, OSError):
        return None
    return found or None


def _kl(stage: SealedStage, metrics: Sequence[Row], coefficient: float) -> Finding:
    """The policy left its reference, and not for good."""
    values, name = [row.get("kl") for row in metrics], stage.stage.name
    if coefficient == 0:
        return Finding("kl-bounded", name, None, "the preset has no KL term")
    if any(value is None for value in values):
        return Finding(
            "kl-bounded",
            name,
            False,
            "the KL to the reference was not measured although the preset weighs it",
        )
    if len(values) > 1 and max(values[1:]) <= 0:
        return Finding("kl-bounded", name, False, "the policy never left its reference: KL stayed 0")
    if max(values) > MOST_KL:
        return Finding(
            "kl-bounded", name, False, f"KL rose to {max(values):.2f} nats a token (at most {MOST_KL})"
        )
    return Finding(
        "kl-bounded", name, True, f"KL ended at {values[-1]:.4f} nats a token, {max(values):.4f} at most"
    )


def _gradients(stage: SealedStage, metrics: Sequence[Row]) -> Finding:
    """Some step had a gradient; a step whose groups are all unanimous rightly has none but the KL term's."""
    norms = [row.get("grad_norm") or 0.0 for row in metrics]
    mixed = [norm for row, norm in zip(metrics, norms, strict=True) if (row.get("unanimous") or 0.0) < 1]
    if mixed and max(mixed) == 0:
        return Finding(
            "gradients-flow",
            stage.stage.name,
            False,
            "no step had a gradient although rewards differed within groups",
        )
    return Finding(
        "gradients-flow", stage.stage.name, True, f"gradient norms from {min(norms):.2g} to {max(norms):.2g}"
    )


def _trend(stage: SealedStage, rows: Sequence[Row]) -> Finding:
    """The reward of the last third of the generations is not below that of the first: Welch's test over
    prompts, one-sided, p < .001."""
    name, last = stage.stage.name, rows[-1]["generation"]
    if last < 3:
        return Finding(
            "reward-does-not-fall",
            name,
            None,
            f"{last} generation{'s' if last > 1 else ''}, too few for a trend",
        )
    means = [
        [
            fmean(row["reward"] for row in group)
            for _, group in groupby(part, key=lambda row: (row["generation"], row["prompt"]))
        ]
        for part in (
            [row for row in rows if row["generation"] <= last // 3],
            [row for row in rows if row["generation"] > last - last // 3],
        )
    ]
    if min(map(len, means)) < 2:
        return Finding("reward-does-not-fall", name, None, "too few prompts for a trend")
    first, final = map(fmean, means)
    error = math.sqrt(sum(variance(one) / len(one) for one in means))
    says = f"mean reward {first:.3f} in the first third, {final:.3f} in the last"
    return Finding("reward-does-not-fall", name, not first - final > FALLS * error, says)


def _loss(
    stage: SealedStage, metrics: Sequence[Row], rows: Sequence[Row], coefficient: float
) -> list[Finding]:
    """The first step of each generation is on-policy (every ratio is 1), so its loss is known without the
    model:

        loss = (-sum A_i len_i + beta KL tokens) / (tokens of the generation / its steps)

    with sums over the step's completions. A sign flipped anywhere, or a KL term left out, shows here.
    """
    name, pairs = stage.stage.name, []
    steps = {
        generation: list(group) for generation, group in groupby(metrics, key=lambda row: row["generation"])
    }
    for generation, group in groupby(rows, key=lambda row: row["generation"]):
        completions, of = list(group), steps.get(generation, [])
        if of and len(completions) % len(of) == 0:
            first = completions[: len(completions) // len(of)]
            scale = sum(row["tokens"] for row in completions) / len(of)
            policy = -sum(row["advantage"] * row["tokens"] for row in first) / scale
            leash = coefficient * (of[0].get("kl") or 0.0) * sum(row["tokens"] for row in first) / scale
            pairs.append((of[0]["loss"], policy, leash))
    if not pairs:
        return [Finding("loss-is-the-objective", name, None, "no generation to look at")]
    return [_policy_part(name, pairs), _leash_part(name, pairs, coefficient)]


def _policy_part(name: str, pairs: Sequence[tuple[float, float, float]]) -> Finding:
    wrong = [
        (loss, policy + leash)
        for loss, policy, leash in pairs
        if abs(loss - policy - leash) > ROUNDING + 1e-3 * abs(policy) + abs(leash)
    ]
    if wrong:
        against = sum(loss * expected < 0 for loss, expected in wrong)
        said = f"{len(wrong)} of {len(pairs)} losses are not the objective's (loss {wrong[0][0]:+.5f}, objective {wrong[0][1]:+.5f})"
        return Finding(
            "loss-is-the-objective",
            name,
            False,
            said + (f"; {against} have the wrong sign" if against else ""),
        )
    return Finding(
        "loss-is-the-objective",
        name,
        True,
        f"{len(pairs)} on-policy losses equal minus the mean advantage of their tokens",
    )


def _leash_part(name: str, pairs: Sequence[tuple[float, float, float]], coefficient: float) -> Finding:
    expected, found = sum(leash for *_, leash in pairs), sum(loss - policy for loss, policy, _ in pairs)
    if coefficient == 0 or expected < KL_SEEN:
        return Finding(
            "kl-in-the-loss",
            name,
            None,
            "no on-policy step after the first generation, so the term cannot be seen",
        )
    if not 0.5 <= found / expected <= 2:
        return Finding(
            "kl-in-the-loss",
            name,
            False,
            f"the KL term should add {expected:.2e} to these losses and adds {found:.2e}",
        )
    return Finding(
        "kl-in-the-loss", name, True, f"the KL term adds {found:.2e} to these losses, as it should"
    )
