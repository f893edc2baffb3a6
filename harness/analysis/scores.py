"""One checkpoint on one suite, or on the average of several: its accuracy and its paired gain over the
reference, over all its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from harness.analysis.accuracies import AVERAGE, BASE, gain_seed
from harness.analysis.checkpoints import Checkpoint
from harness.analysis.items import Values, mean_values, pair
from harness.stats import RESAMPLES, Gain, Interval, gain_over_seeds, mean_interval
from vzero.runtime.seeding import derive

FEWER_RESAMPLES = 2000  # of the many cells of a table


class Score(Interval):
    """Accuracy of a checkpoint over its seeds. `n` items were scored of the `expected`; `gain` is None for
    the reference itself, and where no items can be paired with it."""

    expected: int
    gain: Gain | None


def score(
    checkpoint: Checkpoint, over: Checkpoint | None, suites: Sequence[str], metric: str
) -> Score | None:
    """On one suite or the average of several; `over` None is each run's own base. None where some run was not
    measured on all of the suites."""
    by_suite = {suite: checkpoint.values(suite, metric) for suite in suites}
    if not all(all(runs) for runs in by_suite.values()):
        return None
    seed = derive(0, "table")  # of every cell: images are drawn once for all of them
    level = _level(by_suite, seed)
    expected = sum(max(run.results.expected.get(suite, 0) for run in checkpoint.runs) for suite in suites)
    itself = checkpoint is over or (over is None and checkpoint.checkpoint == BASE)
    return Score(
        **level.model_dump(),
        expected=max(expected, level.n),
        gain=None if itself else _gain(checkpoint, over, by_suite, metric, seed),
    )


def _level(by_suite: Mapping[str, Sequence[Values]], seed: int) -> Interval:
    try:
        return mean_interval(list(by_suite.values()), seed, resamples=FEWER_RESAMPLES)
    except ValueError:  # the seeds were not asked the same items
        means = [
            fmean(fmean(value for _, value in run.values()) for run in runs) for runs in by_suite.values()
        ]
        n = sum(len(runs[0]) for runs in by_suite.values())
        return Interval(value=fmean(means), low=None, high=None, n=n)


def _gain(
    checkpoint: Checkpoint,
    over: Checkpoint | None,
    by_suite: Mapping[str, Sequence[Values]],
    metric: str,
    seed: int,
) -> Gain | None:
    """The paired gain over the reference. Over another arm it is of the seeds that both have, so that the
    luck of either's training is in the differences; where they share none, each seed is held against the
    other's mean."""
    resamples = FEWER_RESAMPLES
    if over is None and len(checkpoint.runs) == 1:  # the very gain that the run's own report shows
        place, resamples = next(iter(by_suite)) if len(by_suite) == 1 else AVERAGE, RESAMPLES
        seed = gain_seed(checkpoint.runs[0].seed, BASE, checkpoint.checkpoint, metric, place)
    kept = _shared_seeds(checkpoint, over)
    checkpoint = replace(checkpoint, runs=tuple(checkpoint.runs[i] for i in kept))
    paired = [
        [pair(base, runs[i]) for base, i in zip(_bases(checkpoint, over, suite, metric), kept, strict=True)]
        for suite, runs in by_suite.items()
    ]
    known = [[one for one in seeds if one is not None] for seeds in paired]
    if known != paired:
        return None
    try:
        return gain_over_seeds(known, seed, resamples=resamples)
    except ValueError:  # the seeds were not asked the same items
        return None


def _shared_seeds(checkpoint: Checkpoint, over: Checkpoint | None) -> list[int]:
    """Positions of the runs whose seed the reference has too; all of them where there is none."""
    every = list(range(len(checkpoint.runs)))
    if over is None:
        return every
    seeds = {run.seed for run in over.runs}
    return [i for i in every if checkpoint.runs[i].seed in seeds] or every


def _bases(checkpoint: Checkpoint, over: Checkpoint | None, suite: str, metric: str) -> list[Values]:
    """For each run the item values it is compared with: its own base, or the reference of the same seed (the
    mean over the reference's seeds where that seed is not among them)."""
    if over is None:
        return [run.values(suite, BASE, metric) for run in checkpoint.runs]
    by_seed = {run.seed: run.values(suite, over.checkpoint, metric) for run in over.runs}
    mean = mean_values(list(by_seed.values()))
    return [by_seed.get(run.seed, mean) for run in checkpoint.runs]


def fault_shares(checkpoint: Checkpoint, suites: Sequence[str]) -> dict[str, float | None]:
    """Shares of answers that could not be read ("unparsed_greedy", ...) or were truncated, over all suites
    and seeds."""
    measured = [
        found
        for run in checkpoint.runs
        for suite in suites
        if (found := run.results.suites.get(suite, {}).get(checkpoint.checkpoint))
    ]
    shares: dict[str, float | None] = {}
    for fault in ("unparsed", "truncated"):
        for kind in ("greedy", "sampled"):
            counts = [count for one in measured if (count := one.counted(fault, kind))]
            total = sum(count.n for count in counts)
            shares[f"{fault}_{kind}"] = sum(count.value for count in counts) / total if total else None
    return shares
