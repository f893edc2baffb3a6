"""Runs -> the comparison that a table of arms shows: every checkpoint of every arm over its seeds, published
numbers beside them, and what they say of the claims on file.

Shares and gains are fractions. Over several seeds intervals and p-values hold seeds and images to be draws
from many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal

from harness.analysis import compute_notes, published_rows
from harness.analysis.accuracies import AVERAGE, BASE
from harness.analysis.checkpoints import Checkpoint, checkpoints
from harness.analysis.load import Loaded
from harness.analysis.measures import LABELS, metric_named
from harness.analysis.published_rows import PublishedRow
from harness.analysis.scores import Asked, Score, fault_shares, scores
from harness.analysis.significance import without_direction
from harness.analysis.verdicts import verdicts
from harness.claims.verdict import ClaimVerdict
from harness.stats import Frozen, bh_corrected
from vzero.errors import InputError


class ArmRow(Frozen):
    """A checkpoint of an arm, measured here.

    Attributes:
        scores: by suite, and "average" where there are several; None where it was not measured there.
        faults: shares of answers over all suites and seeds ("unparsed_greedy", "truncated_sampled", ...);
            None where unknown.
        evidence: whether its runs are meant to say anything; if not, no gain has a direction.
        compute: counts, means over its seeds. compute_note: how they differ from the yardstick's, None where
            they do not. compute_ratio: its total over that of v-zero's last checkpoint. compute_estimated:
            what of either total was taken from means, None where all was counted.
    """

    name: str
    arm: str
    checkpoint: str
    model: str
    seeds: list[int]
    evidence: bool = True
    scores: dict[str, Score | None]
    faults: dict[str, float | None]
    compute: dict[str, float]
    compute_ratio: float | None = None
    compute_note: str | None
    compute_estimated: str | None = None

    def fault(self, name: str, metric: str) -> float | None:
        """Share of "unparsed" or "truncated" answers among those that `metric` is about."""
        return self.faults[f"{name}_{'greedy' if metric == 'greedy' else 'sampled'}"]


class RunSummary(Frozen):
    """One of the runs compared."""

    name: str
    arm: str
    seed: int
    preset: str
    model: str
    split: str
    evidence: bool = True
    settings: str | None = None
    complete: bool
    missing: dict[str, str]
    warnings: list[str]


class Comparison(Frozen):
    """Runs beside each other by one `metric`; gains are over `against`: "base" (each run's own) or a row."""

    format: Literal[2] = 2
    metric: str
    against: str
    suites: list[str]
    rows: list[ArmRow]
    published: list[PublishedRow]
    claims: list[ClaimVerdict]
    runs: list[RunSummary]


def compare(
    runs: Sequence[Loaded], against: str = BASE, metric: str | None = None, reference: Sequence[Loaded] = ()
) -> Comparison:
    """All arms of `runs` beside each other.

    Args:
        against: "base" (each run's own), or the name of a row or arm that gains are taken over.
        metric: "greedy", "T=1" (or "sampled"), "maj@n", "pass@n"; default the first that all runs have.
        reference: runs whose last checkpoint is the reference, instead of `against`.

    Raises:
        InputError: a metric the runs do not share, a reference that is not there, or no suite at all.
    """
    chosen = _metric([*runs, *reference], metric and metric_named(metric))
    own = {run.key for run in runs}
    # The reference is never pooled with `runs`.
    beside = [replace(run, arm=f"{run.arm} of {run.name}") if run.key in own else run for run in reference]
    found = checkpoints([*runs, *beside])
    over = _reference(found, against, beside)
    suites = list(dict.fromkeys(suite for run in (*runs, *beside) for suite in run.results.suites))
    if not suites:
        raise InputError(
            "None of these runs has a finished suite; finish them with the commands that began them."
        )
    computes = compute_notes.beside(found, over)
    scored = _scores(found, over, suites, chosen)
    rows = [_row(*one, suites) for one in zip(found, scored, computes, strict=True)]
    return Comparison(
        metric=chosen,
        against=over.name if over else BASE,
        suites=suites,
        rows=_corrected(rows),
        published=published_rows.rows(list(dict.fromkeys(one.model for one in found)), suites),
        claims=verdicts(found, suites, chosen),
        runs=[_summary(run) for run in (*runs, *beside)],
    )


def beside(
    comparison: Comparison, runs: Sequence[Loaded], against: str = BASE, reference: Sequence[Loaded] = ()
) -> list[Comparison]:
    """The same comparison by the other one of greedy and T = 1, where all runs have it."""
    other = "sampled" if comparison.metric == "greedy" else "greedy"
    if any(other not in run.results.metrics for run in (*runs, *reference)):
        return []
    return [compare(runs, against, other, reference)]


def _metric(runs: Sequence[Loaded], wanted: str | None) -> str:
    shared = [name for name in runs[0].results.metrics if all(name in run.results.metrics for run in runs)]
    if wanted is None and shared:
        return shared[0]
    if wanted not in shared:
        raise InputError(
            f"Not every run was measured by {wanted or 'one metric'}; choose --metric from "
            f"{', '.join(LABELS.get(one, one).replace(' ', '') for one in shared) or 'none'}."
        )
    return wanted


def _reference(found: Sequence[Checkpoint], against: str, reference: Sequence[Loaded]) -> Checkpoint | None:
    """The row gains are taken over; None for each run's own base."""
    if reference:
        return [one for one in found if any(run in reference for run in one.runs)][-1]
    if against == BASE:
        return None
    named = [one for one in found if against in (one.name, one.arm, f"{one.arm} {one.checkpoint}")]
    if not named:
        raise InputError(
            f"There is no {against!r} to compare with; choose base, a run, or one of "
            f"{', '.join(one.name for one in found)}."
        )
    return named[-1]


def _scores(
    found: Sequence[Checkpoint], over: Checkpoint | None, suites: Sequence[str], metric: str
) -> list[dict[str, Score | None]]:
    """For each checkpoint its scores by suite and, where it was measured on several and all, on average."""
    places = {**{suite: [suite] for suite in suites}, **({AVERAGE: suites} if len(suites) > 1 else {})}
    flat = iter(scores([Asked(one, over, at, metric) for one in found for at in places.values()]))
    rows = [dict(zip(places, islice(flat, len(places)), strict=True)) for _ in found]
    return [{place: one for place, one in row.items() if one or place != AVERAGE} for row in rows]


def _row(
    checkpoint: Checkpoint,
    scores: dict[str, Score | None],
    spent: compute_notes.Beside,
    suites: Sequence[str],
) -> ArmRow:
    return ArmRow(
        name=checkpoint.name,
        arm=checkpoint.arm,
        checkpoint=checkpoint.checkpoint,
        model=checkpoint.model,
        seeds=[run.seed for run in checkpoint.runs],
        evidence=all(run.results.evidence for run in checkpoint.runs),
        scores=scores,
        faults=fault_shares(checkpoint, suites),
        compute=spent.spent,
        compute_ratio=spent.ratio,
        compute_note=spent.note,
        compute_estimated=spent.estimated,
    )


def _corrected(rows: Sequence[ArmRow]) -> list[ArmRow]:
    """The rows, p-values corrected over every gain of the table together."""
    shown = {
        (i, place): one.gain
        for i, row in enumerate(rows)
        for place, one in row.scores.items()
        if row.evidence and one and one.gain
    }
    gains = bh_corrected(shown)

    def corrected(i: int, place: str, one: Score | None) -> Score | None:
        if one is None or one.gain is None:
            return one
        return one.model_copy(update={"gain": gains.get((i, place)) or without_direction(one.gain)})

    return [
        row.model_copy(update={"scores": {k: corrected(i, k, v) for k, v in row.scores.items()}})
        for i, row in enumerate(rows)
    ]


def _summary(run: Loaded) -> RunSummary:
    shared = RunSummary.model_fields.keys() - {"name", "arm"}
    return RunSummary(name=run.name, arm=run.arm, **{key: getattr(run.results, key) for key in shared})
