"""A run's stages forked and started: `python -m benchmarks.stages --out results/benchmarks/stages.json`.

The same run both ways in turn, on this machine: each stage a new process that imports what it needs, or a
fork of one that has (`harness.runs.fork_server`). Seconds are those of the whole plan, without the results
and the report; what the stages wrote must be the same.
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

from benchmarks.results import cores
from harness.perf.profile.roofline import processor
from harness.runs.directory import opened
from harness.runs.display import Display, Plan
from harness.runs.forecast import Forecast
from harness.runs.fork_server import ForkServer
from harness.runs.ledger import read
from harness.runs.orchestrate import run_plan
from vzero.presets import load_preset
from vzero.runtime import artefacts
from vzero.selfplay import plan

ROUNDS = 3
TIMES = {"timings.jsonl"}  # of a stage's files, what differs from attempt to attempt


def main(preset_name: str, out: Path) -> None:
    """Measure and write `out`."""
    sides: dict[str, list[dict[str, Any]]] = {"started": [], "forked": []}
    contents = set()
    for _ in range(ROUNDS):
        for side, found in sides.items():
            seconds, peak, content = once(preset_name, forked=side == "forked")
            found.append({"seconds": round(seconds, 2), "peak_mib": peak, "load": os.getloadavg()[0]})
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
            "same_content": len(contents) == 1,
            "provenance": artefacts.provenance(),
        },
    )


def once(preset_name: str, forked: bool) -> tuple[float, float, str]:
    """Seconds of the plan, the most MiB of a stage, and a digest of what the stages wrote."""
    preset = load_preset(preset_name)
    stages = plan(preset)
    with TemporaryDirectory() as place:
        folder = Path(place) / "run"
        display = Display(Plan(preset, stages, Forecast()), Console(quiet=True))
        begin = time.perf_counter()
        with opened(folder, preset, "benchmark") as run:
            if forked:
                with closing(ForkServer()) as forks:
                    run_plan(run, preset, stages, display, forks=forks)
            else:
                run_plan(run, preset, stages, display)
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
