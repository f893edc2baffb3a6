"""What a Ray cluster costs and gives: `python -m benchmarks.cluster --out results/benchmarks/cluster.json`.

On two logical machines of one CPU each, on this one, which must have two idle cores; about a quarter of an
hour. Three parts:

- bulk: the base writes questions and votes for them, by the engine of one process with one thread, and by two
  servers with one thread each. Seconds are the stages' own: from start to seal, their servers started.
- grid: `smoke` with four seeds, one after the other on one core, and spread over the two machines. Seconds of
  the whole command.
- overhead: a stage that does next to nothing, with and without the cluster, and what the difference is made
  of.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from rich.console import Console

from benchmarks.stages import busy
from harness.cluster import placement, session
from harness.cluster.part import placed
from harness.perf.profile.roofline import processor
from harness.runs.directory import opened
from harness.runs.display import Display, Plan
from harness.runs.forecast import Forecast
from harness.runs.orchestrate import run_plan
from vzero.config import Preset
from vzero.presets import load_preset
from vzero.runtime import artefacts
from vzero.runtime.machine import cores
from vzero.runtime.stage import stage_folder
from vzero.selfplay import plan

ROUNDS = 3
IMAGES, BULK = ("images",), ("write-questions", "label")  # kinds of stages
QUESTIONS = 400
HOLDER = Path(__file__).resolve().parents[1] / "tests" / "ray_cluster.py"
GRID = ["reproduce", "--preset", "smoke", "--seeds", "4", "--plain", "--set", "engine.threads=1"]


def main(out: Path) -> None:
    """Measure and write `out`."""
    with machines() as address, TemporaryDirectory() as place:
        before = busy()
        found = {
            "bulk": bulk(address, Path(place)),
            "grid": grid(address, Path(place)),
            "overhead": overhead(address, Path(place)),
        }
        used, whole = (now - then for now, then in zip(busy(), before, strict=True))
    about = {"processor": processor(), "cores": cores(), "busy": round(used / whole, 3)}
    artefacts.write_json(out, {**about, **found, "provenance": artefacts.provenance()})


@contextmanager
def machines() -> Iterator[str]:
    """The address of a cluster of two machines of one CPU, with a token."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    words = [sys.executable, str(HOLDER), "2"]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        yield holder.stdout.readline().strip()
    finally:
        holder.communicate()


def sides(one: Callable[[int], float], other: Callable[[int], float]) -> dict[str, Any]:
    """Seconds of both in turn, and how many times as long the median of the first is."""
    pairs = [(one(i), other(i)) for i in range(ROUNDS)]
    alone, together = ([round(seconds, 2) for seconds in side] for side in zip(*pairs, strict=True))
    ratio = statistics.median(alone) / statistics.median(together)
    return {"alone": alone, "on_cluster": together, "ratio": round(ratio, 2)}


def bulk(address: str, place: Path) -> dict[str, Any]:
    """Questions and votes by one engine and by two servers; their files must be the same."""
    contents = set()
    words = ["questioner.trained=false", f"images.count={QUESTIONS}", "engine.threads=1"]
    there = ["launch.nodes=2", "launch.strategy=ddp", f"launch.cluster={address}"]

    def written(name: str, launch: list[str]) -> float:
        preset = load_preset("smoke", [*words, *launch])
        finish(place / name, preset, IMAGES)
        folders = [stage_folder(place / name, one) for one in finish(place / name, preset, BULK)]
        manifests = [artefacts.read_json(folder / artefacts.MANIFEST) for folder in folders]
        contents.add(artefacts.digest([one["files"] for one in manifests]))
        return sum(float(one["facts"]["seconds"]) for one in manifests)

    found = sides(lambda i: written(f"one-{i}", []), lambda i: written(f"two-{i}", there))
    return {"questions": QUESTIONS, **found, "same_content": len(contents) == 1}


def grid(address: str, place: Path) -> dict[str, Any]:
    """Four runs one after the other on one core, and on two machines of one core; once."""

    def ran(name: str, *words: str, prefix: tuple[str, ...] = ()) -> float:
        command = [*prefix, sys.executable, "-m", "harness", *GRID, "--out", str(place / name), *words]
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return round(time.perf_counter() - begin, 2)

    core = str(min(os.sched_getaffinity(0)))
    alone, together = ran("alone", prefix=("taskset", "-c", core)), ran("spread", "--cluster", address)
    return {"alone": alone, "on_cluster": together, "ratio": round(alone / together, 2)}


def overhead(address: str, place: Path) -> dict[str, Any]:
    """Seconds that a stage takes longer on the cluster: medians, and of its parts in a driver like the
    stage's."""

    def drawn(name: str, words: list[str]) -> float:
        preset = load_preset("smoke", ["engine.threads=1", "images.count=4", *words])
        begin = time.perf_counter()
        finish(place / name, preset, IMAGES)
        return time.perf_counter() - begin

    there = [f"launch.cluster={address}"]
    found = sides(lambda i: drawn(f"here-{i}", []), lambda i: drawn(f"there-{i}", there))
    del found["ratio"]
    more = statistics.median(found["on_cluster"]) - statistics.median(found["alone"])
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import harness.cluster.ranks, ray"], check=True)
    times = {"imports": time.perf_counter() - begin}
    begin = time.perf_counter()
    with session.joined(address):
        times["join"] = time.perf_counter() - begin
        begin = time.perf_counter()
        with placement.reserved([{"CPU": 1.0}]) as group:
            times["reserve"] = time.perf_counter() - begin
            begin = time.perf_counter()
            ray.get(placed(group, 0, {"CPU": 1.0}).place.remote())
            times["actor"] = time.perf_counter() - begin
        begin = time.perf_counter()
    times["leave"] = time.perf_counter() - begin
    return {**found, "seconds": round(more, 2), **{name: round(one, 2) for name, one in times.items()}}


def finish(run: Path, preset: Preset, kinds: Sequence[str]) -> list[str]:
    """Bring the stages of these kinds to their end as a run does; their names."""
    stages = [one for one in plan(preset) if one.kind in kinds]
    display = Display(Plan(preset, stages, Forecast()), Console(quiet=True))
    with opened(run, preset, "benchmark") as open_run:
        run_plan(open_run, preset, stages, display)
    return [one.name for one in stages]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    main(parser.parse_args().out)
