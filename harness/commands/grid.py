"""The grid of arms and seeds that `reproduce --arms`, `--seeds` runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.commands import options
from harness.commands.running import Runner
from vzero.errors import InputError, VZeroError

if TYPE_CHECKING:
    from harness.analysis.results import Results
    from harness.runs.forecast import Forecast
    from harness.runs.grid import Grid, GridIndex, GridRun
    from harness.runs.shared_stages import SharedStages
    from vzero.arms import Arm
    from vzero.config import Preset
    from vzero.selfplay import Stage

Matched = Literal["steps", "compute"]
Run = Callable[[Runner, "Preset", Path, "SharedStages | None"], "Results"]


def refuse(resolved: Preset, show: bool, watch: bool, both: bool) -> None:
    """What a grid cannot do; `both`: --seed and --seeds were given.

    Raises:
        InputError: it was asked for.
    """
    if both:
        raise InputError("--seed is one seed and --seeds N are the seeds 0 to N-1; give one of them.")
    if show:
        raise InputError("--show is about one run; leave out --arms and --seeds.")
    if watch:
        raise InputError("--watch shows one run; follow one of the grid with: vzero-harness watch RUN")


def run(
    runner: Runner,
    base: Preset,
    arms: str | None,
    seeds: Sequence[int],
    out: Path | None,
    run_one: Run,
    json: bool,
    verbose: bool,
    matched: Matched | None = None,
) -> None:
    """Run all, `matched` to the reference where asked, print the index as JSON or the table of arms.

    Raises:
        VZeroError: some run failed; the others are done.
    """
    from harness.runs.concurrency import stages_at_once
    from harness.runs.forecast import Forecast
    from harness.runs.fork_server import ForkServer
    from harness.runs.grid import Grid, grid_runs

    folder = out or (single := options.run_folder(None, base)).with_name(f"{single.name}-arms")
    wanted = grid_runs(_chosen(arms, matched), seeds)
    forecast, names, forks = Forecast(stages_at_once(base)), [one.name for one in wanted], ForkServer()
    afforded = set[str]()  # whose first stages are there, with --fresh new ones

    def runner_of(place: Path, anew: bool) -> Runner:
        name = str(place.relative_to(folder))
        title = f"Run {names.index(name) + 1} of {len(names)}: {name}"
        foresee(forecast, grid, wanted, runner.fresh)
        return replace(runner, forecast=forecast, name=name, title=title, forks=forks, fresh=anew)

    def one(place: Path, preset: Preset, shared: SharedStages) -> Mapping[str, int]:
        name = str(place.relative_to(folder))
        own = runner_of(place, anew=runner.fresh and name not in afforded)
        return _counted(own, preset, place, shared, run_one)

    def afford(
        place: Path,
        preset: Preset,
        stages: Sequence[Stage],
        reference: Path,
        shared: SharedStages,
        anew: bool,
    ) -> tuple[int, int | None]:
        iteration = stages[-1].iteration
        afforded.add(str(place.relative_to(folder)))
        with runner_of(place, anew).finished(preset, place, stages, shared):
            from harness.analysis.matching import affordable
            from harness.runs.sealed import read_run

            return affordable(read_run(place), read_run(reference), iteration)

    grid = Grid(folder, base, one, lambda text: options.say_line(text, runner.terminal), afford)
    with closing(forks):
        index = _finished(grid, wanted, runner)
    _end(index, folder, runner, json, verbose)


def _chosen(arms: str | None, matched: Matched | None) -> Sequence[Arm]:
    """The arms that are named, each in its matched form where that is asked for."""
    from vzero import arms as known

    asked = known.chosen(known.REFERENCE if arms is None else arms)
    if matched is None:
        return asked
    return tuple({form.name: form for form in (known.matched(arm, matched) for arm in asked)}.values())


def foresee(forecast: Forecast, grid: Grid, wanted: Sequence[GridRun], fresh: bool) -> None:
    """Let `forecast` count those runs that wait, and the processes that work in the grid. Of those that were
    done here it keeps what they took."""
    from harness.runs.folder import held
    from vzero.selfplay import plan

    entries = grid.index().runs
    busy = {run.name for run in grid.pending if held(grid.folder / run.name)}
    forecast.workers = 1 + len(busy)
    for run in wanted:
        state = entries[run.name].state
        if run not in grid.pending:
            if state == "failed":
                forecast.drop(run.name)
        elif run.name in busy or (state == "done" and not fresh):
            forecast.drop(run.name)
        else:
            preset = grid.preset_of(run)
            forecast.add(run.name, preset, plan(preset))


def _finished(grid: Grid, wanted: Sequence[GridRun], runner: Runner) -> GridIndex:
    if grid.base.launch.cluster is not None:
        return _spread(grid, wanted, runner)
    from harness.cluster.grid import WORKER

    first = int(os.environ.get(WORKER, 0)) % len(wanted)
    return grid.run([*wanted[first:], *wanted[:first]], runner.fresh)


def _spread(grid: Grid, wanted: Sequence[GridRun], runner: Runner) -> GridIndex:
    """Bring all runs to their end on a cluster, by workers that are given this very command without it."""
    from harness.cluster.grid import run as spread

    if runner.fresh:
        raise InputError(
            f"A grid on a cluster is not begun anew: remove {grid.folder}, or leave out --fresh."
        )
    grid.prepare(wanted, fresh=False)
    told: dict[str, str] = {}

    def look(notes: Sequence[str] = ()) -> None:
        for note in notes:
            options.say(note, runner.terminal)
        for name, entry in grid.index().runs.items():
            if told.setdefault(name, "waiting") != entry.state:
                told[name] = entry.state
                options.say_line(f"{name}: {entry.state}", runner.terminal)

    words = [*sys.argv[1:], "--cluster", "", "--plain"]
    words += ["--set", "launch.max_concurrent_stages=1"]  # a worker's share is one stage's
    try:
        spread(grid.folder, grid.base, words, len(wanted), look)
    except VZeroError:
        look()
        if any(one.state in ("waiting", "running") for one in grid.index().runs.values()):
            raise
    look()
    return grid.index()


def _end(index: GridIndex, folder: Path, runner: Runner, json: bool, verbose: bool) -> None:
    from harness.report import grid_end

    comparison = grid_end.finish(folder)
    if json:
        options.out_json(index.model_dump(mode="json", exclude_none=True))
    else:
        grid_end.show(comparison, index, folder, runner.terminal, verbose)
    failed = {name: entry.reason for name, entry in index.runs.items() if entry.state == "failed"}
    if failed:
        name, reason = next(iter(failed.items()))
        raise VZeroError(f"{len(failed)} of {len(index.runs)} runs failed; the first: {name}: {reason}")


def _counted(
    runner: Runner, preset: Preset, place: Path, shared: SharedStages, run_one: Run
) -> Mapping[str, int]:
    """Run one, say in a line what came of it, on a terminal in short; what it cost."""
    from harness.tables.words import duration

    begin = time.monotonic()
    found = run_one(runner, preset, place, shared)
    from harness.report import ending

    took = duration(time.monotonic() - begin)
    short = runner.terminal.is_terminal
    gained = f"gain: {ending.brief(found)}" if short else ending.gain(found)[0]
    options.say_line(f"{runner.name}: done in {took}; {gained}", runner.terminal)
    return found.compute.flat() if found.compute else {}
