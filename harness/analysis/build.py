"""Sealed stages -> `Results`: every number a report shows.

`build` is a pure function of the run: no times, paths, dates or versions enter, so a run that was killed and
resumed gives the same results as an undisturbed one. A run that is not finished gives what is there and says
what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.analysis import alarms, curves, format_gain, ground_truth, significance, verdicts
from harness.analysis.accuracies import BASE, HeldOut, consecutive, model_name, read_rows, rows_by_suite
from harness.analysis.checkpoints import checkpoints
from harness.analysis.compute import compute
from harness.analysis.items import encode
from harness.analysis.load import Loaded
from harness.analysis.measures import (
    Elicitation,
    FamilyScore,
    FirstLast,
    Flips,
    GroundTruth,
    Images,
    Measured,
    Training,
)
from harness.analysis.results import Results
from harness.claims import departures
from harness.evals import results as evaluations
from harness.evals.catalogue import asked
from harness.evals.results import EvaluationResults
from harness.evals.set_aside import told, too_many
from harness.runs.sealed import Row, Run, SealedStage
from harness.tables.words import counted
from vzero.arms import REFERENCE, matched_by
from vzero.config import Preset
from vzero.presets import content
from vzero.runtime import artefacts

PREFILLED = "base, begun"  # of the probed base, in seeds of the bootstrap: another label, other intervals
MOST_FAULTS = 0.05  # share of unreadable or truncated answers above which a comparison carries a warning
_FAULTS = {"unparsed": "could not be read", "truncated": "were truncated"}


def build(run: Run, operations: bool = True) -> Results:
    """All results of `run`; its operations are counted where wanted, which imports torch."""
    held_out = HeldOut.of(run, read_rows(run))
    found = _measured(run, held_out, operations)
    warned = [*_warnings(run.preset, found, held_out), *_published_warnings(run, found)]
    return judged(found.model_copy(update={"warnings": warned}))


def judged(found: Results) -> Results:
    """What was measured with what is said of it: directions of the gains and verdicts on the claims."""
    # Rounded first, so that who judges a stored results.json anew starts from the same numbers.
    found = significance.corrected(Results.model_validate(rounded(found.model_dump())))
    loaded = Loaded("this run", found.arm, found, Path())
    claims = verdicts.verdicts(checkpoints([loaded]), list(found.suites), found.metrics[0])
    return Results.model_validate(rounded(found.model_copy(update={"claims": claims}).model_dump()))


def _measured(run: Run, held_out: HeldOut, operations: bool) -> Results:
    """All but what is said of the measures: warnings and claims."""
    preset, models, metrics = run.preset, list(held_out.rows), held_out.metrics
    suites = {
        suite: {model: held_out.measured(suite, model) for model in models if held_out.items(suite, model)}
        for suite in held_out.suites
    }
    trained = [model for model in models if model != BASE] if BASE in models else []
    iterations = ground_truth.by_iteration(run)
    return Results(
        preset=preset.name,
        arm=preset.arm or REFERENCE,
        seed=preset.seed,
        iterations=preset.iterations,
        split=preset.evaluation.split,
        model=run.model,
        samples=held_out.samples,
        evidence=preset.evidence,
        settings=artefacts.digest(content(preset))[:12],
        matched=matched_by(preset.arm) if preset.step_matched is not None else None,
        complete=not run.missing,
        missing=dict(run.missing),
        models=models,
        metrics=metrics,
        images=_images(run),
        suites=suites,
        average={model: found for model in models if (found := held_out.average(model))},
        gains={model: held_out.gains(BASE, model) for model in trained},
        gains_over_previous={model: held_out.gains(before, model) for before, model in consecutive(models)},
        headroom={suite: _headroom(measured.get(BASE), metrics) for suite, measured in suites.items()},
        items=encode(held_out.outcomes, held_out.suites),
        expected=_expected(preset),
        elicitation=_elicitation(run, held_out),
        scorings=format_gain.scorings(held_out.rows, preset.seed),
        k_curves={model: curves.by_k(rows, held_out.samples) for model, rows in held_out.rows.items()},
        flips={model: _flips(held_out, model) for model in trained},
        families=_families(held_out),
        hard_families=_hard_families(held_out.suites),
        ground_truth=iterations,
        training={
            one.stage.name: _training(one)
            for kind in ("train-questioner", "train-solver")
            for one in run.of_kind(kind)
        },
        trained_on=ground_truth.trained_on(run),
        compute=compute(run, operations),
        keep=(preset.solver.keep_low, preset.solver.keep_high),
        alarms=alarms.alarms(iterations),
        departures=departures.of_preset(preset),
    )


def _headroom(base: Measured | None, metrics: Sequence[str]) -> float | None:
    """What voting would add to the base's single best answer: the part of a gain that needs no learning of
    anything new."""
    return None if base is None else base.accuracy[metrics[2]].value - base.accuracy["greedy"].value


def _images(run: Run) -> Images | None:
    stage = run.stages.get("00-images")
    if stage is None:
        return None
    skipped = (stage.json("skipped.json") or {"skipped": []})["skipped"]
    source = "pocket" if run.preset.images.source == "pocket" else "folder"
    return Images(source=source, used=len(stage.rows("images.jsonl")), skipped=len(skipped))


def _elicitation(run: Run, held_out: HeldOut) -> Elicitation | None:
    """The base with prefilled answers (see `harness.evals.prefill`) beside the base and the last Solver."""
    probes, last = run.of_kind("probe"), f"S{run.preset.iterations}"
    if not probes or not {BASE, last} <= set(held_out.rows):
        return None
    whole = HeldOut.of(run, {**held_out.rows, PREFILLED: rows_by_suite(probes[0], run)})
    return Elicitation(
        words=run.preset.evaluation.prefill_words,
        model=last,
        suites={suite: whole.measured(suite, PREFILLED) for suite in whole.suites},
        average=whole.average(PREFILLED),
        elicited=whole.gains(BASE, PREFILLED),
        beyond=whole.gains(PREFILLED, last),
    )


def _flips(held_out: HeldOut, model: str) -> dict[str, Flips]:
    return {
        suite: curves.flips(base, held_out.items(suite, model))
        for suite in held_out.suites
        if (base := held_out.items(suite, BASE))
    }


def _families(held_out: HeldOut) -> dict[str, dict[str, dict[str, FamilyScore]]]:
    """By suite, family and model."""
    found: dict[str, dict[str, dict[str, FamilyScore]]] = {}
    for suite in held_out.suites:
        for model, by_suite in held_out.rows.items():
            for family in dict.fromkeys(row["family"] for row in by_suite[suite]):
                score = _family(held_out, suite, model, family)
                found.setdefault(suite, {}).setdefault(family, {})[model] = score
    return found


def _family(held_out: HeldOut, suite: str, model: str, family: str) -> FamilyScore:
    items = held_out.items(suite, model)
    of_family = [items[row["item_id"]] for row in held_out.rows[model][suite] if row["family"] == family]
    return FamilyScore(
        n=len(of_family),
        accuracy={
            metric: math.fsum(one.value(metric, held_out.samples) for one in of_family) / len(of_family)
            for metric in held_out.metrics
        },
    )


def _hard_families(suites: Sequence[str]) -> list[str]:
    if not any(suite.startswith("pocket_") for suite in suites):
        return []
    from vzero.pocket.families import FAMILIES

    return sorted(name for name, family in FAMILIES.items() if family.hard)


def _expected(preset: Preset) -> dict[str, int]:
    """Items with gold that each suite has, whatever limit was set."""
    return {suite.name: suite.scored for suite in asked(preset.evaluation)}


def _training(stage: SealedStage) -> Training:
    rows = stage.rows("metrics.jsonl")
    eighth = max(1, len(rows) // 8)
    names = dict.fromkeys(key for row in rows for key in row if key not in ("step", "generation"))
    return Training(
        iteration=stage.stage.iteration,
        steps=len(rows),
        metrics={
            name: FirstLast(first=_mean(rows[:eighth], name), last=_mean(rows[-eighth:], name))
            for name in names
        },
    )


def _mean(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows if isinstance(row.get(name), int | float)]
    return math.fsum(values) / len(values) if values else None


def _warnings(preset: Preset, found: Results, held_out: HeldOut) -> list[str]:
    notes = []
    if preset.evaluation.limit:
        notes.append(
            f"At most {preset.evaluation.limit} rows of each suite were asked, an even sample "
            "(evaluation.limit)."
        )
    for suite, models in found.suites.items():
        for model, measured in models.items():
            if faults := _faults(measured):
                notes.append(f"{model} on {suite}: {'; '.join(faults)}.")
            if BASE in found.models and set(held_out.items(suite, model)) != set(held_out.items(suite, BASE)):
                notes.append(
                    f"{model} and base answered different items of {suite}; only those in common are "
                    "compared."
                )
    return notes + _starved(found.ground_truth, preset.solver.grpo.prompts_per_step)


def _faults(measured: Measured) -> list[str]:
    return [
        f"{count.value:,} of {count.n:,} {kind} answers {words}"
        for fault, words in _FAULTS.items()
        for kind in ("greedy", "sampled")
        if (count := measured.counted(fault, kind)) and count.value > MOST_FAULTS * count.n
    ]


def _starved(iterations: Mapping[int, GroundTruth], least: int) -> list[str]:
    return [
        f"Iteration {number} kept {counted(one.kept_count, 'question')}, fewer than one Solver step takes."
        for number, one in iterations.items()
        if one.kept_count is not None and one.kept_count < least
    ]


def _published_warnings(run: Run, found: Results) -> list[str]:
    base = [one for one in run.of_kind("evaluate") if model_name(one) == BASE]
    stored = [evaluations.read(one.file("evaluation.json")) for one in base if one.has("evaluation.json")]
    repaired = [one.protocol.repaired for one in stored if one.protocol and one.protocol.repaired]
    notes = [note for one in stored for note in (*format_gain.outside_published(one), *_set_aside(one))]
    return repaired + format_gain.warnings(found.scorings) + notes


def _set_aside(evaluation: EvaluationResults) -> list[str]:
    """A sentence for each suite some of whose rows could not be asked."""
    return [
        f"{'PROTOCOL DEVIATION: ' if too_many(len(found.set_aside), rest) else ''}"
        f"{suite}: {told(found.set_aside)}."
        for suite, found in evaluation.suites.items()
        if found.set_aside
        # A limit shortens what is asked; rows are set aside of the whole suite.
        for rest in (
            found.rows_expected - len(found.set_aside) if evaluation.evaluation.limit else found.rows,
        )
    ]


def rounded(value: object) -> object:
    """Floats to nine decimals, so that the order of a sum cannot show."""
    if isinstance(value, float):
        return round(value, 9)
    if isinstance(value, Mapping):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list | tuple) else value
