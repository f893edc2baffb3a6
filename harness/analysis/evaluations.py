"""An evaluation of a checkpoint that was not trained here, in the shape of a run's results: `vzero-harness
evaluate` writes its own.

"greedy" is then the verified share of items, from items.scored.jsonl; a suite that is not complete has no
number.
"""

from __future__ import annotations

from pathlib import Path

from harness.analysis.items import Outcome, Outcomes, encode
from harness.analysis.measures import Count, Measured
from harness.analysis.results import CHECKPOINT, Results
from harness.evals import results
from harness.stats import Interval
from vzero.errors import InputError
from vzero.runtime import artefacts

ITEMS = "items.scored.jsonl"


def as_results(path: Path) -> Results:
    """The evaluation whose results.json is at `path` as a run with one checkpoint and one metric. Its arm is
    the folder's name, since many checkpoints are called alike.

    Raises:
        InputError: it is of another shape, or its items are not there.
    """
    found, folder = results.read(path), path.parent
    settings = found.evaluation
    measured = {suite: {CHECKPOINT: one} for suite in found.suites if (one := _measured(found.suites[suite]))}
    return Results(
        preset="evaluation",
        arm=folder.name,
        seed=settings.seed,
        model=settings.model,
        split="",
        samples=1,
        models=[CHECKPOINT],
        metrics=["greedy"],
        suites=measured,
        items=encode(_outcomes(folder, list(measured)), list(measured)),
        expected={
            suite: one.rows_expected - len(one.without_gold)
            for suite, one in found.suites.items()
            if suite in measured
        },
        complete=found.complete,
        missing={suite: one.status for suite, one in found.suites.items() if suite not in measured},
    )


def _measured(suite: results.SuiteResult) -> Measured | None:
    """None of an incomplete suite."""
    one = suite.greedy
    if one is None or one.verified is None or one.parsed is None:
        return None
    low, high = one.verified_interval or (None, None)
    return Measured(
        accuracy={"greedy": Interval(value=one.verified, low=low, high=high, n=one.n)},
        unparsed_greedy=Count(value=round((1 - one.parsed) * one.n), n=one.n),
        truncated_greedy=Count(value=round(one.truncated * suite.rows), n=suite.rows),
    )


def _outcomes(folder: Path, suites: list[str]) -> Outcomes:
    """Pictures are not named in that file: each item is its own."""
    path = folder / ITEMS
    if suites and not path.exists():
        raise InputError(f"{folder} is not an evaluation with its {ITEMS}; evaluate that checkpoint anew.")
    found: Outcomes = {}
    for row in artefacts.read_jsonl(path) if suites else []:
        if row["suite"] in suites and row["verified"] is not None:
            right = bool(row["verified"])
            outcome = Outcome(row["id"], right, right, int(right))
            found.setdefault(row["suite"], {}).setdefault(CHECKPOINT, {})[row["id"]] = outcome
    return found
