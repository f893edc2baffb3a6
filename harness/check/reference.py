"""A run beside a reference run of the same preset: the same items, votes of the same kind, by tests and not
by tolerance.

Bits differ between machines and library versions, so nothing here asks for equality. Each test is two-sided
or looks for a loss, and fires at p < .001 after Holm's correction over the tests: a healthy run is stopped by
chance once in a thousand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance
from typing import Literal

from pydantic import JsonValue
from scipy.special import ndtr

from harness.analysis.ground_truth import Truths, pocket_truths
from harness.analysis.items import decode, pair
from harness.analysis.measures import SuiteItems
from harness.analysis.results import Results
from harness.check.exact import ROLLOUTS
from harness.check.finding import Finding, finding
from harness.runs.sealed import Row, Run
from harness.stats import Frozen, holm, mcnemar

FIRES = 1e-3
Settings = Mapping[str, JsonValue]


class Sample(Frozen):
    """`n` independent numbers."""

    n: int
    mean: float
    variance: float


class Reference(Frozen):
    """What is kept of a run: its preset, what made it, item outcomes, and the numbers that training rests
    on."""

    format: Literal[2] = 2
    preset: dict[str, JsonValue]
    made_by: JsonValue
    items: dict[str, SuiteItems]
    samples: dict[str, Sample]


def measure(run: Run, results: Results) -> Reference:
    """The reference that `run` is."""
    return Reference(
        preset=run.preset.model_dump(mode="json"),
        made_by=next((one.manifest.get("provenance") for one in run.stages.values()), None),
        items=results.items,
        samples={key: _sample(values) for key, values in _samples(run).items()},
    )


def _sample(values: Sequence[float]) -> Sample:
    return Sample(n=len(values), mean=fmean(values), variance=variance(values))


def _samples(run: Run) -> dict[str, list[float]]:
    """Numbers by question, so that they are independent: confidence and, where the truth is known, the share
    of votes that are right; of the Questioner's training questions the same. Two numbers at least."""
    values: dict[str, list[float]] = {}
    for stage in run.of_kind("label"):
        rows = stage.rows("labels.jsonl")
        values[f"confidence of votes, {stage.stage.name}"] = [row["confidence"] for row in rows]
        values[f"votes that are right, {stage.stage.name}"] = _right(rows, pocket_truths(run, rows))
    for stage in run.of_kind("train-questioner"):
        asked = [
            {**row, "question_id": str(index), "image_id": row["prompt"], "text": _question(row["text"])}
            for index, row in enumerate(row for row in stage.rows(ROLLOUTS) if row.get("votes"))
        ]
        values[f"votes that are right, {stage.stage.name}"] = _right(asked, pocket_truths(run, asked))
    for stage in (*run.of_kind("train-questioner"), *run.of_kind("train-solver")):
        values[f"reward, {stage.stage.name}"] = [row["reward"] for row in stage.rows(ROLLOUTS)]
    return {key: one for key, one in values.items() if len(one) > 1}


def _question(text: str) -> str:
    """What stands between the question tags."""
    return text.partition("<question>")[2].partition("</question>")[0].strip()


def _right(rows: Sequence[Row], truths: Truths | None) -> list[float]:
    """Share of right votes of each well-posed question."""
    known = [(row["votes"], truths[row["question_id"]]) for row in rows] if truths else []
    return [
        sum(vote == truth.answer for vote in votes) / len(votes) for votes, truth in known if truth.well_posed
    ]


def findings(run: Run, results: Results, reference: Reference) -> list[Finding]:
    """Every test against `reference`."""
    rule = "beside-reference"
    if other := other_settings(run.preset.model_dump(mode="json"), reference.preset):
        message = f"the reference is of another preset ({', '.join(other[:3])}); nothing is compared"
        return [finding(rule, "", None, message)]
    tests = {**_accuracies(results, reference), **means(_samples(run), reference)}
    corrected = holm({name: p for name, (p, _) in tests.items()})
    compared = []
    for name, (_, message) in tests.items():
        p = corrected[name] or 0.0
        shown = "< .001" if p < 0.001 else f"{p:.3f}"
        compared.append(finding(rule, "", p >= FIRES, f"{message} (p {shown})"))
    return compared


def other_settings(ours: Settings, reference: Settings) -> list[str]:
    """Settings that differ from the reference's, the model and the seed aside, and those that came after
    it."""
    from vzero.presets import content_differences, flatten

    known = flatten(reference)
    changed = [key for key in content_differences(reference, ours) if key not in ("model", "seed")]
    return [key for key in changed if any(f"{one}.".startswith(f"{key}.") for one in known)]


def _accuracies(results: Results, reference: Reference) -> dict[str, tuple[float, str]]:
    """Greedy answers of each model to the same items, here against there: exact McNemar over all suites."""
    ours, theirs = decode(results.items), decode(reference.items)
    tests = {}
    for model in results.models:
        both = [
            pair(then[model].values("greedy", 1), ours[suite][model].values("greedy", 1))
            for suite, then in theirs.items()
            if model in then and model in ours.get(suite, {})
        ]
        pairs = [now for one in both if one for now in zip(one.base, one.other, strict=True)]
        if pairs:
            wins, losses = sum(now > then for then, now in pairs), sum(now < then for then, now in pairs)
            there, here = (round(sum(side)) for side in zip(*pairs, strict=True))
            message = f"{model} answers {here} of {len(pairs)} items right, the reference {there}"
            tests[f"accuracy of {model}"] = mcnemar(wins, losses), message
    return tests


def means(samples: Mapping[str, Sequence[float]], reference: Reference) -> dict[str, tuple[float, str]]:
    """Welch's test of each sampled mean; its normal form, since samples have dozens of questions."""
    tests = {}
    for key, values in samples.items():
        if there := reference.samples.get(key):
            here = _sample(values)
            error = math.sqrt(here.variance / here.n + there.variance / there.n)
            z = 0.0 if here.mean == there.mean else abs(here.mean - there.mean) / error if error else math.inf
            message = f"{key}: mean {here.mean:.3f} over {here.n}, the reference {there.mean:.3f}"
            tests[key] = float(2 * ndtr(-z)), message
    return tests
