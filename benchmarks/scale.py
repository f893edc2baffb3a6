"""How time and memory grow: `python -m benchmarks.scale --out FILE [CURVE ...]`, or `make bench`. Named
curves (a part of a name will do) are measured alone; the others keep what FILE has.

Curves over images, votes of a question, weights of the model and runs of a grid. A point is a process of its
own with one thread; after a small turn that imports and warms up it works `ROUNDS` times, and the median
counts. Seconds are the processor's, child processes included, so that they mean the same on a machine that
has other work. `table` is the whole command as it is typed, imports and all, `ROUNDS` times.

A run of many images is invented (tests/fixtures/synthetic_run.py): drawn pictures, questions and answers in
the files that a run writes. No model answers in it, so what is measured is all that grows with images but
drawing tokens and training. Models of other sizes than the shipped one have random weights.

An exponent is the slope of log seconds (or MiB) over log size by least squares; `local` are the slopes from
point to point, and a curve bends at the points where these differ by more than `BEND`.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from math import log
from multiprocessing import get_context
from pathlib import Path
from runpy import run_path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from vzero.runtime import artefacts

ROUNDS, BEND, QUESTIONS, FEW = 3, 0.3, 32, 8
ROOT = Path(__file__).resolve().parents[1]
WIDTHS = {96: (4, 256), 256: (5, 704), 512: (8, 1408)}  # of models, with layers and feed-forward
Counted = dict[str, float]
Work = Callable[[], Counted]  # does it once, and says what else was counted
Step = Callable[[int, Path], Work]  # (size, folder) -> what is prepared


def invented(size: int, folder: Path) -> Path:
    """A finished run of so many images, made once."""
    run = folder / f"run-{size}"
    if not run.exists():  # by its path: `tests` may be the name of an installed package as well
        program = run_path(str(ROOT / "tests" / "fixtures" / "synthetic_run.py"))
        program["make"](run, count=size, hostile=False)
    return run


def images_import(size: int, folder: Path) -> Work:
    """The images stage on a folder: every file decoded, hashed, and compared with the others."""
    from vzero.images import stage
    from vzero.presets import load_preset
    from vzero.runtime.progress import Progress
    from vzero.runtime.stage import StageContext
    from vzero.selfplay import plan

    pictures, out = invented(size, folder) / "stages" / "00-images" / "images", folder / f"import-{size}"
    preset = load_preset("pocket", changes={"images.source": str(pictures), "images.count": size})

    def work() -> Counted:
        shutil.rmtree(out, ignore_errors=True)
        stage.run(StageContext(plan(preset)[0], preset, out, {}, Progress(out / "progress.jsonl")))
        return {}

    return work


def seals(size: int, folder: Path) -> Work:
    """What a resume looks at: the seal of every stage, and every file against it."""
    from harness.runs.sealed import read_run

    run = invented(size, folder)

    def work() -> Counted:
        stages = read_run(run).stages.values()
        assert all(artefacts.folder_hashes(one.folder) == one.manifest["files"] for one in stages)
        return {}

    return work


def results(size: int, folder: Path) -> Work:
    """results.json."""
    from harness.analysis.build import build
    from harness.analysis.results import write_results
    from harness.runs.sealed import read_run

    run = invented(size, folder)

    def work() -> Counted:
        write_results(run / "results.json", build(read_run(run)))
        return {"megabytes": (run / "results.json").stat().st_size / 1e6}

    return work


def report(size: int, folder: Path) -> Work:
    """report.html and report.md of results that are there."""
    from harness.analysis.build import build
    from harness.report import html, markdown
    from harness.report.material import collect
    from harness.runs.sealed import read_run

    run = invented(size, folder)
    found = build(read_run(run))

    def work() -> Counted:
        material = collect(read_run(run))
        artefacts.write_text(run / "report.md", markdown.render(found, material))
        artefacts.write_text(run / "report.html", html.render(found, material))
        return {"megabytes": (run / "report.html").stat().st_size / 1e6}

    return work


def votes(size: int, folder: Path) -> Work:
    """`QUESTIONS` questions put to the shipped Solver, `size` votes each."""
    from benchmarks import workload
    from benchmarks.case import drawn_tokens
    from benchmarks.shapes import POCKET, subject
    from vzero.presets import load_preset

    sampling = load_preset("pocket").solver.votes.model_copy(update={"n": size})
    engine, asked = workload.engine(subject(POCKET)), workload.requests(QUESTIONS)
    return lambda: {"tokens": drawn_tokens(engine.generate(asked, sampling))}


def model(width: int, folder: Path) -> tuple[Path, int]:
    """A pocket checkpoint of that width with random weights, made once, and how many it has."""
    from vzero.pocket.model import Size, build_model, build_processor
    from vzero.runtime import checkpoints

    size = Size(width, *WIDTHS[width], learning_rate=0, products="float32")
    path, made = folder / f"model-{width}", build_model(0, size)
    if not path.exists():
        checkpoints.save(made, build_processor(), path)
    return path, made.num_parameters()


def votes_by_weights(width: int, folder: Path) -> Work:
    """`FEW` questions put to a Solver of that width, ten votes each."""
    from benchmarks import workload
    from benchmarks.case import drawn_tokens
    from vzero.presets import load_preset
    from vzero.rollout.transformers_engine import TransformersEngine
    from vzero.runtime import checkpoints

    (path, weights), sampling = model(width, folder), load_preset("pocket").solver.votes
    asked, loaded = workload.requests(FEW), checkpoints.load_model(path, device="cpu")
    engine = TransformersEngine(loaded, checkpoints.load_processor(path), workload.ENGINE_BATCH)
    return lambda: {"weights": weights, "tokens": drawn_tokens(engine.generate(asked, sampling))}


def batch_by_weights(width: int, folder: Path) -> Work:
    """A Solver's generation batch by the stage's own trainer: rollouts, log-probabilities, two updates."""
    from benchmarks import training
    from benchmarks.case import drawn_tokens

    path, weights = model(width, folder)
    bench = training.solver_bench(path, folder / "batch")

    def work() -> Counted:
        phases = bench.run(stock=False)
        seconds = {f"{name}_seconds": phases[name] for name in ("rollout", "logprobs", "update")}
        return {"weights": weights, "tokens": drawn_tokens(bench.rollout.rollouts), **seconds}

    return work


def table(form: str, count: int, folder: Path) -> Work:
    """`vzero-harness table` over the committed runs; where they are too few, some again as other seeds."""
    files = sorted((ROOT / "results" / "pocket").rglob("results.json"))
    grid, out = folder / f"grid-{count}", folder / f"table-{count}.{form}"
    for i in range(count):
        found = artefacts.read_json(files[i % len(files)])
        seed = found["seed"] + 100 * (i // len(files))
        artefacts.write_json(grid / str(i) / "results.json", {**found, "seed": seed})
    words = [sys.executable, "-m", "harness", "table", str(grid), "--format", form, "--out", str(out)]

    def work() -> Counted:
        subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return {"megabytes": out.stat().st_size / 1e6}

    return work


@dataclass(frozen=True)
class Curve:
    """Points of one step.

    Attributes:
        over: what the sizes are, or what stands in their place in what is counted.
        per: what is counted and seconds are divided by.
        warm: the size of the turn before; None: the step begins a process anyway.
    """

    over: str
    sizes: tuple[int, ...]
    step: Step
    per: str | None = None
    warm: int | None = None


IMAGES, RUNS = (1024, 4096, 16384), (1, 10, 100)
CURVES = {
    "table": Curve("runs", RUNS, lambda count, folder: table("md", count, folder)),
    "arms.html": Curve("runs", RUNS, lambda count, folder: table("html", count, folder)),
    "image import": Curve("images", IMAGES, images_import, warm=64),
    "seals": Curve("images", IMAGES, seals, warm=64),
    "results.json": Curve("images", IMAGES, results, warm=64),
    "report": Curve("images", IMAGES, report, warm=64),
    "votes": Curve("votes of a question", (5, 10, 20, 40), votes, warm=5),
    "votes, by weights": Curve("weights", tuple(WIDTHS), votes_by_weights, "tokens", 96),
    "training batch, by weights": Curve("weights", tuple(WIDTHS), batch_by_weights, "tokens", 96),
}


def _spent() -> float:
    """Seconds of the processor: of this process and of its children, alive or ended."""
    own = psutil.Process()
    return sum(sum(one.cpu_times()[:4]) for one in (own, *own.children(recursive=True)))


def _peak() -> float:
    """MiB of the largest process."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def point(name: str, size: int, folder: Path) -> dict[str, Any]:
    """One size, measured in this process, which is new."""
    curve = CURVES[name]
    if curve.warm is not None:
        curve.step(curve.warm, folder)()
    work, rounds, clock = curve.step(size, folder), list[float](), list[float]()
    for _ in range(ROUNDS):
        begin, spent = time.perf_counter(), _spent()
        counted = work()
        rounds.append(_spent() - spent)
        clock.append(time.perf_counter() - begin)
    each = statistics.median(rounds) / counted.get(curve.per or "", 1.0)
    return {
        "size": int(counted.pop(curve.over, size)),
        "cpu_seconds": each,
        "rounds": rounds,
        "clock_seconds": statistics.median(clock),
        "peak_mib": round(_peak(), 1),
        **counted,
        "load": os.getloadavg()[0],
    }


def _slopes(points: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    """The exponent of `key` over size, and where it changes."""
    x, y = ([log(one[name]) for one in points] for name in ("size", key))
    local = [(d - c) / (b - a) for (a, c), (b, d) in pairwise(zip(x, y, strict=True))]
    bends = [points[i + 1]["size"] for i, (a, b) in enumerate(pairwise(local)) if abs(a - b) > BEND]
    slope = statistics.linear_regression(x, y).slope
    return {"exponent": round(slope, 3), "local": [round(one, 3) for one in local], "bends_at": bends}


def main(out: Path, wanted: Sequence[str] = ()) -> None:
    """Measure and write `out`, each curve as it ends."""
    from harness.perf.profile.roofline import processor
    from vzero.runtime.machine import cores

    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that follow
    curves: dict[str, Any] = artefacts.read_json(out)["curves"] if out.exists() and wanted else {}
    about = {"processor": processor(), "cores": cores(), "threads": 1, "rounds": ROUNDS}
    chosen = [name for name in CURVES if not wanted or any(one in name for one in wanted)]
    with (
        TemporaryDirectory() as place,
        ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as new,
    ):
        folder = Path(place)
        for name in chosen:
            curve = CURVES[name]
            for size in (curve.warm or 1, *curve.sizes) if curve.over == "images" else ():
                new.submit(invented, size, folder).result()  # so that no point is charged for it
            points = [new.submit(point, name, size, folder).result() for size in curve.sizes]
            fits = {key: _slopes(points, key) for key in ("cpu_seconds", "peak_mib")}
            curves[name] = {"over": curve.over, "seconds_per": curve.per, "points": points, **fits}
            artefacts.write_json(out, {**about, "curves": curves, "provenance": artefacts.provenance()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("curves", nargs="*")
    arguments = parser.parse_args()
    main(arguments.out, arguments.curves)
