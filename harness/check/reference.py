"""A run beside a committed reference run of the same preset: the same items, votes of the same kind, by tests
and not by tolerance.

Bits differ between machines and library versions, so nothing here asks for equality. Each test is two-sided
or looks for a loss, and rings at p < .001 after Holm's correction over the tests: a healthy run is stopped by
chance once in a thousand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, variance
from typing import Any

from scipy.special import ndtr

from harness.analysis.ground_truth import pocket_truths
from harness.analysis.items import decode
from harness.analysis.measures import SuiteItems
from harness.analysis.results import Results
from harness.check.exact import ROLLOUTS
from harness.check.finding import Finding
from harness.runs.sealed import Run
from harness.stats import holm, mcnemar

RINGS = 1e-3
FORMAT = 1
Reference = Mapping[str, Any]


def measure(run: Run, results: Results) -> dict[str, Any]:
    """What a reference keeps of a run: its preset, item outcomes, sums of the numbers that training rests on,
    and what made it."""
    return {
        "format": FORMAT,
        "preset": run.preset.model_dump(mode="json"),
        "made_by": next((one.manifest.get("provenance") for one in run.stages.values()), None),
        "items": {suite: one.model_dump() for suite, one in results.items.items()},
        "samples": {
            key: {"n": len(values), "mean": fmean(values), "variance": _variance(values)}
            for key, values in _samples(run).items()
        },
    }


def _variance(values: Sequence[float]) -> float:
    return variance(values) if len(values) > 1 else 0.0


def _samples(run: Run) -> dict[str, list[float]]:
    """Numbers by question, so that they are independent: confidence and, where the truth is known, the share
    of votes that are right; of the Questioner's training questions the same."""
    found: dict[str, list[float]] = {}
    for stage in run.of_kind("label"):
        rows = stage.rows("labels.jsonl")
        found[f"confidence of votes, {stage.stage.name}"] = [row["confidence"] for row in rows]
        truths = pocket_truths(run, rows)
        found[f"votes that are right, {stage.stage.name}"] = _right(
            rows, truths, lambda row: row["question_id"]
        )
    for stage in run.of_kind("train-questioner"):
        rows = [row for row in stage.rows(ROLLOUTS) if row.get("votes")]
        asked = [
            {
                **row,
                "question_id": f"{index}",
                "image_id": row["prompt"],
                "text": _question(row["text"]),
            }
            for index, row in enumerate(rows)
        ]
        truths = pocket_truths(run, asked)
        found[f"votes that are right, {stage.stage.name}"] = _right(
            asked, truths, lambda row: row["question_id"]
        )
        found[f"reward, {stage.stage.name}"] = [row["reward"] for row in stage.rows(ROLLOUTS)]
    for stage in run.of_kind("train-solver"):
        found[f"reward, {stage.stage.name}"] = [row["reward"] for row in stage.rows(ROLLOUTS)]
    return {key: values for key, values in found.items() if len(values) > 1}


def _question(text: str) -> str:
    """What stands between the question tags."""
    return text.partition("<question>")[2].partition("</question>")[0].strip()


def _right(
    rows: Sequence[Mapping[str, Any]],
    truths: Mapping[str, Any] | None,
    name: Callable[[Mapping[str, Any]], str],
) -> list[float]:
    """Share of right votes of each well-posed question."""
    known = [(row, truths[name(row)]) for row in rows] if truths else []
    return [
        sum(vote == truth.answer for vote in row["votes"]) / len(row["votes"])
        for row, truth in known
        if truth.well_posed
    ]


def findings(run: Run, results: Results, reference: Reference) -> list[Finding]:
    """Every test against `reference`, an object that `measure` made."""
    if (other := _other_preset(run, reference)) is not None:
        return [
            Finding(
                "beside-reference",
                "",
                None,
                f"the reference is of another preset ({other}); nothing is compared",
            )
        ]
    tests = {**_accuracies(results, reference), **_means(run, reference)}
    corrected = holm({name: p for name, (p, _) in tests.items()})
    return [
        Finding("beside-reference", "", corrected[name] >= RINGS, f"{says} (p {_p(corrected[name])})")
        for name, (_, says) in tests.items()
    ]


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}"


def _other_preset(run: Run, reference: Reference) -> str | None:
    from vzero.presets import differences

    changed = differences(reference["preset"], run.preset.model_dump(mode="json"))
    known = [key for key in changed if key not in ("model", "seed") and _has(reference["preset"], key)]
    return ", ".join(known[:3]) or None


def _has(tree: Mapping[str, Any], dotted: str) -> bool:
    """Whether the reference knows this setting: one that came later was at its default then, whatever that
    was called."""
    head, _, rest = dotted.partition(".")
    return head in tree and (not rest or (isinstance(tree[head], Mapping) and _has(tree[head], rest)))


def _accuracies(results: Results, reference: Reference) -> dict[str, tuple[float, str]]:
    """Greedy answers of each model to the same items, here against there: exact McNemar over all suites."""
    ours, theirs = decode(results.items), decode(_items(reference))
    found = {}
    for model in results.models:
        pairs = [
            (old[model][item].greedy, new[model][item].greedy)
            for suite, old in theirs.items()
            if model in old and model in (new := ours.get(suite, {}))
            for item in old[model]
            if item in new[model]
        ]
        wins, losses = (
            sum(now and not then for then, now in pairs),
            sum(then and not now for then, now in pairs),
        )
        if pairs:
            there, here = sum(then for then, _ in pairs), sum(now for _, now in pairs)
            says = f"{model} answers {here} of {len(pairs)} items right, the reference {there}"
            found[f"accuracy of {model}"] = mcnemar(wins, losses), says
    return found


def _items(reference: Reference) -> dict[str, SuiteItems]:
    return {suite: SuiteItems.model_validate(one) for suite, one in reference["items"].items()}


def _means(run: Run, reference: Reference) -> dict[str, tuple[float, str]]:
    """Welch's test of each sampled mean; its normal form, since samples have dozens of questions."""
    found = {}
    for key, values in _samples(run).items():
        if (there := reference["samples"].get(key)) is None:
            continue
        error = math.sqrt(_variance(values) / len(values) + there["variance"] / there["n"])
        mean = fmean(values)
        z = 0.0 if mean == there["mean"] else math.inf if error == 0 else abs(mean - there["mean"]) / error
        found[key] = (
            float(2 * ndtr(-z)),
            f"{key}: mean {mean:.3f} over {len(values)}, the reference {there['mean']:.3f}",
        )
    return found
