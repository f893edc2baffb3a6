"""Several finished runs that differ only in their seed, as one result: training has luck, and one run does
not show how much.

Every run answers the same held-out questions, so seeds and images are crossed:
`harness.stats.gain_over_seeds` resamples both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.analysis.accuracies import Scores, metric_names, paired, read_scores
from harness.analysis.results import build, rounded
from harness.runs.sealed import Run, read_run
from harness.stats import RESAMPLES, gain_over_seeds
from vzero.errors import InputError
from vzero.presets import differences
from vzero.runtime.seeding import derive

FORMAT = 1
BY_SEED = frozenset(
    {"seed", "step_matched"}
)  # the reference that an arm is matched to is the one of the same seed


def summarise(runs: Sequence[Path]) -> dict[str, Any]:
    """The gain of each Solver over the base in every metric, by seed and over seeds, on each suite and on
    their average.

    ``gains[model][suite or "average"][metric]`` holds ``by_seed`` (gain, its interval over images, sign,
    direction, as in that run's own results), ``mean``, ``min``, ``max``, ``positive`` (seeds with a gain
    above zero), ``low`` and ``high`` (two-level bootstrap over seeds and images), ``t_low`` and ``t_high``,
    ``direction``. ``accuracy`` holds what the gains come from. Shares and gains are fractions. A pure
    function of the runs, whatever their order.

    Raises:
        InputError: fewer than two runs, one that is not finished, a seed given twice, other settings or other
            held-out questions.
    """
    found = _comparable([read_run(path) for path in runs])
    results = {seed: build(run) for seed, run in found.items()}
    scores = {seed: read_scores(run) for seed, run in found.items()}
    _check_items(scores)
    preset = next(iter(found.values())).preset
    names, suites = metric_names(preset.evaluation.sampled.n), list(preset.evaluation.suites)
    first = next(iter(results.values()))
    summary = {
        "format": FORMAT,
        **{
            key: first[key]
            for key in ("preset", "iterations", "split", "model", "samples", "models", "metrics")
        },
        "seeds": list(found),
        "suites": suites,
        "questions": sum(len(items) for items in scores[next(iter(found))]["base"].values()),
        "resamples": RESAMPLES,
        "accuracy": {
            place: {
                model: {name: _levels(results, place, model, name) for name in names}
                for model in first["models"]
            }
            for place in (*suites, "average")
        },
        "gains": {
            model: {
                place: {name: _gain(results, scores, model, place, suites, name) for name in names}
                for place in (*suites, "average")
            }
            for model in first["models"]
            if model != "base"
        },
        "runs": {str(seed): _provenance(run) for seed, run in found.items()},
    }
    return rounded(summary)


def _comparable(runs: Sequence[Run]) -> dict[int, Run]:
    """Runs by seed, ascending."""
    if len(runs) < 2:
        raise InputError("Give at least two runs; one seed alone is in its own report.")
    first, found = runs[0], {}
    for run in runs:
        if run.missing:
            raise InputError(
                f"{run.path} is not finished (missing: {', '.join(run.missing)}); finish it with the command that began it."
            )
        other = [
            key
            for key in differences(first.preset.model_dump(mode="json"), run.preset.model_dump(mode="json"))
            if key not in BY_SEED
        ]
        if other:
            raise InputError(
                f"{run.path} and {first.path} differ in more than the seed ({', '.join(other)}); compare them by themselves."
            )
        if run.preset.seed in found:
            raise InputError(
                f"{run.path} and {found[run.preset.seed].path} have the same seed {run.preset.seed}; give each seed once."
            )
        found[run.preset.seed] = run
    return dict(sorted(found.items()))


def _check_items(scores: Mapping[int, Scores]) -> None:
    """Every model of every seed answered the very same questions."""
    asked = {
        (seed, model): {
            suite: {
                name: (item.image, item.row["prompt_sha256"], item.row["gold"])
                for name, item in items.items()
            }
            for suite, items in by_suite.items()
        }
        for seed, models in scores.items()
        for model, by_suite in models.items()
    }
    reference = next(iter(asked.values()))
    for (seed, model), items in asked.items():
        if items != reference:
            raise InputError(
                f"{model} of seed {seed} answered other held-out questions than the other runs; evaluate them all anew."
            )


def _levels(results: Mapping[int, Mapping[str, Any]], place: str, model: str, name: str) -> dict[str, Any]:
    values = {
        seed: (one["average"] if place == "average" else one["suites"][place])[model][name]["value"]
        for seed, one in results.items()
    }
    return {"by_seed": {str(seed): value for seed, value in values.items()}, **_range(list(values.values()))}


def _gain(
    results: Mapping[int, Mapping[str, Any]],
    scores: Mapping[int, Scores],
    model: str,
    place: str,
    suites: Sequence[str],
    name: str,
) -> dict[str, Any]:
    own = {seed: one["gains"][model][place][name] for seed, one in results.items()}
    pairs = [
        [paired(one, "base", model, suite, name) for one in scores.values()]
        for suite in (suites if place == "average" else [place])
    ]
    spread = gain_over_seeds(pairs, derive(0, "seeds", *map(str, scores), model, place, name))
    kept = ("gain", "low", "high", "direction", "n")
    return {
        "by_seed": {
            str(seed): {**{key: gain[key] for key in kept}, "sign": _sign(gain["gain"])}
            for seed, gain in own.items()
        },
        **_range([gain["gain"] for gain in own.values()]),
        "positive": sum(gain["gain"] > 0 for gain in own.values()),
        **{key: value for key, value in asdict(spread).items() if key not in ("mean", "freedom")},
        "direction": spread.direction,
    }


def _range(values: Sequence[float]) -> dict[str, float]:
    return {"mean": fmean(values), "min": min(values), "max": max(values)}


def _sign(value: float) -> str:
    return "+" if value > 0 else "-" if value < 0 else "0"


def _provenance(run: Run) -> dict[str, Any]:
    """The evaluations behind the numbers, by the hash of their manifest, and the commits that made them."""
    made = [one.manifest["provenance"]["git"] for one in run.of_kind("evaluate")]
    commits = {
        "no git" if git is None else git["commit"] + (" with uncommitted changes" if git["dirty"] else "")
        for git in made
    }
    return {
        "manifests": {one.stage.name: one.digest for one in run.of_kind("evaluate")},
        "commits": sorted(commits),
    }
