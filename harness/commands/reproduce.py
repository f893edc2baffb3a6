"""`vzero-harness reproduce`: the whole experiment, from unlabeled images to the result table."""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from harness.commands import options
from harness.commands.running import Runner
from harness.runs.signals import interruptible
from vzero.errors import InputError, VZeroError

if TYPE_CHECKING:
    from harness.analysis.results import Results
    from harness.runs.shared_stages import SharedStages
    from vzero.config import Preset

_ARMS = "Run a grid: paper, controls, baselines, fixes, all, names or files (docs/extending.md), with commas."
ArmNames = Annotated[str | None, Option("--arms", metavar="ARMS", help=_ARMS)]
Seeds = Annotated[
    int | None,
    Option("--seeds", min=1, max=100, help="Run a grid with seeds 0 to N-1. Default of --arms: 1."),
]


def reproduce(
    preset: options.PresetName = "pocket",
    images: options.Images = None,
    out: options.Out = None,
    seed: options.Seed = None,
    arms: ArmNames = None,
    seeds: Seeds = None,
    set_: options.Set = None,
    solver_url: options.SolverUrl = None,
    data: options.SuiteData = None,
    fresh: options.Fresh = False,
    trust_code: options.TrustCode = False,
    plain: options.Plain = False,
    json: options.Json = False,
    show: options.Show = False,
    node_rank: options.NodeRank = None,
) -> None:
    """Run V-Zero from unlabeled images to a table of results; the same command resumes after any
    interruption.

    With --arms or --seeds it runs a grid of arms and seeds, and stages that runs have in common are run once.

    Example: vzero-harness reproduce --preset pocket --seed 1 --out runs/seed-1

    Example: vzero-harness reproduce --arms paper,controls --seeds 3 --out runs/grid
    """
    from harness.doctor.capabilities import require
    from harness.report import print_summary
    from vzero.presets import changed

    with interruptible():
        resolved = options.resolve(preset, images, seed, set_, solver_url)
        if data is not None:
            resolved = changed(resolved, {"evaluation.data": str(data)})
        grid = arms is not None or seeds is not None
        if grid:
            _refuse_grid(resolved, show, seed is not None and seeds is not None)
        elif show:
            _show(resolved, json)
            return
        options.refuse_code(preset, resolved, set_, trust_code)
        if not grid:
            require(resolved)
            if options.joined_as_worker(node_rank, resolved, out, json):
                return
        resolved, terminal = _pinned(resolved), options.console(json)
        runner = Runner("reproduce", terminal, plain, fresh)
        if grid:
            _grid(runner, resolved, arms, [resolved.seed] if seeds is None else list(range(seeds)), out, json)
            return
        folder = options.run_folder(out, resolved)
        results = _run(runner, resolved, folder)
        if json:
            print(results.model_dump_json(indent=2))
        else:
            print_summary(folder, terminal)


def _refuse_grid(resolved: Preset, show: bool, both: bool) -> None:
    if both:
        raise InputError("--seed is one seed and --seeds N are the seeds 0 to N-1; give one of them.")
    if show:
        raise InputError("--show is about one run; leave out --arms and --seeds.")
    if resolved.launch.nodes > 1:
        raise InputError("A grid runs on one node; set launch.nodes = 1, or start its runs one by one.")


def _pinned(resolved: Preset) -> Preset:
    """The preset with its benchmark data found, read and pinned: before anything starts, so that what is
    missing is said now."""
    from tempfile import TemporaryDirectory

    from harness.evals.pinned import pinned

    with TemporaryDirectory(prefix="vzero-suites-") as scratch:
        return pinned(resolved, Path(scratch))


def _show(resolved: Preset, json: bool) -> None:
    from harness.commands.show import as_toml

    tree = resolved.model_dump(mode="json")
    print(json_format.dumps(tree, indent=2) if json else as_toml(tree))


def _run(runner: Runner, preset: Preset, folder: Path, shared: SharedStages | None = None) -> Results:
    from harness.report import finish
    from vzero.selfplay import plan

    with runner.finished(preset, folder, plan(preset), shared):
        return finish(folder)


def _grid(
    runner: Runner, base: Preset, arms: str | None, seeds: list[int], out: Path | None, json: bool
) -> None:
    from harness.runs.grid import Grid, grid_runs
    from harness.runs.grid_table import grid_table
    from harness.tables import terminal
    from vzero.arms import REFERENCE, chosen

    def run_one(run: Path, preset: Preset, shared: SharedStages) -> Mapping[str, int]:
        compute = _run(runner, preset, run, shared).compute
        return compute.flat() if compute else {}

    single = options.run_folder(None, base)
    folder = out or single.with_name(f"{single.name}-arms")
    wanted = grid_runs(chosen(REFERENCE if arms is None else arms), seeds)
    grid = Grid(folder, base, run_one, lambda text: options.say(text, runner.terminal))
    index = grid.run(wanted, runner.fresh)
    if json:
        print(index.model_dump_json(indent=2, exclude_none=True))
    else:
        terminal.show(grid_table(folder, index), runner.terminal)
    failed = {name: entry.reason for name, entry in index.runs.items() if entry.state == "failed"}
    if failed:
        name, reason = next(iter(failed.items()))
        raise VZeroError(f"{len(failed)} of {len(index.runs)} runs failed; the first: {name}: {reason}")
