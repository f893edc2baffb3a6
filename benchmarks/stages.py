"""A run's stages started, forked, and two at once: `python -m benchmarks.stages --out FILE`.

The same run in three ways in turn, on this machine: each stage a new process that imports what it needs, a
fork of one that has (`harness.runs.fork_server`), and forks of which what measures is alive beside what
trains (`harness.runs.orchestrate`). Seconds are those of the whole plan, without the results and the report;
`busy` is the share of the machine's processor time that was used meanwhile, by whomever; what the stages
wrote must be the same.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from harness.perf.profile.roofline import processor
from harness.runs.directory import opened
from harness.runs.display import Display, Plan
from harness.runs.forecast import Forecast
from harness.runs.fork_server import ForkServer
from harness.runs.ledger import read
from harness.runs.orchestrate import run_plan
from vzero.presets import load_preset
from vzero.runtime import artefacts
from vzero.runtime.machine import cores
from vzero.selfplay import plan

ROUNDS = 3
SIDES = {"started": (False, 1), "forked": (True, 1), "concurrent": (True, 2)}  # forked, stages at once
TIMES = {"timings.jsonl"}  # of a stage's files, what differs from attempt to attempt


def main(preset_name: str, out: Path) -> None:
    """Measure and write `out`."""
    sides: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    contents = set()
    for _ in range(ROUNDS):
        for side, found in sides.items():
            before = busy()
            seconds, peak, content = once(preset_name, *SIDES[side])
            used, whole = (now - then for now, then in zip(busy(), before, strict=True))
            about = {"peak_mib": peak, "busy": round(used / whole, 3), "load": os.getloadavg()[0]}
            found.append({"seconds": round(seconds, 2), **about})
            contents.add(content)
    medians = {side: statistics.median(one["seconds"] for one in found) for side, found in sides.items()}
    artefacts.write_json(
        out,
        {
            "preset": preset_name,
            "processor": processor(),
            "cores": cores(),
            **sides,
            "median_seconds": medians,
            "ratio": round(medians["started"] / medians["forked"], 2),
            "concurrent_ratio": round(medians["forked"] / medians["concurrent"], 2),
            "same_content": len(contents) == 1,
            "provenance": artefacts.provenance(),
        },
    )


def busy() -> tuple[float, float]:
    """Processor time of all cores since the machine's start: used, and in all."""
    times = [float(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return sum(times) - times[3] - times[4], sum(times)  # idle, and waiting for a disk


def once(preset_name: str, forked: bool, at_once: int) -> tuple[float, float, str]:
    """Seconds of the plan, the most MiB of a stage, and a digest of what the stages wrote."""
    preset = load_preset(preset_name)
    stages = plan(preset)
    with TemporaryDirectory() as place:
        folder = Path(place) / "run"
        display = Display(Plan(preset, stages, Forecast(at_once)), Console(quiet=True))
        begin = time.perf_counter()
        with opened(folder, preset, "benchmark") as run, closing(ForkServer()) as forks:
            run_plan(run, preset, stages, display, forks=forks if forked else None, at_once=at_once)
        seconds = time.perf_counter() - begin
        peaks = [row["peak_mib"] for row in read(folder) if row["event"] == "stage-finished"]
        written = [
            {name: sha for name, sha in artefacts.read_json(path)["files"].items() if name not in TIMES}
            for path in sorted(folder.glob("stages/*/manifest.json"))
        ]
    return seconds, max(peaks), artefacts.digest(written)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="smoke")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    main(arguments.preset, arguments.out)
