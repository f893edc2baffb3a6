"""What a Ray cluster costs and gives: `python -m benchmarks.cluster --out FILE [--larger FOLDER]`.

On two logical machines of one CPU each, on this one, which must have two idle cores; about half an hour.
Four parts, each written as soon as it is measured; what `--out` has already is not measured again:

- bulk: the base writes questions and votes for them, by the engine of one process with one thread, and by two
  servers with one thread each. Seconds are the stages' own: from start to seal, their servers started, which
  is what few questions pay most for; so there are two sizes, and the ratio of what the larger has more.
- bulk_larger: the same by the base in FOLDER (`vzero-harness pocket build --size large`), where a question is
  more work for a server and the same for who asks.
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
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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
SIDES = ("alone", "on_cluster")
IMAGES, BULK = ("images",), ("write-questions", "label")  # kinds of stages
FEW, MANY = 400, 2400  # questions
HOLDER = Path(__file__).resolve().parents[1] / "tests" / "ray_cluster.py"
GRID = ["reproduce", "--preset", "smoke", "--seeds", "4", "--plain", "--set", "engine.threads=1"]


def main(out: Path, larger: Path | None) -> None:
    """Measure what `out` does not have, and write it there."""
    found: dict[str, Any] = artefacts.read_json(out) if out.exists() else {}
    measure: dict[str, Callable[[str, Path], dict[str, Any]]] = {"bulk": bulk}
    if larger is not None:
        measure["bulk_larger"] = partial(bulk, model=str(larger.absolute()))
    measure |= {"grid": grid, "overhead": overhead}
    with machines() as address:
        for part in [part for part in measure if part not in found]:
            before = busy()
            with TemporaryDirectory() as place:
                found[part] = measure[part](address, Path(place))
            used, whole = (now - then for now, then in zip(busy(), before, strict=True))
            found[part]["busy"] = round(used / whole, 3)
            found |= {"processor": processor(), "cores": cores(), "provenance": artefacts.provenance()}
            artefacts.write_json(out, found)


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


def sides(one: Callable[[int], float], other: Callable[[int], float], rounds: int = ROUNDS) -> dict[str, Any]:
    """Seconds of both in turn, and how many times as long the median of the first is."""
    pairs = [(one(i), other(i)) for i in range(rounds)]
    alone, together = ([round(seconds, 2) for seconds in side] for side in zip(*pairs, strict=True))
    ratio = statistics.median(alone) / statistics.median(together)
    return {SIDES[0]: alone, SIDES[1]: together, "ratio": round(ratio, 2)}


def bulk(address: str, place: Path, model: str = "pocket") -> dict[str, Any]:
    """Questions and votes by one engine and by two servers; their files must be the same."""
    there = ["launch.nodes=2", "launch.strategy=ddp", f"launch.cluster={address}"]
    contents = dict[int, set[str]]()

    def written(name: str, questions: int, launch: list[str]) -> float:
        words = ["questioner.trained=false", f"images.count={questions}", "engine.threads=1", *launch]
        words.append(f"model={model}")
        preset, run = load_preset("smoke", words), place / f"{name}-{questions}"
        finish(run, preset, IMAGES)
        folders = [stage_folder(run, one) for one in finish(run, preset, BULK)]
        manifests = [artefacts.read_json(folder / artefacts.MANIFEST) for folder in folders]
        contents.setdefault(questions, set()).add(artefacts.digest([one["files"] for one in manifests]))
        return sum(float(one["facts"]["seconds"]) for one in manifests)

    def both(questions: int, rounds: int) -> dict[str, Any]:
        return sides(
            lambda i: written(f"one-{i}", questions, []),
            lambda i: written(f"two-{i}", questions, there),
            rounds,
        )

    few, many = both(FEW, ROUNDS), both(MANY, 1)
    more = [statistics.median(many[side]) - statistics.median(few[side]) for side in SIDES]
    return {
        "questions": {FEW: few, MANY: many},
        "ratio_of_more": round(more[0] / more[1], 2),
        "same_content": all(len(one) == 1 for one in contents.values()),
    }


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
    import ray  # which reads the settings of `machines` when it is imported

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
    parser.add_argument("--larger", type=Path)
    arguments = parser.parse_args()
    main(arguments.out, arguments.larger)
