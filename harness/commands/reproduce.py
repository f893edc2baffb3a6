"""`vzero-harness reproduce`: the whole experiment, from unlabeled images to the result table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from harness.commands import grid, options
from harness.commands.running import Runner
from harness.runs.signals import interruptible

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
_MATCHED = (
    "Of a grid: give each arm v-zero's Solver steps, or its total compute; such runs are named "
    "ARM-step-matched or ARM-compute-matched."
)
Matched = Annotated[grid.Matched | None, Option("--matched", help=_MATCHED)]


def reproduce(
    preset: options.PresetName = "pocket",
    images: options.Images = None,
    out: options.Out = None,
    seed: options.Seed = None,
    arms: ArmNames = None,
    seeds: Seeds = None,
    matched: Matched = None,
    set_: options.Set = None,
    solver_url: options.SolverUrl = None,
    data: options.SuiteData = None,
    fresh: options.Fresh = False,
    trust_code: options.TrustCode = False,
    plain: options.Plain = False,
    verbose: options.Verbose = False,
    watch: options.Watch = False,
    track: options.Track = "none",
    json: options.Json = False,
    show: options.Show = False,
    cluster: options.Cluster = None,
) -> None:
    """Run V-Zero from unlabeled images to a table of results; the same command resumes.

    With --arms or --seeds it runs a grid of arms and seeds, and stages that runs have in common are run once.

    Example: vzero-harness reproduce --preset pocket --seed 1 --out runs/seed-1

    Example: vzero-harness reproduce --arms paper,controls --seeds 3 --out runs/grid
    """
    from harness.doctor.capabilities import require
    from vzero.presets import changed

    with interruptible():
        resolved = options.resolve(preset, images, seed, set_, solver_url, cluster)
        if data is not None:
            resolved = changed(resolved, {"evaluation.data": str(data)})
        several = (arms, seeds, matched) != (None, None, None)
        if several:
            grid.refuse(resolved, show, watch, seed is not None and seeds is not None)
        elif show:
            _show(resolved, json)
            return
        options.refuse_code(preset, resolved, set_, trust_code)
        if not several:
            require(resolved)
        resolved, terminal = _pinned(resolved), options.console(json)
        runner = Runner("reproduce", terminal, plain, fresh, watch=watch, track=track)
        if several:
            numbers = [resolved.seed] if seeds is None else range(seeds)
            grid.run(runner, resolved, arms, numbers, out, _run, json, verbose, matched)
            return
        results = _run(runner, resolved, folder := options.run_folder(out, resolved))
        if json:
            options.out_json(results.model_dump(mode="json"))
        else:
            from harness.report import print_summary

            print_summary(folder, terminal, verbose)


def _pinned(resolved: Preset) -> Preset:
    """The preset with its benchmark data found, read and pinned: before anything starts, so that what is
    missing is said now."""
    from tempfile import TemporaryDirectory

    from harness.evals.pinned import pinned

    with TemporaryDirectory(prefix="vzero-suites-") as scratch:
        return pinned(resolved, Path(scratch))


def _show(resolved: Preset, json: bool) -> None:
    from vzero.presets.written import as_toml

    tree = resolved.model_dump(mode="json")
    options.out_json(tree) if json else options.out(as_toml(tree))


def _run(runner: Runner, preset: Preset, folder: Path, shared: SharedStages | None = None) -> Results:
    from vzero.selfplay import plan

    with runner.finished(preset, folder, plan(preset), shared) as forked:
        from harness.analysis.results import read_results
        from harness.report import RESULTS, finish  # scipy and more, for which the first line need not wait

        # Operations are counted on a model, so by torch, which a fork has. What fails there fails here too,
        # and says why.
        if forked(["harness.report", str(folder)]):
            return read_results(folder / RESULTS)
        return finish(folder)
