"""Results -> ledger entries, so that every number of a table names the sealed stages it was computed from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.accuracies import model_name
from harness.runs import ledger
from harness.runs.sealed import Run
from vzero.selfplay import MEASUREMENTS

EVENT = "result"


def entries(run: Run, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each group of numbers: ``{"event", "what", <which>, "values", "stages": {stage: SHA-256 of
    its manifest}}``."""
    evaluated = {model_name(one): one.stage.name for one in run.of_kind("evaluate")}

    def row(what: str, which: Mapping[str, str], values: Any, stages: list[str]) -> dict[str, Any]:
        return {
            "event": EVENT,
            "what": what,
            **which,
            "values": values,
            "stages": {name: run.stages[name].digest for name in stages},
        }

    found = [row("images", {}, results["images"], ["00-images"])] if results["images"] else []
    for suite, models in results["suites"].items():
        found += [
            row("accuracy", {"suite": suite, "model": model}, values, [evaluated[model]])
            for model, values in models.items()
        ]
        if results["headroom"][suite] is not None:
            found.append(
                row(
                    "headroom",
                    {"suite": suite, "model": "base"},
                    results["headroom"][suite],
                    [evaluated["base"]],
                )
            )
    for suite, families in results["families"].items():
        found += [
            row(
                "families",
                {"suite": suite, "model": model},
                {name: models[model] for name, models in families.items() if model in models},
                [evaluated[model]],
            )
            for model in results["models"]
        ]
    found += [
        row("accuracy", {"suite": "average", "model": model}, values, [evaluated[model]])
        for model, values in results["average"].items()
    ]
    trained = [model for model in results["models"] if model != "base"]
    for key, against in (
        ("gains", dict.fromkeys(trained, "base")),
        ("gains_over_previous", _previous(trained)),
    ):
        for model, suites in results[key].items():
            found += [
                row(
                    "gain",
                    {"suite": suite, "model": model, "over": against[model]},
                    values,
                    [evaluated[against[model]], evaluated[model]],
                )
                for suite, values in suites.items()
            ]
    for number, values in results["ground_truth"].items():
        stages = [
            one.stage.name
            for kind in ("images", "write-questions", "label")
            for one in run.of_kind(kind)
            if one.stage.iteration in (0, int(number))
        ]
        found.append(row("ground_truth", {"iteration": number}, values, stages))
    found += [
        row("k-curve", {"model": model}, values, [evaluated[model]])
        for model, values in results["k_curves"].items()
        if values
    ]
    found += [
        row(
            "flips", {"model": model, "over": "base"}, _counted(suites), [evaluated["base"], evaluated[model]]
        )
        for model, suites in results["flips"].items()
    ]
    if (probe := results["elicitation"]) is not None:
        made = next(one.stage for one in run.of_kind("probe"))
        values = {name: probe[name] for name in ("words", "average", "elicited", "beyond")}
        found.append(
            row(
                "elicitation",
                {"model": probe["model"]},
                values,
                [made.name, made.inputs["prefills"], evaluated["base"]],
            )
        )
    judged = [one for one in results["claims"] if one["verdict"] != "NOT RUN"]
    found += [
        row(
            "claim",
            {"claim": one["id"], "verdict": one["verdict"]},
            one["measured"],
            list(evaluated.values()),
        )
        for one in judged
    ]
    made_by = [name for name, one in run.stages.items() if one.stage.kind not in MEASUREMENTS]
    found.append(row("compute", {}, results["compute"], made_by))
    for number, values in results["trained_on"].items():
        learned = run.of_iteration("train-solver", int(number))
        if learned is not None:
            found.append(
                row(
                    "trained on",
                    {"iteration": number},
                    values,
                    [learned.stage.inputs["labels"], learned.stage.name],
                )
            )
    return found + [
        row("training", {"stage": name}, values, [name]) for name, values in results["training"].items()
    ]


def _counted(suites: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of changed answers; which they are is in the results."""
    return {
        suite: {"items": one["items"], "gained": len(one["gained"]), "lost": len(one["lost"])}
        for suite, one in suites.items()
    }


def _previous(trained: list[str]) -> dict[str, str]:
    return {model: f"S{int(model[1:]) - 1}" for model in trained}


def record(run: Run, results: Mapping[str, Any]) -> int:
    """Append the entries that the ledger does not hold yet; how many. The caller holds the run's lock."""
    known = [
        {key: value for key, value in row.items() if key != "time"}
        for row in ledger.read(run.path)
        if row.get("event") == EVENT
    ]
    new = [row for row in entries(run, results) if row not in known]
    for row in new:
        ledger.append(run.path, row)
    return len(new)
