"""Tables of the held-out questions: accuracies, gains, tests, what could not be read, both lenses,
families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.table import Cell, Results, Table
from harness.report.words import (
    NBSP,
    NOTHING,
    TONES,
    interval,
    metric_label,
    number,
    p_value,
    percent,
    points,
)


def _missing_note(results: Results) -> tuple[str, ...]:
    missing = [name for name in results["missing"] if "evaluate" in name]
    return (f"Incomplete: not evaluated yet are {', '.join(missing)}.",) if missing else ()


def expected_models(results: Results) -> list[str]:
    """All models the run is to measure, measured or not."""
    return ["base", *(f"S{t}" for t in range(1, results["iterations"] + 1))]


def accuracy(results: Results, gain_models: Sequence[str] | None = None) -> Table:
    """Suite x metric: accuracy of every model, and the paired gain over the base of `gain_models` (default:
    all)."""
    models = expected_models(results)
    gain_models = [model for model in models if model != "base"] if gain_models is None else gain_models
    rows, breaks = [], set()
    for suite in (*results["suites"], *(["average"] if len(results["suites"]) > 1 else [])):
        values = results["average"] if suite == "average" else results["suites"][suite]
        for index, metric in enumerate(results["metrics"]):
            measured = [values.get(model, {}).get(metric) for model in models]
            rows.append(
                (
                    Cell(suite if index == 0 else ""),
                    Cell(metric_label(metric)),
                    *(Cell(percent(one["value"])) if one else Cell(NOTHING, "dim") for one in measured),
                    *(_gain_cell(results, model, suite, metric) for model in gain_models),
                )
            )
        breaks.add(len(rows) - 1)
    notes = (
        *_missing_note(results),
        f"Accuracy in{NBSP}%; gains over the base in points with 95{NBSP}% paired bootstrap intervals, "
        "images resampled. Unparsed answers count as wrong.",
    )
    return Table(
        "Held-out accuracy",
        ("suite", "measure", *models, *(f"{model}{NBSP}\u2212{NBSP}base" for model in gain_models)),
        tuple(rows),
        2,
        notes,
        frozenset(breaks),
    )


def _gain_cell(results: Results, model: str, suite: str, metric: str) -> Cell:
    gain = results["gains"].get(model, {}).get(suite, {}).get(metric)
    if gain is None:
        return Cell(NOTHING, "dim")
    return Cell(points(gain["gain"]), TONES[gain["direction"]], interval(gain["low"], gain["high"]))


def tests(results: Results) -> Table | None:
    """Gains with the cross-check interval and p-values: what stands behind the headline table."""
    rows, breaks = [], set()
    for key, over in (
        ("gains", lambda _: "base"),
        ("gains_over_previous", lambda model: f"S{int(model[1:]) - 1}"),
    ):
        for model, suites in results[key].items():
            for suite, gains in suites.items():
                for metric, gain in gains.items():
                    rows.append(
                        (
                            Cell(f"{model}{NBSP}\u2212{NBSP}{over(model)}"),
                            Cell(suite),
                            Cell(metric_label(metric)),
                            Cell(points(gain["gain"]), TONES[gain["direction"]]),
                            Cell(interval(gain["low"], gain["high"])),
                            Cell(interval(gain["normal_low"], gain["normal_high"])),
                            Cell(p_value(gain["p"])),
                            Cell(p_value(gain["p_holm"])),
                            Cell(gain["test"]),
                            Cell(number(gain["n"])),
                        )
                    )
            breaks.add(len(rows) - 1)
    if not rows:
        return None
    return Table(
        "Paired tests",
        (
            "comparison",
            "suite",
            "measure",
            "gain",
            f"bootstrap 95{NBSP}%",
            f"t 95{NBSP}%",
            "p",
            "p (Holm)",
            "test",
            "items",
        ),
        tuple(rows),
        3,
        (
            "Holm's correction over the suites of one comparison and measure. A gain is called one only if both intervals leave out "
            "zero and p is at most .05: on a single suite the corrected p, on the average the plain one.",
        ),
        frozenset(breaks),
    )


def counts(results: Results) -> Table | None:
    """How many items were scored, and how many answers could not be read or were cut off."""
    rows, breaks = [], set()
    for suite, models in results["suites"].items():
        for index, (model, measures) in enumerate(models.items()):
            entries = [
                measures[f"{what}_{kind}"]
                for what in ("unparsed", "truncated")
                for kind in ("greedy", "sampled")
            ]
            rows.append(
                (
                    Cell(suite if index == 0 else ""),
                    Cell(model),
                    Cell(number(measures["greedy"]["n"])),
                    *(
                        Cell(number(one["value"]), "bad" if one["value"] > 0.05 * one["n"] else "")
                        for one in entries
                    ),
                )
            )
        breaks.add(len(rows) - 1)
    if not rows:
        return None
    return Table(
        "Answers that could not be read, or were cut off",
        (
            "suite",
            "model",
            "items",
            "unparsed, greedy",
            "unparsed, T = 1",
            "cut off, greedy",
            "cut off, T = 1",
        ),
        tuple(rows),
        2,
        (
            *_missing_note(results),
            f"Greedy: of one answer an item. T = 1: of {results['samples']} answers an item.",
        ),
        frozenset(breaks),
    )


def lenses(results: Results) -> Table | None:
    """Benchmarks by both lenses; None without benchmarks."""
    rows, breaks = [], set()
    for suite, models in results.get("lenses", {}).items():
        for index, (model, one) in enumerate(models.items()):
            shares = (Cell(percent(one[name])) for name in ("official", "strict", "parsed", "truncated"))
            gains = (_of_lens(one.get(f"gain_{lens}")) for lens in ("official", "strict"))
            rows.append((Cell(suite if index == 0 else ""), Cell(model), *shares, *gains))
        breaks.add(len(rows) - 1)
    if not rows:
        return None
    return Table(
        "Benchmarks by both lenses, greedy answers",
        ("suite", "model", "official", "strict", "read", "cut off", "gain, official", "gain, strict"),
        tuple(rows),
        2,
        (
            "Official: the suite's published scoring. The other tables show it. Strict: an answer that cannot be read is wrong.",
        ),
        frozenset(breaks),
    )


def _of_lens(gain: Mapping[str, Any] | None) -> Cell:
    if gain is None:
        return Cell(NOTHING, "dim")
    return Cell(points(gain["gain"]), TONES[gain["direction"]], interval(gain["low"], gain["high"]))


def held_out_families(results: Results) -> Table | None:
    """Greedy and sampled accuracy by family of held-out question."""
    models, rows, breaks = results["models"], [], set()
    for suite, families in results["families"].items():
        for name, values in families.items():
            count = next(iter(values.values()))["n"]
            rows.append(
                (
                    Cell(suite.removeprefix("pocket_")),
                    Cell(name, "", "hard" if name in results["hard_families"] else ""),
                    Cell(number(count)),
                    *(
                        Cell(percent(values[model][metric])) if model in values else Cell(NOTHING, "dim")
                        for metric in ("greedy", "sampled")
                        for model in models
                    ),
                )
            )
        breaks.add(len(rows) - 1)
    if not rows:
        return None
    columns = [f"{model}, {metric_label(metric)}" for metric in ("greedy", "sampled") for model in models]
    return Table(
        "By family of held-out question",
        ("suite", "family", "items", *columns),
        tuple(rows),
        2,
        ("Few items each: read patterns, not single cells.",),
        frozenset(breaks),
    )
