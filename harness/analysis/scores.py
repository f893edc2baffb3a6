"""One checkpoint on one suite, or on the average of several: its accuracy and its paired gain over the
reference, over all its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from harness.analysis.accuracies import AVERAGE, BASE, gain_seed
from harness.analysis.checkpoints import Checkpoint
from harness.analysis.items import Values, mean_values, pair
from harness.stats import RESAMPLES, Cell, Gain, Interval, gains, mean_cell, means
from vzero.runtime.seeding import derive

FEWER_RESAMPLES = 2000  # of the many cells of a table


class Score(Interval):
    """Accuracy of a checkpoint over its seeds. `n` items were scored of the `expected`; `gain` is None for
    the reference itself, and where no items can be paired with it."""

    expected: int
    gain: Gain | None


class Asked(NamedTuple):
    """A cell of a table: a checkpoint on one suite or the average of several. `over` None is each run's own
    base."""

    checkpoint: Checkpoint
    over: Checkpoint | None
    suites: Sequence[str]
    metric: str

    @property
    def itself(self) -> bool:
        """Whether this is the reference."""
        return self.checkpoint is self.over or (self.over is None and self.checkpoint.checkpoint == BASE)

    @property
    def expected(self) -> int:
        """Items that should have been scored."""
        runs = self.checkpoint.runs
        return sum(max(run.results.expected.get(suite, 0) for run in runs) for suite in self.suites)


def score(
    checkpoint: Checkpoint, over: Checkpoint | None, suites: Sequence[str], metric: str
) -> Score | None:
    """That of one cell."""
    return scores([Asked(checkpoint, over, suites, metric)])[0]


def scores(asked: Sequence[Asked]) -> list[Score | None]:
    """Of a table's cells, whose bootstraps are drawn together; None where some run was not measured on all
    of the suites."""
    seed = derive(0, "table")  # of every cell: images are drawn once for all of them
    values = [[one.checkpoint.values(suite, one.metric) for suite in one.suites] for one in asked]
    known = [i for i, suites in enumerate(values) if all(all(runs) for runs in suites)]
    levels = dict(zip(known, _levels([values[i] for i in known], seed), strict=True))
    cells = {i: cell for i in known if not asked[i].itself and (cell := _cell(asked[i], values[i], seed))}
    found = dict(zip(cells, gains(list(cells.values())), strict=True))
    return [
        Score(**level.model_dump(), expected=max(one.expected, level.n), gain=found.get(i))
        if (level := levels.get(i))
        else None
        for i, one in enumerate(asked)
    ]


def _levels(measured: Sequence[Sequence[Sequence[Values]]], seed: int) -> list[Interval]:
    """The mean of each cell's values, by suite and run; without an interval where the seeds were not asked
    the same items."""
    cells: dict[int, Cell] = {}
    for i, suites in enumerate(measured):
        with suppress(ValueError):
            cells[i] = mean_cell(suites, seed, FEWER_RESAMPLES)
    found = dict(zip(cells, means(list(cells.values())), strict=True))
    return [found.get(i) or _bare_mean(suites) for i, suites in enumerate(measured)]


def _bare_mean(suites: Sequence[Sequence[Values]]) -> Interval:
    value = fmean(fmean(fmean(run.values) for run in runs) for runs in suites)
    return Interval(value=value, low=None, high=None, n=sum(len(runs[0]) for runs in suites))


def _cell(asked: Asked, values: Sequence[Sequence[Values]], seed: int) -> Cell | None:
    """The paired gain over the reference; None where no items can be paired, or the seeds were not asked the
    same ones. Over another arm it is of the seeds that both have, so that the luck of either's training is in
    the differences; where they share none, each seed is held against the other's mean."""
    checkpoint, over, suites, metric = asked
    resamples = FEWER_RESAMPLES
    if over is None and len(checkpoint.runs) == 1:  # the very gain that the run's own report shows
        place, resamples = suites[0] if len(suites) == 1 else AVERAGE, RESAMPLES
        seed = gain_seed(checkpoint.runs[0].seed, BASE, checkpoint.checkpoint, metric, place)
    kept = _shared_seeds(checkpoint, over)
    checkpoint = replace(checkpoint, runs=tuple(checkpoint.runs[i] for i in kept))
    paired = [
        [pair(base, runs[i]) for base, i in zip(_bases(checkpoint, over, suite, metric), kept, strict=True)]
        for suite, runs in zip(suites, values, strict=True)
    ]
    known = [[one for one in seeds if one is not None] for seeds in paired]
    if [*map(len, known)] != [*map(len, paired)]:
        return None
    try:
        return Cell(known, seed, resamples)
    except ValueError:
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
    mean over the reference's seeds where no run's seed is among them)."""
    if over is None:
        return [run.values(suite, BASE, metric) for run in checkpoint.runs]
    by_seed = {run.seed: run.values(suite, over.checkpoint, metric) for run in over.runs}
    shared = [by_seed[run.seed] for run in checkpoint.runs if run.seed in by_seed]
    return shared or [mean_values(list(by_seed.values()))] * len(checkpoint.runs)


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
