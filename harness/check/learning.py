"""Learning happened: the loss that was minimised is the objective, its KL term included, and the weights
moved and stayed near."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import numpy as np

from harness.check.exact import ROLLOUTS
from harness.check.finding import Finding, finding
from harness.runs.sealed import Row, Run, SealedStage
from vzero.runtime.checkpoints import at_hand
from vzero.runtime.stage import stage_folder

MOST_KL = 0.5  # nats a token, mean over completions; healthy pocket runs stay below .11
LEAST_MOVE, MOST_MOVE = 1e-7, 0.5  # of the norm of the weights
ROUNDING = 1e-6  # of a recorded loss
FALLS = 3.09  # standard errors: one-sided p = .001
KL_SEEN = 1e-6  # a KL term below this is within rounding and proves nothing
Weights = dict[str, np.ndarray[Any, Any]]


def findings(run: Run) -> list[Finding]:
    """The rules on every training stage that took a step."""
    results = []
    for role in ("questioner", "solver"):
        for stage in run.of_kind(f"train-{role}"):
            results += _stage(run, stage, role)
    return results


def _stage(run: Run, stage: SealedStage, role: str) -> list[Finding]:
    name, metrics = stage.stage.name, stage.rows("metrics.jsonl")
    if not metrics:
        return [finding("weights-moved", name, None, "trained on nothing")]
    settings = (run.preset.questioner if role == "questioner" else run.preset.solver).grpo
    source = stage.stage.inputs[role]
    start = at_hand(run.preset.model) if source == "base" else stage_folder(run.path, source) / "checkpoint"
    before, after = _weights(start), _weights(stage.folder / "checkpoint")
    results = [weights_moved(name, before, after, settings.freeze_vision), gradients_flow(name, metrics)]
    if role == "solver" and run.preset.solver.objective == "sft":
        return [*results, finding("kl-bounded", name, None, "fine-tuning has no KL term")]
    results.append(kl_bounded(name, metrics, settings.kl_coefficient))
    if stage.has(ROLLOUTS):
        rows = stage.rows(ROLLOUTS)
        results += loss(name, metrics, rows, settings.kl_coefficient) if settings.loss == "dapo" else []
        results.append(trend(name, rows))
    return results


def weights_moved(name: str, before: Weights | None, after: Weights | None, vision_frozen: bool) -> Finding:
    """How far the trained weights are from those training started with."""
    rule = "weights-moved"
    if before is None or after is None:
        return finding(rule, name, None, "a checkpoint is not here, or its weights cannot be compared")
    if before.keys() != after.keys():
        return finding(
            rule, name, False, "the checkpoint has other tensors than the one training started from"
        )
    seeing = [key for key in before if ".visual." in f".{key}"]
    if vision_frozen and any(not np.array_equal(before[key], after[key]) for key in seeing):
        return finding(rule, name, False, "the image encoder was to be frozen and moved")
    size = math.sqrt(sum(_squared(one.astype(np.float64)) for one in before.values()))
    moved = math.sqrt(sum(_squared(after[key].astype(np.float64) - before[key]) for key in before))
    share = moved / size
    verdict = (
        "; nothing was learnt" if share < LEAST_MOVE else "; training blew up" if share > MOST_MOVE else ""
    )
    return finding(rule, name, not verdict, f"the weights moved by {share:.2g} of their norm{verdict}")


def _squared(weights: np.ndarray[Any, Any]) -> float:
    return float((weights**2).sum())


def _weights(folder: Path | None) -> Weights | None:
    """All weights of a checkpoint; None where a number format (bfloat16) cannot be read without torch, or
    there is none."""
    from safetensors.numpy import load_file

    weights: Weights = {}
    try:
        for path in sorted(folder.glob("*.safetensors")) if folder else ():
            weights |= load_file(path)
    except (TypeError, KeyError, OSError):
        return None
    return weights or None


def kl_bounded(name: str, metrics: Sequence[Row], coefficient: float) -> Finding:
    """The policy left its reference, and not for good."""
    rule, values = "kl-bounded", [row["kl"] for row in metrics if row.get("kl") is not None]
    if coefficient == 0:
        return finding(rule, name, None, "the preset has no KL term")
    if len(values) < len(metrics):
        return finding(
            rule, name, False, "the KL to the reference was not measured, and the preset weighs it"
        )
    if len(values) > 1 and max(values[1:]) <= 0:
        return finding(rule, name, False, "the policy never left its reference: KL stayed 0")
    if max(values) > MOST_KL:
        return finding(rule, name, False, f"KL rose to {max(values):.2f} nats a token (at most {MOST_KL})")
    return finding(rule, name, True, f"KL ended at {values[-1]:.4f} nats a token, {max(values):.4f} at most")


def gradients_flow(name: str, metrics: Sequence[Row]) -> Finding:
    """Some step had a gradient; a step whose groups are all unanimous rightly has none but the KL term's."""
    norms = [row.get("grad_norm") or 0.0 for row in metrics]
    mixed = [norm for row, norm in zip(metrics, norms, strict=True) if (row.get("unanimous") or 0.0) < 1]
    if mixed and max(mixed) == 0:
        message = "no step had a gradient although rewards differed within groups"
        return finding("gradients-flow", name, False, message)
    return finding("gradients-flow", name, True, f"gradient norms from {min(norms):.2g} to {max(norms):.2g}")


def trend(name: str, rows: Sequence[Row]) -> Finding:
    """The reward of the last third of the generations is not below that of the first: Welch's test over
    prompts, one-sided, p < .001."""
    rule, last = "reward-does-not-fall", rows[-1]["generation"]
    if last < 3:
        return finding(rule, name, None, f"{last} generation{'s' if last > 1 else ''}, too few for a trend")
    early = _by_prompt([row for row in rows if row["generation"] <= last // 3])
    late = _by_prompt([row for row in rows if row["generation"] > last - last // 3])
    if min(len(early), len(late)) < 2:
        return finding(rule, name, None, "too few prompts for a trend")
    error = math.sqrt(variance(early) / len(early) + variance(late) / len(late))
    message = f"mean reward {fmean(early):.3f} in the first third, {fmean(late):.3f} in the last"
    return finding(rule, name, not fmean(early) - fmean(late) > FALLS * error, message)


def _by_prompt(rows: Sequence[Row]) -> list[float]:
    """Mean reward of each group."""
    grouped = groupby(rows, key=lambda row: (row["generation"], row["prompt"]))
    return [fmean(row["reward"] for row in group) for _, group in grouped]


def loss(name: str, metrics: Sequence[Row], rows: Sequence[Row], coefficient: float) -> list[Finding]:
    """The first step of each generation is on-policy (every ratio is 1), so its loss is known without the
    model:

        loss = (-sum A_i len_i + beta KL tokens) / (tokens of the generation / its steps)

    with sums over the step's completions. A sign flipped anywhere, or a KL term left out, shows here.
    """
    steps = {key: list(group) for key, group in groupby(metrics, key=lambda row: row["generation"])}
    terms = []  # (recorded loss, policy term, KL term) of each first step
    for generation, group in groupby(rows, key=lambda row: row["generation"]):
        completions, of = list(group), steps.get(generation, [])
        if of and len(completions) % len(of) == 0:
            first = completions[: len(completions) // len(of)]
            scale = sum(row["tokens"] for row in completions) / len(of)
            policy = -sum(row["advantage"] * row["tokens"] for row in first) / scale
            kl_term = coefficient * (of[0].get("kl") or 0.0) * sum(row["tokens"] for row in first) / scale
            terms.append((of[0]["loss"], policy, kl_term))
    if not terms:
        return [finding("loss-is-the-objective", name, None, "no generation to look at")]
    return [_policy_term(name, terms), _kl_term(name, terms, coefficient)]


def _policy_term(name: str, terms: Sequence[tuple[float, float, float]]) -> Finding:
    rule = "loss-is-the-objective"
    wrong = [
        (loss, policy + kl_term)
        for loss, policy, kl_term in terms
        if abs(loss - policy - kl_term) > ROUNDING + 1e-3 * abs(policy) + abs(kl_term)
    ]
    if not wrong:
        message = f"{len(terms)} on-policy losses equal minus the mean advantage of their tokens"
        return finding(rule, name, True, message)
    (recorded, objective), flipped = wrong[0], sum(loss * expected < 0 for loss, expected in wrong)
    message = f"{len(wrong)} of {len(terms)} losses are not the objective's (loss {recorded:+.5f}, objective "
    message += f"{objective:+.5f})" + (f"; {flipped} have the wrong sign" if flipped else "")
    return finding(rule, name, False, message)


def _kl_term(name: str, terms: Sequence[tuple[float, float, float]], coefficient: float) -> Finding:
    rule, expected = "kl-in-the-loss", sum(kl_term for *_, kl_term in terms)
    added = sum(loss - policy for loss, policy, _ in terms)
    if coefficient == 0 or expected < KL_SEEN:
        message = "no on-policy step after the first generation, so the term cannot be seen"
        return finding(rule, name, None, message)
    if not 0.5 <= added / expected <= 2:
        message = f"the KL term should add {expected:.2e} to these losses and adds {added:.2e}"
        return finding(rule, name, False, message)
    return finding(rule, name, True, f"the KL term adds {added:.2e} to these losses, as it should")
