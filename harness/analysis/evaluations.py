"""An evaluation of a checkpoint that was not trained here, in the shape of a run's results: `vzero-harness
evaluate` writes its own.

Read: `evaluation` (model, seed, suites), `suites[name]` (`status`, `n`, `rows`, `greedy` with `official`,
`parsed`, `truncated`) and, where it lies beside, items.scored.jsonl (`suite`, `id`, `official`). "greedy" is
then accuracy by the suite's official scoring; a suite that is not complete has no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.analysis.outcomes import Outcome, Outcomes
from harness.stats import wilson
from vzero.runtime import artefacts

CHECKPOINT = "checkpoint"
ITEMS = "items.scored.jsonl"


def is_evaluation(found: Any) -> bool:
    """Whether these are the results of an evaluation alone."""
    return (
        isinstance(found, Mapping)
        and isinstance(found.get("evaluation"), Mapping)
        and isinstance(found.get("suites"), Mapping)
    )


def as_results(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The evaluation as a run with one checkpoint and one metric; `name` is its folder's, since many
    checkpoints are called alike.

    Raises:
        KeyError, TypeError: it is of another shape.
    """
    settings, suites = found["evaluation"], {}
    whole = {name: one for name, one in found["suites"].items() if one.get("status") == "complete"}
    for suite, one in whole.items():
        suites[suite] = {CHECKPOINT: _measures(one)}
    return {
        "preset": "evaluation",
        "arm": name,
        "seed": int(settings.get("seed") or 0),
        "model": str(settings["model"]),
        "split": "",
        "models": [CHECKPOINT],
        "metrics": ["greedy"],
        "suites": suites,
        "expected": {
            suite: int(one.get("rows_expected") or one["n"]) - len(one.get("without_gold") or ())
            for suite, one in whole.items()
        },
        "complete": len(whole) == len(found["suites"]),
        "missing": {
            suite: str(one.get("status")) for suite, one in found["suites"].items() if suite not in whole
        },
    }


def _measures(suite: Mapping[str, Any]) -> dict[str, Any]:
    n, greedy = int(suite["n"]), suite["greedy"]
    low, high = wilson(round(greedy["official"] * n), n)
    unparsed, cut = round((1 - greedy["parsed"]) * n), round(greedy["truncated"] * suite["rows"])
    return {
        "greedy": {"value": greedy["official"], "low": low, "high": high, "n": n},
        "unparsed_greedy": {"value": unparsed, "n": n},
        "truncated_greedy": {"value": cut, "n": int(suite["rows"])},
    }


def items(folder: Path, suites: Mapping[str, Any]) -> Outcomes:
    """Item outcomes of the complete suites; empty where they are not there. Pictures are not named in that
    file: each item is its own."""
    path, found = folder / ITEMS, {}
    for row in artefacts.read_jsonl(path) if path.exists() else []:
        if row["suite"] in suites and row["official"] is not None:
            outcome = Outcome(
                f"{row['suite']}/{row['id']}",
                bool(row["official"]),
                bool(row["official"]),
                int(row["official"]),
            )
            found.setdefault(row["suite"], {}).setdefault(CHECKPOINT, {})[row["id"]] = outcome
    return found
