"""An evaluation of a checkpoint that was not trained here, in the shape of a run's results: `vzero-harness
evaluate` writes its own.

"greedy" is then accuracy by the suite's official scoring, item by item from items.scored.jsonl; a suite that
is not complete has no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.analysis.items import Outcome, Outcomes, encode
from harness.analysis.measures import Count, Measured
from harness.analysis.results import Results
from harness.stats import Interval, wilson
from vzero.errors import InputError
from vzero.runtime import artefacts

CHECKPOINT = "checkpoint"
ITEMS = "items.scored.jsonl"


def as_results(found: Mapping[str, Any], folder: Path) -> Results:
    """The evaluation as a run with one checkpoint and one metric. Its arm is the folder's name, since many
    checkpoints are called alike.

    Raises:
        InputError: it is of another shape, or its items are not there.
    """
    try:
        settings = found["evaluation"]
        whole = {suite: one for suite, one in found["suites"].items() if one.get("status") == "complete"}
        return Results(
            preset="evaluation",
            arm=folder.name,
            seed=int(settings.get("seed") or 0),
            model=str(settings["model"]),
            split="",
            samples=1,
            models=[CHECKPOINT],
            metrics=["greedy"],
            suites={suite: {CHECKPOINT: _measured(one)} for suite, one in whole.items()},
            items=encode(_outcomes(folder, list(whole)), list(whole)),
            expected={
                suite: int(one.get("rows_expected") or one["n"]) - len(one.get("without_gold") or ())
                for suite, one in whole.items()
            },
            complete=len(whole) == len(found["suites"]),
            missing={
                suite: str(one.get("status")) for suite, one in found["suites"].items() if suite not in whole
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError, OSError):
        raise InputError(
            f"{folder} is not an evaluation with its {ITEMS}; evaluate that checkpoint anew."
        ) from None


def _measured(suite: Mapping[str, Any]) -> Measured:
    n, rows, greedy = int(suite["n"]), int(suite["rows"]), suite["greedy"]
    low, high = wilson(round(greedy["official"] * n), n)
    return Measured(
        accuracy={"greedy": Interval(value=greedy["official"], low=low, high=high, n=n)},
        unparsed_greedy=Count(value=round((1 - greedy["parsed"]) * n), n=n),
        truncated_greedy=Count(value=round(greedy["truncated"] * rows), n=rows),
    )


def _outcomes(folder: Path, suites: list[str]) -> Outcomes:
    """Pictures are not named in that file: each item is its own."""
    found: Outcomes = {}
    for row in artefacts.read_jsonl(folder / ITEMS) if suites else []:
        if row["suite"] in suites and row["official"] is not None:
            right = bool(row["official"])
            outcome = Outcome(row["id"], right, right, int(right))
            found.setdefault(row["suite"], {}).setdefault(CHECKPOINT, {})[row["id"]] = outcome
    return found
