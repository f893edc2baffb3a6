"""Held-out answers as outcomes: what each model's accuracies are, and what one gains over another on the same
questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

from harness.evals import metrics
from harness.runs.sealed import Run, SealedStage
from harness.stats import Pairs, holm, mean_interval, paired_gain
from vzero.config import Preset
from vzero.runtime.seeding import derive


@dataclass(frozen=True)
class Item:
    """One held-out question under one model: `outcomes` by metric, each in [0, 1]; `row` as stored."""

    image: str
    outcomes: Mapping[str, float]
    row: Mapping[str, Any]


Scores = dict[str, dict[str, dict[str, Item]]]  # model -> suite -> item_id -> item


def metric_names(samples: int) -> tuple[str, str, str, str]:
    """Greedy accuracy, mean accuracy of the samples, accuracy of their majority, share of items with any
    right sample."""
    return ("greedy", "sampled", f"maj@{samples}", f"pass@{samples}")


def outcomes(row: Mapping[str, Any], samples: int) -> dict[str, float]:
    """One item's value of each metric; unparsed answers are wrong."""
    values = (
        metrics.greedy_correct(row),
        metrics.sampled_accuracy(row),
        metrics.majority_correct(row),
        metrics.pass_at(row, samples),
    )
    return dict(zip(metric_names(samples), map(float, values), strict=True))


def read_scores(run: Run) -> Scores:
    """Every held-out answer of `run`'s finished evaluations, in the order of the plan."""
    return {model_name(one): by_suite(one, run.preset) for one in run.of_kind("evaluate")}


def model_name(stage: SealedStage) -> str:
    """ "base", "S1", "S2", ... for an evaluation."""
    return "base" if stage.stage.inputs["model"] == "base" else f"S{stage.stage.iteration}"


def by_suite(stage: SealedStage, preset: Preset) -> dict[str, dict[str, Item]]:
    found: dict[str, dict[str, Item]] = {suite: {} for suite in preset.evaluation.suites}
    for row in stage.rows("samples.jsonl"):
        found[row["suite"]][row["item_id"]] = Item(
            row["image_sha256"], outcomes(row, preset.evaluation.sampled.n), row
        )
    return found


def rows_of(scores: Scores) -> dict[str, dict[str, list[Mapping[str, Any]]]]:
    return {
        model: {suite: [item.row for item in items.values()] for suite, items in by_suite.items()}
        for model, by_suite in scores.items()
    }


def measures(items: Mapping[str, Item], names: Sequence[str], seed: int) -> dict[str, Any]:
    """Accuracies with intervals, and the counts of answers that could not be read or were cut off, of one
    model on one suite."""
    images = [item.image for item in items.values()]
    found: dict[str, Any] = {
        name: asdict(
            mean_interval([([item.outcomes[name] for item in items.values()], images)], derive(seed, name))
        )
        for name in names
    }
    counts = metrics.score([item.row for item in items.values()])
    for kind, n in (("greedy", counts.scored), ("sampled", counts.scored * counts.samples)):
        for what in ("unparsed", "truncated"):
            found[f"{what}_{kind}"] = {"value": getattr(counts, f"{what}_{kind}"), "n": n}
    return found


def average(scores: Scores, names: Sequence[str], preset: Preset) -> dict[str, Any]:
    """Unweighted mean over the suites, only for models measured on all of them."""
    found = {}
    for model, by_suite in scores.items():
        parts = [list(by_suite[suite].values()) for suite in preset.evaluation.suites]
        if all(parts):
            found[model] = {
                name: asdict(
                    mean_interval(
                        [
                            ([item.outcomes[name] for item in part], [item.image for item in part])
                            for part in parts
                        ],
                        derive(preset.seed, "average", model, name),
                    )
                )
                for name in names
            }
    return found


def consecutive(scores: Scores) -> list[tuple[str, str]]:
    trained = [model for model in scores if model != "base"]
    return [(one, other) for one, other in pairwise(trained) if int(other[1:]) == int(one[1:]) + 1]


def gains(scores: Scores, base: str, model: str, names: Sequence[str], preset: Preset) -> dict[str, Any]:
    """Paired gains of `model` over `base` by suite, with Holm's correction over the suites, and of their
    average."""
    found: dict[str, Any] = {}
    suites = [suite for suite in preset.evaluation.suites if common_items(scores, base, model, suite)]
    for name in names:
        seed = derive(preset.seed, "gain", base, model, name)
        pairs = {suite: paired(scores, base, model, suite, name) for suite in suites}
        gains = {suite: paired_gain([one], derive(seed, suite)) for suite, one in pairs.items()}
        corrected = holm({suite: gain.p for suite, gain in gains.items()})
        for suite, gain in gains.items():
            direction = replace(
                gain, p=corrected[suite]
            ).direction  # one suite of several: the corrected p decides
            found.setdefault(suite, {})[name] = {
                **asdict(gain),
                "p_holm": corrected[suite],
                "direction": direction,
            }
        if len(suites) == len(preset.evaluation.suites):
            whole = paired_gain(list(pairs.values()), derive(seed, "average"))
            found.setdefault("average", {})[name] = {
                **asdict(whole),
                "p_holm": None,
                "direction": whole.direction,
            }
    return found


def common_items(scores: Scores, base: str, model: str, suite: str) -> list[str]:
    return [item for item in scores[base].get(suite, {}) if item in scores[model].get(suite, {})]


def paired(scores: Scores, base: str, model: str, suite: str, name: str) -> Pairs:
    """Outcomes by metric `name` of the items of `suite` that both models answered, in the order of
    `base`'s."""
    both = [
        (scores[base][suite][item], scores[model][suite][item])
        for item in common_items(scores, base, model, suite)
    ]
    return Pairs(
        [one.outcomes[name] for one, _ in both],
        [other.outcomes[name] for _, other in both],
        [one.image for one, _ in both],
    )
