"""Sealed stages -> one results object: every number a table shows, and a ledger entry for each.

`build` is a pure function of the run: no times, paths, dates or versions enter, so a run that was killed and
resumed gives the same results as an undisturbed one. A run that is not finished gives what is there and says
what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from harness.analysis import accuracies, alarms, curves, ground_truth, lenses
from harness.analysis import outcomes as item_outcomes
from harness.analysis.accuracies import Scores, read_scores
from harness.analysis.compute import compute, trained_on
from harness.runs.sealed import Run, SealedStage
from vzero.config import Preset
from vzero.runtime.seeding import derive

FORMAT = 1
BEGUN = "base, begun"  # the model of a probe
UNPARSED_LIMIT, TRUNCATED_LIMIT = 0.05, 0.05  # shares above which a comparison carries a warning
_FAULTS = (("unparsed", UNPARSED_LIMIT, "could not be read"), ("truncated", TRUNCATED_LIMIT, "were cut off"))


def build(run: Run) -> dict[str, Any]:
    """All results of `run`; see the keys below. Shares are fractions of 1, gains are fractions (0.02 is two
    points)."""
    preset = run.preset
    names = accuracies.metric_names(preset.evaluation.sampled.n)
    scores = read_scores(run)
    suites = {
        suite: {
            model: accuracies.measures(
                scores[model][suite], names, derive(preset.seed, "interval", suite, model)
            )
            for model in scores
            if scores[model].get(suite)
        }
        for suite in preset.evaluation.suites
    }
    found = {
        "format": FORMAT,
        "preset": preset.name,
        "arm": preset.arm,
        "seed": preset.seed,
        "iterations": preset.iterations,
        "split": preset.evaluation.split,
        "model": _plain_name(preset.model),
        "samples": preset.evaluation.sampled.n,
        "complete": not run.missing,
        "missing": dict(run.missing),
        "models": list(scores),
        "metrics": list(names),
        "images": _images(run),
        "suites": suites,
        "average": accuracies.average(scores, names, preset),
        "gains": {
            model: accuracies.gains(scores, "base", model, names, preset)
            for model in scores
            if model != "base" and "base" in scores
        },
        "gains_over_previous": {
            model: accuracies.gains(scores, previous, model, names, preset)
            for previous, model in accuracies.consecutive(scores)
        },
        "headroom": {suite: _headroom(models.get("base"), names) for suite, models in suites.items()},
        "items": item_outcomes.encode(accuracies.rows_of(scores), preset.evaluation.suites),
        "expected": _expected(preset),
        "elicitation": _elicitation(run, scores, names),
        "lenses": lenses.measure(accuracies.rows_of(scores), preset.seed),
        "k_curves": {
            model: curves.by_k(rows, preset.evaluation.sampled.n)
            for model, rows in accuracies.rows_of(scores).items()
        },
        "flips": _flips(scores),
        "families": _families(scores, names, preset.evaluation.suites),
        "hard_families": _hard_families(preset.evaluation.suites),
        "ground_truth": _ground_truth(run),
        "training": {
            one.stage.name: _training(one)
            for kind in ("train-questioner", "train-solver")
            for one in run.of_kind(kind)
        },
        "trained_on": trained_on(run),
        "compute": compute(run),
        "keep": [preset.solver.keep_low, preset.solver.keep_high],
    }
    found["alarms"] = alarms.alarms(found["ground_truth"])
    found["warnings"] = _warnings(found, scores, preset) + lenses.warnings(found["lenses"])
    for one in run.of_kind("evaluate"):
        found["warnings"] += (
            lenses.outside(one.json("evaluation.json")) if accuracies.model_name(one) == "base" else []
        )
    found["claims"] = _claims(found)
    return rounded(found)


def _plain_name(model: str) -> str:
    return PurePath(model).name if model.startswith(("/", ".", "~")) else model


def _headroom(base: Mapping[str, Any] | None, names: Sequence[str]) -> float | None:
    """What voting would add to the base's single best answer: the part of a gain that needs no learning of
    anything new."""
    return None if base is None else base[names[2]]["value"] - base["greedy"]["value"]


def _elicitation(run: Run, scores: Scores, names: Sequence[str]) -> dict[str, Any] | None:
    """The base with given beginnings (see `harness.evals.prefill`): its accuracies, its gains over the base,
    and what the last Solver gains over it."""
    preset, probes, last = run.preset, run.of_kind("probe"), f"S{run.preset.iterations}"
    if not probes or not {"base", last} <= set(scores):
        return None
    found = {**scores, BEGUN: accuracies.by_suite(probes[0], preset)}
    return {
        "words": preset.evaluation.prefill_words,
        "model": last,
        "suites": {
            suite: accuracies.measures(items, names, derive(preset.seed, "interval", suite, BEGUN))
            for suite, items in found[BEGUN].items()
        },
        "average": accuracies.average({BEGUN: found[BEGUN]}, names, preset).get(BEGUN),
        "elicited": accuracies.gains(found, "base", BEGUN, names, preset),
        "beyond": accuracies.gains(found, BEGUN, last, names, preset),
    }


def _families(scores: Scores, names: Sequence[str], suites: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for suite in suites:
        for model, by_suite in scores.items():
            for item in by_suite[suite].values():
                found.setdefault(suite, {}).setdefault(item.row["family"], {}).setdefault(model, []).append(
                    item.outcomes
                )
    return {
        suite: {
            family: {
                model: {
                    "n": len(rows),
                    **{name: math.fsum(row[name] for row in rows) / len(rows) for name in names},
                }
                for model, rows in models.items()
            }
            for family, models in families.items()
        }
        for suite, families in found.items()
    }


def _hard_families(suites: Sequence[str]) -> list[str]:
    if not any(suite.startswith("pocket_") for suite in suites):
        return []
    from vzero.pocket.families import FAMILIES

    return sorted(name for name, family in FAMILIES.items() if family.hard)


def _flips(scores: Scores) -> dict[str, Any]:
    """By model and suite, the items whose greedy answer changed sides against the base."""
    rows = accuracies.rows_of(scores)
    if "base" not in rows:
        return {}
    return {
        model: {
            suite: curves.flips(rows["base"][suite], by_suite[suite])
            for suite in by_suite
            if rows["base"].get(suite)
        }
        for model, by_suite in rows.items()
        if model != "base"
    }


def _expected(preset: Preset) -> dict[str, int]:
    """Items with gold that each suite has: the pocket suites at this preset, benchmarks whole, whatever limit
    was set."""
    if not any(suite.startswith("pocket_") for suite in preset.evaluation.suites):
        from harness.evals.catalogue import suites

        return {suite: suites()[suite].scored for suite in preset.evaluation.suites if suite in suites()}
    from vzero.pocket.suites import SUITES

    return {
        suite: len(SUITES[suite]) * preset.evaluation.items_per_family
        for suite in preset.evaluation.suites
        if suite in SUITES
    }


def _claims(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What this run alone says of every claim on file."""
    from harness.analysis.groups import groups
    from harness.analysis.load import DEFAULT_ARM, Loaded
    from harness.analysis.verdicts import verdicts

    name = found.get("arm") or DEFAULT_ARM
    run = Loaded("this run", name, found["seed"], found, item_outcomes.decode(found["items"]), Path())
    return verdicts(groups([run]), list(found["suites"]), found["metrics"][0])


def _images(run: Run) -> dict[str, Any] | None:
    stage = run.stages.get("00-images")
    if stage is None:
        return None
    skipped = (stage.json("skipped.json") or {"skipped": []})["skipped"]
    return {
        "source": "pocket" if run.preset.images.source == "pocket" else "folder",
        "used": len(stage.rows("images.jsonl")),
        "skipped": len(skipped),
    }


def _ground_truth(run: Run) -> dict[str, Any]:
    found = {}
    images = run.stages.get("00-images")
    for written in run.of_kind("write-questions"):
        questions = written.rows("questions.jsonl")
        labelled = run.of_iteration("label", written.stage.iteration)
        truths = (
            ground_truth.pocket_truths(images.folder, questions)
            if images and images.has("ground_truth.jsonl")
            else None
        )
        found[str(written.stage.iteration)] = ground_truth.measure(
            questions, labelled.rows("labels.jsonl") if labelled else None, truths
        )
    return found


def _training(stage: SealedStage) -> dict[str, Any]:
    """Steps of a training stage and, of each logged number, its mean over the first and over the last eighth
    of them."""
    rows = stage.rows("metrics.jsonl")
    eighth = max(1, len(rows) // 8)
    names = [
        name
        for name in dict.fromkeys(key for row in rows for key in row)
        if name not in ("step", "generation")
    ]
    return {
        "steps": len(rows),
        "iteration": stage.stage.iteration,
        **{
            name: {"first": _mean(rows[:eighth], name), "last": _mean(rows[-eighth:], name)} for name in names
        },
    }


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if isinstance(row.get(name), int | float)]
    return math.fsum(values) / len(values) if values else None


def _warnings(found: Mapping[str, Any], scores: Scores, preset: Preset) -> list[str]:
    notes = []
    if preset.evaluation.limit and found["lenses"]:
        notes.append(
            f"Only the first {preset.evaluation.limit} rows of each part of a suite were asked (evaluation.limit)."
        )
    for suite, models in found["suites"].items():
        for model, measures in models.items():
            faults = [
                f"{entry['value']:,} of {entry['n']:,} {kind} answers {words}"
                for what, limit, words in _FAULTS
                for kind in ("greedy", "sampled")
                for entry in (measures[f"{what}_{kind}"],)
                if entry["value"] > limit * entry["n"]
            ]
            if faults:
                notes.append(f"{model} on {suite}: {'; '.join(faults)}.")
            if set(scores[model][suite]) != set(
                scores["base"].get(suite, {}) if "base" in scores else scores[model][suite]
            ):
                notes.append(
                    f"{model} and base answered different items of {suite}; only those in common are compared."
                )
    for number, measures in found["ground_truth"].items():
        if (
            measures["kept_count"] is not None
            and measures["kept_count"] < preset.solver.grpo.prompts_per_step
        ):
            notes.append(
                f"Iteration {number} kept {measures['kept_count']} questions, fewer than one Solver step takes."
            )
    return notes


def rounded(value: Any) -> Any:
    """Floats to nine decimals, so that the order of a sum cannot show."""
    if isinstance(value, float):
        return round(value, 9)
    if isinstance(value, Mapping):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list | tuple) else value
